"""What the streams of a backend add to the verdict: suspicion at 45 ms, death at 105, and what must not be either."""

from __future__ import annotations

import pytest

from media.api import FlowsSilent
from proxy.backends import Verdict
from proxy.config import HealthSettings
from proxy.health import Diagnosis, Evidence
from proxy.health.detector import Detector
from proxy.health.silence import Silence
from tests.unit.health.patient import SETTINGS, Patient

TICK_S = 0.005
REPORT_S = 0.01
BEAT_S = 0.1


class Talking(Patient):
    """A backend whose SIP answers, and whose streams flow, until they are told not to."""

    def __init__(self, active: int = 10, settings: HealthSettings = SETTINGS, kind: type[Detector] = Detector) -> None:
        super().__init__(settings, kind)
        self.active = active
        self.silent_at: float | None = None  # since when all of them are
        self.answers = True
        self.everywhere = False
        self._told_at = 0.0
        self._probed_at = 0.0
        self.run(70.0)
        assert self.state == (Verdict.UP, None)

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until - 1e-9:
            self.now += TICK_S
            self._tell()
            self._probe()

    def _tell(self) -> None:
        silence = self.now - self.silent_at if self.silent_at is not None else 0.0
        silent = silence >= 0.045
        if self.now - self._told_at >= (REPORT_S if silent else BEAT_S) - 1e-9:
            self._told_at = self.now
            event = FlowsSilent(
                "as1", self.active, self.active if silent else 0, silence if silent else 0.0, 0.0, self.now
            )
            self.detector.flowed(event, self.now, self.now, self.everywhere)
            self.judge()

    def _probe(self) -> None:
        interval = 0.005 if self.detector.fast else 0.05
        if self.now - self._probed_at < interval - 1e-9:
            return
        self._probed_at = self.now
        if self.answers:
            self.answer()
        else:
            self.detector.missed(self.now, self.now - 0.01)
            self.judge()

    def fall_silent(self) -> None:
        self.silent_at = self.now

    def die(self) -> None:
        self.fall_silent()
        self.answers = False


def when(patient: Talking, verdict: Verdict, at: float, most_s: float = 1.0) -> float:
    """How long after `at` it had that verdict, in ms."""
    while patient.detector.verdict is not verdict:
        assert patient.now - at < most_s, patient.state
        patient.run(TICK_S)
    return (patient.now - at) * 1000


def test_death_is_suspected_at_45_and_believed_at_105_ms() -> None:
    patient = Talking()
    patient.die()
    at = patient.now
    assert when(patient, Verdict.SUSPECT, at) <= 50
    assert when(patient, Verdict.DOWN, at) <= 110
    assert patient.state == (Verdict.DOWN, Diagnosis.UNREACHABLE)
    assert set(patient.changes[-1].evidence) == {Evidence.RTP_SILENT, Evidence.OPTIONS_TIMEOUT}


def test_what_came_first_is_told_first() -> None:
    patient = Talking()
    patient.fall_silent()
    patient.run(0.06)
    patient.answers = False
    patient.run(0.2)
    assert patient.changes[-1].evidence == (Evidence.RTP_SILENT, Evidence.OPTIONS_TIMEOUT)


def test_one_stream_makes_no_suspicion_but_halves_the_time_to_believe_in_death() -> None:
    patient = Talking(active=1)
    patient.die()
    at = patient.now
    assert when(patient, Verdict.DOWN, at) <= 130
    patient = Talking(active=1)
    patient.fall_silent()
    patient.run(5.0)
    assert patient.state == (Verdict.UP, None), "one call's silence is that call's"
    assert patient.verdicts == ["up"]


def test_silence_of_streams_alone_is_suspect_then_media_dead() -> None:
    patient = Talking()
    patient.fall_silent()
    at = patient.now
    assert when(patient, Verdict.SUSPECT, at) <= 50
    patient.run(1.9)
    assert patient.state == (Verdict.SUSPECT, None)
    patient.run(0.2)
    assert patient.state == (Verdict.DOWN, Diagnosis.MEDIA_DEAD)
    assert patient.changes[-1].evidence == (Evidence.RTP_SILENT,)
    patient.silent_at = None
    patient.run(0.2)
    assert patient.state == (Verdict.UP, None)


def test_media_dead_stays_so_without_calls_and_then_gets_another_chance() -> None:
    patient = Talking()
    patient.fall_silent()
    patient.run(2.1)
    patient.active, patient.silent_at = 0, None  # its calls have been carried over
    patient.run(SETTINGS.flap_hold_s - 1)
    assert patient.state == (Verdict.DOWN, Diagnosis.MEDIA_DEAD)
    patient.run(2.0)
    assert patient.state == (Verdict.UP, None)


def test_media_that_stops_everywhere_is_us() -> None:
    patient = Talking()
    patient.everywhere = True
    patient.fall_silent()
    patient.run(2.5)
    assert patient.state == (Verdict.UNKNOWN, Diagnosis.OBSERVER_BLIND)
    patient.everywhere = False
    patient.run(0.1)
    assert patient.state == (Verdict.DOWN, Diagnosis.MEDIA_DEAD)


def test_a_pause_of_its_media_ends_the_suspicion() -> None:
    patient = Talking()
    patient.fall_silent()
    patient.run(0.3)
    patient.silent_at = None
    patient.run(0.2)
    assert patient.verdicts == ["up", "suspect", "up"]


def test_without_a_witness_silent_streams_are_no_death() -> None:
    patient = Talking()
    patient.witnessed = False
    patient.die()
    patient.run(0.15)
    assert patient.state == (Verdict.SUSPECT, None)
    patient.run(0.4)
    assert patient.state == (Verdict.UNKNOWN, Diagnosis.OBSERVER_BLIND)


def test_one_refusal_is_enough_when_its_streams_are_silent() -> None:
    patient = Talking()
    patient.die()
    patient.run(0.05)
    patient.refuse()
    assert patient.state == (Verdict.DOWN, Diagnosis.DEAD)


def test_one_refusal_is_not_enough_when_they_flow() -> None:
    patient = Talking()
    patient.refuse()
    assert patient.state == (Verdict.SUSPECT, None)


def test_dead_sip_with_streams_that_flow_is_sip_deaf_until_they_stop() -> None:
    patient = Talking()
    patient.answers = False
    patient.run(1.0)
    assert patient.state == (Verdict.SUSPECT, Diagnosis.SIP_DEAF), "people are still talking"
    assert "down" not in patient.verdicts
    patient.fall_silent()
    at = patient.now
    patient.run(0.09)
    assert patient.state == (Verdict.SUSPECT, Diagnosis.SIP_DEAF)
    assert when(patient, Verdict.DOWN, at) <= 120
    assert patient.state == (Verdict.DOWN, Diagnosis.UNREACHABLE)


@pytest.mark.parametrize("hears_us", [Evidence.HOST_ALIVE, Evidence.CONTROL_OK])
def test_streams_of_a_dead_sip_do_not_say_that_it_hears_us(hears_us: Evidence) -> None:
    """A path may be cut in one direction only. What is answered says that it is not."""
    patient = Talking()
    patient.answers = False
    patient.run(0.5)
    assert patient.state == (Verdict.SUSPECT, Diagnosis.SIP_DEAF)
    patient.observe(hears_us)
    assert patient.state == (Verdict.DEGRADED, Diagnosis.SIP_DEAF)


def test_dead_sip_whose_last_call_ends_is_down() -> None:
    patient = Talking()
    patient.answers = False
    patient.run(1.0)
    patient.active = 0
    patient.run(0.2)
    assert patient.state == (Verdict.DOWN, Diagnosis.UNREACHABLE)


def test_a_pause_of_the_last_stream_of_a_dead_sip_is_not_its_death() -> None:
    patient = Talking(active=1)
    patient.answers = False
    patient.run(1.0)
    patient.fall_silent()
    patient.run(1.0)
    assert patient.state == (Verdict.SUSPECT, Diagnosis.SIP_DEAF)
    patient.run(1.1)
    assert patient.state == (Verdict.DOWN, Diagnosis.UNREACHABLE)


def test_streams_that_flowed_until_the_refusal_do_not_speak_against_it() -> None:
    """A killed process: its last packets may be younger than the last answer to a probe."""
    for wait_s in (0.0, 0.02, 0.04, 0.06, 0.08):
        patient = Talking()
        patient.run(wait_s)
        patient.die()
        patient.refuse()
        patient.run(0.02)
        patient.refuse()
        assert patient.state == (Verdict.DOWN, Diagnosis.DEAD)
        patient.run(0.3)
        assert patient.verdicts == ["up", "suspect", "down"]


def test_healthy_silence_of_both_makes_more_patient() -> None:
    patient = Talking()
    patient.die()
    patient.run(0.09)
    patient.silent_at, patient.answers = None, True
    patient.run(1.0)
    assert patient.verdicts == ["up", "suspect", "up"]
    patient.die()
    at = patient.now
    assert 130 <= when(patient, Verdict.DOWN, at) <= 150


def test_the_silence_of_a_dead_one_whose_calls_were_moved_teaches_nothing() -> None:
    patient = Talking()
    for _ in range(3):
        patient.die()
        at = patient.now
        assert when(patient, Verdict.DOWN, at) <= 110
        patient.active, patient.silent_at = 0, None
        patient.run(0.3)
        patient.answers = True
        patient.run(2.0)
        patient.active = 10
        patient.run(301.0)  # flapping is another matter
        assert patient.state == (Verdict.UP, None)


def test_without_learning_the_same_pause_is_death() -> None:
    class Forgetful(Silence):
        def learn(self, length: float, now: float) -> None:
            pass

    def verdicts(kind: type[Detector]) -> list[str]:
        patient = Talking(kind=kind)
        for pause_s in (0.1, 0.115):  # the second is longer than what is needed at first
            patient.die()
            patient.run(pause_s)
            patient.silent_at, patient.answers = None, True
            patient.run(1.0)
        return patient.verdicts

    assert "down" not in verdicts(Detector)
    assert "down" in verdicts(type("Ablated", (Detector,), {"joint_type": Forgetful}))


def test_a_pause_of_media_while_sip_answers_teaches_nothing() -> None:
    patient = Talking()
    for _ in range(10):
        patient.fall_silent()
        patient.run(1.0)
        patient.silent_at = None
        patient.run(1.0)
    patient.die()
    at = patient.now
    assert when(patient, Verdict.DOWN, at) <= 110


def test_a_report_that_is_not_fresh_says_nothing() -> None:
    """The relay has died, or we have not read what it said."""
    patient = Talking()
    patient.die()
    patient.run(0.06)
    patient._told_at = 1e9
    patient.run(0.06)
    assert patient.state == (Verdict.SUSPECT, None)


def test_lost_probes_while_one_stream_pauses_are_not_death() -> None:
    patient = Talking(active=1)
    patient.fall_silent()
    patient.run(1.0)
    patient.miss(3, every_s=0.005)
    patient.run(0.01)
    assert "down" not in patient.verdicts


@pytest.mark.parametrize(("key", "value"), [("rtp_suspect_ms", 80), ("rtp_silence_ms", 300)])
def test_patience_can_be_set(key: str, value: int) -> None:
    patient = Talking(settings=HealthSettings.model_validate({key: value, "silence_min_ms": 400}))
    patient.die()
    at = patient.now
    if key == "rtp_suspect_ms":
        patient.detector.fast = False
    verdict = Verdict.SUSPECT if key == "rtp_suspect_ms" else Verdict.DOWN
    assert value <= when(patient, verdict, at) <= value + 15


def test_streams_that_falter_behind_a_dead_sip_are_waited_for() -> None:
    """Probes alone are silent for long enough just when the streams have begun to be: they flowed a moment ago."""
    patient = Talking()
    patient.answers = False
    patient.run(0.15)
    patient.fall_silent()
    at = patient.now
    patient.run(0.09)
    assert "down" not in patient.verdicts
    assert when(patient, Verdict.DOWN, at) <= 115
