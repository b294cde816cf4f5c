#!/usr/bin/env python3
"""Calls are up through one rtpengine; it dies; what becomes of them on another one, and when.

Real rtpengine in user space, real phones with RTP, a reference backend or real Asterisk behind. The second rtpengine
is started when all calls are up, so that every call is on the one that dies. A call counts as moved when the proxy says
so *and* its caller hears the backend at the end and can hang up. The gap is the longest time without a packet that
carries the backend's audio, less one packet interval; half of the calls hear their own echo, which went both ways.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import common
from bench.common import on_cpu, progress
from bench.failover import failover_report, spread
from bench.parties import PARTIES, Outcome, Parties
from bench.peers import LOAD_CPU, Server, aqueduct_settings, start_aqueduct
from tests.testbed.process import Process
from tests.testbed.rtpengine import Rtpengine

ENGINES = ("127.0.5.31", "127.0.5.32")
SETTLE_S = 3.0
FAULTS = {"kill": Process.kill, "stop": Process.freeze}


@dataclass(frozen=True)
class Trial:
    report: dict[str, Any]
    outcome: Outcome
    detection_ms: float
    on_the_dead: int


def settings(folder: Path) -> dict[str, Any]:
    configuration = aqueduct_settings(folder, "rtpengine")
    configuration["media"]["nodes"] = [{"address": f"{host}:2223"} for host in ENGINES]
    return configuration


async def carry_over(
    parties: Parties, server: Server, first: Rtpengine, folder: Path, arguments: argparse.Namespace
) -> Trial:
    try:
        await parties.start_callers(server)
        second = engine(ENGINES[1], folder)
        try:
            await asyncio.sleep(SETTLE_S)
            on_the_dead = len(first.calls())
            struck_at = time.monotonic()
            FAULTS[arguments.fault](first)
            report = await failover_report(server)
            outcome = await parties.finish(struck_at)
        finally:
            second.kill()
    finally:
        await parties.stop()
    return Trial(report, outcome, (report["detected_at"] - struck_at) * 1000, on_the_dead)


def engine(host: str, folder: Path) -> Rtpengine:
    with on_cpu(LOAD_CPU):
        started = Rtpengine(host, folder)
    started.wait_ready()
    return started


def trial(arguments: argparse.Namespace, folder: Path) -> Trial:
    parties = PARTIES[arguments.backend](folder, arguments.calls, "anchored")
    first = engine(ENGINES[0], folder)
    try:
        parties.start_backends()
        server = start_aqueduct(folder, settings(folder))
        try:
            return asyncio.run(carry_over(parties, server, first, folder, arguments))
        finally:
            server.process.stop()
    finally:
        parties.end_backends()
        first.kill()


def summary(trials: list[Trial]) -> dict[str, object]:
    calls = sum(trial.on_the_dead for trial in trials)
    moved = sum(min(trial.report["moved"], trial.outcome.ended_well) for trial in trials)
    return {
        "calls": calls,
        "moved": moved,
        "lost": calls - moved,
        "detection_ms": spread([trial.detection_ms for trial in trials], worst=True),
        "all_moved_ms": spread([trial.report["all_moved_ms"] for trial in trials], worst=True),
        "gap_ms": spread([gap for trial in trials for gap in trial.outcome.gaps_ms], worst=True),
        "runs": len(trials),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="calls anchored anew when their rtpengine dies")
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--backend", choices=("reference", "asterisk"), default="reference")
    parser.add_argument("--fault", choices=tuple(FAULTS), default="kill")
    parser.add_argument("--runs", type=int, default=1, metavar="R")
    arguments = parser.parse_args()
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory(prefix="aqueduct-bench-") as work:
        for number in range(1, arguments.runs + 1):
            folder = Path(work) / str(number)
            folder.mkdir()
            trials.append(one := trial(arguments, folder))
            progress(
                f"run {number}: {one.report['moved']} of {one.on_the_dead} moved, detected after"
                f" {one.detection_ms:.0f} ms, all moved {one.report['all_moved_ms']} ms later,"
                f" longest gap {max(one.outcome.gaps_ms):.0f} ms"
            )
    common.report(summary(trials))
    return 0


if __name__ == "__main__":
    sys.exit(main())
