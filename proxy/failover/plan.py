"""The plan of a failover: which legs move, in which order. Pure.

Who is talking comes first, then who is waiting for an answer, then who is on hold: silence hurts the first at once and
the last hardly at all. Among equals the longest call goes first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from proxy.backends import Backend
from proxy.calls import TALKING, Call, Leg


class Kind(IntEnum):
    """What a call was doing; the order is that of recovery."""

    TALKING = 0
    RINGING = 1
    HELD = 2


@dataclass(slots=True, frozen=True)
class Step:
    call: Call
    leg: Leg
    kind: Kind


def plan(calls: Iterable[Call], backend: Backend) -> list[Step]:
    """Every leg that stands on `backend`, in the order in which it is to be moved."""
    steps = []
    for call in calls:
        leg = call.leg_on(backend)
        if leg is not None:
            steps.append(Step(call, leg, kind_of(call)))
    steps.sort(key=lambda step: (step.kind, step.call.answered_at or step.call.created_at, step.call.id))
    return steps


def kind_of(call: Call) -> Kind:
    if call.state != TALKING:
        return Kind.RINGING
    return Kind.HELD if call.on_hold else Kind.TALKING
