"""Calls that belong together come to the same backend, though one of them is on hold or alone has to be carried over;
a standby never meets the live call of a mate, and a pair that came to two backends is brought together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from proxy.backends import Verdict
from proxy.sip.user_agent import CallFailed, Incoming
from tests.sim.acting import all_moved, both_modes, end_at
from tests.sim.agents import Conversation
from tests.sim.scenario import FIRST, PHONE, SECOND, THIRD, hears, play, until
from tests.sim.test_bypass import AGENT_PHONE, pair, talk, through
from tests.sim.test_liveness import backend
from tests.sim.world import NODE, World

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


async def apart(world: World, wait_s: float = 0.0) -> tuple[Conversation, Conversation]:
    """Customer and agent, on two servers: the first was not to be had when the customer came."""
    headers = [(b"X-Bond", b"pair1")]
    takes_no_calls(world, "as1")
    customer = await world.place(1, 0, headers=headers)
    takes_calls(world, "as1")
    await asyncio.sleep(wait_s)
    agent = await world.place(1001, 1, headers=headers)
    assert hears(customer, SECOND) and hears(agent, FIRST)
    return customer, agent


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


def test_who_only_rang_at_the_dead_backend_finds_his_mate_on_the_backup() -> None:
    async def script(world: World) -> None:
        headers = [(b"X-Bond", b"pair1")]
        customer = await world.place(1, 0, headers=headers)
        world.servers[FIRST].ring_s = (5.0, 5.0)
        placing = asyncio.create_task(world.place(1001, 1, headers=headers))
        await asyncio.sleep(1.0)
        world.network.kill(FIRST)
        agent = await placing
        await until(lambda: talk(world, (customer, agent)), 0.5)
        assert hears(customer, SECOND) and hears(agent, SECOND)

    assert play(script) == []


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
        world.node.failovers.reunions.look = lambda call: None  # type: ignore[method-assign]
        world.servers[SECOND].ring_s = (1.0, 1.0)
        customer, agent = await apart(world)
        await agent.hold()  # while a standby of his would ring
        await asyncio.sleep(20.0)
        assert not customer.ended and not agent.ended
        assert not world.servers[SECOND].calls.get(agent.number)

    assert play(script, **HOT) == []


@both_modes
def test_a_pair_that_is_on_two_backends_is_brought_together(mode: str) -> None:
    async def script(world: World) -> None:
        people = await apart(world)
        assert not talk(world, people)
        await until(lambda: talk(world, people), 1.5)
        assert all(hears(one, SECOND) for one in people)
        await until(lambda: all_moved(world), 1.0)
        (report,) = world.node.failovers.reports
        assert (report.cause, report.count("moved")) == ("split pair", 1)
        await asyncio.sleep(120.0)
        assert len(world.node.failovers.reports) == 1 and talk(world, people)

    assert play(script, mode=mode) == []


def test_who_has_a_standby_beside_his_mate_takes_it() -> None:
    async def script(world: World) -> None:
        people = await apart(world, wait_s=1.0)
        assert world.servers[FIRST].calls[b"1"], "the standby of the customer"
        before = world.sent_to[PHONE], world.sent_to[AGENT_PHONE]
        await until(lambda: all(hears(one, FIRST) for one in people), 1.5)
        assert talk(world, people) and (world.sent_to[PHONE], world.sent_to[AGENT_PHONE]) == before
        await asyncio.sleep(5.0)  # new standbys are up, together
        world.network.kill(FIRST)
        await until(lambda: all(hears(one, SECOND) for one in people) and talk(world, people), 0.5)

    assert play(script, **HOT) == []


def test_who_is_to_join_his_mate_stays_when_the_mate_comes_to_him() -> None:
    """The mate's backend dies while the move is under way. Who goes on to a third one is hung up on."""

    async def script(world: World) -> None:
        third = world.node.backends.get("as3")
        assert third is not None
        takes_no_calls(world, "as3")
        people = customer, agent = await apart(world)
        world.servers[SECOND].ring_s = (5.0, 5.0)
        await until(lambda: world.node.failovers.reports, 1.5)  # the agent is asked for at the second one
        assert hears(agent, FIRST)
        takes_calls(world, "as3")
        world.network.power_off(SECOND)
        await until(lambda: talk(world, people), 3.0)
        await until(lambda: all_moved(world), 3.0)
        await asyncio.sleep(20.0)
        assert talk(world, people) and not customer.ended and not agent.ended
        assert len(world.node.failovers.reports) == 2

    assert play(script, servers=3) == []


def test_nothing_is_left_behind_where_a_call_comes_back_beside_its_mate() -> None:
    """Nobody can take the customer's call until his own server is back; there the agent is placed first."""

    async def script(world: World) -> None:
        headers = [(b"X-Bond", b"pair1")]
        customer = await world.place(1, 0, headers=headers)
        world.servers[SECOND].ring_s = (5.0, 5.0)
        world.network.kill(FIRST)
        await until(lambda: world.servers[SECOND].calls, 1.0)
        world.network.power_off(SECOND)
        await asyncio.sleep(2.0)
        world.restart(FIRST)
        agent: Conversation | None = None
        while agent is None:
            try:
                agent = await world.place(1001, 1, headers=headers)
            except CallFailed:
                await asyncio.sleep(0.01)
        await until(lambda: talk(world, (customer, agent)), 3.0)
        assert hears(customer, FIRST) and hears(agent, FIRST)
        await until(lambda: all_moved(world), 3.0)
        assert not len(world.node.calls.left_behind)
        assert not customer.ended and not agent.ended

    assert play(script) == []


def test_a_pair_for_which_neither_backend_takes_calls_is_brought_together_as_soon_as_one_does() -> None:
    async def script(world: World) -> None:
        people = await apart(world)
        for name in ("as1", "as2"):
            takes_no_calls(world, name)
        await asyncio.sleep(16.0)
        assert not talk(world, people) and not world.node.failovers.reports
        takes_calls(world, "as2")
        await until(lambda: talk(world, people), 2.0)

    assert play(script, patience_s=30.0) == []


def refusing(world: World, address: str) -> tuple[list[float], Callable[[], None]]:
    """The server refuses calls from now on: the times of it, and how to end that."""
    times: list[float] = []
    ua = world.servers[address].ua
    usual = ua.on_invite

    async def refuse(incoming: Incoming) -> None:
        times.append(world.loop.time())
        incoming.reject(486)

    def end() -> None:
        ua.on_invite = usual

    ua.on_invite = refuse
    return times, end


def test_a_pair_stays_apart_while_the_one_backend_refuses_and_is_asked_again() -> None:
    async def script(world: World) -> None:
        people = customer, agent = await apart(world)
        refused, end = refusing(world, SECOND)
        await asyncio.sleep(10.0)
        assert refused and not customer.ended and not agent.ended and hears(agent, FIRST)
        end()
        await until(lambda: talk(world, people), 60.0)

    assert play(script) == []


def test_who_cannot_join_his_mate_is_not_placed_at_the_carrier_that_the_mate_was_called_through() -> None:
    async def script(world: World) -> None:
        pairing = [(b"X-Aqueduct-Pair", b"pair1")]
        dialled = world.servers[FIRST].call(f"sip:200@{NODE}", 1001, headers=pairing)
        agent: Conversation = await world.on_server(FIRST, dialled)
        takes_no_calls(world, "as1")
        customer = await world.place(1, 0, headers=[(b"X-Bond", b"pair1")])
        takes_calls(world, "as1")
        refused, _ = refusing(world, FIRST)
        await until(lambda: refused, 3.0)
        await asyncio.sleep(10.0)
        assert hears(customer, SECOND) and not agent.ended
        assert [each.number for each in world.carrier.live] == [b"1001"]

    assert play(script) == []


async def beside_his_old_leg(world: World, *numbers: int) -> list[tuple[Conversation, Conversation]]:
    """The first server is cut off and comes back: while the customers ring at the second one, each gets his agent at
    the first one, who is connected to the leg that is left there."""
    bonds = {number: [(b"X-Bond", b"pair%d" % number)] for number in numbers}
    customers = [await world.place(number, 0, headers=headers) for number, headers in bonds.items()]
    world.servers[SECOND].ring_s = (3.0, 3.0)
    world.network.cut(NODE, FIRST)
    await until(lambda: len(world.servers[SECOND].calls) == len(numbers), 1.0)
    world.network.join(NODE, FIRST)
    await until(lambda: backend(world).verdict is Verdict.UP, 1.0)
    agents = [await world.place(number + 1000, 1, headers=headers) for number, headers in bonds.items()]
    assert all(hears(agent, FIRST) for agent in agents)
    await until(lambda: all(hears(customer, SECOND) for customer in customers), 4.0)
    return list(zip(customers, agents, strict=True))


def test_who_was_placed_beside_a_leg_that_was_carried_over_is_not_hung_up_on() -> None:
    async def script(world: World) -> None:
        (people,) = await beside_his_old_leg(world, 1)
        await until(lambda: through(world, people, SECOND), 6.0)
        await asyncio.sleep(5.0)
        assert not world.servers[FIRST].live and not len(world.node.calls.left_behind)

    assert play(script) == []


def test_he_is_not_hung_up_on_either_when_he_cannot_join_his_mate_at_once() -> None:
    async def script(world: World) -> None:
        (people,) = await beside_his_old_leg(world, 1)
        refused, end = refusing(world, SECOND)
        await until(lambda: len(refused) == 2, 5.0)
        assert not people[1].ended
        end()
        await until(lambda: through(world, people, SECOND), 10.0)
        await asyncio.sleep(5.0)
        assert not world.servers[FIRST].live and not len(world.node.calls.left_behind)

    assert play(script, patience_s=20.0) == []


def test_nor_when_another_pair_is_together_before() -> None:
    async def script(world: World) -> None:
        first, second = await beside_his_old_leg(world, 1, 2)
        on_invite = world.servers[SECOND].ua.on_invite

        async def refuse_second(incoming: Incoming) -> None:
            if incoming.request.get(b"x-call") == b"1002":
                incoming.reject(486)
            else:
                await on_invite(incoming)

        world.servers[SECOND].ua.on_invite = refuse_second
        await until(lambda: through(world, first, SECOND), 6.0)
        await asyncio.sleep(2.0)
        assert not second[1].ended
        world.servers[SECOND].ua.on_invite = on_invite
        await until(lambda: through(world, second, SECOND), 20.0)
        await asyncio.sleep(5.0)
        assert not world.servers[FIRST].live and not len(world.node.calls.left_behind)

    assert play(script, patience_s=20.0) == []


def test_who_comes_back_to_his_mate_leaves_nothing_behind_there() -> None:
    async def script(world: World) -> None:
        (people,) = await beside_his_old_leg(world, 1)
        takes_no_calls(world, "as2")
        await until(lambda: through(world, people, FIRST), 6.0)
        await asyncio.sleep(5.0)
        assert not people[0].ended and not people[1].ended
        assert len(world.servers[FIRST].live) == 2 and not len(world.node.calls.left_behind)

    assert play(script) == []
