#!/usr/bin/env python3
"""RTP packets per second and core through the relay, beside rtpengine in user space in the same run.

Both relays carry the same number of G.711 calls, one process each on CPU 1, and take turns under the load of a C
program on CPU 0 that is sender and receiver of all calls. Ours carries as many again that were switched to another
backend before (what their callers hear is rewritten to be one stream), and liveness watches the backends' legs; with
`--keep-s` as many again of which the last seconds are kept.
Saturated: for every packet that comes back the next one is sent, with so many on their way that the relay always has
work; what counts is packets relayed per second of the relay's CPU time (user + system). Then all again at half the rate
that they relayed when saturated, evenly spaced: the time from send() to the kernel's time stamp on what comes back is
the added latency.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.common import cpu_s, on_cpu, progress, report
from bench.rtpengine import Rtpengine
from media.relay.client import RelayPlane
from media.relay.link import RelayOptions
from media.rtp import packet

RELAY = "127.0.1.1"
CALLERS, BACKENDS = "127.0.1.2", "127.0.1.3"
FIRST_PORT = {"aqueduct": 10000, "switched": 11000, "kept": 12000, "rtpengine": 20000}
DEAD = (BACKENDS, 9000)  # the backend from which the switched calls were moved away
RELAY_CPU, LOAD_CPU = 1, 0
SOCKETS = 8  # of the generator, on each side
WINDOW = 512  # packets on their way when saturated
SDP = (
    "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
    "m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"
)

Place = tuple[str, int]


@dataclass(frozen=True)
class Run:
    pps: float  # relayed within the time
    pps_per_core: float
    busy: float  # CPU time of the relay per second
    relayed_share: float
    p50_ms: float
    p99_ms: float


def place(sdp: bytes) -> Place:
    """Where a description wants media."""
    host, port = (re.search(pattern, sdp) for pattern in (rb"c=IN IP4 (\S+)", rb"m=audio (\d+)"))
    assert host is not None and port is not None
    return host[1].decode(), int(port[1])


class Load:
    """The generator with its sockets, the endpoints of all calls of one relay: many calls have the same."""

    def __init__(self, program: Path, relay_pid: int, sockets: list[tuple[Place, Place]]) -> None:
        self._relay_pid = relay_pid
        with on_cpu(LOAD_CPU):
            self._child = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for local, relay in sockets:
            self._say(f"{local[0]} {local[1]} {relay[1]} {relay[0]}")
        self._say("ready")
        self._hear()

    def _say(self, line: str) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()

    def _hear(self) -> str:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError("the load generator has ended")
        return line

    def run(self, seconds: float, pps: float | None = None) -> Run:
        """As fast as the relay can, or evenly spaced at a rate."""
        before = cpu_s(self._relay_pid)
        self._say(f"run paced {seconds} {pps}" if pps else f"run window {seconds} {WINDOW}")
        sent, in_time, received, elapsed, p50, p99 = map(float, self._hear().split())
        used = cpu_s(self._relay_pid) - before
        return Run(in_time / elapsed, received / used, used / elapsed, received / sent, p50 / 1000, p99 / 1000)

    def stop(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait()


async def sockets(name: str, calls: int, offer: Callable[[str, bytes], Awaitable[bytes]],
                  answer: Callable[[str, bytes], Awaitable[bytes]]) -> list[tuple[Place, Place]]:  # fmt: skip
    """Set up the calls; returns endpoints, and the relay's ports to which they send."""
    result = []
    for index in range(calls):
        port = FIRST_PORT[name] + 2 * (index % SOCKETS)
        call = f"{name}-{index}"
        for_backend = await offer(call, SDP.format(host=CALLERS, port=port).encode())
        for_caller = await answer(call, SDP.format(host=BACKENDS, port=port).encode())
        result += [((CALLERS, port), place(for_caller)), ((BACKENDS, port), place(for_backend))]
    return result


async def switched(plane: RelayPlane, calls: int) -> list[tuple[Place, Place]]:
    """Calls that were moved to another backend after both sides had been heard."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dead:
        dead.bind(DEAD)
        for index in range(calls):
            call = f"switched-{index}"
            port = FIRST_PORT["switched"] + 2 * (index % SOCKETS)
            for_dead = await plane.offer(call, "a", "b1", SDP.format(host=CALLERS, port=port).encode())
            await plane.answer(call, "b1", "a", SDP.format(host=DEAD[0], port=DEAD[1]).encode())
            await plane.relay_counters()
            dead.sendto(packet.pack(0, 1, 160, index, bytes(160)), place(for_dead))
            while not (await plane.query(call)).streams[1].packets:
                await asyncio.sleep(0.001)

    def offer(call: str, sdp: bytes) -> Awaitable[bytes]:
        return plane.offer(call, "a", "b2", sdp)

    async def answer(call: str, sdp: bytes) -> bytes:
        body = await plane.answer(call, "b2", "a", sdp)
        plane.watch(call, "b2", "uas2")
        await plane.switch(call, "a", "b2")
        return body

    return await sockets("switched", calls, offer, answer)


async def kept(plane: RelayPlane, calls: int, seconds: float) -> list[tuple[Place, Place]]:
    """Calls whose streams are kept both ways, as those that a backend records."""
    found = await sockets(
        "kept",
        calls,
        lambda call, sdp: plane.offer(call, "a", "b1", sdp),
        lambda call, sdp: plane.answer(call, "b1", "a", sdp),
    )
    for index in range(calls):
        for leg in ("a", "b1"):
            plane.keep(f"kept-{index}", leg, seconds)
    return found


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    program = folder / "rtp_load"
    subprocess.run(["gcc", "-O2", "-o", program, Path(__file__).with_name("rtp_load.c")], check=True)
    with on_cpu(RELAY_CPU):
        plane = await RelayPlane.start(RelayOptions(str(folder / "relay.sock"), (RELAY,)), random.Random(1))
        peer = Rtpengine(folder / "rtpengine.log")
    assert plane.relay_pid is not None
    loads: dict[str, Load] = {}
    try:
        ours = await sockets(
            "aqueduct",
            options.calls,
            lambda call, sdp: plane.offer(call, "a", "b1", sdp),
            lambda call, sdp: plane.answer(call, "b1", "a", sdp),
        )
        for name in plane.sessions():
            plane.watch(name, "b1", "uas1")
        moved = await switched(plane, options.calls)
        recorded = await kept(plane, options.calls, options.keep_s) if options.keep_s else []
        await plane.relay_counters()  # all is set up when this is answered
        theirs = await sockets(
            "rtpengine",
            options.calls,
            lambda call, sdp: asyncio.to_thread(peer.offer, call, sdp),
            lambda call, sdp: asyncio.to_thread(peer.answer, call, sdp),
        )
        loads["aqueduct"] = Load(program, plane.relay_pid, ours)
        loads["switched"] = Load(program, plane.relay_pid, moved)
        if recorded:
            loads["kept"] = Load(program, plane.relay_pid, recorded)
        loads["rtpengine"] = Load(program, peer.process.pid, theirs)
        return take_turns(options, loads)
    finally:
        for load in loads.values():
            load.stop()
        peer.stop()
        for name in plane.sessions():
            plane.delete(name)
        await plane.close()


def take_turns(options: argparse.Namespace, loads: dict[str, Load]) -> dict[str, object]:
    for load in loads.values():
        load.run(3.5, 2000.0)  # sources are latched; rtpengine learns them for three seconds
    saturated: dict[str, list[Run]] = {name: [] for name in loads}
    paced: dict[str, list[Run]] = {name: [] for name in loads}
    for number in range(options.rounds):
        for name, load in loads.items():
            run = load.run(options.seconds)
            saturated[name].append(run)
            progress(
                f"round {number + 1} {name}: {run.pps:,.0f} packets/s, {run.pps_per_core:,.0f} per core,"
                f" {run.busy:.0%} busy"
            )
    for number in range(options.rounds):
        for name, load in loads.items():
            half = statistics.median(run.pps for run in saturated[name]) / 2
            run = load.run(options.seconds, half)
            paced[name].append(run)
            progress(
                f"round {number + 1} {name} at {half:,.0f}/s: p50 {run.p50_ms:.3f} p99 {run.p99_ms:.3f} ms,"
                f" {run.relayed_share:.2%} relayed"
            )
    pps = {name: statistics.median(run.pps_per_core for run in runs) for name, runs in saturated.items()}
    p99 = {name: statistics.median(run.p99_ms for run in runs) for name, runs in paced.items()}
    ratio_kept = {"ratio_kept": round(pps["kept"] / pps["aqueduct"], 3)} if "kept" in pps else {}
    return {
        **ratio_kept,
        "pps_per_core": {name: round(value) for name, value in pps.items()},
        "ratio_rtpengine": round(pps["aqueduct"] / pps["rtpengine"], 3),
        "ratio_rtpengine_switched": round(pps["switched"] / pps["rtpengine"], 3),
        "added_latency_ms_p99": round(p99["aqueduct"], 3),
        "added_latency_ms_p99_switched": round(p99["switched"], 3),
        "added_latency_ms_p99_rtpengine": round(p99["rtpengine"], 3),
        "half_load_pps": round(statistics.median(run.pps for run in paced["aqueduct"])),
        "half_load_relayed": round(statistics.median(run.relayed_share for run in paced["aqueduct"]), 5),
        "calls": options.calls,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100, help="two streams each")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep-s", type=float, default=0.0, help="also calls of which so much is kept for a recording")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aqueduct-bench-") as folder:
        result = asyncio.run(measure(options, Path(folder)))
    report(result)


if __name__ == "__main__":
    main()
