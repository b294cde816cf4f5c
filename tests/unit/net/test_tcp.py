"""TCP on real sockets. Loopback only."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from proxy.net.api import TcpStream
from proxy.net.asyncio_network import AsyncioNetwork
from tests.unit.net.inbox import Inbox, ignore

HOST = "127.0.6.1"
PEER = "127.0.6.2"


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
