"""The servers that a benchmark puts under the same load: Aqueduct, Kamailio and Sippy's B2BUA.

Each is started from nothing for its round, on one CPU, and is ready when it answers an OPTIONS on its own address.
Kamailio is the leanest stateful set-up that tracks dialogs, with its fast allocator; Sippy is the B2BUA example of
its distribution, without logging.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.common import on_cpu
from proxy.admin import control
from tests.testbed.aqueduct import Aqueduct
from tests.testbed.process import Process
from tests.testbed.sip_ping import Address, wait_for_options

SCENARIOS = Path(__file__).parent / "scenarios"
AQUEDUCT, KAMAILIO, SIPPY = (("127.0.5.1", 5060), ("127.0.5.2", 5060), ("127.0.5.3", 5060))
UAS, UAS_BACKUP = (("127.0.5.11", 5060), ("127.0.5.12", 5060))
UAC = ("127.0.5.21", 5060)
AGENTS = ("127.0.5.22", 5060)
SERVER_CPU, LOAD_CPU = 1, 0
# Probes of the idle backend that do not enter a figure about calls.
SLOW_PROBES = {"interval_ms": 1000, "silence_min_ms": 3000, "silence_max_ms": 6000}
BACKENDS_UP_S = 10.0
STANDBYS_UP_S = 15.0


@dataclass(frozen=True)
class Server:
    name: str
    process: Process
    address: Address
    in_dialog: str  # the request URI of ACK and BYE: the UAS behind a proxy, the B2BUA itself otherwise


def aqueduct_settings(folder: Path, media: str, health: dict[str, int] | None = None) -> dict[str, Any]:
    """One pool of a primary and a backup, anchoring (`relay`) or `direct`; `health` are its knobs."""

    def backend(address: Address, role: str) -> dict[str, object]:
        return {"address": f"{address[0]}:{address[1]}", "role": role, "calls_max": 100000}

    return {
        "node": {"name": "aqueduct", "state_dir": str(folder / "state")},
        "sip": {"listen": [f"udp:{AQUEDUCT[0]}:{AQUEDUCT[1]}"]},
        "media": {"mode": media, "address": AQUEDUCT[0], "ports": "10000-39999"},
        "pools": {
            "pbx": {
                "health": health or {},
                "backends": {"uas1": backend(UAS, "primary"), "uas2": backend(UAS_BACKUP, "backup")},
            }
        },
        "routes": [{"pool": "pbx"}],
    }


def start_aqueduct(folder: Path, settings: dict[str, Any], name: str = "aqueduct") -> Server:
    with on_cpu(SERVER_CPU):
        node = Aqueduct(settings, folder, log_level="warning")
    server = Server(name, node, node.address, f"sip:uas@{node.address[0]}:{node.address[1]}")
    try:
        node.wait_ready()
        deadline = time.monotonic() + BACKENDS_UP_S
        while not _backends_up(server):
            if time.monotonic() > deadline:
                raise RuntimeError(f"not every backend is up: {ask(server, 'backends')}")
            time.sleep(0.05)
    except BaseException:
        node.stop()
        raise
    return server


def _backends_up(server: Server) -> bool:
    try:
        rows = ask(server, "backends")
    except control.ControlError:  # SIP is answered a moment earlier
        return False
    return all(row["verdict"] == "up" for row in rows if row["pool"] == "pbx")


async def ask_node(server: Server, command: str, **arguments: object) -> Any:
    """Put a command to a node that `start_aqueduct` started."""
    assert isinstance(server.process, Aqueduct)
    path = Path(server.process.configuration["node"]["state_dir"]) / "control.sock"
    return await control.ask(path, command, **arguments)


async def standbys_up(server: Server, calls: int) -> None:
    """Every call has its second leg: the backup counts as many as the primary."""
    deadline = time.monotonic() + STANDBYS_UP_S
    while (count := min(row["calls"] for row in await ask_node(server, "backends") if row["pool"] == "pbx")) < calls:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{count} of {calls} standbys are up")
        await asyncio.sleep(0.1)


def ask(server: Server, command: str, **arguments: object) -> Any:
    return asyncio.run(ask_node(server, command, **arguments))


def start_kamailio(folder: Path) -> Server:
    if (binary := shutil.which("kamailio")) is None:
        raise RuntimeError("kamailio is not installed: apt-get install kamailio")
    host, port = KAMAILIO
    command = [binary, "-f", str(SCENARIOS / "kamailio.cfg"), "-DD", "-E", "-x", "fm", "-X", "fm", "-m", "256"]
    command += ["-Y", str(folder), "-P", str(folder / "kamailio.pid")]
    command += ["-A", f"LISTEN=udp:{host}:{port}", "-A", f'UAS="sip:{UAS[0]}:{UAS[1]}"']
    return _start("kamailio", command, KAMAILIO, f"sip:uas@{UAS[0]}:{UAS[1]}", folder)


def start_sippy(folder: Path) -> Server:
    host, port = SIPPY
    command = [sys.executable, "-m", "sippy.b2bua_simple", "-f", "-l", host, "-p", str(port)]
    command += ["-n", f"{UAS[0]}:{UAS[1]}"]
    return _start("sippy", command, SIPPY, f"sip:uas@{host}:{port}", folder, {"SIPLOG_BEND": "none"})


def _start(
    name: str,
    command: list[str],
    address: Address,
    in_dialog: str,
    folder: Path,
    env: dict[str, str] | None = None,
) -> Server:
    with on_cpu(SERVER_CPU):
        process = Process(command, folder / f"{name}.log", cwd=folder, env=env)
    try:
        wait_for_options(address, timeout_s=15.0, alive=lambda: process.running, accept=lambda pong: True)
    except BaseException as error:
        process.stop()
        if isinstance(error, TimeoutError):
            raise RuntimeError(f"{name} does not answer OPTIONS:\n{process.log_tail()}") from error
        raise
    return Server(name, process, address, in_dialog)
