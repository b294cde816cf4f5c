"""`aqueduct rolling-restart` before a node that answers from a script: what it prints, Ctrl-C, and its exit code."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.admin.control import ControlError, ControlServer, control_path

CONFIGURATION = """\
node: {{state_dir: {folder}}}
pools: {{pbx: {{backends: {{as1: {{address: 192.0.2.1}}}}}}}}
routes: [{{pool: pbx}}]
"""


class Node:
    """One that restarts for as long as it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.outcome = "running"
        self.refuses = ""
        self.slow_s = 0.0

    def row(self) -> dict[str, Any]:
        part = {"backend": "as1", "step": "restarting", "moved": 3, "drained_s": 1.2, "ready_s": None, "service": "up"}
        timeline = [(0.0, "as1 draining")] + [(1.2, "as1 restarting")] * (len(self.asked) > 1)
        return {
            "pool": "pbx", "outcome": self.outcome, "reason": "stopped by the operator", "timeline": timeline,
            "parts": [part], "moved": 3, "took_s": 2.0,
        }  # fmt: skip

    async def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(command["command"])
        if self.refuses:
            raise ControlError(self.refuses)
        if command["command"] == "rolling-stop":
            self.outcome = "aborted"
        elif command["command"] == "rolling":
            await asyncio.sleep(self.slow_s)
        return self.row()


Watch = Callable[[asyncio.subprocess.Process, Node], Any]


def restart(folder: Path, node: Node, watch: Watch, *options: str) -> tuple[int, str, str]:
    async def main() -> tuple[int, str, str]:
        (folder / "aqueduct.yaml").write_text(CONFIGURATION.format(folder=folder))
        names = ("rolling-restart", "rolling", "rolling-stop")
        server = ControlServer(control_path(folder), dict.fromkeys(names, node.answer))
        await server.start()
        argv = (sys.executable, "-m", "proxy.cli", "rolling-restart", "pbx", "-c", str(folder / "aqueduct.yaml"))
        process = await asyncio.create_subprocess_exec(*argv, *options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            async with asyncio.timeout(20.0):
                await watch(process, node)
                said, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
            await server.close()
        assert process.returncode is not None
        return process.returncode, said.decode(), errors.decode()

    return asyncio.run(main())


async def interrupts(process: asyncio.subprocess.Process, node: Node) -> None:
    while "rolling" not in node.asked:
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGINT)


async def lets_it_end(process: asyncio.subprocess.Process, node: Node) -> None:
    while "rolling" not in node.asked:
        await asyncio.sleep(0.01)
    node.outcome = "done"


@pytest.mark.parametrize("slow_s", [0.0, 1.0], ids=["between two looks", "in a look"])
def test_ctrl_c_asks_the_node_to_stop_and_looks_on(tmp_path: Path, slow_s: float) -> None:
    node = Node()
    node.slow_s = slow_s
    code, said, errors = restart(tmp_path, node, interrupts)
    assert (code, errors.strip()) == (1, "stopping before the next backend")
    assert node.asked.count("rolling-stop") == 1
    lines = said.splitlines()
    assert lines[:2] == ["    0.00 s  as1 draining", "    1.20 s  as1 restarting"]
    assert lines[-1] == "aborted: stopped by the operator (3 calls moved, 2.0 s)"


def test_it_ends_with_0_when_all_are_restarted_and_says_what_was_done(tmp_path: Path) -> None:
    code, said, errors = restart(tmp_path, Node(), lets_it_end)
    assert (code, errors) == (0, "")
    lines = said.splitlines()
    assert lines[:2] == ["    0.00 s  as1 draining", "    1.20 s  as1 restarting"]
    assert lines[-2].split() == ["as1", "restarting", "3", "1.2", "-", "up"]
    assert lines[-1] == "pool pbx restarted: 3 calls moved, 2.0 s"


def test_a_refusal_is_one_line(tmp_path: Path) -> None:
    node = Node()
    node.refuses = "as2 is degraded, not up"

    async def nothing(process: asyncio.subprocess.Process, node: Node) -> None:
        return

    code, said, errors = restart(tmp_path, node, nothing)
    assert (code, said, errors) == (3, "", "as2 is degraded, not up\n")
