"""What every benchmark needs: processes pinned to a CPU, their CPU time and memory out of /proc, and one JSON
object as the last line of output.

CPU is CPU *time* (user + system) of a process and all its descendants, so what another load on the machine
takes does not enter it directly. The server under test is pinned on one CPU, the load generator on another.
Tests and benchmarks start their processes in the same way: `tests.testbed`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def on_cpu(cpu: int) -> Iterator[None]:
    """What is started inside stays on one CPU (it inherits the affinity); no effect where there is no such CPU."""
    usual = os.sched_getaffinity(0)
    if cpu in usual:
        os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usual)


def family(pid: int) -> list[int]:
    """A process and its living descendants."""
    found = [pid]
    for member in found:
        with contextlib.suppress(OSError):
            for children in Path(f"/proc/{member}/task").glob("*/children"):
                found.extend(int(child) for child in children.read_text().split())
    return found


def cpu_s(pid: int) -> float:
    """User + system time of the process, its living descendants, and the descendants that were waited for."""
    ticks = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(fields[i]) for i in (11, 12, 13, 14))  # utime stime cutime cstime
    return ticks / TICKS_PER_S


def pss_bytes(pid: int) -> int:
    """Memory of the process and its descendants, shared pages counted once in all. What is a file's (code) is left out:
    a kernel that reclaims it and reads it again would make megabytes of difference, and calls need none."""
    total = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss_Anon:"):
                    total += int(line.split()[1]) * 1024
    return total


@dataclass(frozen=True)
class UdpSocket:
    host: str | None  # of an IPv4 socket
    port: int
    queued_bytes: int  # memory of what waits in its buffers


def udp_sockets(pid: int) -> list[UdpSocket]:
    """The UDP sockets that the process and its descendants hold; one that two of them share counts once."""
    inodes = set()
    for member in family(pid):
        with contextlib.suppress(OSError):
            for fd in Path(f"/proc/{member}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes.add(os.readlink(fd).removeprefix("socket:[").removesuffix("]"))
    sockets = []
    for table in ("udp", "udp6"):
        with contextlib.suppress(OSError):
            for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                _, local, _, _, queues, _, _, _, _, inode, *_ = row.split()
                if inode in inodes:
                    address, _, port = local.partition(":")
                    queued = sum(int(queue, 16) for queue in queues.split(":"))
                    sockets.append(UdpSocket(_ipv4(address), int(port, 16), queued))
    return sockets


def _ipv4(address: str) -> str | None:
    """An address as /proc/net/udp writes it: the word of the network order, in hexadecimal of the host's."""
    if len(address) != 8:
        return None
    return socket.inet_ntoa(int(address, 16).to_bytes(4, sys.byteorder))


def settle(value: Callable[[], int], what: str, timeout_s: float) -> int:
    """Read `value` every second until it changes by less than 1 % and give the last reading."""
    deadline = time.monotonic() + timeout_s
    before = value()
    while True:
        time.sleep(1.0)
        now = value()
        if abs(now - before) <= before // 100:
            return now
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: still changing after {timeout_s:.0f} s ({before} to {now})")
        before = now


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def report(result: dict[str, object]) -> None:
    """The last line of output."""
    print(json.dumps(result), flush=True)
