"""Go, or a named refusal; and what the operator's guide says of both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.backends import Pool, Verdict
from proxy.config import PoolSettings
from proxy.failover.policy import Refusal, decide
from proxy.health import Diagnosis

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "failover.md").read_text(encoding="utf-8")


def pool(recover: bool = True) -> Pool:
    settings = {"recover": recover, "backends": {"as1": {"address": "192.0.2.1"}}}
    return Pool("pbx", PoolSettings.model_validate(settings), "relay")


def test_a_dead_backend_with_calls_is_a_go() -> None:
    assert decide(Verdict.DOWN, Diagnosis.DEAD, pool(), calls=1, running=False) is None


@pytest.mark.parametrize("diagnosis", [each for each in Diagnosis if each is not Diagnosis.OBSERVER_BLIND])
def test_every_diagnosis_that_means_down_is_a_go(diagnosis: Diagnosis) -> None:
    assert decide(Verdict.DOWN, diagnosis, pool(), calls=1, running=False) is None


@pytest.mark.parametrize("verdict", [each for each in Verdict if each is not Verdict.DOWN])
def test_no_other_verdict_moves_a_call(verdict: Verdict) -> None:
    assert decide(verdict, None, pool(), calls=1, running=False) is Refusal.NOT_DOWN


def test_when_everybody_is_silent_it_is_us_whatever_the_verdict() -> None:
    for verdict in Verdict:
        found = decide(verdict, Diagnosis.OBSERVER_BLIND, pool(), calls=1, running=False)
        assert found is Refusal.OBSERVER_BLIND


def test_a_carrier_is_never_recovered() -> None:
    assert decide(Verdict.DOWN, Diagnosis.DEAD, pool(recover=False), calls=1, running=False) is Refusal.CARRIER


def test_what_is_being_moved_is_not_moved_twice() -> None:
    assert decide(Verdict.DOWN, Diagnosis.HUNG, pool(), calls=1, running=True) is Refusal.RUNNING


def test_nothing_lives_there() -> None:
    assert decide(Verdict.DOWN, Diagnosis.DEAD, pool(), calls=0, running=False) is Refusal.NO_CALLS


@pytest.mark.parametrize("refusal", Refusal)
def test_every_refusal_has_a_line_in_the_guide(refusal: Refusal) -> None:
    assert re.search(rf"^\| `{refusal}` \| \w", GUIDE, re.MULTILINE)


def test_the_guide_names_no_refusal_that_there_is_not() -> None:
    table = GUIDE.partition("## Refusals")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(Refusal)


def test_the_guide_names_the_headers_that_a_backup_gets_and_no_others() -> None:
    rooms = (ROOT / "proxy" / room for room in ("calls", "conferences", "failover", "recordings"))
    sources = [source.read_text(encoding="utf-8") for room in rooms for source in room.glob("*.py")]
    sent = {name for source in sources for name in re.findall(r'own\("([\w-]+)"', source)}
    assert {f"X-Aqueduct-{name}" for name in sent} == set(re.findall(r"`(X-Aqueduct-[\w-]+)`", GUIDE))
