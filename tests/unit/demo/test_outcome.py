"""Who calls what in the demo, and how its end is judged."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from proxy.demo.outcome import Outcome, histogram, judge
from proxy.demo.script import BACKUP_HZ, PARTY_HZ, PRIMARY_HZ, Part, cast


@pytest.mark.parametrize("calls", [1, 2, 9, 10, 14, 15, 50, 200, 500])
def test_every_call_has_a_part_and_nobody_confers_alone(calls: int) -> None:
    parts = cast(calls)
    assert len(parts) == calls
    rooms: dict[str, list[Part]] = {}
    for part in parts:
        if part.number.startswith("conf-"):
            rooms.setdefault(part.number, []).append(part)
    for room in rooms.values():
        assert 2 <= len(room) <= len(PARTY_HZ)
        said = {part.says for part in room}
        assert len(said) == len(room)
        assert all(set(part.expects) == said - {part.says} for part in room)


def test_a_tone_at_last_can_only_be_the_backups() -> None:
    tone = cast(50)[0]
    assert (tone.number, tone.expects, tone.at_last) == ("tone", (PRIMARY_HZ, BACKUP_HZ), (BACKUP_HZ,))


PARTS = cast(3)  # tone, echo, echo
REPORT: dict[str, Any] = {
    "moved": 3,
    "detected_at": 100.05,
    "all_moved_ms": 40.0,
    "timeline": [(0.0, "Dead: …; 3 calls to move"), (41.0, "3 moved, 0 lost, 0 ended")],
    "results": [
        {"result": "moved", "backend": "backup", "sent_ms": 1.0 + n, "answered_ms": 10.0 + n, "done_ms": 40.0}
        for n in range(3)
    ],
}


def heard(part: Part, **changes: Any) -> dict[str, Any]:
    usual = {"talking": True, "failed": "", "ended": None, "gap_ms": 60.0, "before": [], "now": sorted(part.at_last)}
    return {**usual, **changes}


def judged(
    calls: list[dict[str, Any]] | None = None,
    report: dict[str, Any] | None = REPORT,
    byes: list[int | None] | None = None,
) -> Outcome:
    calls = calls or [heard(part) for part in PARTS]
    return judge("reference", "kill", 100.0, PARTS, report, calls, byes or [200] * 3)


def test_all_is_well_when_everyone_talks_hears_the_backup_and_hangs_up() -> None:
    outcome = judged()
    assert outcome.ok
    assert (outcome.lost, outcome.deaf, outcome.moved, outcome.ended_well) == (0, 0, 3, 3)
    assert outcome.detection_ms == 50.0
    assert outcome.gap_ms == {"p50": 60.0, "p90": 60.0, "p99": 60.0, "max": 60.0}
    assert outcome.timeline == [
        (0.0, "the primary is killed (SIGKILL)"),
        (50.0, "Dead: …; 3 calls to move"),
        (51.0, "first INVITE to backup"),
        (60.0, "first call answered there"),
        (62.0, "last call answered there"),
        (91.0, "3 moved, 0 lost, 0 ended"),
    ]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"talking": False, "ended": "bye received"}, "tone: the call ended: bye received"),
        ({"now": [PRIMARY_HZ]}, "tone: hears 1000 Hz instead of 1300 Hz"),
        ({"now": []}, "tone: hears nothing instead of 1300 Hz"),
    ],
)
def test_one_call_that_ended_or_hears_the_wrong_thing_spoils_it(changes: dict[str, Any], fault: str) -> None:
    outcome = judged([heard(PARTS[0], **changes), *(heard(part) for part in PARTS[1:])])
    assert not outcome.ok
    assert outcome.faults == [fault]
    assert outcome.lost + outcome.deaf == 1


def test_a_bye_without_a_good_answer_spoils_it() -> None:
    assert judged(byes=[200, 481, 200]).faults == ["echo: its BYE was answered with 481"]
    assert judged(byes=[200, None, 200]).faults == ["echo: its BYE was answered with nothing"]


def test_no_failover_and_a_failover_of_too_few_spoil_it() -> None:
    assert judged(report=None).faults == ["the proxy did not fail over"]
    assert judged(report={**REPORT, "moved": 2}).faults == ["the proxy moved 2 of 3 calls"]


def test_a_histogram_holds_every_gap_once_in_few_round_bins() -> None:
    assert histogram([]) == []
    assert histogram([60.0]) == [(60, 65, 1)]
    gaps = [41.0, 44.9, 80.0, 99.9, 100.0, 462.4]
    bins = histogram(gaps)
    assert sum(count for _, _, count in bins) == len(gaps)
    assert len(bins) <= 12
    assert bins[0][0] <= 41 and bins[-1][1] > 462
    assert all(later[0] == earlier[1] for earlier, later in itertools.pairwise(bins))
