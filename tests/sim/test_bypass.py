"""Bypass: two people whom a dead backend had connected go on talking, and its backup takes them over behind it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.sip.user_agent import Incoming
from tests.sim.acting import all_moved, end_at
from tests.sim.agents import Conversation
from tests.sim.scenario import FIRST, PHONE, SECOND, hears, play, until
from tests.sim.world import CARRIER, NODE, World, phone_address

AGENT_PHONE = phone_address(1)
Pair = tuple[Conversation, Conversation]


async def pair(world: World, number: int = 1, *, codecs: tuple[bytes, bytes] = (b"8", b"8")) -> Pair:
    """Customer and agent, connected by the first server."""
    headers = [(b"X-Bond", b"pair%d" % number)]
    customer = await world.place(number, 0, headers=headers, codecs=codecs[0])
    agent = await world.place(number + 1000, 1, headers=headers, codecs=codecs[1])
    await until(lambda: talk(world, (customer, agent)), 1.0)
    return customer, agent


def talk(world: World, people: Pair) -> bool:
    """Each hears the other one, through whomever."""
    return all(world.talks_to(one) == (other.agent.host.address, other.port) for one, other in (people, people[::-1]))


def past(people: Pair) -> bool:
    """The relay connects them, without any server."""
    return hears(people[0], AGENT_PHONE) and hears(people[1], PHONE)


def through(world: World, people: Pair, address: str) -> bool:
    return all(hears(one, address) for one in people) and talk(world, people)


async def silence(world: World, people: Pair, longest: list[float]) -> None:
    """Keeps the longest time that one of the two did not hear the other."""
    since = world.loop.time()
    while True:
        if talk(world, people):
            since = world.loop.time()
        longest[0] = max(longest[0], world.loop.time() - since)
        await asyncio.sleep(0.001)


def counted(world: World) -> int:
    return sum(backend.calls for backend in world.node.backends)


def test_a_pair_talks_on_past_the_dead_backend_and_is_taken_over_by_the_backup() -> None:
    async def script(world: World) -> None:
        people = await pair(world)
        await asyncio.sleep(0.5)
        world.servers[SECOND].ring_s = (0.5, 0.5)
        longest = [0.0]
        listening = asyncio.create_task(silence(world, people, longest))
        before = world.sent_to[PHONE], world.sent_to[AGENT_PHONE]
        world.network.kill(FIRST)
        await until(lambda: past(people), 0.1)
        await until(lambda: through(world, people, SECOND), 2.0)
        await until(lambda: all_moved(world), 1.0)
        listening.cancel()
        assert longest[0] < 0.1
        assert (world.sent_to[PHONE], world.sent_to[AGENT_PHONE]) == before
        (report,) = world.node.failovers.reports
        assert report.count("moved") == 2
        assert all(result.bypassed_ms is not None and result.audio for result in report.results)
        assert len(world.node.calls.pairs) == 1 and not len(world.node.failovers.bypasses)

    assert play(script) == []


@pytest.mark.parametrize("fault", ["power_off", "freeze", "cut"])
def test_every_way_to_die_is_bypassed(fault: str) -> None:
    async def script(world: World) -> None:
        people = await pair(world)
        if fault == "cut":
            world.network.cut(NODE, FIRST)
        else:
            getattr(world.network, fault)(FIRST)
        await until(lambda: past(people), 0.5)
        await until(lambda: through(world, people, SECOND), 2.0)
        await asyncio.sleep(10.0)

    assert play(script) == []


def test_a_suspicion_is_enough_and_is_undone_when_it_was_wrong() -> None:
    async def script(world: World) -> None:
        people = await pair(world)
        before = world.sent_to[PHONE], world.sent_to[AGENT_PHONE], world.sent_to[SECOND]
        world.network.freeze(FIRST)
        await until(lambda: past(people), 0.2)
        assert not world.node.failovers.reports
        world.network.thaw(FIRST)
        await until(lambda: through(world, people, FIRST), 0.5)
        await asyncio.sleep(2.0)
        assert not world.node.failovers.reports and through(world, people, FIRST)
        assert (world.sent_to[PHONE], world.sent_to[AGENT_PHONE], world.sent_to[SECOND]) == before

    assert play(script) == []


def test_who_hangs_up_during_a_suspicion_ends_his_own_call() -> None:
    async def script(world: World) -> None:
        customer, agent = people = await pair(world)
        world.network.freeze(FIRST)
        await until(lambda: past(people), 0.2)
        assert customer.session is not None and await customer.session.bye() == 200
        world.hung_up.add(agent.number)  # as the server will
        assert not agent.ended
        world.network.thaw(FIRST)
        await until(lambda: agent.ended, 1.0)

    assert play(script) == []


def test_the_two_calls_are_switched_in_one_moment_when_the_backup_has_both() -> None:
    async def script(world: World) -> None:
        people = await pair(world)
        server = world.servers[SECOND]
        world.network.kill(FIRST)
        server.ring_s = (0.1, 3.0)
        await until(lambda: past(people), 0.2)
        while past(people):
            await asyncio.sleep(0.001)
        assert through(world, people, SECOND)

    assert play(script) == []


def test_without_any_backup_a_pair_talks_on_for_longer_than_the_deadline() -> None:
    async def script(world: World) -> None:
        people = await pair(world)
        lonely = await world.place(2)
        world.hung_up.add(lonely.number)
        world.network.power_off(SECOND)
        world.network.kill(FIRST)
        await asyncio.sleep(15.0)
        assert past(people) and lonely.ended
        world.restart(SECOND)
        await until(lambda: through(world, people, SECOND), 3.0)

    assert play(script, recovery={"deadline_s": 5}) == []


def test_a_bypass_without_any_backup_ends_in_the_end() -> None:
    async def script(world: World) -> None:
        people = await pair(world)
        world.hung_up.update(one.number for one in people)
        world.network.power_off(SECOND)
        world.network.kill(FIRST)
        await asyncio.sleep(12.0)
        assert all(one.ended for one in people)

    assert play(script, recovery={"bypass_max_s": 10}) == []


@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize("after_s", [0.05, 0.1, 0.3, 0.6, 0.8, 1.1])
def test_who_hangs_up_during_a_bypass_ends_both_as_the_bridge_would(after_s: float, who: int) -> None:
    async def script(world: World) -> None:
        people = await pair(world)
        world.servers[SECOND].ring_s = (0.5, 0.5)
        world.network.kill(FIRST)
        await asyncio.sleep(after_s)
        world.hung_up.add(people[1 - who].number)
        session = people[who].session
        assert session is not None and await session.bye() == 200
        await until(lambda: people[1 - who].ended, 1.0)
        await until(lambda: not world.servers[SECOND].live and not counted(world), 2.0)

    assert play(script) == []


def test_who_is_on_hold_is_not_bridged() -> None:
    async def script(world: World) -> None:
        customer, _agent = people = await pair(world)
        await customer.hold()
        world.network.kill(FIRST)
        for _ in range(2000):
            await asyncio.sleep(0.001)
            assert not past(people) and not hears(people[1], PHONE)
        await until(lambda: all_moved(world), 1.0)
        await customer.hold(b"sendrecv")
        await until(lambda: through(world, people, SECOND), 1.0)

    assert play(script) == []


def test_a_hold_during_the_bypass_waits_for_the_backup() -> None:
    async def script(world: World) -> None:
        customer, agent = people = await pair(world)
        world.servers[SECOND].ring_s = (0.5, 0.5)
        world.network.kill(FIRST)
        await until(lambda: past(people), 0.2)
        await customer.hold()
        assert end_at(world, SECOND).direction == b"recvonly" and world.talks_to(agent) is not None
        await customer.hold(b"sendrecv")
        assert through(world, people, SECOND)

    assert play(script) == []


def test_codecs_that_the_relay_cannot_convert_are_agreed_by_asking_one_side() -> None:
    async def script(world: World) -> None:
        people = await pair(world, codecs=(b"9", b"3"))
        people[1].codecs = b"9"
        world.network.kill(FIRST)
        await until(lambda: past(people), 0.3)
        await until(lambda: through(world, people, SECOND), 2.0)

    assert play(script) == []


def test_codecs_that_nobody_shares_leave_the_ordinary_way() -> None:
    async def script(world: World) -> None:
        people = await pair(world, codecs=(b"9", b"3"))
        session = people[1].session
        assert session is not None
        session.on_offer = lambda offer: 488
        world.network.kill(FIRST)
        await until(lambda: through(world, people, SECOND), 2.0)

    assert play(script) == []


# -- what the backend says


def test_the_backup_is_told_who_belongs_together() -> None:
    async def script(world: World) -> None:
        people = await pair(world)
        told: list[bytes | None] = []
        server = world.servers[SECOND]
        accept = server.ua.on_invite
        assert accept is not None

        async def listen(incoming: Any) -> None:
            told.append(incoming.request.get(b"x-aqueduct-pair"))
            await accept(incoming)

        server.ua.on_invite = listen
        world.network.kill(FIRST)
        await until(lambda: through(world, people, SECOND), 2.0)
        assert told == [b"pair1", b"pair1"]

    assert play(script) == []


def test_an_info_makes_and_ends_a_pair_and_does_not_reach_the_caller() -> None:
    async def script(world: World) -> None:
        calls = [await world.place(number, number) for number in (0, 1)]
        before = world.sent_to[PHONE]
        for number in (b"0", b"1"):
            end = end_at(world, FIRST, number)
            assert end.session is not None
            await world.on_server(FIRST, end.session.request(b"INFO", b"", [(b"X-Aqueduct-Pair", b"met")]))
        world.network.freeze(FIRST)
        await until(lambda: past((calls[0], calls[1])), 0.2)
        world.network.thaw(FIRST)
        await until(lambda: hears(calls[0], FIRST), 1.0)
        end = end_at(world, FIRST, b"0")
        assert end.session is not None
        await world.on_server(FIRST, end.session.request(b"INFO", b"", [(b"X-Aqueduct-Pair", b"")]))
        world.network.freeze(FIRST)
        await until(lambda: all(hears(call, SECOND) for call in calls), 1.0)
        assert world.sent_to[PHONE] == before

    assert play(script) == []


def test_a_caller_cannot_pair_himself_with_anybody() -> None:
    async def script(world: World) -> None:
        calls = [await world.place(n, n, headers=[(b"X-Aqueduct-Pair", b"x")]) for n in (0, 1)]
        assert not len(world.node.calls.pairs)
        assert all(hears(call, FIRST) for call in calls)

    assert play(script) == []


def test_an_agent_dialled_by_the_backend_with_the_call_id_of_the_customer_is_his_mate() -> None:
    async def script(world: World) -> None:
        customer = await world.place(1)
        end = end_at(world, FIRST)
        assert end.session is not None
        call_id = end.session.dialog.call_id
        server = world.servers[FIRST]
        await world.on_server(FIRST, server.call(f"sip:200@{NODE}", 2, headers=[(b"X-Aqueduct-Pair", call_id)]))
        (agent,) = world.carrier.calls[b"2"]
        world.network.kill(FIRST)
        await until(lambda: hears(customer, CARRIER) and hears(agent, PHONE), 0.2)
        await until(lambda: hears(customer, SECOND) and hears(agent, SECOND), 2.0)

    assert play(script) == []


def test_a_customer_whose_agent_is_dialled_before_he_is_answered_is_his_mate() -> None:
    async def script(world: World) -> None:
        server = world.servers[FIRST]
        accept = server.ua.on_invite
        assert accept is not None

        async def dial_first(incoming: Incoming) -> None:
            incoming.ring()
            call_id = incoming.request.call_id
            await server.call(f"sip:200@{NODE}", 2, headers=[(b"X-Aqueduct-Pair", call_id)])
            await accept(incoming)

        server.ua.on_invite = dial_first
        customer = await world.place(1)
        (agent,) = world.carrier.calls[b"2"]
        await asyncio.sleep(1.0)
        world.network.kill(FIRST)
        await until(lambda: hears(customer, CARRIER) and hears(agent, PHONE), 0.2)
        await until(lambda: hears(customer, SECOND) and hears(agent, SECOND), 2.0)

    assert play(script) == []


# -- together with what else there is


def test_a_planned_move_takes_a_pair_in_one_moment() -> None:
    async def script(world: World) -> None:
        people = await pair(world)
        longest = [0.0]
        listening = asyncio.create_task(silence(world, people, longest))
        as1 = world.node.backends.get("as1")
        assert as1 is not None
        world.node.failovers.drain(as1, move=True)
        await until(lambda: through(world, people, SECOND), 2.0)
        listening.cancel()
        assert longest[0] < 0.002
        await until(lambda: not world.servers[FIRST].live, 1.0)

    assert play(script) == []


def test_a_hot_pair_is_switched_to_a_backup_that_has_connected_it_already() -> None:
    async def script(world: World) -> None:
        people = await pair(world)
        await until(lambda: len(world.servers[SECOND].live) == 2, 3.0)
        await asyncio.sleep(1.0)
        invited = sum(len(each) for each in world.servers[SECOND].calls.values())
        world.network.kill(FIRST)
        await until(lambda: through(world, people, SECOND), 0.1)
        await asyncio.sleep(1.0)
        assert sum(len(each) for each in world.servers[SECOND].calls.values()) == invited

    assert play(script, standby={"standby": "hot"}) == []


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.05])
def test_a_hot_pair_without_its_standbys_is_bypassed(after_s: float) -> None:
    async def script(world: World) -> None:
        world.servers[SECOND].ring_s = (2.0, 2.0)
        people = await pair(world)
        await asyncio.sleep(after_s)
        world.network.kill(FIRST)
        await until(lambda: past(people), 0.2)
        await until(lambda: through(world, people, SECOND), 6.0)

    assert play(script, standby={"standby": "hot"}) == []


def test_a_conference_of_three_hears_each_other_in_the_lifeboat() -> None:
    async def script(world: World) -> None:
        headers = [(b"X-Bond", b"conf1")]
        people = [await world.place(number, number, headers=headers) for number in range(3)]
        world.servers[SECOND].ring_s = (0.5, 0.5)
        phones = {phone_address(number) for number in range(3)}
        world.network.kill(FIRST)

        def adrift() -> bool:
            return all((heard := each.hears()) is not None and heard[0] in phones for each in people)

        await until(adrift, 0.2)
        await until(lambda: all(hears(each, SECOND) for each in people), 2.0)

    assert play(script, phones=3) == []


def test_without_a_relay_a_pair_is_carried_over_as_ever() -> None:
    async def script(world: World) -> None:
        people = await pair(world)
        world.network.kill(FIRST)
        await until(lambda: through(world, people, SECOND), 1.0)

    assert play(script, mode="direct") == []


def test_a_successor_of_the_node_knows_the_pairs(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        people = await pair(world)
        world.keep_journal(tmp_path)
        await asyncio.sleep(0.5)
        world.network.kill(NODE)
        await asyncio.sleep(1.0)
        world.network.restart(NODE)
        await world.start()
        assert world.take_up(tmp_path) == (2, [])
        await asyncio.sleep(1.0)
        world.network.kill(FIRST)
        await until(lambda: past(people), 0.2)
        await until(lambda: through(world, people, SECOND), 2.0)

    assert play(script) == []
