"""Health on real sockets, against real processes that are really killed and really stopped (127.0.2.0/24)."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from random import Random

import pytest

from proxy.backends import Backends, Verdict
from proxy.config import parse
from proxy.health import Diagnosis, Health, VerdictChanged
from proxy.net.asyncio_network import AsyncioNetwork

PORT = 5060


class Peers:
    def __init__(self) -> None:
        self.running: list[subprocess.Popen[str]] = []

    def start(self, transport: str, host: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.unit.health.reference_peer", transport, host, str(PORT)]
        peer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.running.append(peer)
        assert peer.stdout is not None and peer.stdout.readline() == "listening\n"
        return peer

    def close(self) -> None:
        for peer in self.running:
            peer.kill()
            peer.wait()
            assert peer.stdout is not None
            peer.stdout.close()


@pytest.fixture
def peers() -> Iterator[Peers]:
    made = Peers()
    yield made
    made.close()


class Watch:
    """Health of two backends, and waiting for what it says."""

    def __init__(self, transport: str, hosts: tuple[str, str]) -> None:
        members = ", ".join(
            f'as{index}: {{address: "{host}:{PORT}", transport: {transport}}}' for index, host in enumerate(hosts, 1)
        )
        loop = asyncio.get_running_loop()
        self.loop = loop
        self.backends = Backends(parse(f"pools: {{pbx: {{backends: {{{members}}}}}}}\nroutes: [{{pool: pbx}}]"))
        self.health = Health(self.backends, AsyncioNetwork(loop), loop, Random(1), "127.0.2.1")
        self.events: asyncio.Queue[VerdictChanged] = asyncio.Queue()
        self.health.subscribe(self.events.put_nowait)
        self.health.start()

    async def until(self, name: str, verdict: Verdict) -> VerdictChanged:
        async with asyncio.timeout(10):
            while True:
                event = await self.events.get()
                if event.backend.name == name and event.verdict is verdict:
                    return event


CASES = [
    ("udp", signal.SIGKILL, {Diagnosis.DEAD}, 0.25),
    ("udp", signal.SIGSTOP, {Diagnosis.HUNG}, 0.5),
    ("tcp", signal.SIGKILL, {Diagnosis.DEAD}, 0.25),
    ("tcp", signal.SIGSTOP, {Diagnosis.HUNG}, 0.5),
]


@pytest.mark.parametrize(("transport", "sent", "diagnoses", "within_s"), CASES)
def test_a_process_that_dies_is_found_named_and_welcomed_back(
    peers: Peers, transport: str, sent: signal.Signals, diagnoses: set[Diagnosis], within_s: float
) -> None:
    hosts = ("127.0.2.61", "127.0.2.62")
    victim, _ = (peers.start(transport, host) for host in hosts)

    async def scenario() -> None:
        watch = Watch(transport, hosts)
        try:
            await watch.until("as1", Verdict.UP)
            if not any(b.verdict is Verdict.UP for b in watch.backends if b.name == "as2"):
                await watch.until("as2", Verdict.UP)
            await asyncio.sleep(1.0)
            at = watch.loop.time()
            victim.send_signal(sent)
            down = await watch.until("as1", Verdict.DOWN)
            assert down.at - at <= within_s
            assert down.diagnosis in diagnoses
            assert down.last_good_at is not None and at - 0.2 < down.last_good_at <= at + 0.05
            if sent is signal.SIGSTOP:
                victim.send_signal(signal.SIGCONT)
            else:
                victim.wait()
                await asyncio.to_thread(peers.start, transport, hosts[0])
            await watch.until("as1", Verdict.UP)
            assert all(backend.verdict is Verdict.UP for backend in watch.backends)
        finally:
            watch.health.stop()

    asyncio.run(scenario())


def test_backends_that_were_never_there_are_dead() -> None:
    async def scenario() -> None:
        watch = Watch("udp", ("127.0.2.71", "127.0.2.72"))
        try:
            assert (await watch.until("as1", Verdict.DOWN)).diagnosis is Diagnosis.DEAD
        finally:
            watch.health.stop()

    asyncio.run(scenario())


def test_a_real_stall_of_our_own_loop_is_held_against_nobody(peers: Peers) -> None:
    hosts = ("127.0.2.63", "127.0.2.64")
    for host in hosts:
        peers.start("udp", host)

    async def scenario() -> None:
        watch = Watch("udp", hosts)
        try:
            await asyncio.sleep(0.5)
            for _ in range(3):
                subprocess.run(["sleep", "0.6"], check=True)  # blocks the loop, as a long callback does
                await asyncio.sleep(0.3)
            assert watch.health.selfcheck.stalls >= 3
            while not watch.events.empty():
                assert watch.events.get_nowait().verdict is Verdict.UP
        finally:
            watch.health.stop()

    asyncio.run(scenario())
