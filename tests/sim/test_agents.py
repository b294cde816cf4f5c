"""The SIP stack and user agent over bad paths, without the proxy between: every call comes about, ends and is
forgotten, and nobody breaks a rule of the wire."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from tests.sim.agents import Agent, Conversation, Server
from tests.sim.link import Burst, LinkModel
from tests.sim.loop import VirtualLoop
from tests.sim.media import Audio
from tests.sim.network import SimNetwork
from tests.sim.scenario import until
from tests.sim.wire import Wire

PHONE, SERVER = "10.0.1.1", "10.0.2.1"
BAD = LinkModel(
    delay_s=0.02,
    jitter_s=0.1,
    loss=0.05,
    burst=Burst(every_s=2, length_s=0.1, loss=0.7),
    duplicate=0.05,
    reorder=0.05,
    reorder_s=0.2,
)


class Pair:
    def __init__(self, loop: VirtualLoop, seed: int, model: LinkModel | None = None) -> None:
        rng = Random(seed)
        self.network = SimNetwork(loop, Random(seed), model)
        self.audio = Audio(self.network)
        self.wires = [Wire(address, loop.time) for address in (PHONE, SERVER)]
        self.network.on_datagram += self.wires
        self.phone = Agent(self.network.host(PHONE, loop), self.audio, rng, "alice")
        self.server = Server(self.network.host(SERVER, loop), self.audio, rng, "pbx")

    async def finish(self) -> None:
        """Everything that was begun is over, and nobody broke a rule."""
        await asyncio.sleep(64)
        for agent in (self.phone, self.server):
            assert not agent.stack.clients and not agent.stack.servers
            assert not agent.ua.sessions and not agent.live
            assert not agent.stack.errors
        for wire in self.wires:
            assert wire.violations == []


def test_a_call_is_heard_both_ways_held_and_ended() -> None:
    async def main() -> None:
        pair = Pair(loop, 1)
        call = await pair.phone.call(f"sip:100@{SERVER}", 1)
        (there,) = pair.server.calls[b"1"]
        assert call.hears() == (SERVER, there.port) and there.hears() == (PHONE, call.port)
        await call.hold()
        assert call.hears() is None
        await call.hold(b"sendrecv")
        assert call.hears() == (SERVER, there.port)
        assert call.session is not None and await call.session.bye() == 200
        assert there.session is not None and await there.session.ended == "bye received"
        assert there.hears() is None
        await pair.finish()

    loop = VirtualLoop()
    loop.run(main())


@pytest.mark.parametrize("seed", range(5))
def test_calls_survive_a_bad_path(seed: int) -> None:
    async def one(pair: Pair, number: int, rng: Random) -> None:
        await asyncio.sleep(rng.uniform(0, 60))
        call = await pair.phone.call(f"sip:100@{SERVER}", number)
        (there,) = pair.server.calls[b"%d" % number]
        await asyncio.sleep(rng.uniform(0, 20))
        await asyncio.gather(call.hold(), there.hold()) if number % 3 == 0 else await call.hold()
        ends = call if number % 2 else there
        assert ends.session is not None
        await ends.session.bye()
        await (there if number % 2 else call).session.ended  # type: ignore[union-attr]

    async def main() -> None:
        pair = Pair(loop, seed, BAD)
        pair.server.ring_s = (0.0, 10.0)
        rng = Random(seed)
        async with asyncio.TaskGroup() as calls:
            for number in range(100):
                calls.create_task(one(pair, number, rng))
        await pair.finish()
        assert sum(wire.repeated for wire in pair.wires) > 20

    loop = VirtualLoop()
    loop.run(main())


async def call_whose_ack_is_lost(pair: Pair) -> tuple[Conversation, Conversation]:
    placing = asyncio.create_task(pair.phone.call(f"sip:100@{SERVER}", 1))
    await until(lambda: pair.server.calls, 0.1, 0.0001)
    pair.network.cut(PHONE, SERVER, both=False)
    call = await placing
    await asyncio.sleep(0)
    pair.network.join(PHONE, SERVER, both=False)
    (there,) = pair.server.calls[b"1"]
    return call, there


def test_who_asks_anew_before_his_ack_is_there_still_acknowledges_both() -> None:
    async def main() -> None:
        pair = Pair(loop, 1)
        call, there = await call_whose_ack_is_lost(pair)
        await call.hold()
        await asyncio.sleep(40)
        assert not there.ended and pair.server.stack.retransmissions == 1
        assert call.session is not None and await call.session.bye() == 200
        await pair.finish()

    loop = VirtualLoop()
    loop.run(main())


def test_the_ack_of_one_invite_is_not_taken_for_that_of_the_next() -> None:
    async def main() -> None:
        pair = Pair(loop, 1)
        call, there = await call_whose_ack_is_lost(pair)
        await asyncio.sleep(0.3)
        pair.network.cut(SERVER, PHONE, both=False)  # the 2xx of the hold is lost; the first one comes again after it
        holding = asyncio.create_task(call.hold())
        await until(lambda: there.direction == b"recvonly", 0.1, 0.0001)
        pair.network.join(SERVER, PHONE, both=False)
        await asyncio.wait_for(holding, 1.0)
        assert call.session is not None and await call.session.bye() == 200
        await pair.finish()

    loop = VirtualLoop()
    loop.run(main())
