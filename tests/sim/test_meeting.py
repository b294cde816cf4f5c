"""Calls that belong together come to the same backend, though one of them is on hold or alone has to be carried over;
and a standby never meets the live call of a mate."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.sim.acting import all_moved, end_at
from tests.sim.agents import Conversation
from tests.sim.scenario import FIRST, SECOND, THIRD, hears, play, until
from tests.sim.test_bypass import pair, talk
from tests.sim.world import World

HOT: dict[str, Any] = {"standby": {"standby": "hot"}}


def place_of(world: World, call: Conversation) -> str:
    """The server that the node has the call on."""
    by_tag = {each.a.dialog.remote_tag: each for each in world.node.calls.live.values() if each.a.dialog}
    live = by_tag[tag_of(call)]
    assert live.b is not None and live.b.backend is not None
    return live.b.backend.address[0]


def tag_of(call: Conversation) -> bytes:
    assert call.session is not None
    return call.session.dialog.local_tag


def takes_no_calls(world: World, name: str) -> None:
    backend = world.node.backends.get(name)
    assert backend is not None
    world.node.failovers.drain(backend, move=False)


def takes_calls(world: World, name: str) -> None:
    backend = world.node.backends.get(name)
    assert backend is not None
    world.node.failovers.ready(backend)


@pytest.mark.parametrize("how", ["killed", "drained"])
def test_who_is_on_hold_comes_to_where_his_mate_is_and_is_heard_again(how: str) -> None:
    async def script(world: World) -> None:
        pairs = [await pair(world, number) for number in range(1, 7)]
        for _, agent in pairs:
            await agent.hold()
        await asyncio.sleep(0.5)
        if how == "killed":
            world.network.kill(FIRST)
        else:
            first = world.node.backends.get("as1")
            assert first is not None
            world.node.failovers.drain(first, move=True)
        await until(lambda: all_moved(world), 3.0)
        assert all(place_of(world, one) == place_of(world, other) != FIRST for one, other in pairs)
        assert {place_of(world, one) for one, _ in pairs} == {SECOND, THIRD}
        for _, agent in pairs:
            await agent.hold(b"sendrecv")
        await until(lambda: all(talk(world, people) for people in pairs), 0.5)

    assert play(script, servers=3) == []


def test_a_call_that_alone_is_forgotten_comes_back_to_where_its_mate_is() -> None:
    async def script(world: World) -> None:
        takes_no_calls(world, "as1")
        people = customer, agent = await pair(world)
        assert hears(customer, SECOND) and hears(agent, SECOND)
        takes_calls(world, "as1")  # new calls go there
        forgotten = end_at(world, SECOND)
        assert forgotten.session is not None and customer.session is not None
        forgotten.bond = b""
        forgotten.session.end("forgotten")
        await customer.session.info(b"application/dtmf-relay", b"Signal=5\r\n")
        await until(lambda: all_moved(world), 2.0)
        await until(lambda: talk(world, people), 0.5)
        assert hears(customer, SECOND) and not customer.ended and not agent.ended

    assert play(script) == []


def test_a_standby_is_not_brought_up_where_the_call_of_a_mate_lives() -> None:
    """The server would connect them: he would hear it, and when it is given up the server would hang up on him."""

    async def script(world: World) -> None:
        headers = [(b"X-Bond", b"pair1")]
        takes_no_calls(world, "as1")
        customer = await world.place(1, 0, headers=headers)
        takes_calls(world, "as1")
        world.servers[SECOND].ring_s = (1.0, 1.0)
        agent = await world.place(1001, 1, headers=headers)
        assert hears(customer, SECOND) and hears(agent, FIRST)
        await agent.hold()  # while a standby of his would ring
        await asyncio.sleep(20.0)
        assert not customer.ended and not agent.ended
        assert not world.servers[SECOND].calls.get(agent.number)

    assert play(script, **HOT) == []
