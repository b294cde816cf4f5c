"""The exec driver on real commands: what they are told, what they say, and those that do not end."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import stat
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from proxy.backends.power import PowerError, Running
from proxy.backends.power.exec import ExecDriver
from proxy.config import ExecSettings

T = TypeVar("T")


def script(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return shlex.quote(str(path))


def driver(**settings: Any) -> ExecDriver:
    settings = {"start": "/bin/true", "stop": "/bin/true", **settings}
    return ExecDriver(ExecSettings.model_validate(settings), {"AQUEDUCT_BACKEND": "as2"})


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def refused(work: Coroutine[Any, Any, Any]) -> str:
    with pytest.raises(PowerError) as caught:
        asyncio.run(work)
    return str(caught.value)


def alive(pid: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_an_order_says_the_last_line_of_what_the_command_said(tmp_path: Path) -> None:
    start = script(tmp_path, "start", "echo first; echo started >&2")
    assert run(driver(start=start).start()) == "started"


def test_a_command_that_fails_is_told_with_its_code_and_its_last_words(tmp_path: Path) -> None:
    start = script(tmp_path, "start", "echo 'no licence'; exit 4")
    assert refused(driver(start=start).start()).endswith("start ended with 4: no licence")
    assert refused(driver(start=script(tmp_path, "k", "kill -9 $$")).start()).endswith("was killed by signal 9")
    assert refused(driver(start="/nowhere/start").start()) == "/nowhere/start: No such file or directory"


def test_secrets_are_in_the_environment_and_not_on_the_command_line(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    program = (
        "import os, sys, json; print('got', os.environ['AMI'])\n"
        f"json.dump([sys.argv, dict(os.environ)], open({str(seen)!r}, 'w'))"
    )
    there = driver(start=[sys.executable, "-c", program], environment={"AMI": "s3cret"})
    os.environ["OURS"] = "nobody else's"
    try:
        assert run(there.start()) == "got ***"
    finally:
        del os.environ["OURS"]
    argv, environment = json.loads(seen.read_text())
    assert "s3cret" not in str(argv) and "OURS" not in environment
    assert (environment["AMI"], environment["AQUEDUCT_BACKEND"]) == ("s3cret", "as2")
    assert "s3cret" not in repr(ExecSettings(start=("a",), stop=("b",), environment={"AMI": "s3cret"}))  # type: ignore[dict-item]


def test_a_failing_command_cannot_tell_a_secret(tmp_path: Path) -> None:
    start = script(tmp_path, "start", "echo cannot log in with $AMI; exit 1")
    assert refused(driver(start=start, environment={"AMI": "s3cret"}).start()).endswith(": cannot log in with ***")


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    start = script(tmp_path, "start", f"echo waiting; sleep 60 & echo $! > {tmp_path}/child; wait")
    assert refused(driver(start=start, timeout_s=0.3).start()).endswith("start: not done within 0.3 s: waiting")
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_command_that_nobody_waits_for_any_more_is_killed(tmp_path: Path) -> None:
    async def give_up() -> int:
        task = asyncio.create_task(driver(start=script(tmp_path, "s", f"echo $$ > {tmp_path}/pid; sleep 60")).start())
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        pid = int((tmp_path / "pid").read_text())
        while alive(pid):
            await asyncio.sleep(0.01)
        return pid

    assert run(asyncio.wait_for(give_up(), 5.0))


def test_what_a_command_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    start = script(tmp_path, "start", f"setsid sleep 60 & echo $! > {tmp_path}/child; echo started")
    began = time.monotonic()
    try:
        assert run(driver(start=start).start()) == "started"
        assert time.monotonic() - began < 5
        assert alive(int((tmp_path / "child").read_text()))
    finally:
        os.kill(int((tmp_path / "child").read_text()), 9)


def test_restart_is_stop_and_start_unless_there_is_a_command(tmp_path: Path) -> None:
    said = [
        script(tmp_path, name, f"echo {name} >> {tmp_path}/said; echo {name}") for name in ("start", "stop", "again")
    ]
    assert run(driver(start=said[0], stop=said[1]).restart()) == "start"
    assert run(driver(start=said[0], stop=said[1], restart=said[2]).restart()) == "again"
    assert (tmp_path / "said").read_text().split() == ["stop", "start", "again"]


def test_state_is_what_the_code_of_an_init_script_says(tmp_path: Path) -> None:
    assert run(driver().state()) is Running.UNKNOWN
    assert run(driver(state="/bin/true").state()) is Running.RUNNING
    assert run(driver(state=script(tmp_path, "stopped", "exit 3")).state()) is Running.STOPPED
    assert "ended with 4: who?" in refused(driver(state=script(tmp_path, "odd", "echo 'who?'; exit 4")).state())
