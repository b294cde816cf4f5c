"""Files out of templates: every place filled, written whole or not at all, secrets for nobody else to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.upkeep.templates import TemplateError, render, write, write_all


def test_places_are_filled_and_what_a_dialplan_is_full_of_is_left_alone() -> None:
    text = "secret=@AMI@\nexten => _X.,1,Dial(PJSIP/${EXTEN}@trunk)\nmail=100@default ; a@B@c @x@\n"
    assert render(text, {"AMI": "s3cret", "B": "?"}, "x") == text.replace("@AMI@", "s3cret").replace("@B@", "?")


def test_a_place_without_a_value_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.in", tmp_path / "bad.in"
    good.write_text("@A@")
    bad.write_text("@A@ @MISSING@ @ALSO_MISSING@")
    with pytest.raises(TemplateError, match=r"bad\.in: no value for ALSO_MISSING, MISSING$"):
        write_all({str(tmp_path / "1"): good, str(tmp_path / "2"): bad}, {"A": "a"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.in", "good.in"]


def test_a_template_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"none\.in: No such file or directory"):
        write_all({str(tmp_path / "1"): tmp_path / "none.in"}, {})
    with pytest.raises(TemplateError, match=r"no/where/1: No such file or directory"):
        write(tmp_path / "no" / "where" / "1", "x")


def test_a_file_is_written_when_it_differs_and_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "manager.conf"
    assert write(target, "one") and target.stat().st_mode & 0o777 == 0o640
    target.chmod(0o604)
    before = target.stat().st_ino
    assert not write(target, "one") and target.stat().st_ino == before
    assert write(target, "two") and target.read_text() == "two" and target.stat().st_mode & 0o777 == 0o604
    assert [path.name for path in tmp_path.iterdir()] == ["manager.conf"]


def test_how_many_have_changed_is_told(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("@A@")
    templates = {str(tmp_path / "1"): tmp_path / "in", str(tmp_path / "2"): tmp_path / "in"}
    assert [write_all(templates, {"A": "a"}) for _ in range(2)] == [2, 0]
