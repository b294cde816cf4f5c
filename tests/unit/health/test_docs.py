"""Everything that health can say is explained in docs/diagnoses.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.backends import Verdict
from proxy.config import HealthSettings
from proxy.health import Diagnosis, Evidence
from proxy.health.diagnosis import TABLE, Row

TEXT = (Path(__file__).parents[3] / "docs" / "diagnoses.md").read_text(encoding="utf-8")
DIAGNOSES = TEXT.partition("## The diagnoses")[2].partition("## The evidence")[0]


@pytest.mark.parametrize("word", [*Diagnosis, *Evidence, *Verdict, *HealthSettings.model_fields])
def test_every_word_is_explained(word: str) -> None:
    assert f"`{word}`" in TEXT


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.why)
def test_every_row_of_the_table_is_there_in_its_order(row: Row) -> None:
    diagnosis = f"`{row.diagnosis}`" if row.diagnosis else "–"
    lines = [line for line in DIAGNOSES.splitlines() if f"| {row.why} |" in line]
    assert [line.startswith(f"| {diagnosis} | `{row.verdict}` |") for line in lines] == [True]


def test_the_order_of_the_table_is_kept() -> None:
    places = [DIAGNOSES.index(f"| {row.why} |") for row in TABLE]
    assert places == sorted(places)
