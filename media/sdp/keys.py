"""What a description says of encryption: the keys of SDES (RFC 4568) and the DTLS handshake of DTLS-SRTP (RFC 5763).

A relay that does not terminate SRTP passes it on as it is. So who talks to whom must have the other's keys, and a DTLS
association lives and dies with the two that made it.
"""

from __future__ import annotations

import re

from media.sdp.description import Description, Media, SdpError, parse

_SETUP = re.compile(rb"^a=setup:(?:actpass|passive|holdconn)(?=\r?$)", re.MULTILINE)


def handshakes(description: Description, media: Media) -> bool:
    """Are the keys of this line those of a DTLS handshake?"""
    return bool(description.attributes(media, b"fingerprint") or _of_session(description, b"fingerprint"))


def keys_known(told: bytes, now: bytes) -> bool:
    """Does who was told `told` have the keys that `now` brings? Tags do not count: an answer has those of the offer."""
    try:
        before, after = parse(told), parse(now)
    except SdpError:
        return True  # nothing that could be told
    return all(_keys(after, new) <= _keys(before, old) for old, new in zip(before.media, after.media, strict=False))


def begin_handshake(offer: bytes) -> bytes:
    """The offer of a party that is going to be told of a new peer, such that this party begins the DTLS handshake.

    Deviation: RFC 5763 §5 wants "actpass" in an offer. A new backend that chose "active" would begin at once, with a
    party that does not know of it yet, and would try again only a second later. What answers "active" is in RFC 4145
    §4.1. Asterisk takes it (tests/integration/test_srtp.py).
    """
    return _SETUP.sub(b"a=setup:active", offer) if b"a=setup:" in offer else offer


def _keys(description: Description, media: Media) -> set[bytes]:
    if media.rejected:
        return set()
    keys = {value.partition(b" ")[2].strip() for value in description.attributes(media, b"crypto")}
    return keys.union(
        description.attributes(media, b"fingerprint") or _of_session(description, b"fingerprint"),
        description.attributes(media, b"tls-id") or _of_session(description, b"tls-id"),
    )


def _of_session(description: Description, name: bytes) -> list[bytes]:
    prefix = b"a=" + name + b":"
    first = description.media[0].start if description.media else len(description.lines)
    return [line[len(prefix) :] for line in description.lines[:first] if line.startswith(prefix)]
