"""What a failover did, for people and programs: evidence, then each call with its times, then the sum.

Times are milliseconds after the decision; `detected_at` is on the node's monotonic clock, in seconds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from proxy.text import counted

MOVED, LOST, ENDED = "moved", "lost", "ended"  # ended: a side hung up while it was being moved
STAYED = "stayed"  # a planned move found no place for it
KINDS_OF_REFUSAL_MAX = 50


@dataclass(slots=True)
class CallResult:
    call: str
    kind: str
    result: str = ""
    backend: str = ""
    attempts: int = 0
    sent_ms: float | None = None  # the INVITE that worked left
    answered_ms: float | None = None
    done_ms: float | None = None
    audio: bool | None = None  # came back; None: was not looked for (hold, ringing, direct media)
    gap_ms: float | None = None  # between the last packet of the old leg and the first of the new
    standby: bool = False  # a hot standby took the place
    bypassed_ms: float | None = None  # its people were connected to each other; before the decision: at the suspicion
    reinvited: bool = False  # the surviving side had to be re-INVITEd
    error: str = ""


@dataclass(slots=True)
class Report:
    id: int
    cause: str  # what X-Aqueduct-Reason says (docs/failover.md), or "media node lost"
    backend: str  # or the rtpengine
    pool: str
    reason: str
    detected_at: float
    detection_ms: float | None  # since the last sign of life
    evidence: list[str]
    planned: int
    alive: bool = False  # the backend lives: nothing has failed, and its calls are moved make-before-break
    results: list[CallResult] = field(default_factory=list)
    timeline: list[tuple[float, str]] = field(default_factory=list)
    finished: bool = False
    warning: str = ""  # known from the start
    started: dict[str, float] = field(default_factory=dict)  # cold standbys: ready so many ms after the decision
    refused: dict[str, set[str]] = field(default_factory=dict)  # "as2: 486 Busy Here": ids of the calls

    def note(self, now: float, what: str) -> None:
        self.timeline.append((round((now - self.detected_at) * 1000, 1), what))

    def note_refusal(self, now: float, what: str, call: str) -> bool:
        """A backend did not take a call. True for the first of its kind."""
        first = what not in self.refused and len(self.refused) < KINDS_OF_REFUSAL_MAX
        if first:
            self.refused[what] = set()
            self.note(now, f"refused by {what}")
        if what in self.refused:
            self.refused[what].add(call)
        return first

    def told_of_refusals(self) -> list[str]:
        return [
            f"{backend} refused {counted(len(calls), 'call')}: {why}"
            for backend, _, why, calls in ((*what.partition(": "), calls) for what, calls in self.refused.items())
        ]

    @property
    def unverified(self) -> int:
        """Calls that were moved, and whose audio was looked for and did not come."""
        return sum(each.result == MOVED and each.audio is False for each in self.results)

    def count(self, result: str) -> int:
        return sum(each.result == result for each in self.results)

    @property
    def all_moved_ms(self) -> float | None:
        """When the last call that was moved stood."""
        return max((each.done_ms for each in self.results if each.result == MOVED and each.done_ms), default=None)

    def as_dict(self) -> dict[str, Any]:
        return {**self.summary(), "results": [asdict(each) for each in self.results]}

    def summary(self) -> dict[str, Any]:
        """All but the results, which may be thousands."""
        gaps = sorted(each.gap_ms for each in self.results if each.gap_ms is not None)
        return {
            **{each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("results", "refused")},
            "refused": {what: len(calls) for what, calls in self.refused.items()},
            "moved": self.count(MOVED),
            "lost": self.count(LOST),
            "ended": self.count(ENDED),
            "stayed": self.count(STAYED),
            "unverified": self.unverified,
            "all_moved_ms": self.all_moved_ms,
            "gap_ms": {"p50": quantile(gaps, 0.5), "p99": quantile(gaps, 0.99), "max": gaps[-1] if gaps else None},
        }


def quantile(ordered: list[float], share: float) -> float | None:
    """Nearest rank."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]
