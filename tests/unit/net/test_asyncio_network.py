"""The real network: on asyncio's loop, and on uvloop where it is installed. Loopback only."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from proxy.net.api import Address, Network, TcpStream
from proxy.net.asyncio_network import DRAIN_MAX, AsyncioNetwork

HOST = "127.0.6.1"
PEER = "127.0.6.2"
PATIENCE_S = 5.0


def _loops() -> list[Callable[[], asyncio.AbstractEventLoop]]:
    loops: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop]
    with contextlib.suppress(ImportError):
        import uvloop

        loops.append(uvloop.new_event_loop)
    return loops


@pytest.fixture(params=_loops(), ids=lambda factory: factory.__module__.split(".")[0])
def run(request: pytest.FixtureRequest) -> Any:
    """Runs a coroutine function on a fresh loop; nothing may have gone to the loop's exception handler."""
    loop = request.param()
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))

    def runner(main: Callable[[AsyncioNetwork], Awaitable[None]], expect_failures: int = 0) -> list[dict[str, Any]]:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE_S):
                await main(AsyncioNetwork(loop))

        loop.run_until_complete(bounded())
        assert len(failures) == expect_failures, failures
        return failures

    yield runner
    loop.close()


class Inbox:
    """Collects what comes, and waits for it."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._grown = asyncio.Event()

    def __call__(self, *item: Any) -> None:
        self.items.append(item if len(item) > 1 else item[0])
        self._grown.set()

    async def reach(self, count: int) -> list[Any]:
        while len(self.items) < count:
            self._grown.clear()
            await self._grown.wait()
        return self.items


def ignore(*_: Any) -> None:
    pass


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


def collecting(streams: Inbox, data: Inbox, ends: Inbox) -> Callable[[TcpStream], None]:
    def on_accept(stream: TcpStream) -> None:
        stream.on_data = data
        stream.on_close = ends
        streams(stream)

    return on_accept


def test_stream_carries_bytes_both_ways_and_ends_once(run: Any) -> None:
    async def main(network: AsyncioNetwork) -> None:
        accepted, data, ends = Inbox(), Inbox(), Inbox()
        listener = await network.listen_tcp((HOST, 0), collecting(accepted, data, ends))
        stream = await network.connect_tcp(listener.local, PEER)
        answers, own_ends = Inbox(), Inbox()
        stream.on_data, stream.on_close = answers, own_ends
        stream.write(b"ping")
        assert b"".join(await data.reach(1)) == b"ping"
        (server_side,) = await accepted.reach(1)
        assert (server_side.local, server_side.remote) == (stream.remote, stream.local)
        assert stream.local[0] == PEER
        server_side.write(b"pong")
        assert b"".join(await answers.reach(1)) == b"pong"
        stream.close()
        stream.close()
        assert await ends.reach(1) == [None]
        assert await own_ends.reach(1) == [None]
        stream.write(b"into the void")
        listener.close()

    run(main)


def test_bytes_that_come_before_anyone_listens_are_kept(run: Any) -> None:
    async def main(network: AsyncioNetwork) -> None:
        def greet(stream: TcpStream) -> None:
            stream.on_data, stream.on_close = ignore, ignore
            stream.write(b"early ")
            stream.write(b"bird")
            stream.close()

        listener = await network.listen_tcp((HOST, 0), greet)
        stream = await network.connect_tcp(listener.local)
        for _ in range(50):  # turns of the loop in which the greeting arrives
            await asyncio.sleep(0)
        data, ends = Inbox(), Inbox()
        stream.on_close = ends
        stream.on_data = data
        assert await ends.reach(1) == [None]
        assert b"".join(data.items) == b"early bird"
        listener.close()

    run(main)


def test_refused_connection_raises(run: Any) -> None:
    async def main(network: AsyncioNetwork) -> None:
        listener = await network.listen_tcp((HOST, 0), ignore)
        listener.close()
        await asyncio.sleep(0.01)
        with pytest.raises(ConnectionRefusedError):
            await network.connect_tcp(listener.local)

    run(main)


def test_reset_is_told_as_an_error(run: Any) -> None:
    async def main(network: AsyncioNetwork) -> None:
        accepted, data, ends = Inbox(), Inbox(), Inbox()
        listener = await network.listen_tcp((HOST, 0), collecting(accepted, data, ends))
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, listener.local)
        await accepted.reach(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        sock.close()
        (error,) = await ends.reach(1)
        assert isinstance(error, ConnectionResetError)
        listener.close()

    run(main)


def test_backlog_grows_towards_a_peer_that_does_not_read_and_close_gives_up_on_it(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.net.asyncio_network.LINGER_S", 0.05)

    async def main(network: AsyncioNetwork) -> None:
        accepted, data, ends = Inbox(), Inbox(), Inbox()
        listener = await network.listen_tcp((HOST, 0), collecting(accepted, data, ends))
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, listener.local)
        (stream,) = await accepted.reach(1)
        stream.write(b"x" * (16 << 20))
        assert stream.backlog > 1 << 20
        stream.close()
        await ends.reach(1)
        assert stream.backlog == 0
        sock.close()
        listener.close()

    run(main)


def test_fault_of_the_acceptor_closes_that_connection_only(run: Any) -> None:
    async def main(network: AsyncioNetwork) -> None:
        accepted, data, ends = Inbox(), Inbox(), Inbox()
        take = collecting(accepted, data, ends)
        first = True

        def on_accept(stream: TcpStream) -> None:
            nonlocal first
            if first:
                first = False
                raise RuntimeError("a fault")
            take(stream)

        listener = await network.listen_tcp((HOST, 0), on_accept)
        bad = await network.connect_tcp(listener.local)
        bad_ends = Inbox()
        bad.on_data, bad.on_close = ignore, bad_ends
        await bad_ends.reach(1)
        good = await network.connect_tcp(listener.local)
        good.on_data, good.on_close = ignore, ignore
        good.write(b"fine")
        assert await data.reach(1) == [b"fine"]
        good.close()
        await ends.reach(1)
        listener.close()

    run(main, expect_failures=1)


def test_a_hundred_connections_at_once_are_all_taken(run: Any) -> None:
    async def main(network: AsyncioNetwork) -> None:
        accepted, data, ends = Inbox(), Inbox(), Inbox()
        listener = await network.listen_tcp((HOST, 0), collecting(accepted, data, ends))
        streams = await asyncio.gather(*(network.connect_tcp(listener.local) for _ in range(100)))
        await accepted.reach(100)
        for stream in streams:
            stream.close()
        await ends.reach(100)
        listener.close()

    run(main)
