"""What a backend runs on, seen in three ways, and what is said of the differences."""

from __future__ import annotations

import asyncio
import hashlib
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxy.config import ParitySettings
from proxy.net.http import HttpAnswer, HttpError
from proxy.upkeep.checksums import Look, differences, look, parse

A, B = hashlib.sha256(b"a").hexdigest(), hashlib.sha256(b"b").hexdigest()


class Web:
    def __init__(self, answer: HttpAnswer | None) -> None:
        self.answer = answer

    async def request(
        self, method: str, url: str, *, timeout_s: float, headers: Mapping[str, str] = {}, body: bytes | None = None
    ) -> HttpAnswer:
        if self.answer is None:
            raise HttpError("refused")
        return self.answer

    async def close(self) -> None:
        return


def see(web: Web | None = None, **settings: Any) -> Look:
    return asyncio.run(look(ParitySettings.model_validate(settings), web, asyncio.to_thread))


def test_files_are_summed_by_name_and_what_is_required_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "extensions.conf").write_text("a")
    (tmp_path / "empty.key").touch()
    (tmp_path / "licence").write_text("x")
    seen = see(
        files={"extensions.conf": tmp_path / "extensions.conf", "gone.conf": tmp_path / "gone", "dir": tmp_path},
        required=[tmp_path / "licence", tmp_path / "empty.key", tmp_path / "none.key"],
    )
    assert seen.sums == {"extensions.conf": A} and seen.complete
    assert seen.complaints == [
        "dir cannot be read: Is a directory", f"{tmp_path}/empty.key is empty", f"{tmp_path}/none.key is missing"
    ]  # fmt: skip


def test_a_command_tells_what_the_real_sha256sum_prints(tmp_path: Path) -> None:
    (tmp_path / "one name").write_text("a")
    seen = see(command=["sha256sum", str(tmp_path / "one name"), str(tmp_path / "gone")])
    assert seen.sums == {str(tmp_path / "one name"): A} and seen.complaints == [] and seen.complete
    seen = see(command=["sh", "-c", f"cd {shlex.quote(str(tmp_path))} && sha256sum -b *"])
    assert seen.sums == {"one name": A}


def test_checksums_that_cannot_be_had_are_no_checksums_of_nothing() -> None:
    for seen, why in (
        (see(command="false"), "false ended with 1: "),
        (see(command="/nowhere/sums"), "/nowhere/sums: No such file or directory"),
        (see(command="sleep 10", timeout_s=0.2), "sleep: not done within 0.2 s"),
        (see(Web(None), url="http://192.0.2.1/sums"), "http://192.0.2.1/sums: refused"),
        (see(Web(HttpAnswer(404, "no")), url="http://192.0.2.1/sums"), "http://192.0.2.1/sums answered 404: no"),
    ):
        assert seen.complaints == [f"checksums cannot be had: {why}"] and not seen.complete
        assert differences({"a": A}, seen, "as1") == []


def test_a_url_tells_the_same() -> None:
    told = subprocess.run(["sha256sum"], input=b"a", capture_output=True, check=True).stdout.decode()
    assert see(Web(HttpAnswer(200, told)), url="http://192.0.2.1/sums").sums == {"-": A}


def test_lines_that_are_no_checksums_are_left_out() -> None:
    assert parse(f"{A}  x\nsha256sum: y: No such file\n{A[:-1]}  short\n{B} *z z\r\n") == {"x": A, "z z": B}


def test_differences_are_named() -> None:
    seen = Look({"same": A, "extensions.conf": B, "more": A}, ["unreadable cannot be read: Permission denied"])
    sums = {"same": A, "extensions.conf": A, "queues.conf": A, "unreadable": A}
    assert differences(sums, seen, "as1") == [
        "extensions.conf differs from as1", "queues.conf is missing (as1 has it)", "more is not on as1"
    ]  # fmt: skip
