"""Every scenario pair against itself, nothing between: a pair that fails here says nothing about the proxy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.sipp.pairs import PAIRS, TCP_PAIRS, Pair, assert_clean, call, callee
from tests.testbed.sipp import SCENARIOS


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_pair_is_good_back_to_back(pair: Pair, tmp_path: Path) -> None:
    with callee(pair, tmp_path) as uas:
        uac, figures = call(pair, tmp_path, uas.local)
        assert_clean(pair, uac, figures, uas)


@pytest.mark.parametrize("pair", TCP_PAIRS, ids=lambda pair: pair.name)
def test_pair_is_good_back_to_back_over_tcp(pair: Pair, tmp_path: Path) -> None:
    with callee(pair, tmp_path, "t1") as uas:
        uac, figures = call(pair, tmp_path, uas.local, "t1")
        assert_clean(pair, uac, figures, uas)


def test_every_scenario_is_run_by_a_pair() -> None:
    files = {path.stem for path in SCENARIOS.glob("*.xml")}
    assert files == {pair.uac for pair in PAIRS} | {pair.uas for pair in PAIRS}


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.xml")), ids=lambda path: path.stem)
def test_scenario_says_what_it_is_for(path: Path) -> None:
    comment = re.match(r"<\?xml[^>]*\?>\n<!--\n(.{40,}?)-->\n<scenario ", path.read_text(), re.DOTALL)
    assert comment, f"{path.name} does not begin with a comment that says what it proves"
