"""Nasty peers on a control port, on real sockets (127.0.40.0/24): the event loop, which calls share, goes on."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from proxy.backends.control.ami import AmiSession
from proxy.backends.control.api import ChannelUp, Event, Loss, Lost, Synced
from proxy.net.asyncio_network import AsyncioNetwork
from tests.testbed.manager.manager import SECRET, Channel, Manager, event

THERE = ("127.0.40.21", 15038)
FLOOD_PER_S = 10_000
STALL_S = 0.005


class Pulse:
    """How late a timer of each 2 ms fires, less the time in which this thread did not get a processor."""

    def __init__(self) -> None:
        self.late: list[float] = []

    async def beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, ran = loop.time() + 0.002, time.thread_time()
            await asyncio.sleep(0.002)
            # What the loop did meanwhile is what a call would have waited for.
            self.late.append(min(loop.time() - due, time.thread_time() - ran))


async def beside_a_session(told: list[Event], main: Callable[[AmiSession, Pulse], Awaitable[None]]) -> None:
    network = AsyncioNetwork(asyncio.get_running_loop())
    session = AmiSession(network, THERE, "lab", SECRET, Random(1))
    pulse = Pulse()
    beating = asyncio.ensure_future(pulse.beat())
    session.start(told.append)
    try:
        await main(session, pulse)
    finally:
        await session.stop()
        beating.cancel()


async def until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.01)


class Flood(threading.Thread):
    """Writes events into a connection's socket from a thread of its own, at a rate."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        super().__init__(daemon=True)
        self._sock = sock
        self._seconds = seconds
        self.sent = 0

    def run(self) -> None:
        began = time.monotonic()
        while time.monotonic() - began < self._seconds:
            due = int((time.monotonic() - began) * FLOOD_PER_S)
            data = b"".join(
                event("Newstate", [*Channel(f"as1-{number % 500}.0", "Local/x", "").fields(), ("Language", "en" * 100)])
                for number in range(self.sent, due)
            )
            self._sock.sendall(data)
            self.sent = max(self.sent, due)
            time.sleep(0.005)


def test_ten_thousand_events_a_second_stall_nobody() -> None:
    async def scenario() -> None:
        network = AsyncioNetwork(asyncio.get_running_loop())
        manager = Manager(network, THERE)
        await manager.start()
        told: list[Event] = []

        async def main(session: AmiSession, pulse: Pulse) -> None:
            await until(lambda: Synced() in told)
            transport = manager.connections[0].stream._transport  # type: ignore[attr-defined]
            sock = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
            sock.setblocking(True)
            pulse.late.clear()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            flood = Flood(sock, 2.0)
            flood.start()
            await until(lambda: not flood.is_alive())
            await until(lambda: session.counters["messages"] >= flood.sent or session.counters["fell_behind"] > 0)
            sock.close()
            assert flood.sent >= 15_000
            assert session.up and not any(isinstance(each, Lost) for each in told)
            assert len({each.channel for each in told if isinstance(each, ChannelUp)}) == 500
            pulse.late.sort()
            assert pulse.late[-2] < STALL_S, pulse.late[-5:]
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32_000  # kB

        await beside_a_session(told, main)
        manager.end()

    asyncio.run(scenario())


@pytest.mark.parametrize("says", [b"", b"SSH-2.0-OpenSSH_9.2p1\r\n", os.urandom(1 << 20), b"\r\n" * 100_000])
def test_whatever_listens_there_the_loop_goes_on(says: bytes) -> None:
    async def scenario() -> None:
        network = AsyncioNetwork(asyncio.get_running_loop())
        taken = 0

        def accept(stream: object) -> None:
            nonlocal taken
            taken += 1
            stream.on_data = stream.on_close = lambda _: None  # type: ignore[attr-defined]
            stream.write(says)  # type: ignore[attr-defined]

        listener = await network.listen_tcp(THERE, accept)
        told: list[Event] = []

        async def main(session: AmiSession, pulse: Pulse) -> None:
            await until(lambda: any(isinstance(each, Lost) for each in told))
            await asyncio.sleep(0.5)
            losses = {each.loss for each in told if isinstance(each, Lost)}
            assert losses == {Loss.PROTOCOL if says else Loss.SILENT}
            assert taken <= 12 and not session.up
            pulse.late.sort()
            assert pulse.late[-2] < STALL_S, pulse.late[-5:]

        await beside_a_session(told, main)
        listener.close()

    asyncio.run(scenario())
