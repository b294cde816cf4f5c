#!/usr/bin/env python3
"""CPU time per call of the B2BUA under SIPp, beside Kamailio and Sippy's B2BUA in the same run.

One call is INVITE (1 kB with SDP), 100, 180, 200, ACK, 50 ms, BYE, 200. The servers take turns, round by
round, each on CPU 1 with SIPp on CPU 0; each is started from nothing for its round and warmed up before it is
measured. What is reported are medians of the rounds. `--held` and `--long` look at Aqueduct alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import peers
from bench.common import cpu_s, progress, report
from bench.load import caller, far_ends, hold
from bench.peers import UAC, Server, ask
from proxy.sip import stack
from tests.testbed.sipp import SippFigures

PAUSE_MS = 50
SIPPY_CPS = 80  # it fails calls above 90 a second
PEERS = ("kamailio", "sippy")


@dataclass(frozen=True)
class Round:
    """One server under load once: what it used, and what became of the calls."""

    cpu_ms_per_call: float
    achieved_cps: float
    calls: SippFigures
    loop_stall_ms: float | None


def measure_calls(server: Server, folder: Path, cps: int, seconds: int, held: int) -> Round:
    warm_up = caller(server, folder, UAC, cps, cps, PAUSE_MS)
    if (warmed := warm_up.finish()).failed:
        raise RuntimeError(f"{server.name} failed {warmed.failed} of {cps} calls:\n{warm_up.report()}")
    holder = hold(server, folder, held) if held else None
    has_stall = server.name.startswith("aqueduct")
    try:
        if has_stall:
            ask(server, "status", reset_stall=True)
        cpu_before, begun = cpu_s(server.process.pid), time.monotonic()
        churn = caller(server, folder, UAC, cps, cps * seconds, PAUSE_MS)
        figures = churn.finish()
        elapsed = time.monotonic() - begun
        cpu = cpu_s(server.process.pid) - cpu_before
        stall = float(ask(server, "status")["loop_stall_ms_max"]) if has_stall else None
        if figures.failed:
            progress(churn.report())
        if holder is not None and (now := holder.figures()).current != held:
            raise RuntimeError(f"{held - now.current} of {held} held calls ended:\n{holder.report()}")
    finally:
        if holder is not None:
            holder.kill()
    calls = cps * seconds
    return Round(cpu / calls * 1000, calls / elapsed, figures, stall)


def starters(arguments: argparse.Namespace) -> dict[str, Callable[[Path], Server]]:
    def aqueduct(name: str, media: str) -> Callable[[Path], Server]:
        return lambda folder: peers.start_aqueduct(
            folder, peers.aqueduct_settings(folder, media, peers.SLOW_PROBES), name
        )

    servers = {"aqueduct": aqueduct("aqueduct", arguments.media)}
    if arguments.relay_too:
        servers["aqueduct_relay"] = aqueduct("aqueduct_relay", "relay")
    servers |= {"kamailio": peers.start_kamailio, "sippy": peers.start_sippy}
    if arguments.only:
        servers = {name: start for name, start in servers.items() if name.split("_")[0] in arguments.only}
    return servers


def measure(arguments: argparse.Namespace, work: Path) -> dict[str, list[Round]]:
    servers = starters(arguments)
    rounds: dict[str, list[Round]] = {name: [] for name in servers}
    for number in range(1, arguments.rounds + 1):
        for name, start in servers.items():
            folder = work / f"{number}-{name}"
            folder.mkdir()
            cps = SIPPY_CPS if name == "sippy" else arguments.cps
            uas = far_ends(folder)
            try:
                server = start(folder)
                try:
                    one = measure_calls(server, folder, cps, arguments.seconds, arguments.held)
                finally:
                    server.process.stop()
            finally:
                for end in uas:
                    end.kill()
            rounds[name].append(one)
            stall = "" if one.loop_stall_ms is None else f", longest stall {one.loop_stall_ms:.2f} ms"
            progress(
                f"round {number} {name}: {one.cpu_ms_per_call:.3f} ms/call at {one.achieved_cps:.0f} calls/s, "
                f"{one.calls.failed} failed, {one.calls.retransmissions} retransmissions{stall}"
            )
    return rounds


def unexpected(figures: SippFigures) -> int:
    return figures.unexpected + figures.out_of_call + figures.after_end


def summary(rounds: dict[str, list[Round]], arguments: argparse.Namespace) -> dict[str, object]:
    cpu = {name: statistics.median(one.cpu_ms_per_call for one in runs) for name, runs in rounds.items()}
    ours = [one for name, runs in rounds.items() if name.startswith("aqueduct") for one in runs]
    theirs = [one for name, runs in rounds.items() if not name.startswith("aqueduct") for one in runs]
    result: dict[str, object] = {"cpu_ms_per_call": {name: round(value, 3) for name, value in cpu.items()}}
    for peer in PEERS:
        if peer in cpu and "aqueduct" in cpu:
            result[f"ratio_{peer}"] = round(cpu["aqueduct"] / cpu[peer], 3)
    result["cps"] = arguments.cps
    result["failed"] = sum(one.calls.failed for one in ours)
    result["unexpected"] = sum(unexpected(one.calls) for one in ours)
    result["retransmissions"] = sum(one.calls.retransmissions for one in ours)
    result["failed_peers"] = sum(one.calls.failed for one in theirs)
    result["compiled"] = not (stack.__file__ or "").endswith(".py")
    stalls = [one.loop_stall_ms for one in ours if one.loop_stall_ms is not None]
    if stalls:
        result["loop_stall_ms_max"] = round(max(stalls), 3)
    if arguments.held:
        result["held"] = arguments.held
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description="CPU time per call of the B2BUA, beside Kamailio and Sippy")
    parser.add_argument("--cps", type=int, help="offered to Aqueduct and Kamailio (1000; 200 if alone)")
    parser.add_argument("--seconds", type=int, help="of measurement in a round (5; 60 with --long)")
    parser.add_argument("--rounds", type=int, help="3; 1 with --held or --long")
    parser.add_argument("--held", type=int, default=0, metavar="N", help="N live calls meanwhile")
    parser.add_argument("--long", action="store_true", help="200 calls/s for 60 s")
    parser.add_argument("--media", choices=("direct", "relay"), default="direct")
    parser.add_argument("--relay-too", action="store_true", help="Aqueduct with anchored media as well")
    parser.add_argument("--only", action="append", choices=("aqueduct", *PEERS))
    arguments = parser.parse_args()
    alone = arguments.long or arguments.held
    if alone:
        arguments.only = ["aqueduct"]
    arguments.rounds = arguments.rounds or (1 if alone else 3)
    arguments.cps = arguments.cps or (200 if alone else 1000)
    arguments.seconds = arguments.seconds or (60 if arguments.long else 5)
    with tempfile.TemporaryDirectory(prefix="aqueduct-bench-") as work:
        report(summary(measure(arguments, Path(work)), arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
