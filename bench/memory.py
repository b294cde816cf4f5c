#!/usr/bin/env python3
"""Memory per live anchored call: what 2,000 answered calls add to the node, its relay and the kernel.

User space: anonymous PSS of the proxy and its relay with the calls, less without. Kernel: the UDP sockets that both
hold more, times what the kernel's slabs need for one (`kernel_bytes_per_socket`), and what waits in socket buffers.
SIPp holds the calls; each media port gets one RTP packet from the address that the SDP named, so that every stream
is latched as in a live call. A first batch of calls comes and goes before, so that interpreter and pools are warm.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.common import progress, pss_bytes, report, settle, udp_sockets
from bench.load import caller, far_ends, hold
from bench.peers import AQUEDUCT, SLOW_PROBES, UAC, aqueduct_settings, standbys_up, start_aqueduct

RTP_SOURCE = ("127.0.5.23", 6000)  # both SDP bodies name it: every leg then takes packets from there
RTP_PACKET = bytes.fromhex("80000001000000a0deadbeef") + b"\xff" * 160
# Bytes of one object on Linux 6, x86-64.
SOCKET_SLABS = {
    "UDP": 1344,
    "sock_inode_cache": 832,
    "dentry": 192,
    "filp": 192,
    "eventpoll_epi": 128,
    "eventpoll_pwq": 64,
}


def kernel_bytes_per_socket() -> int:
    """Slab memory of one polled UDP socket: object sizes of this kernel where /proc/slabinfo may be read (root)."""
    sizes = dict(SOCKET_SLABS)
    try:
        for line in Path("/proc/slabinfo").read_text().splitlines()[2:]:
            name, _, _, size, *_ = line.split()
            if name in sizes:
                sizes[name] = int(size)
    except PermissionError:
        progress("/proc/slabinfo needs root: sizes of Linux 6 on x86-64 are used")
    return sum(sizes.values())


def kernel_bytes(pid: int) -> int:
    sockets = udp_sockets(pid)
    return len(sockets) * kernel_bytes_per_socket() + sum(each.queued_bytes for each in sockets)


def media_ports(pid: int) -> set[int]:
    """The relay's RTP ports: even by RFC 3550 §11."""
    ports = {each.port for each in udp_sockets(pid) if each.host == AQUEDUCT[0] and each.port != AQUEDUCT[1]}
    return {port for port in ports if port % 2 == 0}


def latch(ports: set[int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
        source.bind(RTP_SOURCE)
        for number, port in enumerate(sorted(ports)):
            source.sendto(RTP_PACKET, (AQUEDUCT[0], port))
            if number % 50 == 49:
                time.sleep(0.01)


def measure(calls: int, work: Path, standby: str) -> dict[str, object]:
    keys = {"rtp": RTP_SOURCE[0]}
    uas = far_ends(work, keys)
    try:
        settings = aqueduct_settings(work, "relay", SLOW_PROBES)
        settings["pools"]["pbx"]["standby"] = standby
        server = start_aqueduct(work, settings)
        try:
            pid = server.process.pid
            warm_up = caller(server, work, UAC, 400, 1000, 50, keys)
            if warm_up.finish().failed:
                raise RuntimeError(f"calls failed:\n{warm_up.report()}")
            pss_before = settle(lambda: pss_bytes(pid), "memory without calls", 10.0)
            sockets_before, kernel_before = len(udp_sockets(pid)), kernel_bytes(pid)
            holder = hold(server, work, calls, keys)
            try:
                if standby == "hot":
                    asyncio.run(standbys_up(server, calls))
                latch(media_ports(pid))
                pss = settle(lambda: pss_bytes(pid), "memory with calls", 10.0) - pss_before
                sockets = len(udp_sockets(pid)) - sockets_before
                kernel = kernel_bytes(pid) - kernel_before
                if holder.figures().current != calls:
                    raise RuntimeError(f"only {holder.figures().current} calls are up:\n{holder.report()}")
            finally:
                holder.kill()
        finally:
            server.process.stop()
    finally:
        for end in uas:
            end.kill()
    return {
        "bytes_per_call": round((pss + kernel) / calls),
        "user_bytes_per_call": round(pss / calls),
        "kernel_bytes_per_call": round(kernel / calls),
        "sockets_per_call": round(sockets / calls, 2),
        "calls": calls,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="memory per live anchored call")
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--standby", choices=("warm", "hot"), default="warm")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aqueduct-bench-") as work:
        report(measure(arguments.calls, Path(work), arguments.standby))
    return 0


if __name__ == "__main__":
    sys.exit(main())
