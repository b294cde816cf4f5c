"""Legs of different sessions that hear each other while a backend is dead: two are bridged, more are mixed.

Each leg of such a group has the same `Joined`. A leg leaves it when it is connected to a leg of its own session
again; who is left alone by that hears nobody. Whether peers that never negotiated with each other can understand each
other is decided here, from what they were told and what they told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from media.api import MediaError
from media.rtp.conversion import can_hear, first_audio
from media.rtp.formats import Formats, read

if TYPE_CHECKING:
    from media.relay.session import Leg, Session

Line = tuple[int, str]  # a line of the relay, and the formats that its peer speaks
PARTIES_MAX = 32  # of a mix
MUTED = "13=CN/8000"  # as if that were all that its peer speaks: the mixer takes nothing of it


class Joined:
    """`parties` are (session, leg), `rows` one line of each, by media line."""

    __slots__ = ("parties", "rows")

    def __init__(self, parties: list[tuple[str, str]], rows: list[list[Line]]) -> None:
        self.parties = parties
        self.rows = rows

    def leave(self, party: tuple[str, str]) -> None:
        if party in self.parties:
            place = self.parties.index(party)
            del self.parties[place]
            for row in self.rows:
                del row[place]

    def commands(self) -> Iterator[list[Any]]:
        if len(self.parties) == 2 and not any(spoken == MUTED for row in self.rows for _, spoken in row):
            for (line, spoken), (other, other_spoken) in self.rows:
                yield ["bridge", line, other, spoken, other_spoken]
        elif len(self.parties) >= 2:
            for row in self.rows:
                yield ["mix", [list(each) for each in row]]

    def pack(self) -> list[Any]:
        return [[list(party) for party in self.parties], [[list(line) for line in row] for row in self.rows]]


def unpack(fields: list[Any]) -> Joined:
    parties, rows = fields
    return Joined(
        [(session, leg) for session, leg in parties], [[(line, spoken) for line, spoken in row] for row in rows]
    )


def bridge(first: tuple[str, Session, Leg], second: tuple[str, Session, Leg]) -> Joined:
    """Raises MediaError when they would not understand each other."""
    heads = [_lines(*first), _lines(*second)]
    rows = []
    for (line, own, spoken), (other, other_own, other_spoken) in zip(*heads, strict=False):
        if not line or not other:
            continue
        for here, there, taken in ((own, spoken, other_own), (other_own, other_spoken, own)):
            audio = first_audio(there, here)
            if audio is None or not can_hear(audio, taken):
                what = f"{audio[0]}/{audio[1]}" if audio else "no codec that is known here"
                raise MediaError(f"cannot be bridged: one peer speaks {what}, the other takes {taken.text or 'SRTP'}")
        rows.append([(line, spoken.text), (other, other_spoken.text)])
    if not rows:
        raise MediaError("cannot be bridged: no media line that both have")
    return Joined([(name, leg.name) for name, _, leg in (first, second)], rows)


def mix(parties: Sequence[tuple[str, Session, Leg]], muted: Collection[tuple[str, str]]) -> Joined:
    """Raises MediaError when one of them cannot be mixed."""
    if not (2 if muted else 3) <= len(parties) <= PARTIES_MAX:
        raise MediaError(f"{len(parties)} parties cannot be mixed, but 3 to {PARTIES_MAX}")
    row = []
    for name, session, leg in parties:
        line, own, spoken = _lines(name, session, leg)[0]
        audio = first_audio(spoken, own)
        if not line or audio is None or not can_hear(audio, read("0=PCMU/8000")):
            raise MediaError(f"session {name}: leg {leg.name} does not speak G.711 and cannot be mixed")
        row.append((line, MUTED if (name, leg.name) in muted else spoken.text))
    return Joined([(name, leg.name) for name, _, leg in parties], [row])


def _lines(name: str, session: Session, leg: Leg) -> list[tuple[int, Formats, Formats]]:
    """Of each media line: the relay's line, what the peer takes, and what it speaks (what its partner takes)."""
    if session.connected is None or leg not in session.connected:
        raise MediaError(f"session {name}: leg {leg.name} is not connected")
    partner = session.connected[1 - session.connected.index(leg)]
    result = []
    for line, own, spoken in zip(leg.lines, leg.remotes, partner.remotes, strict=False):
        there = line if own is not None and spoken is not None else 0
        result.append((there, read(own.formats if own else ""), read(spoken.formats if spoken else "")))
    if not result:
        raise MediaError(f"session {name}: leg {leg.name} has no media")
    return result
