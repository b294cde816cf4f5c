"""TCP on the in-memory network: bytes in order or not at all, closed by a kernel that lives, cut, frozen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.sim.link import LinkModel
from tests.sim.network import SimHost, SimNetwork
from tests.sim.test_network import A, B, simulate


class Server:
    """Listens on TCP, notes what comes."""

    def __init__(self, host: SimHost) -> None:
        self.host = host
        self.streams: list[Any] = []
        self.data = bytearray()
        self.closed: list[OSError | None] = []

    async def listen(self) -> None:
        await self.host.listen_tcp((self.host.address, 5060), self._accept)

    def _accept(self, stream: Any) -> None:
        self.streams.append(stream)
        stream.on_data = self.data.extend
        stream.on_close = self.closed.append


def tcp(main: Callable[[SimNetwork, Server, Any], Coroutine[Any, Any, None]], **model: Any) -> None:
    """Run `main` with a server on B and a stream connected to it from A."""

    async def connected(network: SimNetwork) -> None:
        server = Server(network.host(B))
        await server.host.process.spawn(server.listen())
        stream = await network.host(A, network.loop).connect_tcp((B, 5060))
        await main(network, server, stream)

    simulate(connected, LinkModel(**model))


def test_tcp_carries_bytes_in_order_both_ways_whatever_the_path_does() -> None:
    async def main(network: SimNetwork, server: Server, stream: Any) -> None:
        got = bytearray()
        stream.on_data = got.extend
        sent = b"".join(b"%04d" % number for number in range(500))
        for start in range(0, len(sent), 10):
            stream.write(sent[start : start + 10])
            server.streams[0].write(sent[start : start + 10])
            await asyncio.sleep(0.001)
        await asyncio.sleep(300)
        assert bytes(server.data) == bytes(got) == sent

    tcp(main, loss=0.1, reorder=0.2, duplicate=0.1, jitter_s=0.02)


def test_tcp_close_arrives_after_the_data() -> None:
    async def main(network: SimNetwork, server: Server, stream: Any) -> None:
        ended: list[OSError | None] = []
        stream.on_close = ended.append
        stream.write(b"last words")
        stream.close()
        await asyncio.sleep(1)
        assert (bytes(server.data), server.closed, ended) == (b"last words", [None], [None])
        assert server.host.streams == {} and network.host(A).streams == {}

    tcp(main)


def test_tcp_of_a_killed_process_is_closed_by_its_kernel() -> None:
    async def main(network: SimNetwork, server: Server, stream: Any) -> None:
        ended: list[OSError | None] = []
        stream.on_close = ended.append
        network.kill(B)
        await asyncio.sleep(0.1)
        assert ended == [None]
        with pytest.raises(ConnectionRefusedError):
            await network.host(A).connect_tcp((B, 5060))

    tcp(main, delay_s=0.01)


def test_data_for_a_closed_connection_is_answered_with_a_reset() -> None:
    async def main(network: SimNetwork, server: Server, stream: Any) -> None:
        ended: list[OSError | None] = []
        stream.on_close = ended.append
        network.cut(B, A, both=False)
        server.streams[0].close()
        await asyncio.sleep(0.1)
        network.join(B, A)
        stream.write(b"x")
        await asyncio.sleep(0.05)
        assert isinstance(ended[0], ConnectionResetError)

    tcp(main)


def test_tcp_through_a_cut_waits_and_then_times_out() -> None:
    async def main(network: SimNetwork, server: Server, stream: Any) -> None:
        ended: list[OSError | None] = []
        stream.on_close = ended.append
        network.cut(A, B)
        stream.write(b"patience")
        await asyncio.sleep(10)
        network.join(A, B)
        await asyncio.sleep(10)
        assert bytes(server.data) == b"patience"
        network.cut(A, B)
        stream.write(b"in vain")
        await asyncio.sleep(3600)
        assert [type(error) for error in ended] == [TimeoutError]
        with pytest.raises(TimeoutError):
            await network.host(A).connect_tcp((B, 5060))

    tcp(main)


def test_a_frozen_tcp_peer_lets_a_backlog_grow() -> None:
    async def main(network: SimNetwork, server: Server, stream: Any) -> None:
        network.freeze(B)
        stream.write(bytes(400_000))
        await asyncio.sleep(1)
        assert stream.backlog == 0
        stream.write(bytes(400_000))
        await asyncio.sleep(1)
        assert stream.backlog > 300_000
        network.thaw(B)
        await asyncio.sleep(1)
        assert stream.backlog == 0 and len(server.data) == 800_000

    tcp(main)


def test_a_frozen_listener_accepts_when_it_is_thawed() -> None:
    async def main(network: SimNetwork, server: Server, stream: Any) -> None:
        network.freeze(B)
        second = await network.host(A).connect_tcp((B, 5060))
        second.write(b"hello")
        await asyncio.sleep(1)
        assert len(server.streams) == 1
        network.thaw(B)
        await asyncio.sleep(1)
        assert len(server.streams) == 2 and bytes(server.data) == b"hello"

    tcp(main)
