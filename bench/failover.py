#!/usr/bin/env python3
"""Calls are up on the primary; it dies; what becomes of them on the backup, and when.

The proxy's own report gives what it did and when it knew; this program knows when it struck, and the callers what
they noticed. A call counts as moved when the report says so *and* its caller could end it properly afterwards.
Callers with RTP (`reference`, `asterisk`) measure the gap: the longest time without a packet that carries the
backend's audio, less one packet interval. SIPp sends no RTP, so its gap is null.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import common
from bench.common import progress
from bench.faults import mend, network_for, strike
from bench.parties import PARTIES, Outcome, Parties, parties_of
from bench.peers import AGENTS, SLOW_PROBES, UAS, Server, aqueduct_settings, ask_node, standbys_up, start_aqueduct
from proxy.failover.report import quantile
from tests.testbed.process import Process

SETTLE_S = 2.0
REPORT_DEADLINE_S = 15.0


@dataclass(frozen=True)
class Trial:
    calls: int
    moved: int
    detection_ms: float
    first_evidence: str
    all_moved_ms: float | None
    outcome: Outcome


async def failover_report(server: Server) -> dict[str, Any]:
    """The one failover of this trial, once it is over."""
    deadline = time.monotonic() + REPORT_DEADLINE_S
    while True:
        status = await ask_node(server, "status")
        if not status["moving"]:  # the report is long: it is not asked for while calls are moved
            for failover in await ask_node(server, "failovers"):
                if failover["finished"]:
                    finished: dict[str, Any] = failover
                    return finished
        if time.monotonic() > deadline:
            raise TimeoutError(f"no finished failover within {REPORT_DEADLINE_S:.0f} s of the fault: {status}")
        await asyncio.sleep(0.2)


async def carry_over(parties: Parties, server: Server, primary: Process, arguments: argparse.Namespace) -> Trial:
    try:
        await parties.start_callers(server)
        await asyncio.sleep(SETTLE_S)
        if arguments.standby == "hot":
            await standbys_up(server, arguments.calls)
        struck_at = strike(arguments.fault, primary, UAS)
        try:
            report = await failover_report(server)
            outcome = await parties.finish(struck_at)
        finally:
            mend(arguments.fault)
    finally:
        await parties.stop()
    return Trial(
        calls=arguments.calls,
        moved=min(report["moved"], outcome.ended_well),
        detection_ms=(report["detected_at"] - struck_at) * 1000,
        first_evidence=report["evidence"][0] if report["evidence"] else report["cause"],
        all_moved_ms=report["all_moved_ms"],  # None: none was moved
        outcome=outcome,
    )


def trial(arguments: argparse.Namespace, folder: Path) -> Trial:
    parties = parties_of(arguments.backend, folder, arguments.calls, arguments.mode, pairs=arguments.pairs is not None)
    media = "relay" if arguments.mode == "anchored" else "direct"
    try:
        primary = parties.start_backends()
        settings = aqueduct_settings(folder, media)
        settings["pools"]["pbx"]["standby"] = arguments.standby
        if arguments.pairs is not None:  # the primary may dial the agents' phones
            agents = {"agents": {"address": f"{AGENTS[0]}:{AGENTS[1]}"}}
            settings["pools"]["phones"] = {"recover": False, "backends": agents, "health": SLOW_PROBES}
            settings["routes"].insert(0, {"from_pool": "pbx", "pool": "phones"})
        server = start_aqueduct(folder, settings)
        try:
            return asyncio.run(carry_over(parties, server, primary, arguments))
        finally:
            server.process.stop()
    finally:
        parties.end_backends()


def spread(values: Sequence[float], *, worst: bool = False) -> dict[str, float | None]:
    ordered = sorted(values)
    shares = {"p50": 0.5, "p99": 0.99} | ({"max": 1.0} if worst else {})
    found = {key: quantile(ordered, share) for key, share in shares.items()}
    return {key: None if value is None else round(value, 1) for key, value in found.items()}


def summary(trials: list[Trial]) -> dict[str, object]:
    calls, moved = sum(t.calls for t in trials), sum(t.moved for t in trials)
    durations = [t.all_moved_ms for t in trials if t.all_moved_ms is not None]
    return {
        "calls": calls,
        "moved": moved,
        "lost": calls - moved,
        "detection_ms": spread([t.detection_ms for t in trials]),
        "first_evidence": dict(Counter(t.first_evidence for t in trials)),
        "audio_verified": sum(t.outcome.audio_verified for t in trials),
        "gap_ms": spread([gap for t in trials for gap in t.outcome.gaps_ms], worst=True),
        "all_moved_ms": round(statistics.median(durations), 1) if durations else None,
        "all_moved_ms_max": round(max(durations), 1) if durations else None,
        "retransmissions": sum(t.outcome.retransmissions for t in trials),
        "runs": len(trials),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="calls carried over when their backend dies")
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--standby", choices=("warm", "hot"), default="warm")
    parser.add_argument("--pairs", type=int, metavar="N", help="N agents and N customers whom the primary connects")
    parser.add_argument("--mode", choices=("anchored", "direct"), default="anchored")
    parser.add_argument("--backend", choices=tuple(PARTIES), default="reference")
    parser.add_argument("--fault", choices=("kill", "stop", "cut"), default="kill")
    parser.add_argument("--runs", type=int, default=1, metavar="R")
    arguments = parser.parse_args()
    if arguments.pairs is not None:
        arguments.calls = 2 * arguments.pairs
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory(prefix="aqueduct-bench-") as work, network_for(arguments.fault):
        for number in range(1, arguments.runs + 1):
            folder = Path(work) / str(number)
            folder.mkdir()
            trials.append(one := trial(arguments, folder))
            longest = f", longest gap {max(one.outcome.gaps_ms):.0f} ms" if one.outcome.gaps_ms else ""
            progress(
                f"run {number}: {one.moved} of {one.calls} moved, detected after {one.detection_ms:.0f} ms, "
                f"all moved {one.all_moved_ms} ms later{longest}"
            )
    common.report(summary(trials))
    return 0


if __name__ == "__main__":
    sys.exit(main())
