"""The proxy under test as a process of its own, run from its command line with a configuration file.

It is ready when it answers SIP OPTIONS on its own address. Nothing of it is imported here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
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
    ) -> None:
        self.folder = folder
        self.configuration = configuration
        self.file = folder / "aqueduct.yaml"
        self.file.write_text(yaml.safe_dump(dict(configuration), sort_keys=False))
        (folder / "state").mkdir(exist_ok=True)
        self.transport, _, listen = configuration["sip"]["listen"][0].partition(":")
        host, _, port = listen.rpartition(":")
        self.address: Address = (host.strip("[]"), int(port))
        argv: list[str | Path] = [sys.executable, "-m", "proxy.cli", "run", "-c", self.file]
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

    def stop(self, timeout_s: float = 10.0) -> int:
        """SIGTERM to the proxy, then SIGKILL to whatever of its process group is left (a relay that outlived it)."""
        code = super().stop(timeout_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return code
