"""The plan of a failover: which legs move, in which order. Pure.

Conferences come first, those with most speakers before others and in each the moderators; then pairs, and others who
talk; then who is waiting for an answer, then who is on hold: silence hurts many at once, and the last hardly at all.
Among equals the longest call goes first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from proxy.backends import Backend
from proxy.calls import TALKING, Call, Leg
from proxy.calls.pairs import CONFERENCE
from proxy.conferences import Conferences


class Kind(IntEnum):
    """What a call was doing; the order is that of recovery."""

    CONFERENCE = 0
    PAIR = 1
    TALKING = 2
    RINGING = 3
    HELD = 4

    @property
    def talks(self) -> bool:
        return self <= Kind.TALKING


@dataclass(slots=True, frozen=True)
class Step:
    """`joins`: the leg works, and is only replaced to bring the call to where the others of its bond are."""

    call: Call
    leg: Leg
    kind: Kind
    joins: bool = False


def plan(calls: Iterable[Call], backend: Backend, conferences: Conferences) -> list[Step]:
    """Every leg that stands on `backend`, in the order in which it is to be moved."""
    steps = []
    for call in calls:
        leg = call.leg_on(backend)
        if leg is not None:
            steps.append(Step(call, leg, kind_of(call)))
    steps.sort(key=lambda step: (step.kind, *_rank(step.call, conferences), *_age(step.call)))
    return steps


def kind_of(call: Call) -> Kind:
    if call.state != TALKING:
        return Kind.RINGING
    if call.on_hold:
        return Kind.HELD
    if call.bond is None:
        return Kind.TALKING
    return Kind.CONFERENCE if call.bond.kind == CONFERENCE else Kind.PAIR


def _rank(call: Call, conferences: Conferences) -> tuple[int, str, bool, int]:
    conference = conferences.of(call)
    return conference.rank(call.id) if conference is not None else (0, "", False, 0)


def _age(call: Call) -> tuple[float, str]:
    return call.answered_at or call.created_at, call.id
