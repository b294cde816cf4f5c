"""`aqueduct run` among what operators and their machines do to it: signals, a second node, no route, a frozen relay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.testbed.aqueduct import ROOT, Aqueduct, settings
from tests.testbed.hosts import BACKENDS, PROXY
from tests.testbed.process import Process
from tests.testbed.sip_ping import wait_for_options


def backend(folder: Path, host: str = BACKENDS[0]) -> Process:
    process = Process([sys.executable, "-m", "proxy.demo.backend", "--address", f"{host}:5060"], folder / "backend.log")
    wait_for_options((host, 5060), timeout_s=15.0, alive=lambda: process.running)
    return process


def configuration(folder: Path, second: str = BACKENDS[1]) -> dict[str, Any]:
    return settings(PROXY, {"as1": (BACKENDS[0], 5060), "as2": (second, 5060)}, folder)


def started(folder: Path, configuration: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """A node that cannot start: what it says."""
    node = Aqueduct(configuration, folder)
    try:
        code = node.wait(10.0)
    finally:
        node.stop()
    return subprocess.CompletedProcess([], code, node.log.read_text())


def until(condition: Any, timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_sighup_is_heard_and_ends_nothing(tmp_path: Path) -> None:
    with Aqueduct(configuration(tmp_path), tmp_path) as node:
        node.wait_ready()
        node.signal(signal.SIGHUP)
        until(lambda: "SIGHUP" in node.log_tail())
        assert node.ask("status")["calls"] == 0


def test_a_second_node_on_the_same_state_directory_is_refused_and_disturbs_nobody(tmp_path: Path) -> None:
    with Aqueduct(configuration(tmp_path), tmp_path) as node:
        node.wait_ready()
        other = configuration(tmp_path)
        other["sip"]["listen"] = [f"udp:{PROXY}:5099"]
        (tmp_path / "other").mkdir()
        done = started(tmp_path / "other", other)
        assert done.returncode == 1
        assert f"process {node.pid}" in done.stdout and str(tmp_path / "state") in done.stdout
        assert node.ask("status")["node"] == "aqueduct"
    with Aqueduct(configuration(tmp_path), tmp_path) as node:  # the lock went with the process
        node.wait_ready()
        node.kill()
        node.wait(5.0)
        node.restart()


def test_a_backend_without_a_route_does_not_keep_the_node_from_starting(tmp_path: Path) -> None:
    with backend(tmp_path), Aqueduct(configuration(tmp_path, second="192.0.2.77"), tmp_path) as node:
        node.wait_ready()

        def verdicts() -> dict[str, tuple[str, str]]:
            return {row["name"]: (row["verdict"], row["diagnosis"]) for row in node.ask("status")["backends"]}

        until(lambda: verdicts() == {"as1": ("up", None), "as2": ("down", "Unreachable")})
        assert "192.0.2.77:5060" in node.log.read_text()


def with_listener(configuration: dict[str, Any], listener: str) -> dict[str, Any]:
    configuration["sip"]["listen"] = [listener]
    return configuration


@pytest.mark.parametrize(
    ("listener", "said"),
    [
        ("udp:192.0.2.78:5060", "cannot listen on udp:192.0.2.78:5060: Cannot assign requested address"),
        ("tcp:192.0.2.78:5060", "cannot listen on tcp:192.0.2.78:5060: Cannot assign requested address"),
        (f"udp:{BACKENDS[1]}:5060", f"cannot listen on udp:{BACKENDS[1]}:5060: Address already in use"),
    ],
)
def test_what_keeps_a_node_from_starting_is_named(tmp_path: Path, listener: str, said: str) -> None:
    with backend(tmp_path, BACKENDS[1]):
        wanted = settings(PROXY, {"as1": (BACKENDS[0], 5060)}, tmp_path)
        wanted["pools"]["pbx"]["backends"]["as1"]["transport"] = listener[:3]
        done = started(tmp_path, with_listener(wanted, listener))
    assert (done.returncode, done.stdout.count(said)) == (1, 1), done.stdout


def test_a_media_address_that_is_not_ours_is_named(tmp_path: Path) -> None:
    wanted = settings(PROXY, {"as1": (BACKENDS[0], 5060)}, tmp_path)
    wanted["media"]["address"] = "192.0.2.79"
    done = started(tmp_path, wanted)
    assert done.returncode == 1 and "192.0.2.79" in done.stdout.splitlines()[-1], done.stdout


def test_a_log_level_that_there_is_not_is_a_usage_error(tmp_path: Path) -> None:
    file = tmp_path / "aqueduct.yaml"
    file.write_text("pools: {}")
    argv = [sys.executable, "-m", "proxy.cli", "run", "-c", str(file), "--log-level", "loud"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and "loud" in done.stderr and "warning" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_frozen_relay_is_replaced_and_status_says_so(tmp_path: Path) -> None:
    with Aqueduct(configuration(tmp_path), tmp_path) as node:
        node.wait_ready()
        relay = node.ask("status")["relay"]
        assert relay["pid"] == node.relay_pid() and (relay["restarts"], relay["frozen"]) == (0, 0)
        os.kill(relay["pid"], signal.SIGSTOP)
        until(lambda: "frozen" in node.log_tail(), 2.0)
        until(lambda: node.ask("status")["relay"].get("restarts") == 1)
        now = node.ask("status")["relay"]
        assert now["pid"] != relay["pid"] and now["frozen"] == 1
