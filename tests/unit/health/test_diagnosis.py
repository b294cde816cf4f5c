"""What the evidence of all senses means together: the table of diagnoses."""

from __future__ import annotations

import itertools

import pytest

from proxy.backends import Verdict
from proxy.health import Diagnosis, Evidence
from proxy.health.diagnosis import TABLE, Sign, Signs, Sip, diagnose
from tests.unit.health.patient import well


@pytest.mark.parametrize(
    ("evidence", "verdict", "diagnosis", "undone_by"),
    [
        (Evidence.CONTROL_LOST, Verdict.DEGRADED, Diagnosis.CONTROL_DEAF, Evidence.CONTROL_OK),
        (Evidence.SYNTHETIC_FAILED, Verdict.DEGRADED, Diagnosis.MEDIA_DEAD, Evidence.SYNTHETIC_OK),
    ],
)
def test_other_senses_have_their_say(
    evidence: Evidence, verdict: Verdict, diagnosis: Diagnosis, undone_by: Evidence
) -> None:
    patient = well()
    patient.observe(evidence)
    assert patient.state == (verdict, diagnosis)
    assert patient.changes[-1].evidence == (evidence,)
    patient.observe(undone_by)
    assert patient.state == (Verdict.UP, None)


def test_dead_sip_with_a_living_control_session_is_sip_deaf() -> None:
    patient = well()
    patient.refuse()
    patient.wait(0.02)
    patient.observe(Evidence.CONTROL_OK)
    patient.refuse()
    assert patient.state == (Verdict.DEGRADED, Diagnosis.SIP_DEAF)
    patient.observe(Evidence.CONTROL_LOST)
    assert patient.state == (Verdict.DOWN, Diagnosis.DEAD)


def test_what_was_alive_before_the_silence_began_proves_nothing() -> None:
    patient = well()
    patient.observe(Evidence.CONTROL_OK)
    patient.live(1.0)
    patient.kill()
    assert patient.state == (Verdict.DOWN, Diagnosis.DEAD)


# The table


def all_signs() -> list[Signs]:
    flags, senses = (False, True), tuple(Sign)
    return [
        Signs(*values) for values in itertools.product(tuple(Sip), flags, flags, senses, senses, senses, flags, flags)
    ]


def test_the_table_has_an_answer_for_everything_and_no_idle_row() -> None:
    used = {id(diagnose(signs)) for signs in all_signs()}
    assert used == {id(row) for row in TABLE}
    assert {row.diagnosis for row in TABLE} == {None, *Diagnosis}


def test_only_a_named_diagnosis_is_down() -> None:
    assert all(row.diagnosis is not None for row in TABLE if row.verdict is Verdict.DOWN)
