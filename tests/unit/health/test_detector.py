"""The detector, fed by hand: what it takes to change its mind, and back."""

from __future__ import annotations

from proxy.backends import Verdict
from proxy.config import HealthSettings
from proxy.health import Diagnosis, Evidence
from proxy.health.detector import Detector
from tests.unit.health.patient import SETTINGS, Patient, well


def test_it_is_unknown_until_heard() -> None:
    patient = Patient()
    patient.judge()
    assert patient.state == (Verdict.UNKNOWN, None) and patient.changes == []
    patient.answer()
    assert patient.verdicts == ["up"]


def test_one_that_was_never_heard_is_down_without_having_been_suspect() -> None:
    patient = Patient()
    patient.miss(60, every_s=0.01)
    assert patient.verdicts == ["down"]
    assert patient.state == (Verdict.DOWN, Diagnosis.UNREACHABLE)


# Refusals


def test_two_refusals_apart_are_death() -> None:
    patient = well()
    patient.kill()
    assert patient.verdicts == ["up", "suspect", "down"]
    assert patient.state == (Verdict.DOWN, Diagnosis.DEAD)
    assert patient.changes[-1].evidence == (Evidence.ICMP_REFUSED,)


def test_two_refusals_of_one_moment_are_one() -> None:
    patient = well()
    patient.refuse()
    patient.now += 0.005
    patient.refuse()
    assert patient.verdicts == ["up", "suspect"]


def test_one_refusal_and_silence_are_death_because_icmp_is_rate_limited() -> None:
    patient = well()
    patient.refuse()
    patient.miss(8, every_s=0.005)
    assert patient.verdicts[-1] == "suspect"
    patient.miss(5, every_s=0.005)
    assert patient.state == (Verdict.DOWN, Diagnosis.DEAD)


def test_an_answer_after_a_refusal_ends_the_suspicion() -> None:
    patient = well()
    patient.refuse()
    patient.wait(0.01)
    patient.answer()
    patient.wait(0.01)
    patient.refuse()
    assert patient.verdicts == ["up", "suspect", "up", "suspect"]


def test_without_the_second_refusal_a_stray_icmp_error_is_death() -> None:
    class Credulous(Detector):
        def _is_refused(self, now: float) -> bool:
            return bool(self._refusals)

    patient = well(kind=Credulous)
    patient.refuse()
    assert patient.state == (Verdict.DOWN, Diagnosis.DEAD)


def test_no_way_to_the_host_is_not_a_refusal() -> None:
    patient = well()
    for _ in range(10):
        patient.observe(Evidence.ICMP_UNREACHABLE)
        patient.wait(0.01)
    assert patient.state == (Verdict.UP, None)


# Silence


def test_silence_needs_time_and_probes() -> None:
    many = well()
    many.miss(40, every_s=0.003)
    assert many.verdicts[-1] != "down", "40 probes in 120 ms"
    few = well()
    few.miss(SETTINGS.fall - 1, every_s=0.02)
    assert few.verdicts[-1] == "suspect", "19 probes in 380 ms"
    few.miss(1)
    assert few.state == (Verdict.DOWN, Diagnosis.UNREACHABLE)


def test_the_first_miss_asks_for_fast_probes_and_the_first_answer_for_slow_ones() -> None:
    patient = well()
    patient.miss()
    assert patient.detector.fast and patient.verdicts == ["up"]
    patient.answer(timely=False)
    assert not patient.detector.fast


def test_a_hung_process_is_told_from_a_host_that_is_cut_off() -> None:
    patient = well()
    patient.miss(30, every_s=0.01)
    assert patient.state == (Verdict.DOWN, Diagnosis.UNREACHABLE)
    patient.observe(Evidence.HOST_ALIVE)
    assert patient.state == (Verdict.DOWN, Diagnosis.HUNG)
    assert patient.changes[-1].previous is Verdict.DOWN, "a listener can tell that it is not news of a death"
    patient.kill()
    assert patient.state == (Verdict.DOWN, Diagnosis.DEAD)


def test_silence_without_a_witness_is_our_own_blindness() -> None:
    patient = well()
    patient.witnessed = False
    patient.miss(39, every_s=0.01)
    assert patient.verdicts[-1] == "suspect", "a witness is waited for"
    patient.miss(2, every_s=0.01)
    assert patient.state == (Verdict.UNKNOWN, Diagnosis.OBSERVER_BLIND)
    patient.answer()
    assert patient.verdicts == ["up", "suspect", "unknown", "up"]


def test_a_witness_who_turns_up_later_makes_it_a_death() -> None:
    patient = well()
    patient.witnessed = False
    patient.miss(50, every_s=0.01)
    patient.witnessed = True
    patient.miss()
    assert patient.state == (Verdict.DOWN, Diagnosis.UNREACHABLE)


def test_a_refusal_needs_no_witness() -> None:
    patient = well()
    patient.witnessed = False
    patient.kill()
    assert patient.state == (Verdict.DOWN, Diagnosis.DEAD)


# Coming back


def test_it_comes_back_after_some_timely_answers_in_a_row() -> None:
    patient = well()
    patient.kill()
    patient.live(0.1)
    assert patient.detector.verdict is Verdict.DOWN
    patient.miss()
    patient.live(0.1)
    assert patient.detector.verdict is Verdict.DOWN, "not in a row"
    patient.live(0.05)
    assert patient.state == (Verdict.UP, None)


def test_what_a_paused_machine_answers_from_its_buffers_is_no_return() -> None:
    patient = well()
    patient.miss(30, every_s=0.01)
    patient.wait(5.0)
    for _ in range(50):
        patient.answer(timely=False, sent_ago=1.0)
        patient.answer(timely=True, sent_ago=6.0)
    assert patient.detector.verdict is Verdict.DOWN


def down_and_up(patient: Patient, times: int, apart_s: float) -> None:
    for _ in range(times):
        patient.kill()
        patient.live(apart_s)


def test_one_that_flaps_is_held_out_until_it_is_stable() -> None:
    patient = well()
    down_and_up(patient, 3, 2.0)
    assert patient.state == (Verdict.DOWN, Diagnosis.FLAPPING)
    patient.live(50.0)
    assert patient.state == (Verdict.DOWN, Diagnosis.FLAPPING)
    patient.kill()
    patient.live(50.0)
    assert patient.state == (Verdict.DOWN, Diagnosis.FLAPPING), "the hold begins anew"
    patient.live(11.0)
    assert patient.state == (Verdict.UP, None)
    patient.kill()
    patient.live(1.0)
    assert patient.state == (Verdict.UP, None), "the past is forgiven"


def test_rare_deaths_are_no_flapping() -> None:
    patient = well()
    down_and_up(patient, 6, SETTINGS.flap_window_s / 2 + 1)
    assert patient.state == (Verdict.UP, None)


def test_without_flap_damping_calls_are_sent_to_it_every_time() -> None:
    damped, undamped = well(), well(HealthSettings(flaps_max=100))
    for patient in (damped, undamped):
        down_and_up(patient, 20, 2.0)
    assert undamped.verdicts.count("up") == 21
    assert damped.verdicts.count("up") == 3


# Overload, live requests, restarts


def test_503_in_a_row_is_overload_and_one_is_not() -> None:
    patient = well()
    patient.live(0.05, busy=True)
    assert patient.state == (Verdict.UP, None)
    patient.live(0.05, busy=True)
    assert patient.state == (Verdict.DEGRADED, Diagnosis.OVERLOADED)
    patient.live(0.05)
    assert patient.state == (Verdict.UP, None)


def test_calls_that_get_no_response_at_all_make_it_hung() -> None:
    patient = well()
    for _ in range(SETTINGS.live_fall - 1):
        patient.observe(Evidence.LIVE_TIMEOUT)
        patient.live(0.5)
    assert patient.state == (Verdict.UP, None)
    patient.observe(Evidence.LIVE_TIMEOUT)
    assert patient.state == (Verdict.DOWN, Diagnosis.HUNG)
    patient.live(30.0)
    assert patient.state == (Verdict.DOWN, Diagnosis.HUNG), "answers to OPTIONS prove nothing about calls"
    patient.live(31.0)
    assert patient.state == (Verdict.UP, None), "without calls it could never show that it is well"


def test_unanswered_calls_of_one_moment_are_not_enough() -> None:
    patient = well()
    for _ in range(100):
        patient.observe(Evidence.LIVE_TIMEOUT)
    assert patient.state == (Verdict.UP, None)


def test_one_answered_call_speaks_against_many_that_were_not() -> None:
    patient = well()
    for _ in range(SETTINGS.live_fall - 1):
        patient.observe(Evidence.LIVE_TIMEOUT)
        patient.live(0.5)
    patient.observe(Evidence.LIVE_OK)
    for _ in range(SETTINGS.live_fall - 1):
        patient.observe(Evidence.LIVE_TIMEOUT)
        patient.live(0.5)
    assert patient.state == (Verdict.UP, None)


def test_a_live_response_is_a_sign_of_life() -> None:
    patient = well()
    patient.miss(19, every_s=0.01)
    patient.observe(Evidence.LIVE_OK)
    patient.miss(19, every_s=0.01)
    assert patient.detector.verdict is not Verdict.DOWN


def test_dialogs_that_it_has_forgotten_mean_a_restart() -> None:
    patient = well()
    for number in range(2):
        patient.forget(b"%d" % number)
        patient.live(1.0)
    assert patient.state == (Verdict.UP, None)
    patient.forget(b"2")
    assert patient.state == (Verdict.DOWN, Diagnosis.DEAD)
    assert "3 live dialogs are unknown" in patient.changes[-1].reason
    patient.live(0.2)
    assert patient.state == (Verdict.UP, None)


def test_a_forgotten_dialog_now_and_then_is_no_restart() -> None:
    patient = well()
    for number in range(10):
        patient.forget(b"%d" % number)
        patient.live(3.0)
    assert patient.state == (Verdict.UP, None)


def test_many_refusals_in_one_dialog_are_no_restart() -> None:
    patient = well()
    for _ in range(10):
        patient.forget(b"0")
        patient.live(0.1)
    assert patient.state == (Verdict.UP, None)
