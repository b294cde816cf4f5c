"""What a rolling restart has done so far, for people and programs: each backend with its step, and what went wrong.

Times are seconds since it began; `began_at` is on the node's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from proxy.backends import Backend


class Step(StrEnum):
    WAITING = "waiting"  # its turn has not come; after an abort: it was not touched
    SKIPPED = "skipped"  # not in service, by order or because it is off
    DRAINING = "draining"  # no new calls; its calls are moved
    RESTARTING = "restarting"  # ordered from its driver, until it is ready
    PROVING = "proving"  # must stay up for some probes
    RESTARTED = "restarted"  # and takes calls again
    GIVEN_BACK = "given back"  # it was drained, was not restarted, and takes calls again
    FAILED = "failed"  # it was ordered to restart and is not well; it stays drained


class Outcome(StrEnum):
    RUNNING = "running"
    DONE = "done"
    ABORTED = "aborted"


@dataclass(slots=True)
class Part:
    """One backend of it."""

    backend: str
    step: Step = Step.WAITING
    told: str = ""  # why it was skipped or failed; how the restart went
    moved: int = 0  # calls
    drained_s: float | None = None  # since its turn came, at which it had no calls any more
    ready_s: float | None = None  # the same, at which it took calls again
    service: str = ""  # as it is now: admin state and verdict


@dataclass(slots=True)
class Rollout:
    pool: str
    began_at: float
    parts: list[Part]  # in the order of their turns
    outcome: Outcome = Outcome.RUNNING
    reason: str = ""  # it was aborted
    took_s: float | None = None
    timeline: list[tuple[float, str]] = field(default_factory=list)

    def note(self, now: float, what: str) -> None:
        self.timeline.append((round(now - self.began_at, 2), what))

    @property
    def moved(self) -> int:
        return sum(part.moved for part in self.parts)

    def row(self, members: Sequence[Backend]) -> dict[str, Any]:
        """With the service of its backends as it is now."""
        service = {member.name: _service(member) for member in members}
        for part in self.parts:
            part.service = service.get(part.backend, part.service)
        told = {key: value for key, value in asdict(self).items() if key != "began_at"}
        return {**told, "moved": self.moved}


def _service(member: Backend) -> str:
    fenced = " fenced" if member.fenced else ""
    return f"{member.admin}, {member.verdict}{fenced}, {member.power}, calls {member.calls}"
