"""Nobody is declared down by mistake, whatever the weather; and every safeguard is needed.

A slice of what `python -m tests.sim.detector_tables` runs for 24 hours of each weather. In an ablation one safeguard is
switched off, everything else stays, and the false alarms that it keeps away must appear.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from proxy.backends import Verdict
from proxy.health import Diagnosis, Evidence, Health
from proxy.health.detector import Detector
from proxy.health.probe import Prober
from proxy.health.selfcheck import SelfCheck
from proxy.health.silence import Silence
from tests.sim.detector_model import (
    BURSTS,
    CLEAN,
    JITTER,
    LOSSY,
    SHORT_STALLS,
    STORM,
    WEATHERS,
    Run,
    Weather,
    detection_ms,
)

SLICE_S = 1200.0


class Sleepless(SelfCheck):
    """Knows nothing of our own stalls."""

    def awake(self, now: float) -> float:
        return now


def run(
    weather: Weather,
    seconds: float,
    seed: int = 1,
    health: dict[str, int] | None = None,
    kind: type[Health] = Health,
) -> Run:
    made = Run(weather, seed, seconds, health=health, kind=kind)
    made.world.run(seconds)
    assert not made.world.exceptions
    return made


def with_detector(detector: type[Detector]) -> type[Health]:
    prober = type("AblatedProber", (Prober,), {"detector_type": detector})
    return type("AblatedHealth", (Health,), {"prober_type": prober})


def with_silence(silence: type[Silence]) -> type[Health]:
    return with_detector(type("AblatedDetector", (Detector,), {"silence_type": silence}))


@pytest.mark.parametrize("name", WEATHERS)
def test_nobody_is_down_by_mistake(name: str) -> None:
    history = run(WEATHERS[name], SLICE_S, seed=7)
    assert history.false_alarms() == []
    for backend in history.backends:
        assert backend.verdict in (Verdict.UP, Verdict.SUSPECT)
        assert history.health.explain(backend)["evidence"]["options_ok"] > SLICE_S * 15


@pytest.mark.parametrize(
    ("fault", "icmp", "p50", "p99"),
    [("killed", None, 100, 250), ("killed", 1, 150, 250), ("stopped", None, 250, 500), ("cut", None, 250, 500)],
)
@pytest.mark.parametrize("warm_s", [2.0, 70.0])
def test_the_dead_are_found_in_time(fault: str, icmp: int | None, p50: float, p99: float, warm_s: float) -> None:
    times = sorted(detection_ms(CLEAN, fault, seed, warm_s, icmp) for seed in range(50))
    assert times[25] <= p50
    assert times[-1] <= p99


@pytest.mark.parametrize("weather", [LOSSY, BURSTS], ids=["loss", "bursts"])
def test_the_dead_are_found_in_time_through_loss(weather: Weather) -> None:
    times = sorted(detection_ms(weather, "stopped", seed, 70.0) for seed in range(30))
    assert times[15] <= 300 and times[-1] <= 500


@pytest.mark.parametrize(
    ("fault", "diagnosis"),
    [("killed", Diagnosis.DEAD), ("stopped", Diagnosis.HUNG), ("cut", Diagnosis.UNREACHABLE)],
)
def test_the_cause_is_named(fault: str, diagnosis: Diagnosis) -> None:
    history = Run(CLEAN, 1, 100.0)
    history.world.run(20.0)
    history.path("as1").host = fault
    history.world.run(25.0)
    assert [e.diagnosis for e in history.events if e.verdict is Verdict.DOWN] == [diagnosis]
    assert [e.backend.name for e in history.events if e.verdict is Verdict.DOWN] == ["as1"]
    assert history.events[-1].backend.verdict == "up" or history.events[-1].verdict is Verdict.DOWN


def test_a_backend_comes_back() -> None:
    history = Run(CLEAN, 1, 100.0)
    for fault, until in (("up", 20.0), ("killed", 21.0), ("up", 22.0), ("stopped", 23.0), ("up", 24.0)):
        history.path("as1").host = fault
        history.world.run(until)
    verdicts = [str(e.verdict) for e in history.events if e.backend.name == "as1" and e.verdict is not e.previous]
    assert verdicts == ["up", "suspect", "down", "up", "suspect", "down", "up"]
    as1 = history.backends.get("as1")
    assert as1 is not None and as1.up_since is not None and 23.0 < as1.up_since < 23.5


def test_our_own_cable_moves_nobody() -> None:
    history = Run(CLEAN, 3, 100.0)
    history.world.run(20.0)
    for name in ("as1", "as2"):
        history.path(name).host = "cut"
    history.world.run(30.0)
    assert not [e for e in history.events if e.verdict is Verdict.DOWN]
    assert {e.diagnosis for e in history.events if e.verdict is Verdict.UNKNOWN} == {Diagnosis.OBSERVER_BLIND}
    for name in ("as1", "as2"):
        history.path(name).host = "up"
    history.world.run(31.0)
    assert [backend.verdict for backend in history.backends] == [Verdict.UP, Verdict.UP]


def test_the_one_that_stays_away_after_our_cable_is_mended_is_down() -> None:
    history = Run(CLEAN, 3, 100.0)
    history.world.run(20.0)
    for name in ("as1", "as2"):
        history.path(name).host = "cut"
    history.world.run(30.0)
    history.path("as2").host = "up"
    history.world.run(31.0)
    assert [str(backend.verdict) for backend in history.backends] == ["down", "up"]
    assert [e.diagnosis for e in history.events if e.verdict is Verdict.DOWN] == [Diagnosis.UNREACHABLE]


def test_a_lone_backend_needs_no_witness() -> None:
    history = Run(CLEAN, 3, 100.0, backends=1)
    history.world.run(20.0)
    history.path("as1").host = "cut"
    history.world.run(21.0)
    assert history.events[-1].diagnosis is Diagnosis.UNREACHABLE


def test_rarely_probed_witnesses_are_asked_at_once() -> None:
    """The others are probed every five seconds; their word is wanted within the silence of as1."""
    history = Run(CLEAN, 3, 100.0, health={"interval_ms": 5000, "silence_min_ms": 10000, "silence_max_ms": 10000})
    history.world.run(30.0)
    history.path("as1").host = "cut"
    history.world.run(47.0)  # silence counts from the first unanswered probe, at most 5 s after the cut
    assert history.events[-1].diagnosis is Diagnosis.UNREACHABLE


def test_one_stray_refusal_is_not_death() -> None:
    history = Run(CLEAN, 3, 100.0)
    history.world.run(20.0)
    as1 = next(iter(history.backends))
    history.health.observe(as1, Evidence.ICMP_REFUSED)
    assert as1.verdict is Verdict.SUSPECT
    history.world.run(20.1)
    assert as1.verdict is Verdict.UP
    assert history.false_alarms() == []


# Ablations


def test_without_fast_probing_loss_costs_detection_time() -> None:
    """Few probes stand behind a decision, so that only much more silence keeps false alarms away."""
    slow = {"fast_interval_ms": 50, "fall": 3}
    times = sorted(detection_ms(BURSTS, "stopped", seed, 200.0, health=slow) for seed in range(11))
    assert times[5] > 500
    times = sorted(detection_ms(BURSTS, "stopped", seed, 200.0) for seed in range(11))
    assert times[5] < 350 and times[-1] < 500


def test_without_a_minimum_of_silence_a_burst_is_taken_for_death() -> None:
    class Impatient(Silence):
        def __init__(self, now: float, shortest_s: float, longest_s: float) -> None:
            super().__init__(now, 0.0, longest_s)
            self.needed = 0.0

        def learn(self, length: float, now: float) -> None:
            pass

    assert run(BURSTS, SLICE_S, kind=with_silence(Impatient)).false_alarms()


def test_without_a_minimum_of_probes_a_lost_one_is_taken_for_death() -> None:
    """Probes far apart: there is silence at once, and only their number stands against it."""
    sparse = {"interval_ms": 100, "fast_interval_ms": 100, "silence_min_ms": 200}
    assert run(LOSSY, SLICE_S, health={**sparse, "fall": 2}).false_alarms()
    assert not run(LOSSY, SLICE_S, health={**sparse, "fall": 12}).false_alarms()


def test_without_learning_bursts_are_taken_for_death() -> None:
    class Forgetful(Silence):
        def learn(self, length: float, now: float) -> None:
            self.needed = self._min

    weather = replace(BURSTS, burst_loss=0.9)
    assert len(run(weather, SLICE_S, kind=with_silence(Forgetful)).false_alarms()) > 100
    assert not run(weather, SLICE_S).false_alarms()


def test_without_late_answers_jitter_is_taken_for_death() -> None:
    class Strict(Prober):
        def on_answer(self, data: bytes) -> None:
            number = int(data.partition(b"-")[2][:10])
            if number >= self._open:
                super().on_answer(data)

    impatient = {"timeout_max_ms": 20}  # so that nearly every answer is late
    ablated = type("AblatedHealth", (Health,), {"prober_type": Strict})
    assert run(JITTER, 120.0, health=impatient, kind=ablated).false_alarms()
    assert not run(JITTER, 120.0, health=impatient).false_alarms()


def test_without_the_discount_our_own_stalls_are_taken_for_death() -> None:
    ablated = type("AblatedHealth", (Health,), {"selfcheck_type": Sleepless})
    weather = replace(STORM, jitter_s=0.0, stalls_per_day=20_000)
    assert run(weather, SLICE_S, health={"fall": 5}, kind=ablated).false_alarms()
    assert not run(weather, SLICE_S, health={"fall": 5}).false_alarms()


def test_without_the_discount_short_stalls_of_ours_teach_a_wrong_patience() -> None:
    ablated = type("AblatedHealth", (Health,), {"selfcheck_type": Sleepless})
    needed = [
        max(history.health.explain(backend)["silence_needed_ms"] for backend in history.backends)
        for history in (run(SHORT_STALLS, SLICE_S, kind=ablated), run(SHORT_STALLS, SLICE_S))
    ]
    assert needed[0] > 300 and needed[1] == 200


def test_without_a_witness_our_own_cable_is_taken_for_many_deaths() -> None:
    class Unwitnessed(SelfCheck):
        def witness_at(self, who: object) -> float:
            return math.inf

    ablated = type("AblatedHealth", (Health,), {"selfcheck_type": Unwitnessed})
    history = Run(CLEAN, 3, 100.0, kind=ablated)
    history.world.run(20.0)
    for name in ("as1", "as2"):
        history.path(name).host = "cut"
    history.world.run(21.0)
    assert {e.backend.name for e in history.events if e.verdict is Verdict.DOWN} == {"as1", "as2"}


def test_without_draining_first_a_stall_of_ours_is_taken_for_death() -> None:
    """as1 stood still for most of the silence that is needed and answers, but just then we stand still ourselves."""

    class Hasty(Prober):
        def _wake(self) -> None:
            self._graced = True
            super()._wake()

    ablated = type("AblatedHealth", (Health,), {"prober_type": Hasty})
    assert alive_again_as_we_stall(ablated).false_alarms()
    assert not alive_again_as_we_stall(Health).false_alarms()


def alive_again_as_we_stall(kind: type[Health]) -> Run:
    """The answer waits in the socket when we wake up, and the loop looks at its timers first."""
    history = Run(replace(CLEAN, delay_s=0.01), 5, 100.0, health={"fall": 10}, kind=kind)
    world, as1 = history.world, history.path("as1")
    world.run(70.0)
    as1.host = "stopped"
    world.run(70.03)
    heard_at = history.health.explain(next(iter(history.backends)))["last_good_at"]
    world.run(heard_at + 0.180)
    as1.host = "up"
    world.next_stall = heard_at + 0.186
    world.timers_first = True
    world.run(heard_at + 4.0)
    return history
