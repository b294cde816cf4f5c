"""The files that operators include are those that the tests have run."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.demo.asterisk.instance import TEMPLATES

DOCS = Path(__file__).resolve().parents[3] / "docs" / "asterisk"


@pytest.mark.parametrize("name", sorted(path.name for path in DOCS.glob("*.conf")))
def test_a_file_of_the_docs_is_the_one_that_was_run(name: str) -> None:
    assert (DOCS / name).read_text() == (TEMPLATES / name).read_text()
