"""Streams judge nobody by mistake, whatever the weather; they find the dead in time; and every safeguard is needed.

A slice of what `python -m tests.sim.flows_tables` runs for 24 hours of each weather and number of streams.
"""

from __future__ import annotations

import pytest

from proxy.backends import Verdict
from proxy.health import Diagnosis, Health
from proxy.health.detector import Detector
from proxy.health.probe import Prober
from proxy.health.selfcheck import SelfCheck
from proxy.health.silence import Silence
from tests.sim.detector_model import Run, Weather
from tests.sim.flows_model import COUNTS, FLOW_WEATHERS, GILBERT_ELLIOTT, Streams, flow_detection_ms

SLICE_S = 300.0
BURSTS = list(GILBERT_ELLIOTT.values())[-1]
STALLS = Weather(stalls_per_day=20_000, stall_s=0.15)


def run(
    weather: Weather, count: int, seconds: float = SLICE_S, seed: int = 3, kind: type[Health] = Health, **health: int
) -> Run:
    made = Run(weather, seed, seconds, health=health, kind=kind)
    made.world.run(1.0)
    Streams(made, "as1", count, begins=1.0)
    made.world.run(seconds)
    assert not made.world.exceptions
    return made


def with_detector(detector: type[Detector]) -> type[Health]:
    prober = type("AblatedProber", (Prober,), {"detector_type": detector})
    return type("AblatedHealth", (Health,), {"prober_type": prober})


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", FLOW_WEATHERS)
def test_nobody_is_down_by_mistake(name: str, count: int) -> None:
    history = run(FLOW_WEATHERS[name], count)
    assert history.false_alarms() == []
    assert history.health.explain(next(iter(history.backends)))["streams"]["active"] == count


def test_our_own_stalls_are_no_silence() -> None:
    for count in (1, 10):
        history = run(STALLS, count)
        assert [event for event in history.events if event.verdict is not Verdict.UP] == []


@pytest.mark.parametrize("count", [10, 50])
@pytest.mark.parametrize("fault", ["stopped", "cut"])
def test_the_dead_are_suspected_and_found_in_time(fault: str, count: int) -> None:
    times = [flow_detection_ms(FLOW_WEATHERS["clean"], count, fault, seed, warm_s=5.0) for seed in range(30)]
    suspect, down = sorted(time[0] for time in times), sorted(time[1] for time in times)
    assert suspect[-1] <= 60
    assert down[15] <= 110 and down[-1] <= 160


def test_a_single_stream_helps_to_find_the_dead() -> None:
    down = sorted(flow_detection_ms(FLOW_WEATHERS["clean"], 1, "cut", seed, warm_s=5.0)[1] for seed in range(15))
    assert down[7] <= 110 and down[-1] <= 160


def test_loss_costs_no_time() -> None:
    for name in ("10 % random loss each way", "bursts (70 % loss, mean 60 ms), average 5 % each way"):
        down = sorted(flow_detection_ms(FLOW_WEATHERS[name], 10, "cut", seed, warm_s=30.0)[1] for seed in range(11))
        assert down[5] <= 110 and down[-1] <= 200


# Ablations


def test_without_unanswered_probes_a_burst_is_taken_for_death() -> None:
    class Credulous(Detector):
        def _is_mute(self, now: float) -> bool:
            return self.flows.silence(now) >= self.settings.rtp_silence_ms / 1000

    assert len(run(BURSTS, 1, kind=with_detector(Credulous)).false_alarms()) > 10
    assert not run(BURSTS, 1).false_alarms()


def test_without_learning_bursts_are_taken_for_death_again_and_again() -> None:
    class Forgetful(Silence):
        def learn(self, length: float, now: float) -> None:
            pass

    forgetful = with_detector(type("AblatedDetector", (Detector,), {"joint_type": Forgetful}))
    alarms = [len(run(BURSTS, 1, 2 * SLICE_S, kind=kind).false_alarms()) for kind in (forgetful, Health)]
    assert alarms[0] > 5 and alarms[1] == 0


def test_without_a_witness_our_own_cable_is_taken_for_death() -> None:
    def cut(kind: type[Health]) -> list[Diagnosis | None]:
        history = Run(Weather(), 3, 100.0, kind=kind)
        history.world.run(1.0)
        streams = Streams(history, "as1", 10, begins=1.0)
        streams.dies_at = 20.0
        history.world.run(20.0)
        for name in ("as1", "as2"):
            history.path(name).host = "cut"
        history.world.run(25.0)
        return [event.diagnosis for event in history.events if event.verdict is Verdict.DOWN]

    class Unwitnessed(SelfCheck):
        def witness_at(self, who: object) -> float:
            return float("inf")

    assert cut(type("AblatedHealth", (Health,), {"selfcheck_type": Unwitnessed}))
    assert cut(Health) == []
