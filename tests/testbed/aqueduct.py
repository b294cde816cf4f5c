"""The proxy under test as a process of its own, run from its command line with a configuration file.

It is ready when it answers SIP OPTIONS on its own address. Nothing of it is imported here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.testbed.process import Process
from tests.testbed.sip_ping import Address, wait_for_options

ROOT = Path(__file__).resolve().parents[2]


def settings(
    host: str,
    backends: Mapping[str, Address],
    folder: Path,
    *,
    port: int = 5060,
    media: str = "relay",
    media_ports: str = "20000-21999",
    transports: Iterable[str] = ("udp", "tcp"),
) -> dict[str, Any]:
    """A configuration with one pool: the first backend is the primary, the others are backups."""
    members = {
        name: {"address": f"{address[0]}:{address[1]}", "role": "backup" if place else "primary"}
        for place, (name, address) in enumerate(backends.items())
    }
    return {
        "node": {"name": "aqueduct", "state_dir": str(folder / "state")},
        "sip": {"listen": [f"{transport}:{host}:{port}" for transport in transports]},
        "media": {"mode": media, "address": host, "ports": media_ports},
        "pools": {"pbx": {"backends": members}},
        "routes": [{"pool": "pbx"}],
    }


class Aqueduct(Process):
    """`aqueduct run` with `configuration`, in `folder` (its YAML file, state and log are there)."""

    def __init__(
        self,
        configuration: Mapping[str, Any],
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        log_level: str = "info",
    ) -> None:
        self.folder = folder
        self.configuration = configuration
        self.file = folder / "aqueduct.yaml"
        self.file.write_text(yaml.safe_dump(dict(configuration), sort_keys=False))
        (folder / "state").mkdir(exist_ok=True)
        self.transport, _, listen = configuration["sip"]["listen"][0].partition(":")
        host, _, port = listen.rpartition(":")
        self.address: Address = (host.strip("[]"), int(port))
        argv: list[str | Path] = [sys.executable, "-m", "proxy.cli", "run", "-c", self.file, "--log-level", log_level]
        super().__init__(argv, folder / "aqueduct.log", cwd=ROOT, env=env)

    def wait_ready(self, timeout_s: float = 15.0) -> float:
        """Seconds until OPTIONS is answered, by anything: a proxy without a live backend may say 503."""
        try:
            return wait_for_options(
                self.address,
                timeout_s=timeout_s,
                transport=self.transport,
                alive=lambda: self.running,
                accept=lambda pong: True,
            )
        except TimeoutError as error:
            raise RuntimeError(f"the proxy does not answer OPTIONS ({error}):\n{self.log_tail()}") from error

    def relay_pid(self) -> int | None:
        """The relay of this proxy, which is a process of its own and may outlive it: known by its control socket."""
        socket = str(self.folder / "state" / "relay.sock").encode()
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if socket in entry.read_bytes().split(b"\0"):
                    return int(entry.parent.name)
        return None

    def ask(self, command: str, *arguments: str) -> Any:
        """What the command line says to an operator, as JSON: `status`, `calls`, `failovers`."""
        return json.loads(self.order(command, *arguments, "--json"))

    def order(self, command: str, *arguments: str) -> str:
        """Give an order on the command line: `drain`, `ready`, `failover`; what it says."""
        argv = [sys.executable, "-m", "proxy.cli", command, *arguments, "-c", str(self.file)]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"aqueduct {command} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def wait_for_backends(self, names: Iterable[str] = (), timeout_s: float = 10.0) -> None:
        """Until these backends (none named: all) are known to be up: before that a first call may go to a backup that
        was up first."""
        end = time.monotonic() + timeout_s
        while True:
            verdicts = {row["name"]: row["verdict"] for row in self.ask("status")["backends"]}
            if {verdicts[name] for name in names or verdicts} == {"up"}:
                return
            if time.monotonic() > end:
                raise TimeoutError(f"not every backend is up: {verdicts}\n{self.log_tail()}")
            time.sleep(0.1)

    def wait_for_calls(self, count: int, timeout_s: float = 10.0) -> None:
        """Until the proxy has exactly so many live calls, all of them answered."""
        end = time.monotonic() + timeout_s
        while True:
            states = [call["state"] for call in self.ask("calls")]
            if states == ["talking"] * count:
                return
            if time.monotonic() > end:
                raise TimeoutError(f"{count} calls expected, there are: {states}\n{self.log_tail()}")
            time.sleep(0.1)

    def restart(self) -> None:
        """Start it again after its end, with the state it left; ready when it returns."""
        self.start()
        self.wait_ready()

    def stop(self, timeout_s: float = 10.0) -> int:
        """SIGTERM to the proxy, then SIGKILL to a relay that outlived it."""
        code = super().stop(timeout_s)
        relay = self.relay_pid()
        if relay is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(relay, signal.SIGKILL)
        return code
