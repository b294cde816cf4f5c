"""The processes of a demo: two backends, the proxy, the callers. All are children, and all end with it.

Everything happens on 127.0.8.x and in one temporary folder. Proxy and callers are asked over their control sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from proxy.admin.control import ControlError, ask
from proxy.demo.asterisk import Asterisk
from proxy.demo.process import Process
from proxy.demo.script import BACKUP_HZ, PRIMARY_HZ, Part
from proxy.net.api import Address


class Fault(StrEnum):
    KILL = "kill"  # SIGKILL: the process is gone
    STOP = "stop"  # SIGSTOP: it is there and does nothing


PROXY, CALLERS = ("127.0.8.1", 5060), ("127.0.8.21", 5060)
BACKENDS: dict[str, tuple[Address, int]] = {
    "primary": (("127.0.8.11", 5060), PRIMARY_HZ),
    "backup": (("127.0.8.12", 5060), BACKUP_HZ),
}
CALLS_PER_S = 100
READY_S = 15.0
POLL_S = 0.05


class DemoError(Exception):
    """The demo cannot go on; the text says why."""


class Stage:
    def __init__(self, folder: Path, asterisk_root: Path | None) -> None:
        """With `asterisk_root` the backends are real Asterisk, unpacked there."""
        self.folder = folder
        self._asterisk_root = asterisk_root
        self._backends: dict[str, Process] = {}
        self._proxy: Process | None = None
        self._callers: Process | None = None

    async def start_backends(self) -> None:
        for name, (address, tone_hz) in BACKENDS.items():
            if self._asterisk_root is not None:
                folder, root = self.folder / name, self._asterisk_root
                self._backends[name] = Asterisk(name, address[0], folder, root=root, tone_hz=tone_hz)
            else:
                argv = ["proxy.demo.backend", "--address", _text(address), "--tone-hz", str(tone_hz)]
                self._backends[name] = self._python(argv, name)

    async def start_proxy(self) -> None:
        """Returns when the proxy has found both backends to be up."""
        file = self.folder / "aqueduct.yaml"
        file.write_text(yaml.safe_dump(self._configuration(), sort_keys=False))
        self._proxy = self._python(["proxy.cli", "run", "-c", str(file)], "proxy")
        await self._until(self._backends_missing)

    async def start_callers(self, parts: list[Part]) -> None:
        """Returns when every call is answered and every caller hears what it expects."""
        script = self.folder / "script.json"
        script.write_text(json.dumps([asdict(part) for part in parts]))
        argv = ["proxy.demo.callers", "--address", _text(CALLERS), "--proxy", _text(PROXY), "--script", str(script)]
        argv += ["--control", str(self.folder / "callers.sock"), "--per-s", str(CALLS_PER_S)]
        self._callers = self._python(argv, "callers")
        await self._until(self._callers_missing)

    def strike(self, fault: Fault) -> float:
        """Kill or freeze the primary; when, on CLOCK_MONOTONIC."""
        primary = self._backends["primary"]
        at = time.monotonic()
        if fault is Fault.KILL:
            primary.kill()
        else:
            primary.freeze()
        return at

    async def ask_proxy(self, command: str, **arguments: Any) -> Any:
        return await ask(self.folder / "state" / "control.sock", command, **arguments)

    async def ask_callers(self, command: str, **arguments: Any) -> Any:
        return await ask(self.folder / "callers.sock", command, **arguments)

    def stop(self) -> None:
        """End everything, whatever state it is in. A relay outlives its proxy by design, so it is ended too."""
        if self._callers is not None:
            self._callers.stop()
        if self._proxy is not None:
            relays = _children(self._proxy.pid)
            self._proxy.stop()
            for pid in relays:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for backend in self._backends.values():
            backend.kill()
            backend.wait(5.0)

    def _python(self, argv: list[str], name: str) -> Process:
        return Process([sys.executable, "-m", *argv], self.folder / f"{name}.log")

    def _configuration(self) -> dict[str, Any]:
        backends = {
            name: {"address": _text(address), "role": "backup" if name == "backup" else "primary"}
            for name, (address, _) in BACKENDS.items()
        }
        return {
            "node": {"name": "demo", "state_dir": str(self.folder / "state")},
            "sip": {"listen": [f"udp:{_text(PROXY)}"]},
            "media": {"address": PROXY[0], "ports": "20000-29999"},
            "pools": {"demo": {"backends": backends}},
            "routes": [{"pool": "demo"}],
        }

    async def _backends_missing(self) -> str:
        rows = [row for row in await self.ask_proxy("backends") if row["verdict"] != "up"]
        return "; ".join(f"{row['name']} is {row['verdict']}: {row['reason']}" for row in rows)

    async def _callers_missing(self) -> str:
        state = await self.ask_callers("state")
        if state["failed"]:
            raise DemoError(f"a call was not answered: {state['failed'][0]}")
        missing = state["calls"] - state["hearing"]
        return f"{missing} of {state['calls']} callers do not hear what they should" if missing else ""

    async def _until(self, missing: Callable[[], Awaitable[str]]) -> None:
        """Until nothing is missing any more."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                what = await missing()
            except ControlError as error:  # it has not opened its socket yet
                what = str(error)
            if not what:
                return
            self._look_after()
            if time.monotonic() > deadline:
                raise DemoError(f"after {READY_S:.0f} s still: {what}")
            await asyncio.sleep(POLL_S)

    def _look_after(self) -> None:
        """Raises DemoError when a process of ours has ended."""
        everyone = {**self._backends, "proxy": self._proxy, "callers": self._callers}
        for name, process in everyone.items():
            if process is not None and not process.running:
                raise DemoError(f"the {name} process ended:\n{process.log_tail(1000).strip()}")


def _text(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found
