"""`aqueduct demo` as a user runs it: what it prints, what it returns, and that it can fail and leaves nothing behind.

Where possible each run has a network of its own, so that two runs on one machine do not meet on the demo's addresses.
The figures are those of the project's promise, for one run of 50 calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from proxy.admin.control import ControlError, ask
from tests.testbed import network
from tests.testbed.asterisk import ROOT_FOLDER

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "proxy.cli", "demo"]

needs_asterisk = pytest.mark.skipif(not ROOT_FOLDER.is_dir(), reason="no Asterisk: make asterisk")


@pytest.fixture(autouse=True)
def own_addresses() -> Iterator[None]:
    own: AbstractContextManager[None] = contextlib.nullcontext() if network.unavailable() else network.own_network()
    with own:
        yield


def play(*options: str) -> tuple[int, str, float]:
    began = time.monotonic()
    done = subprocess.run([*COMMAND, *options], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout, time.monotonic() - began


def outcome_of(*options: str) -> dict[str, Any]:
    code, output, seconds = play("--json", *options)
    outcome: dict[str, Any] = json.loads(output)
    assert code == 0, outcome["faults"]
    assert output.count("\n") == 1
    assert seconds < 20
    return outcome


def assert_carried_over(outcome: dict[str, Any], calls: int, detection_ms: float) -> None:
    assert outcome["ok"]
    assert (outcome["calls"], outcome["moved"], outcome["ended_well"]) == (calls, calls, calls)
    assert (outcome["lost"], outcome["deaf"]) == (0, 0)
    assert 0 < outcome["detection_ms"] <= detection_ms
    assert outcome["gap_ms"]["p50"] <= detection_ms + 150
    assert outcome["gap_ms"]["p99"] <= 1000
    assert len(outcome["gaps_ms"]) == calls


def test_fifty_calls_go_on_when_a_reference_backend_is_killed() -> None:
    assert_carried_over(outcome_of(), 50, 250)


@needs_asterisk
def test_fifty_calls_go_on_when_asterisk_is_killed() -> None:
    assert_carried_over(outcome_of("--asterisk"), 50, 250)


@needs_asterisk
def test_calls_go_on_when_asterisk_is_frozen() -> None:
    assert_carried_over(outcome_of("--asterisk", "--calls", "30", "--fault", "stop"), 30, 500)


def test_what_it_prints_into_a_file_is_plain_text() -> None:
    code, output, _ = play("--calls", "10", "--fault", "stop")
    assert code == 0, output
    assert "\x1b" not in output
    assert "the primary is frozen (SIGSTOP)" in output
    assert "10 moved, 0 lost, 0 deaf" in output.splitlines()[-1]


def test_it_fails_when_there_is_nobody_to_carry_the_calls_over_to() -> None:
    with subprocess.Popen([*COMMAND, "--json", "--calls", "4"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as demo:
        callers = command_line(wait_for(demo.pid, "proxy.demo.callers")).split()
        wait_until_all_hear(Path(callers[callers.index("--control") + 1]))
        os.kill(wait_for(demo.pid, "127.0.8.12:5060"), signal.SIGKILL)
        output, _ = demo.communicate(timeout=40)
    outcome = json.loads(output)
    assert demo.returncode == 1
    assert not outcome["ok"]
    assert outcome["moved"] == 0
    assert outcome["lost"] + outcome["deaf"] == 4
    assert "the proxy moved 0 of 4 calls" in outcome["faults"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_leaves_no_process_behind_when_it_is_ended_in_the_middle(number: signal.Signals, code: int) -> None:
    with subprocess.Popen([*COMMAND, "--calls", "4"], cwd=ROOT, stdout=subprocess.DEVNULL) as demo:
        wait_for(demo.pid, "proxy.demo.callers")
        family = descendants(demo.pid)
        assert len(family) == 5  # two backends, the proxy and its relay, the callers
        demo.send_signal(number)
        assert demo.wait(10) == code
    assert not [pid for pid in family if command_line(pid)]


def command_line(pid: int) -> str:
    """Empty when there is no such process any more."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def descendants(pid: int) -> list[int]:
    found = [pid]
    for member in found:
        with contextlib.suppress(OSError):
            for children in Path(f"/proc/{member}/task").glob("*/children"):
                found += map(int, children.read_text().split())
    return found[1:]


def wait_for(pid: int, what: str) -> int:
    """The descendant that has `what` in its command line, when it is there."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        for member in descendants(pid):
            if what in command_line(member):
                return member
        time.sleep(0.02)
    raise TimeoutError(f"no {what} among the descendants of {pid}")


def wait_until_all_hear(control: Path) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        with contextlib.suppress(ControlError):
            state = asyncio.run(ask(control, "state"))
            if state["hearing"] == state["calls"]:
                return
        time.sleep(0.02)
    raise TimeoutError("not every caller hears something")
