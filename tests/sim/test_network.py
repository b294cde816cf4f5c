"""The in-memory network itself: paths, ICMP, buffers, faults; and that one seed is one history."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from proxy.net.api import Address, Network
from tests.sim.link import Burst, LinkModel
from tests.sim.loop import SimulationError, VirtualLoop
from tests.sim.network import SimHost, SimNetwork, SimUdpPort

A, B = "10.0.0.1", "10.0.0.2"
Main = Callable[[SimNetwork], Coroutine[Any, Any, Any]]


def simulate(main: Main, model: LinkModel | None = None, seed: int = 1) -> Any:
    loop = VirtualLoop()
    return loop.run(main(SimNetwork(loop, Random(seed), model)))


def echo(host: SimHost, port: int = 5060) -> SimUdpPort:
    answers = host.udp((host.address, port), lambda data, source: answers.send(data, source))
    return answers


def nothing(data: bytes, source: Address) -> None:
    raise AssertionError(f"did not expect {data!r} from {source}")


class Inbox:
    """A UDP port that notes what comes and when."""

    def __init__(self, host: SimHost, port: int = 0, remote: Address | None = None) -> None:
        self.loop = host.network.loop
        self.began = self.loop.time()
        self.got: list[tuple[float, bytes]] = []
        self.errors: list[float] = []
        self.port = host.udp((host.address, port), self._data, remote=remote, on_error=self._error)

    def _now(self) -> float:
        return round(self.loop.time() - self.began, 6)

    def _data(self, data: bytes, source: Address) -> None:
        self.got.append((self._now(), data))

    def _error(self, error: OSError) -> None:
        assert isinstance(error, ConnectionRefusedError)
        self.errors.append(self._now())

    @property
    def data(self) -> list[bytes]:
        return [data for _, data in self.got]


def test_a_host_is_a_network_port() -> None:
    async def main(network: SimNetwork) -> None:
        port: Network = network.host(A)
        assert port.udp((A, 5060), nothing).local == (A, 5060)
        assert port.udp((A, 0), nothing).local != port.udp((A, 0), nothing).local
        with pytest.raises(OSError, match="in use"):
            port.udp((A, 5060), nothing)
        with pytest.raises(OSError, match="cannot assign"):
            port.udp((B, 5060), nothing)

    simulate(main)


def test_a_datagram_takes_the_delay_of_its_path_each_way() -> None:
    async def main(network: SimNetwork) -> None:
        network.shape(LinkModel(delay_s=0.03), network.host(B).address, network.host(A).address)
        echo(network.host(B))
        inbox = Inbox(network.host(A))
        inbox.port.send(b"hello", (B, 5060))
        await asyncio.sleep(1)
        assert inbox.got == [(0.04, b"hello")]

    simulate(main, LinkModel(delay_s=0.01))


def test_jitter_keeps_the_order_and_reordering_does_not() -> None:
    async def order(network: SimNetwork) -> list[bytes]:
        inbox = Inbox(network.host(B), 5060)
        sender = network.host(A).udp((A, 0), nothing)
        for number in range(200):
            sender.send(b"%03d" % number, (B, 5060))
            await asyncio.sleep(0.001)
        await asyncio.sleep(1)
        return inbox.data

    jittered = simulate(order, LinkModel(jitter_s=0.1))
    assert jittered == sorted(jittered) and len(jittered) == 200
    reordered = simulate(order, LinkModel(reorder=0.1))
    assert reordered != sorted(reordered) and len(reordered) == 200


@pytest.mark.parametrize(
    ("model", "least", "most"),
    [
        (LinkModel(loss=0.1), 8_700, 9_300),
        (LinkModel(duplicate=0.1), 10_700, 11_300),
        (LinkModel(burst=Burst(every_s=0.9, length_s=0.1)), 8_500, 9_500),
        (LinkModel(burst=Burst(every_s=0.9, length_s=0.1, loss=0.5)), 9_200, 9_800),
        (LinkModel(), 10_000, 10_000),
    ],
)
def test_loss_bursts_and_copies_come_as_often_as_asked(model: LinkModel, least: int, most: int) -> None:
    async def main(network: SimNetwork) -> int:
        inbox = Inbox(network.host(B), 5060)
        sender = network.host(A).udp((A, 0), nothing)
        for _ in range(10_000):
            sender.send(b"x", (B, 5060))
            await asyncio.sleep(0.02)
        return len(inbox.got)

    assert least <= simulate(main, model) <= most


def test_losses_of_a_burst_come_together() -> None:
    async def longest_hole(network: SimNetwork) -> float:
        inbox = Inbox(network.host(B), 5060)
        sender = network.host(A).udp((A, 0), nothing)
        for _ in range(5_000):
            sender.send(b"x", (B, 5060))
            await asyncio.sleep(0.02)
        times = [at for at, _ in inbox.got]
        return max(later - sooner for sooner, later in pairwise(times))

    assert simulate(longest_hole, LinkModel(burst=Burst(every_s=9.5, length_s=0.5))) > 0.4
    assert simulate(longest_hole, LinkModel(loss=0.05)) < 0.15


def test_a_cut_can_be_one_way_and_ends_when_joined() -> None:
    async def main(network: SimNetwork) -> None:
        one, other = Inbox(network.host(A), 5060), Inbox(network.host(B), 5060)

        async def exchange() -> None:
            one.port.send(b"there", (B, 5060))
            other.port.send(b"back", (A, 5060))
            await asyncio.sleep(1)

        network.cut(A, B)
        await exchange()
        assert (one.data, other.data) == ([], [])
        network.join(A, B, both=False)
        await exchange()
        assert (one.data, other.data) == ([], [b"there"])
        network.join(A, B)
        await exchange()
        assert (one.data, other.data) == ([b"back"], [b"there", b"there"])

    simulate(main)


def test_a_connected_port_hears_that_nobody_listens_and_an_unconnected_one_does_not() -> None:
    async def main(network: SimNetwork) -> None:
        network.host(B)
        connected = Inbox(network.host(A), remote=(B, 5060))
        unconnected = Inbox(network.host(A))
        connected.port.send(b"x", (B, 5060))
        unconnected.port.send(b"x", (B, 5060))
        await asyncio.sleep(1)
        assert connected.errors == [0.02]
        assert unconnected.errors == []

    simulate(main, LinkModel(delay_s=0.01))


def test_a_connected_port_hears_its_peer_only() -> None:
    async def main(network: SimNetwork) -> None:
        inbox = Inbox(network.host(A), 5060, remote=(B, 5060))
        network.host(B).udp((B, 5060), nothing).send(b"peer", (A, 5060))
        network.host(B).udp((B, 5061), nothing).send(b"stranger", (A, 5060))
        await asyncio.sleep(1)
        assert inbox.data == [b"peer"]

    simulate(main)


def test_icmp_is_limited_as_linux_limits_it() -> None:
    async def main(network: SimNetwork) -> None:
        network.host(B)
        inbox = Inbox(network.host(A), remote=(B, 5060))
        for _ in range(100):
            inbox.port.send(b"x", (B, 5060))
            await asyncio.sleep(0.02)
        assert len(inbox.errors) == 7  # six at once, one more within the two seconds

    simulate(main)


def test_a_killed_host_goes_silent_and_refuses() -> None:
    async def main(network: SimNetwork) -> None:
        backend = network.host(B)
        ticks: list[float] = []

        async def beat() -> None:
            socket = backend.udp((B, 5060), lambda data, source: None)
            while True:
                ticks.append(network.loop.time())
                socket.send(b"beat", (A, 5060))
                await asyncio.sleep(0.1)

        inbox = Inbox(network.host(A), 5060, remote=(B, 5060))
        backend.process.spawn(beat())
        await asyncio.sleep(1.05)
        network.kill(B)
        await asyncio.sleep(1)
        assert len(ticks) == len(inbox.got) == 11
        inbox.port.send(b"x", (B, 5060))
        await asyncio.sleep(1)
        assert len(inbox.errors) == 1

    simulate(main)


def test_sockets_of_a_big_process_close_late() -> None:
    async def main(network: SimNetwork) -> None:
        echo(network.host(B))
        inbox = Inbox(network.host(A), remote=(B, 5060))
        network.kill(B, teardown_s=0.09)
        for _ in range(10):
            inbox.port.send(b"x", (B, 5060))
            await asyncio.sleep(0.02)
        assert inbox.got == []
        assert inbox.errors[0] == 0.101

    simulate(main)


def test_a_machine_without_power_says_nothing() -> None:
    async def main(network: SimNetwork) -> None:
        echo(network.host(B))
        inbox = Inbox(network.host(A), remote=(B, 5060))
        network.power_off(B)
        inbox.port.send(b"x", (B, 5060))
        await asyncio.sleep(1)
        assert (inbox.got, inbox.errors) == ([], [])

    simulate(main)


def test_a_restarted_host_begins_anew() -> None:
    async def main(network: SimNetwork) -> None:
        echo(network.host(B))
        inbox = Inbox(network.host(A))
        old = network.host(B).process
        for fault in (network.kill, network.power_off, network.freeze):
            fault(B)
            host = network.restart(B)
            assert host.process is not old and host.alive and host is network.host(B)
            inbox.port.send(b"before it listens", (B, 5060))
            await asyncio.sleep(1)
            echo(host)
            inbox.port.send(b"after", (B, 5060))
            await asyncio.sleep(1)
        assert inbox.data == [b"after"] * 3

    simulate(main)


def test_datagrams_to_a_frozen_host_wait_in_its_receive_buffer() -> None:
    async def main(network: SimNetwork) -> None:
        backend = Inbox(network.host(B), 5060)
        sender = network.host(A).udp((A, 0), nothing)
        network.freeze(B)
        for number in range(150):
            sender.send(b"%-1000d" % number, (B, 5060))
        await asyncio.sleep(1)
        assert backend.got == []
        network.thaw(B)
        await asyncio.sleep(1)
        # Measured on Linux: a default buffer holds 92 messages of 1,000 bytes.
        assert [int(data) for data in backend.data] == list(range(92))
        assert network.overflowed == 150 - 92
        sender.send(b"later", (B, 5060))
        await asyncio.sleep(1)
        assert backend.data[-1] == b"later"

    simulate(main)


def test_a_host_in_the_loop_of_the_test_cannot_be_frozen() -> None:
    async def main(network: SimNetwork) -> None:
        network.host(A, network.loop)
        with pytest.raises(SimulationError, match="no process of its own"):
            network.freeze(A)

    simulate(main)


def test_callbacks_run_in_the_loop_of_their_host() -> None:
    async def main(network: SimNetwork) -> None:
        where: list[object] = []
        host = network.host(B)
        host.udp((B, 5060), lambda data, source: where.append(asyncio.get_running_loop()))
        network.host(A).udp((A, 0), nothing).send(b"x", (B, 5060))
        await asyncio.sleep(1)
        assert where == [host.loop]

    simulate(main)


async def chatter(network: SimNetwork) -> str:
    """A busy minute of everything that draws chances and of faults."""
    for address in (A, B):
        echo(network.host(address), 5060)
    sender = network.host("10.0.0.3", network.loop).udp(("10.0.0.3", 0), lambda data, source: None)
    for number in range(600):
        sender.send(b"OPTIONS sip:x SIP/2.0\r\nCSeq: %d OPTIONS\r\n\r\n" % number, ((A, B)[number % 2], 5060))
        await asyncio.sleep(0.1)
        fault = {100: network.freeze, 120: network.thaw, 300: network.kill}.get(number)
        if fault:
            fault(A)
    return network.trace.digest


EVERYTHING = LinkModel(jitter_s=0.01, loss=0.05, burst=Burst(every_s=1, length_s=0.1), duplicate=0.05, reorder=0.05)


def test_one_seed_is_one_history() -> None:
    first, again = (simulate(chatter, EVERYTHING, seed=7) for _ in range(2))
    assert first == again
    assert first != simulate(chatter, EVERYTHING, seed=8)


def test_the_history_does_not_depend_on_the_hashes_of_strings() -> None:
    program = (
        "from tests.sim.test_network import simulate, chatter, EVERYTHING;print(simulate(chatter, EVERYTHING, seed=7))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_the_trace_names_messages_and_faults() -> None:
    async def main(network: SimNetwork) -> None:
        echo(network.host(B))
        sender = network.host(A).udp((A, 5060), lambda data, source: None)
        sender.send(b"BYE sip:b SIP/2.0\r\nCall-ID: c1\r\nCSeq: 3 BYE\r\n\r\nCSeq: 4 NOT", (B, 5060))
        network.cut(A, B)
        sender.send(b"SIP/2.0 200 OK\r\ni: c2\r\nCSeq: 9 BYE\r\n\r\n", (B, 5060))
        await asyncio.sleep(1)
        tail = network.trace.tail()
        assert "10.0.0.1:5060 > 10.0.0.2:5060   +0.5ms BYE sip:b SIP/2.0 | 3 BYE | c1" in tail
        assert "cut 10.0.0.1 <> 10.0.0.2" in tail
        assert "lost SIP/2.0 200 OK | 9 BYE | c2" in tail

    simulate(main)
