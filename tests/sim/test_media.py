"""The relay of the simulation: its counters follow what endpoints, faults and descriptions do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from media.api import MediaError, MediaPlane, StreamStats
from media.sdp import parse
from tests.sim.loop import VirtualLoop
from tests.sim.media import Audio, SimMedia
from tests.sim.network import SimNetwork

NODE, ALICE, FIRST, BACKUP = "10.0.0.1", "10.0.1.1", "10.0.2.1", "10.0.2.2"
RTP = 4000


def sdp(host: str, port: int = RTP, direction: bytes = b"sendrecv") -> bytes:
    lines = (
        b"v=0",
        b"o=- 1 1 IN IP4 " + host.encode(),
        b"s=-",
        b"c=IN IP4 " + host.encode(),
        b"t=0 0",
        b"m=audio %d RTP/AVP 8 101" % port,
        b"a=" + direction,
        b"",
    )
    return b"\r\n".join(lines)


class Bench:
    """A caller and two backends with open RTP ports around a relay; the caller and the first are connected."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.network = SimNetwork(loop, Random(1))
        self.audio = Audio(self.network)
        for address in (ALICE, FIRST, BACKUP):
            self.audio.open(self.network.host(address), RTP)
        self.relay = SimMedia(self.audio, self.network.host(NODE, loop), Random(2))

    async def connect(self) -> None:
        self.offer = await self.relay.offer("call", "a", "b1", sdp(ALICE))
        self.answer = await self.relay.answer("call", "b1", "a", sdp(FIRST))

    async def stream(self, leg: str) -> StreamStats:
        stats = await self.relay.query("call")
        return next(stream for stream in stats.streams if stream.leg == leg)


def bench(main: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        world = Bench(loop)
        await world.connect()
        await main(world)

    loop = VirtualLoop()
    loop.run(run())


def test_each_peer_is_told_an_address_of_the_relay() -> None:
    async def main(world: Bench) -> None:
        plane: MediaPlane = world.relay
        assert plane.anchors
        offer, answer = parse(world.offer).media[0], parse(world.answer).media[0]
        assert offer.host == answer.host == NODE and offer.port != answer.port
        again = await plane.offer("call", "a", "b1", sdp(ALICE))
        assert again == world.offer
        held = await plane.offer("call", "a", "b1", sdp(ALICE, direction=b"sendonly"))
        assert held.split()[1:4] == [b"o=-", world.offer.split()[2], b"2"]

    bench(main)


def test_counters_run_while_the_endpoint_lives() -> None:
    async def main(world: Bench) -> None:
        loop = world.network.loop
        await asyncio.sleep(1)
        assert (await world.stream("b1")).packets == 50
        died = loop.time()
        world.network.kill(FIRST)
        await asyncio.sleep(1)
        stream = await world.stream("b1")
        assert stream.packets == 50 and died - 0.02 < stream.last_packet_at <= died
        assert (await world.stream("a")).packets == 100

    bench(main)


@pytest.mark.parametrize(
    ("stop", "go"),
    [
        (lambda network: network.freeze(FIRST), lambda network: network.thaw(FIRST)),
        (lambda network: network.cut(FIRST, NODE), lambda network: network.join(FIRST, NODE)),
    ],
)
def test_a_pause_of_the_path_or_of_the_endpoint_is_a_gap(stop: Any, go: Any) -> None:
    async def main(world: Bench) -> None:
        await asyncio.sleep(1)
        stop(world.network)
        await asyncio.sleep(5)
        assert (await world.stream("b1")).packets == 50
        go(world.network)
        await asyncio.sleep(1)
        assert (await world.stream("b1")).packets == 100

    bench(main)


def test_a_restarted_endpoint_has_no_open_port() -> None:
    async def main(world: Bench) -> None:
        world.network.restart(FIRST)
        await asyncio.sleep(1)
        assert (await world.stream("b1")).packets == 0
        assert world.audio.heard(ALICE, world.answer) is None

    bench(main)


def test_who_only_receives_sends_nothing() -> None:
    async def main(world: Bench) -> None:
        await world.relay.answer("call", "b1", "a", sdp(FIRST, direction=b"recvonly"))
        await asyncio.sleep(1)
        assert (await world.stream("b1")).packets == 0

    bench(main)


def test_a_switch_connects_the_backup_and_fences_the_dead() -> None:
    async def main(world: Bench) -> None:
        offer = await world.relay.offer("call", "a", "b2", sdp(ALICE))
        await world.relay.answer("call", "b2", "a", sdp(BACKUP))
        assert world.audio.heard(ALICE, world.answer) == (FIRST, RTP)
        assert world.audio.heard(BACKUP, offer) is None
        await world.relay.switch("call", "a", "b2")
        await asyncio.sleep(1)
        assert world.audio.heard(ALICE, world.answer) == (BACKUP, RTP)
        assert world.audio.heard(BACKUP, offer) == (ALICE, RTP)
        dead, backup = await world.stream("b1"), await world.stream("b2")
        assert (dead.packets, dead.lost_to_fence) == (0, 50)
        assert (backup.packets, backup.lost_to_fence) == (50, 0)
        world.relay.delete("call", "b1")
        world.network.kill(BACKUP)
        assert world.audio.heard(ALICE, world.answer) is None

    bench(main)


def test_without_a_relay_the_endpoint_itself_is_heard() -> None:
    async def main(world: Bench) -> None:
        assert world.audio.heard(ALICE, sdp(FIRST)) == (FIRST, RTP)
        assert world.audio.heard(ALICE, sdp(FIRST, RTP + 2)) is None
        assert world.audio.heard(ALICE, sdp(FIRST, direction=b"inactive")) is None
        world.network.cut(FIRST, ALICE)
        assert world.audio.heard(ALICE, sdp(FIRST)) is None

    bench(main)


def test_what_is_deleted_is_gone_and_what_is_not_known_is_an_error() -> None:
    async def main(world: Bench) -> None:
        world.relay.delete("call")
        world.relay.delete("call")
        assert len(world.relay) == 0
        for asked in (world.relay.query("call"), world.relay.switch("call", "a", "b1")):
            with pytest.raises(MediaError, match="call"):
                await asked
        with pytest.raises(MediaError, match="not a session description"):
            await world.relay.offer("call", "a", "b1", b"nonsense")

    bench(main)
