"""What a report says: counts, quantiles of the gaps, and when the last call stood."""

from __future__ import annotations

import json

import pytest

from proxy.failover.report import ENDED, LOST, MOVED, CallResult, Report, quantile


def report(*results: CallResult) -> Report:
    made = Report(1, "Dead", "as1", "pbx", "refused", 100.0, 40.0, ["icmp_refused"], len(results))
    made.results += results
    return made


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.5, None),
        ([7.0], 0.5, 7.0),
        ([7.0], 0.99, 7.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([1.0, 2.0, 3.0], 0.5, 2.0),
        ([1.0, 2.0, 3.0], 0.99, 3.0),
        ([float(number) for number in range(1, 101)], 0.5, 50.0),
        ([float(number) for number in range(1, 101)], 0.99, 99.0),
        ([float(number) for number in range(1, 1001)], 0.99, 990.0),
        ([float(number) for number in range(1, 11)], 0.0, 1.0),
        ([float(number) for number in range(1, 11)], 1.0, 10.0),
    ],
)
def test_quantiles_are_those_of_the_nearest_rank(values: list[float], share: float, expected: float | None) -> None:
    assert quantile(values, share) == expected


def test_results_are_counted_by_what_became_of_the_call() -> None:
    made = report(
        CallResult("a", "talking", MOVED),
        CallResult("b", "talking", MOVED),
        CallResult("c", "held", LOST, error="no backup answered"),
        CallResult("d", "ringing", ENDED),
    ).as_dict()
    assert (made["moved"], made["lost"], made["ended"], made["planned"]) == (2, 1, 1, 4)


def test_all_are_moved_when_the_last_one_that_was_moved_stands() -> None:
    made = report(
        CallResult("a", "talking", MOVED, done_ms=80.0),
        CallResult("b", "talking", MOVED, done_ms=120.0),
        CallResult("c", "talking", LOST, done_ms=30_000.0),
    )
    assert made.all_moved_ms == 120.0
    assert report(CallResult("a", "talking", LOST, done_ms=1.0)).all_moved_ms is None


def test_gaps_are_summed_up_over_those_calls_where_one_was_measured() -> None:
    gaps = report(*(CallResult(str(gap), "talking", MOVED, gap_ms=gap) for gap in (300.0, None, 100.0, 200.0)))
    assert gaps.as_dict()["gap_ms"] == {"p50": 200.0, "p99": 300.0, "max": 300.0}
    assert report().as_dict()["gap_ms"] == {"p50": None, "p99": None, "max": None}


def test_the_timeline_counts_from_the_decision() -> None:
    made = report()
    made.note(100.25, "half the calls stand")
    assert made.timeline == [(250.0, "half the calls stand")]


def test_a_report_can_be_sent_as_json() -> None:
    made = report(CallResult("a", "talking", MOVED, "as2", 1, 2.0, 30.0, 31.5, True, 120.0))
    assert json.loads(json.dumps(made.as_dict()))["results"][0]["gap_ms"] == 120.0
