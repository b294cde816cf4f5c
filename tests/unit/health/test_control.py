"""What control sessions tell of a backend's life: fast where it is death, harmless where it is not."""

from __future__ import annotations

import pytest

from proxy.backends import Verdict
from proxy.health import Diagnosis, Evidence
from proxy.health.control_state import ControlState
from proxy.health.detector import Detector
from tests.unit.health.patient import Patient, well

UP, DOWN, DEGRADED = (Verdict.UP, None), (Verdict.DOWN, Diagnosis.DEAD), (Verdict.DEGRADED, Diagnosis.CONTROL_DEAF)


def connected(kind: type[Detector] = Detector) -> Patient:
    patient = well(kind=kind)
    patient.observe(Evidence.CONTROL_OK)
    patient.wait(1.0)
    patient.answer()
    patient.changes.clear()
    return patient


def cut_off(patient: Patient) -> None:
    patient.observe(Evidence.CONTROL_CUT)
    patient.wait(0.001)
    patient.observe(Evidence.CONTROL_REFUSED)


def test_a_cut_session_that_is_refused_and_sip_that_is_refused_are_death() -> None:
    patient = connected()
    cut_off(patient)
    assert patient.verdicts == ["suspect"] and patient.detector.fast
    patient.refuse()
    assert patient.state == DOWN
    assert "control session was cut off" in patient.detector.reason
    assert patient.changes[-1].evidence[0] is Evidence.CONTROL_CUT


def test_a_cut_session_that_is_refused_and_one_probe_that_is_not_answered_are_death() -> None:
    patient = connected()
    cut_off(patient)
    patient.miss()
    assert patient.state == DOWN


def test_the_order_does_not_matter() -> None:
    patient = connected()
    patient.observe(Evidence.CONTROL_CUT)
    patient.refuse()
    assert patient.verdicts == ["suspect"]
    patient.observe(Evidence.CONTROL_REFUSED)
    assert patient.state == DOWN


def test_probes_that_were_missed_before_the_cut_do_not_count() -> None:
    patient = connected()
    patient.miss(2)
    cut_off(patient)
    assert patient.verdicts == ["suspect"]


@pytest.mark.parametrize("evidence", [Evidence.CONTROL_CUT, Evidence.CONTROL_LOST, Evidence.CONTROL_REFUSED])
def test_a_lost_session_moves_nothing_while_sip_answers(evidence: Evidence) -> None:
    patient = connected()
    patient.observe(evidence)
    for _ in range(1000):
        patient.wait(0.05)
        patient.observe(Evidence.CONTROL_REFUSED)
        patient.answer()
    assert patient.state == DEGRADED
    assert "down" not in patient.verdicts


def test_a_manager_that_closes_a_session_and_takes_the_next_one_is_no_news() -> None:
    patient = connected()
    patient.observe(Evidence.CONTROL_CUT)
    patient.wait(0.002)
    patient.observe(Evidence.CONTROL_OK)
    patient.answer()
    assert patient.verdicts == ["suspect", "up"]
    assert not patient.detector.fast
    patient.miss(1)  # and means nothing for what comes later
    assert patient.state == UP


def test_an_answer_to_a_probe_that_was_sent_before_the_cut_proves_nothing() -> None:
    patient = connected()
    cut_off(patient)
    patient.answer(sent_ago=0.5)
    assert patient.verdicts[-1] == "suspect" and patient.detector.fast
    patient.refuse()
    assert patient.state == DOWN


def test_a_call_that_is_answered_proves_nothing_either_but_a_probe_does() -> None:
    patient = connected()
    cut_off(patient)
    patient.observe(Evidence.LIVE_OK)  # read from its socket a moment later
    assert patient.detector.fast
    patient.wait(0.005)
    patient.answer()
    patient.miss()
    assert patient.state == DEGRADED


def test_a_port_that_is_closed_and_one_lost_probe_much_later_are_no_death() -> None:
    patient = connected()
    cut_off(patient)
    patient.wait(0.005)
    patient.answer()
    patient.wait(60.0)
    patient.miss()
    patient.refuse()
    assert patient.verdicts[-1] != "down"


def test_without_sip_asked_a_closed_control_port_is_taken_for_death() -> None:
    class Rash(ControlState):
        __slots__ = ()

        def enough(self, misses: int, sip_refused_at: float | None) -> bool:
            return bool(self) and self._refused

    patient = connected()
    patient.detector._control = Rash()
    cut_off(patient)
    assert patient.state == DOWN


def test_one_that_shuts_down_and_hangs_up_is_down_at_once_and_503_does_not_bring_it_back() -> None:
    patient = connected()
    patient.observe(Evidence.CONTROL_STOPPING)
    assert patient.state == DOWN
    for _ in range(20):
        patient.wait(0.05)
        patient.answer(busy=True)
    patient.observe(Evidence.CONTROL_CUT)
    patient.kill()
    assert patient.verdicts == ["down"]
    for _ in range(3):
        patient.wait(0.05)
        patient.answer()
    assert patient.state == DEGRADED  # its control session is to come


def test_another_process_has_lost_its_calls() -> None:
    patient = connected()
    cut_off(patient)
    patient.wait(0.05)
    patient.answer()  # before anybody knew
    patient.observe(Evidence.CONTROL_RESTARTED)
    assert patient.state == DOWN
    for _ in range(3):
        patient.wait(0.05)
        patient.answer()
    assert patient.state == UP


@pytest.mark.parametrize("sip_first", [True, False])
def test_that_a_backend_which_was_down_is_another_process_is_no_news(sip_first: bool) -> None:
    patient = connected()
    cut_off(patient)
    patient.refuse()
    assert patient.state == DOWN
    patient.wait(1.0)
    if not sip_first:
        patient.observe(Evidence.CONTROL_RESTARTED)
        assert patient.state == DOWN  # and its SIP is not there yet
    for _ in range(3):
        patient.wait(0.05)
        patient.answer()
    patient.wait(3.0)
    if sip_first:
        patient.observe(Evidence.CONTROL_RESTARTED)
    assert patient.verdicts == ["suspect", "down", *(["degraded"] if sip_first else []), "up"]
    patient.answer()
    cut_off(patient)  # and the next time is one of its own
    patient.observe(Evidence.CONTROL_RESTARTED)
    assert patient.state == DOWN


def test_a_wrong_secret_says_nothing() -> None:
    patient = connected()
    patient.observe(Evidence.CONTROL_LOST)
    patient.answer()
    assert patient.state == DEGRADED
    patient.observe(Evidence.CONTROL_UNUSABLE)
    assert patient.state == UP
