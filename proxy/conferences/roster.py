"""The roster of one conference (RFC 4353): who is in it, as what, and what holds for all of them. Pure.

A participant is a call of ours. Who is on hold, and on which backend, is known of the call itself and not kept here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePath

UNNAMED = "?"  # a recording whose file is not told


@dataclass(slots=True)
class Participant:
    """Who is in a roster has been let in: a PIN, if there was one, is given."""

    call: str  # our id of it
    order: int  # in which they joined
    moderator: bool = False
    muted: bool = False
    deaf: bool = False
    talking: bool = False
    seated: bool = False  # a control session has told of it


@dataclass(slots=True, frozen=True)
class Segment:
    """One file of a recording. A recording goes on under its name when its backend dies, in the next segment."""

    recording: str  # its name, the same over all segments
    number: int  # from 1
    backend: str
    file: str  # as the backend names it; UNNAMED when it does not
    conference: str
    calls: tuple[str, ...]  # who was in the conference when it began, or ended
    began_at: float  # clock times
    ended_at: float | None = None
    cut: bool = False  # its backend is dead: the end of the file may be missing

    def next_after(self) -> tuple[str, int]:
        return self.recording, self.number + 1

    def goes_on_at(self, backend: str) -> bool:
        """What `backend` records now is the same recording."""
        return self.cut or self.backend != backend


class Conference:
    """`locked`: nobody else may come in. `segment`: of its recording, or the last one when that goes on elsewhere."""

    __slots__ = ("_orders", "locked", "name", "participants", "pool", "segment")

    def __init__(self, pool: str, name: str) -> None:
        self.pool = pool  # the pool's name: conferences of one name in two pools have nothing to do with each other
        self.name = name
        self.participants: dict[str, Participant] = {}  # by call id
        self.locked = False
        self.segment: Segment | None = None
        self._orders = itertools.count(1)

    def __repr__(self) -> str:
        return f"<Conference {self.name!r} {list(self.participants)}>"

    def __iter__(self) -> Iterator[Participant]:
        return iter(self.participants.values())

    def __len__(self) -> int:
        return len(self.participants)

    def join(self, call: str) -> Participant:
        participant = self.participants[call] = Participant(call, next(self._orders))
        return participant

    def leave(self, call: str) -> None:
        self.participants.pop(call, None)

    def resume_order(self, after: int) -> None:
        """Who joins from now on comes after that place."""
        self._orders = itertools.count(after + 1)

    @property
    def speakers(self) -> int:
        """Who can be heard."""
        return sum(not each.muted for each in self)

    def rank(self, call: str) -> tuple[int, str, bool, int]:
        """Conferences with most speakers come first, and in them the moderators."""
        participant = self.participants[call]
        return -self.speakers, self.name, not participant.moderator, participant.order

    def end_segment(self, now: float, *, cut: bool = False) -> Segment | None:
        """The segment that has ended; what goes on after a cut is the next one."""
        segment = self.segment
        if segment is None or segment.ended_at is not None:
            return None
        ended = replace(segment, ended_at=now, cut=cut, calls=tuple(self.participants))
        self.segment = ended if cut else None
        return ended


def recording_name(file: str, conference: str) -> str:
    """What a recording is called, by the file of its first segment; by its conference, when that is not told."""
    return PurePath(file).stem if file != UNNAMED else conference
