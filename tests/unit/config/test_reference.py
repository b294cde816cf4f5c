"""docs/configuration.md is what the settings say of themselves."""

from __future__ import annotations

import re
from pathlib import Path

from proxy.config.reference import reference
from proxy.config.settings import BackendSettings, HealthSettings, SyntheticSettings

FILE = Path(__file__).parents[3] / "docs" / "configuration.md"
TEXT = reference()


def rows(heading: str) -> dict[str, list[str]]:
    """The cells of the table below a heading, by key."""
    table = TEXT.partition(f"\n## `{heading}`\n")[2].partition("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    return {each[0].strip("`"): each[1:] for each in cells}


def test_the_file_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == TEXT, "make docs"


def test_each_section_has_all_its_keys() -> None:
    assert list(rows("pools.<name>.health")) == list(HealthSettings.model_fields)
    assert list(rows("pools.<name>.health.synthetic")) == list(SyntheticSettings.model_fields)
    assert list(rows("pools.<name>.backends.<name>")) == list(BackendSettings.model_fields)


def test_a_row_tells_value_default_and_meaning() -> None:
    assert rows("sip")["t1_ms"] == ["50 to 5000", "`500`", "RFC 3261 T1: the round-trip estimate of transactions."]
    assert rows("pools.<name>")["media"][:2] == ["`relay`, `rtpengine`, `direct` or `null`", "`null`"]
    assert rows("pools.<name>.backends.<name>")["address"][:2] == ["like `192.0.2.11:5060`", "required"]
    assert rows("routes[]")["source"][:2] == ["like `10.0.0.0/8` or `null`", "`null`"]
    assert rows("sip")["listen"][1] == "`[udp:127.0.0.1:5060, tcp:127.0.0.1:5060]`"


def test_every_link_has_its_heading() -> None:
    headings = {re.sub(r"[^a-z0-9_-]", "", each.lower()) for each in re.findall(r"^## (.*)$", TEXT, re.MULTILINE)}
    links = set(re.findall(r"\(#([^)]*)\)", TEXT))
    assert links and links <= headings
