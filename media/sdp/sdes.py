"""SDES (RFC 4568): the keys that each end of an anchored call sends with and expects, as far as we can use them.

Each end describes the key that it encrypts with itself. So an answer settles four keys: own and told of who gave it,
own and told of who made the offer. An end that is not told of a new answer goes on with what it was told before, and
the relay has to stand between the two. A line of which not all can be used here (another suite, MKI, session
parameters) has no `Keys`: it passes as it is, and its end must be told.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from typing import NamedTuple, Protocol

from media.rtp.srtp import MASTER_OCTETS
from media.sdp.description import Description, Media

_CRYPTO = b"a=crypto:"

Lines = tuple[bytes, ...]  # values of a=crypto of one media line


class Keys(NamedTuple):
    """Of one media line of one end."""

    suite: str
    own: bytes  # master key and salt with which it encrypts
    told: bytes  # those with which it expects what it gets to be encrypted
    lines: Lines  # as it was told them


Ring = tuple[Keys | None, ...]  # by media line; () where nothing is encrypted


class End(Protocol):
    """One side: the keys that it was offered last, if it was told no answer since, and those that it has."""

    asked: tuple[Lines, ...]
    ring: Ring


def proposals(description: Description) -> tuple[Lines, ...]:
    """By media line; () when there are none at all."""
    if not any(line.startswith(_CRYPTO) for line in description.lines):
        return ()
    return tuple(tuple(description.attributes(media, b"crypto")) for media in description.media)


def agree(giver: End, taker: End, answered: tuple[Lines, ...], suites: Collection[str], *, told: bool) -> None:
    """`giver` has answered. A taker who is not told of it goes on with the keys that he has."""
    if answered or giver.ring or taker.ring:
        giver.ring, offerer = _settle(giver.asked, answered, giver.ring, suites)
        if told and giver.asked:
            taker.ring, taker.asked = offerer, ()


def _settle(
    offered: tuple[Lines, ...], answered: tuple[Lines, ...], known: Ring, suites: Collection[str]
) -> tuple[Ring, Ring]:
    """The keys of who answered, and of who made the offer, if he is told. `known`: what the first had, which holds for
    what it was told if no offer was made to it this time (a refresh)."""
    answerer: list[Keys | None] = []
    offerer: list[Keys | None] = []
    for number, lines in enumerate(answered):
        choice = _one(lines, suites)
        former = known[number] if number < len(known) else None
        proposed = offered[number] if number < len(offered) else ()
        told = _tagged(choice.tag, proposed, suites) if choice is not None else None
        if choice is None or (told is None and (proposed or former is None)) or (told and told.suite != choice.suite):
            answerer.append(None)
            offerer.append(None)
        elif told is not None:
            answerer.append(Keys(choice.suite, choice.key, told.key, proposed))
            offerer.append(Keys(choice.suite, told.key, choice.key, lines))
        else:
            assert former is not None
            answerer.append(former._replace(own=choice.key) if former.suite == choice.suite else None)
            offerer.append(None)
    return tuple(answerer), tuple(offerer)


def keep_told(description: Description, own: Ring, other: Ring) -> None:
    """Put into a description of one end (`own`) the keys that the other was told before, where the relay stands between
    the two: so it looks to the other."""
    for number, media in reversed(list(enumerate(description.media))):
        keys = other[number] if number < len(other) else None
        if keys is not None and number < len(own) and own[number] is not None:
            _replace(description, media, keys.lines)


def _replace(description: Description, media: Media, values: Lines) -> None:
    """One line for each that is there, so that indexes stay; what is too much is joined to the last."""
    lines = description.lines
    places = [at for at in range(media.start, media.stop) if lines[at].startswith(_CRYPTO)]
    if len(values) < len(places):
        return  # an answer has one
    for at, value in zip(places, values, strict=False):
        lines[at] = _CRYPTO + value
    lines[places[-1]] = b"\r\n".join([lines[places[-1]], *(_CRYPTO + value for value in values[len(places) :])])


class _Crypto(NamedTuple):
    tag: bytes
    suite: str
    key: bytes


def _one(lines: Lines, suites: Collection[str]) -> _Crypto | None:
    return _read(lines[0], suites) if len(lines) == 1 else None


def _tagged(tag: bytes, lines: Lines, suites: Collection[str]) -> _Crypto | None:
    return next((read for line in lines if (read := _read(line, suites)) is not None and read.tag == tag), None)


def _read(line: bytes, suites: Collection[str]) -> _Crypto | None:
    """None for what we cannot do: another suite, several keys or an MKI, parameters that change the packets."""
    words = line.split()
    if len(words) < 3 or not all(parameter.startswith(b"WSH=") for parameter in words[3:]):
        return None
    tag, suite = words[0], words[1].decode("ascii", "replace")
    method, _, value = words[2].partition(b":")
    key, *more = value.split(b"|")
    if suite not in suites or method != b"inline" or b";" in value or any(b":" in each for each in more):
        return None
    try:
        master = base64.b64decode(key, validate=True)
    except binascii.Error:
        return None
    return _Crypto(tag, suite, master) if len(master) == MASTER_OCTETS[suite] else None
