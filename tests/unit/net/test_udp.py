"""UDP on real sockets. Loopback only."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from proxy.net.api import Address, Network
from proxy.net.asyncio_network import DRAIN_MAX, AsyncioNetwork
from tests.unit.net.inbox import Inbox, ignore

HOST = "127.0.6.1"
PEER = "127.0.6.2"


def a_network(network: Network) -> Network:
    """mypy holds the implementation to the port."""
    return network


def test_datagram_arrives_with_its_source(run: Any) -> None:
    async def main(network: AsyncioNetwork) -> None:
        inbox = Inbox()
        here = a_network(network).udp((HOST, 0), inbox)
        there = network.udp((PEER, 0), ignore)
        there.send(b"hello", here.local)
        assert await inbox.reach(1) == [(b"hello", there.local)]
        here.close()
        there.close()

    run(main)


def test_ipv6_addresses_are_host_and_port(run: Any) -> None:
    async def main(network: AsyncioNetwork) -> None:
        inbox = Inbox()
        here = network.udp(("::1", 0), inbox)
        there = network.udp(("::1", 0), ignore)
        there.send(b"hello", here.local)
        assert here.local == ("::1", here.local[1])
        assert await inbox.reach(1) == [(b"hello", ("::1", there.local[1]))]
        here.close()
        there.close()

    run(main)


def test_largest_datagram_crosses_whole_and_larger_is_counted_lost(run: Any) -> None:
    async def main(network: AsyncioNetwork) -> None:
        inbox = Inbox()
        here = network.udp((HOST, 0), inbox)
        there = network.udp((PEER, 0), ignore)
        there.send(b"x" * 65507, here.local)
        there.send(b"x" * 65508, here.local)
        there.send(b"end", here.local)
        await inbox.reach(2)
        assert [len(data) for data, _ in inbox.items] == [65507, 3]
        assert there.lost == 1
        here.close()
        there.close()

    run(main)


def test_receive_buffer_holds_a_burst(run: Any) -> None:
    async def main(network: AsyncioNetwork) -> None:
        inbox = Inbox()
        here = network.udp((HOST, 0), inbox)
        there = network.udp((PEER, 0), ignore)
        for number in range(200):  # 92 fit into a default buffer
            there.send(b"%d " % number + b"x" * 1000, here.local)
        await inbox.reach(200)
        assert [int(data.split()[0]) for data, _ in inbox.items] == list(range(200))
        here.close()
        there.close()

    run(main)


def test_flood_leaves_the_loop_its_turn_after_64_datagrams(run: Any) -> None:
    async def main(network: AsyncioNetwork) -> None:
        order: list[str] = []
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_datagram(data: bytes, source: Address) -> None:
            order.append("datagram")
            if len(order) == 1:
                loop.call_soon(order.append, "turn")
            if order.count("datagram") == DRAIN_MAX + 10:
                done.set()

        here = network.udp((HOST, 0), on_datagram)
        there = network.udp((PEER, 0), ignore)
        for _ in range(DRAIN_MAX + 10):
            there.send(b"x", here.local)
        await done.wait()
        assert order.index("turn") == DRAIN_MAX
        here.close()
        there.close()

    run(main)


@pytest.mark.parametrize("to", [("127.0.6.3", 70000), ("127.0.6.3", 0), ("::1", 5060)])
def test_impossible_destination_is_lost_and_raises_nothing(run: Any, to: Address) -> None:
    async def main(network: AsyncioNetwork) -> None:
        here = network.udp((HOST, 0), ignore)
        here.send(b"x", to)
        assert here.lost == 1
        here.close()

    run(main)


def closed_port() -> Address:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((PEER, 0))
        address: Address = sock.getsockname()
        return address


def test_refusal_comes_back_on_a_connected_port_and_not_on_an_open_one(run: Any) -> None:
    async def main(network: AsyncioNetwork) -> None:
        errors, others = Inbox(), Inbox()
        dead = closed_port()
        connected = network.udp((HOST, 0), ignore, remote=dead, on_error=errors)
        unconnected = network.udp((HOST, 0), ignore, on_error=others)
        unconnected.send(b"x", dead)
        connected.send(b"x", dead)
        assert isinstance((await errors.reach(1))[0], ConnectionRefusedError)
        assert others.items == []
        connected.close()
        unconnected.close()

    run(main)


def test_datagram_sent_while_a_refusal_is_pending_still_leaves(run: Any) -> None:
    async def main(network: AsyncioNetwork) -> None:
        errors, inbox = Inbox(), Inbox()
        address = closed_port()
        probe = network.udp((HOST, 0), ignore, remote=address, on_error=errors)
        probe.send(b"first", address)  # loopback: the refusal is pending when send returns
        reborn = network.udp(address, inbox)
        probe.send(b"second", address)
        assert errors.items == []  # not in the middle of send
        assert await inbox.reach(1) == [(b"second", probe.local)]
        assert len(await errors.reach(1)) == 1
        assert probe.lost == 0
        probe.close()
        reborn.close()

    run(main)


def test_peer_that_comes_back_is_heard_again_however_often_it_had_refused(run: Any) -> None:
    async def main(network: AsyncioNetwork) -> None:
        errors, inbox = Inbox(), Inbox()
        address = closed_port()
        probe = network.udp((HOST, 0), inbox, remote=address, on_error=errors)
        for refused in range(1, 4):
            probe.send(b"probe", address)
            await errors.reach(refused)
        probe.send(b"probe", address)  # a refusal is pending again,
        probe.send(b"probe", address)  # told by this one, and again
        await errors.reach(5)
        reborn = network.udp(address, ignore)
        reborn.send(b"answer", probe.local)
        assert await inbox.reach(1) == [(b"answer", address)]
        reborn.close()
        probe.close()

    run(main)


def test_connected_port_hears_its_peer_only(run: Any) -> None:
    async def main(network: AsyncioNetwork) -> None:
        inbox = Inbox()
        peer = network.udp((PEER, 0), ignore)
        stranger = network.udp((PEER, 0), ignore)
        here = network.udp((HOST, 0), inbox, remote=peer.local)
        stranger.send(b"stranger", here.local)
        peer.send(b"peer", here.local)
        assert await inbox.reach(1) == [(b"peer", peer.local)]
        for port in (peer, stranger, here):
            port.close()

    run(main)


def test_fault_in_a_callback_is_reported_and_costs_no_other_datagram(run: Any) -> None:
    async def main(network: AsyncioNetwork) -> None:
        inbox = Inbox()

        def on_datagram(data: bytes, source: Address) -> None:
            if data == b"bad":
                raise RuntimeError("a fault")
            inbox(data)

        here = network.udp((HOST, 0), on_datagram)
        there = network.udp((PEER, 0), ignore)
        there.send(b"bad", here.local)
        there.send(b"good", here.local)
        assert await inbox.reach(1) == [b"good"]
        here.close()
        there.close()

    failures = run(main, expect_failures=1)
    assert str(failures[0]["exception"]) == "a fault"


def test_port_closed_by_its_own_callback_reads_no_more(run: Any) -> None:
    async def main(network: AsyncioNetwork) -> None:
        seen = Inbox()

        def on_datagram(data: bytes, source: Address) -> None:
            here.close()
            seen(data)

        here = network.udp((HOST, 0), on_datagram)
        there = network.udp((PEER, 0), ignore)
        there.send(b"1", here.local)
        there.send(b"2", here.local)
        await seen.reach(1)
        here.close()  # twice is fine
        here.send(b"x", there.local)
        assert (seen.items, here.lost) == ([b"1"], 1)
        there.close()

    run(main)


def test_taken_port_raises(run: Any) -> None:
    async def main(network: AsyncioNetwork) -> None:
        here = network.udp((HOST, 0), ignore)
        with pytest.raises(OSError, match="in use"):
            network.udp(here.local, ignore)
        here.close()

    run(main)
