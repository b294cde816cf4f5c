#!/usr/bin/env python3
"""How soon a node knows that a backend is dead whose calls are talking: suspect, and committed.

Two backends carry calls with RTP through one node. One after the other is struck, again and again: its process is
killed (and started anew), it is frozen (and thawed), or its host is cut off (and joined again). Its calls go over to
the other one, which is the next to be struck. This program knows when it struck, the node says when it changed its
verdict and which evidence came first. Everything runs in a network of its own; without root there is no cut.

With `--control` there is a control session (AMI) with each Asterisk, and little else to see a death by: OPTIONS go out
each 5 s, and no calls talk unless `--calls` says so.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import common
from bench.common import on_cpu, progress
from bench.failover import spread
from bench.faults import Fault, mend, strike
from bench.peers import LOAD_CPU, UAC, UAS, UAS_BACKUP, Server, aqueduct_settings, ask_node, start_aqueduct
from proxy.demo.tones import frame
from tests.testbed import network
from tests.testbed.asterisk import pair
from tests.testbed.phone import Phones
from tests.testbed.process import Process
from tests.testbed.sip_ping import Address, wait_for_options

PATIENCE_S = 30.0
STEADY_S = 1.0  # between trials, besides what the streams need to become active
STARTED_PER_S = 50
USERS = {"reference": ("echo", "tone"), "asterisk": ("echo", "milliwatt")}
KNOBS = {"flaps_max": 100}  # each backend dies many times
SLOW_PROBES = {"interval_ms": 5000, "silence_min_ms": 10000, "silence_max_ms": 10000, "rise": 1}
AMI = {"protocol": "ami", "user": "lab", "secret": "lab-secret"}  # proxy/demo/asterisk/conf/manager.conf


@dataclass(frozen=True)
class Backend:
    name: str
    address: Address
    process: Process


@dataclass(frozen=True)
class Trial:
    suspect_ms: float
    commit_ms: float
    diagnosis: str
    first_evidence: str


def start_backends(kind: str, folder: Path) -> list[Backend]:
    addresses = (UAS, UAS_BACKUP)
    with on_cpu(LOAD_CPU):
        if kind == "asterisk":
            processes: list[Process] = list(pair(folder, [host for host, _ in addresses]))
        else:
            processes = [
                Process(
                    [sys.executable, "-m", "proxy.demo.backend", "--address", f"{host}:{port}"],
                    folder / f"{host}.log",
                )
                for host, port in addresses
            ]
    backends = [Backend(f"uas{place + 1}", *each) for place, each in enumerate(zip(addresses, processes, strict=True))]
    for backend in backends:
        wait_until_answers(backend)
    return backends


def wait_until_answers(backend: Backend) -> None:
    wait_for_options(backend.address, timeout_s=PATIENCE_S, alive=partial(_is_running, backend.process))


def _is_running(process: Process) -> bool:
    return process.running


async def rows(server: Server) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in await ask_node(server, "backends")}


async def until(server: Server, condition: Any, what: str) -> dict[str, dict[str, Any]]:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        seen = await rows(server)
        if condition(seen):
            return seen
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE_S:.0f} s: {what}: {seen}")
        await asyncio.sleep(0.1)


def ready(row: dict[str, Any]) -> bool:
    return row["verdict"] == "up" and (row["control"] is None or row["control"]["state"] == "synced")


def carries(row: dict[str, Any], calls: int) -> bool:
    active: int = row["streams"]["active"]
    return active == calls


async def trial(server: Server, fault: Fault, victim: Backend, other: Backend, calls: int) -> Trial:
    """Strike `victim`, which carries all calls; at the end `other` does, and both are up."""
    await until(
        server,
        lambda seen: carries(seen[victim.name], calls) and all(ready(row) for row in seen.values()),
        f"{calls} active streams on {victim.name}, both up",
    )
    await asyncio.sleep(STEADY_S)
    struck_at = strike(fault, victim.process, victim.address)
    try:
        seen = await until(server, lambda seen: seen[victim.name]["verdict"] == "down", f"{victim.name} down")
        # Mended while its calls still wait for the other one it would have been a pause, to be learned from.
        await until(server, lambda seen: carries(seen[other.name], calls), f"{calls} active streams on {other.name}")
    finally:
        mend(fault)
    if fault == "kill":
        with on_cpu(LOAD_CPU):
            victim.process.wait(PATIENCE_S)
            victim.process.start()
    elif fault == "stop":
        victim.process.thaw()
    changes = [change for change in seen[victim.name]["changes"] if change["at"] >= struck_at - 0.002]
    committed = next(change for change in changes if change["verdict"] == "down")
    return Trial(
        (changes[0]["at"] - struck_at) * 1000,
        (committed["at"] - struck_at) * 1000,
        committed["diagnosis"],
        committed["evidence"][0],
    )


async def measure(server: Server, backends: list[Backend], options: argparse.Namespace) -> dict[str, list[Trial]]:
    results: dict[str, list[Trial]] = {fault: [] for fault in options.faults}
    async with Phones(UAC[0]) as phones:
        for number in range(options.calls):
            user = USERS[options.backend][number % 2]
            await phones.call(user, server.address, say=[frame(450)])
            await asyncio.sleep(1 / STARTED_PER_S)
        victim, other = backends
        for number in range(options.trials):
            for fault in options.faults:
                one = await trial(server, fault, victim, other, options.calls)
                results[fault].append(one)
                progress(
                    f"{number + 1} {fault}: suspect {one.suspect_ms:.0f} ms, commit {one.commit_ms:.0f} ms, "
                    f"{one.diagnosis}, first {one.first_evidence}"
                )
                victim, other = other, victim
    return results


def summary(trials: list[Trial]) -> dict[str, object]:
    return {
        "suspect_ms": spread([each.suspect_ms for each in trials], worst=True),
        "commit_ms": spread([each.commit_ms for each in trials], worst=True),
        "first_evidence": dict(Counter(each.first_evidence for each in trials)),
        "diagnoses": dict(Counter(each.diagnosis for each in trials)),
        "trials": len(trials),
    }


@contextlib.contextmanager
def own_network(faults: list[str]) -> Iterator[None]:
    missing = network.unavailable()
    if missing and "cut" in faults:
        raise SystemExit(f"--faults cut: {missing}")
    with network.own_network() if not missing else contextlib.nullcontext():
        yield


def main() -> int:
    parser = argparse.ArgumentParser(description="how soon the death of a backend with talking calls is known")
    parser.add_argument("--calls", type=int, help="that talk; 10, with --control none")
    parser.add_argument("--control", action="store_true", help="by control sessions, with slow probes")
    parser.add_argument("--trials", type=int, default=10, help="of each fault")
    parser.add_argument("--backend", choices=tuple(USERS), default="asterisk")
    parser.add_argument("--faults", nargs="+", choices=("kill", "stop", "cut"), default=["kill", "stop", "cut"])
    options = parser.parse_args()
    if options.control and options.backend != "asterisk":
        parser.error("--control: only Asterisk has a control session")
    if options.calls is None:
        options.calls = 0 if options.control else 10
    with tempfile.TemporaryDirectory(prefix="aqueduct-bench-") as work, own_network(options.faults):
        folder = Path(work)
        backends = start_backends(options.backend, folder)
        try:
            settings = aqueduct_settings(folder, "relay", KNOBS | (SLOW_PROBES if options.control else {}))
            for each in settings["pools"]["pbx"]["backends"].values() if options.control else ():
                each["control"] = AMI
            server = start_aqueduct(folder, settings)
            try:
                results = asyncio.run(measure(server, backends, options))
            finally:
                server.process.stop()
        finally:
            for backend in backends:
                backend.process.thaw()
                backend.process.kill()
    common.report(
        {
            "calls": options.calls,
            "backend": options.backend,
            **{fault: summary(trials) for fault, trials in results.items()},
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
