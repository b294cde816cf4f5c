"""Learned patience: how much silence is death, on this network."""

from __future__ import annotations

import pytest

from proxy.backends import Verdict
from proxy.config import HealthSettings
from proxy.health.silence import PRIOR_FOR_S, PRIOR_S, Silence
from tests.unit.health.patient import Patient


def test_patience_grows_with_the_longest_healthy_silence() -> None:
    silence = Silence(0.0, 0.2, 1.0)
    silence.learn(0.18, 100.0)
    assert silence.needed == pytest.approx(0.36)
    silence.learn(0.9, 101.0)
    assert silence.needed == 1.0, "within bounds"


def test_an_outage_is_not_learned_from() -> None:
    silence = Silence(0.0, 0.2, 1.0)
    silence.learn(0.05, 99.0)
    silence.learn(1.1, 100.0)
    assert silence.needed == pytest.approx(0.2)


def test_what_was_learned_is_forgotten_after_an_hour() -> None:
    silence = Silence(0.0, 0.2, 1.0)
    silence.learn(0.3, 100.0)
    now = 100.0
    while silence.needed > 0.2:
        now += 10.0
        silence.learn(0.05, now)
    assert 1900.0 <= now <= 3710.0


def test_little_is_believed_in_the_first_minute() -> None:
    silence = Silence(0.0, 0.2, 1.0)
    silence.learn(0.05, PRIOR_FOR_S - 1)
    assert silence.needed == PRIOR_S
    silence.learn(0.05, PRIOR_FOR_S + 1)
    assert silence.needed == 0.2


def test_the_rest_between_rare_probes_is_not_silence() -> None:
    """A path that becomes slower than the interval of a burst: probed once a second, it must not look dead at once."""
    bench = Patient(HealthSettings(interval_ms=1000))
    for _ in range(30):
        bench.now += 1.0
        bench.answer()
    bench.now += 1.0
    bench.miss(times=30, every_s=0.005)  # 150 ms of silence, but 1.15 s since the last answer
    assert bench.detector.verdict is not Verdict.DOWN
    bench.miss(times=60, every_s=0.005)
    assert bench.detector.verdict is Verdict.DOWN
