"""What came of a demo: the proxy's report and what the callers heard, put together and judged. Pure.

Times of the timeline are milliseconds after the fault. A call is lost when it ended before its caller hung up; it is
deaf when it stands and its caller does not hear all that it must hear from the backup.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from proxy.demo.script import Part
from proxy.failover.report import MOVED, quantile

BIN_WIDTHS_MS = (5, 10, 20, 50, 100, 200, 500, 1000, 2000)
BINS_MAX = 12


@dataclass(frozen=True, slots=True)
class Outcome:
    ok: bool
    backend: str
    fault: str
    calls: int
    moved: int
    lost: int
    deaf: int
    ended_well: int  # BYEs of callers that the backup answered with 200
    detection_ms: float | None  # from the fault to the decision
    all_moved_ms: float | None  # from the decision to the last moved call
    gap_ms: dict[str, float | None]
    gaps_ms: list[float]
    timeline: list[tuple[float, str]]
    faults: list[str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(
    backend: str,
    fault: str,
    struck_at: float,
    parts: Sequence[Part],
    report: dict[str, Any] | None,
    heard: Sequence[dict[str, Any]],
    byes: Sequence[int | None],
) -> Outcome:
    """`report`: of the failover, None when there was none. `heard`, `byes`: of each call in the order of `parts`."""
    faults = [] if report else ["the proxy did not fail over"]
    lost = deaf = 0
    for part, call in zip(parts, heard, strict=True):
        if not call["talking"]:
            lost += 1
            faults.append(f"{part.number}: the call ended: {call['ended'] or call['failed']}")
        elif call["now"] != sorted(part.at_last):
            deaf += 1
            faults.append(f"{part.number}: hears {_tones(call['now'])} instead of {_tones(part.at_last)}")
    for part, call, status in zip(parts, heard, byes, strict=True):
        if call["talking"] and status != 200:
            faults.append(f"{part.number}: its BYE was answered with {status or 'nothing'}")
    moved = report["moved"] if report else 0
    if report and moved < len(parts):
        faults.append(f"the proxy moved {moved} of {len(parts)} calls")
    gaps = sorted(call["gap_ms"] for call in heard)
    detection_ms = (report["detected_at"] - struck_at) * 1000 if report else None
    return Outcome(
        ok=not faults,
        backend=backend,
        fault=fault,
        calls=len(parts),
        moved=moved,
        lost=lost,
        deaf=deaf,
        ended_well=sum(status == 200 for status in byes),
        detection_ms=None if detection_ms is None else round(detection_ms, 1),
        all_moved_ms=report["all_moved_ms"] if report else None,
        gap_ms={
            "p50": quantile(gaps, 0.5),
            "p90": quantile(gaps, 0.9),
            "p99": quantile(gaps, 0.99),
            "max": max(gaps, default=None),
        },
        gaps_ms=gaps,
        timeline=timeline(fault, report, detection_ms),
        faults=faults,
    )


def timeline(fault: str, report: dict[str, Any] | None, detection_ms: float | None) -> list[tuple[float, str]]:
    events = [(0.0, "the primary is killed (SIGKILL)" if fault == "kill" else "the primary is frozen (SIGSTOP)")]
    if report is None or detection_ms is None:
        return events
    events += [(detection_ms + at, what) for at, what in report["timeline"]]
    moved = [result for result in report["results"] if result["result"] == MOVED]
    sent = [result["sent_ms"] for result in moved if result["sent_ms"] is not None]
    answered = [result["answered_ms"] for result in moved if result["answered_ms"] is not None]
    if sent:
        events.append((detection_ms + min(sent), f"first INVITE to {moved[0]['backend']}"))
    if answered:
        events.append((detection_ms + min(answered), "first call answered there"))
        events.append((detection_ms + max(answered), "last call answered there"))
    events.sort(key=lambda event: event[0])
    return [(round(at, 1), what) for at, what in events]


def histogram(gaps_ms: Sequence[float]) -> list[tuple[int, int, int]]:
    """(from, below, how many) in bins of a round width, from the first that is not empty to the last."""
    if not gaps_ms:
        return []
    low, high = min(gaps_ms), max(gaps_ms)
    width = next((each for each in BIN_WIDTHS_MS if (high - low) / each < BINS_MAX - 1), BIN_WIDTHS_MS[-1])
    first = int(low // width)
    edges = [edge * width for edge in range(first, int(high // width) + 2)]
    counts = [0] * (len(edges) - 1)
    for gap in gaps_ms:
        counts[bisect.bisect_right(edges, gap) - 1] += 1
    return [(edges[place], edges[place + 1], count) for place, count in enumerate(counts)]


def _tones(tones: Sequence[int]) -> str:
    return " + ".join(f"{hz} Hz" for hz in tones) or "nothing"
