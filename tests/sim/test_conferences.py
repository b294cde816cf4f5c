"""A conference whose backend dies is the same on one backup: same people, same roles, who was muted is muted still."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.sim.acting import all_moved
from tests.sim.agents import Conversation
from tests.sim.control import SimControl, control_all
from tests.sim.scenario import FIRST, SECOND, THIRD, hears, play, until
from tests.sim.world import NODE, World

CONFERENCE = b"conf-sales"


async def join(world: World, number: int, **flags: bytes) -> Conversation:
    headers = [(b"X-Bond", CONFERENCE), *((b"X-" + name.encode(), value) for name, value in flags.items())]
    return await world.place(number, number % 2, headers=headers)


async def conference_of_ten(world: World) -> list[Conversation]:
    """Two moderators, who come last, and three who are muted."""
    people = [await join(world, number, Muted=b"yes" if number < 3 else b"no") for number in range(8)]
    return people + [await join(world, number, Role=b"moderator") for number in (8, 9)]


def flags_at(world: World, address: str) -> dict[bytes, tuple[bool, bool]]:
    """Who is in the conference there: moderator, muted."""
    live = world.servers[address].live
    return {each.number: (each.moderator, each.muted) for each in live if each.bond == CONFERENCE}


EXPECTED = {b"%d" % number: (number > 7, number < 3) for number in range(10)}


@pytest.mark.parametrize("controlled", [False, True], ids=["headers", "control"])
def test_a_conference_of_ten_is_the_same_on_the_backup(controlled: bool) -> None:
    async def script(world: World) -> None:
        if controlled:
            for server in world.servers.values():
                server.tells = False
            control_all(world)
        people = await conference_of_ten(world)
        await asyncio.sleep(0.5)
        assert flags_at(world, FIRST) == EXPECTED
        world.network.kill(FIRST)
        died_at = world.loop.time()
        await until(lambda: all(hears(each, SECOND) for each in people), 1.5)
        print(f"{(world.loop.time() - died_at) * 1000:.0f} ms")
        assert flags_at(world, SECOND) == EXPECTED
        assert list(flags_at(world, SECOND))[:2] == [b"8", b"9"]  # moderators come in first
        await until(lambda: all_moved(world), 3.0)
        (report,) = world.node.failovers.reports
        assert {each.kind for each in report.results} == {"conference"}
        assert all(each.bypassed_ms is not None for each in report.results)

    assert play(script) == []


def test_who_is_muted_is_not_heard_while_the_relay_mixes() -> None:
    async def script(world: World) -> None:
        muted, other, third = [await join(world, n, Muted=b"yes" if n == 0 else b"no") for n in range(3)]
        world.servers[SECOND].ring_s = (0.5, 0.5)
        await asyncio.sleep(0.5)
        world.network.kill(FIRST)
        voices = {(each.agent.host.address, each.port) for each in (other, third)}
        await until(lambda: {other.hears(), third.hears()} == voices, 0.3)
        for _ in range(30):
            await asyncio.sleep(0.01)
            mine = (muted.agent.host.address, muted.port)
            assert mine not in (other.hears(), third.hears()) and muted.hears() in voices
        await until(lambda: all(hears(each, SECOND) for each in (muted, other, third)), 2.0)

    assert play(script) == []


def test_the_whole_conference_goes_to_one_backup_of_two_and_who_is_on_hold_too() -> None:
    async def script(world: World) -> None:
        people = await conference_of_ten(world)
        await people[5].hold()
        await asyncio.sleep(0.5)
        world.network.kill(FIRST)
        await until(lambda: all_moved(world), 4.0)
        there = [set(flags_at(world, address)) for address in (SECOND, THIRD)]
        assert sorted(map(len, there)) == [0, 10]

    assert play(script, servers=3) == []


def test_what_the_dialplan_of_the_backup_forgets_is_put_right_by_command() -> None:
    async def script(world: World) -> None:
        for server in world.servers.values():
            server.tells = False
        controls = control_all(world)
        people = await conference_of_ten(world)
        controls[FIRST].set_muted(world.servers[FIRST].calls[b"5"][-1], True)
        controls[FIRST].set_locked(CONFERENCE.decode(), True)
        controls[FIRST].set_recorded(CONFERENCE.decode(), "/var/rec/sales.wav")
        await asyncio.sleep(0.5)
        world.servers[SECOND].follows = False
        world.network.kill(FIRST)
        await until(lambda: all(hears(each, SECOND) for each in people), 1.5)
        await until(lambda: all_moved(world), 3.0)
        await asyncio.sleep(0.1)
        muted = {number for number, (_, muted) in flags_at(world, SECOND).items() if muted}
        assert muted == {b"0", b"1", b"2", b"5"}
        assert world.servers[SECOND].locked == {CONFERENCE}
        assert controls[SECOND].commands[-2:] == ["lock conf-sales True", "record conf-sales sales.2"]
        (conference,) = world.node.conferences
        assert conference.segment is not None
        assert (conference.segment.recording, conference.segment.number) == ("sales", 2)

    assert play(script) == []


def test_nobody_joins_twice_or_is_missed_when_the_control_session_begins_anew() -> None:
    async def script(world: World) -> None:
        for server in world.servers.values():
            server.tells = False
        controls = control_all(world)
        people = await conference_of_ten(world)
        await asyncio.sleep(0.5)
        gone = world.servers[FIRST].calls[b"4"][-1]
        gone.bond = b""  # it left the conference, not the call, and nobody was told
        controls[FIRST].resync()
        await asyncio.sleep(0.5)
        (conference,) = world.node.conferences
        assert len(conference) == 9 and not people[4].ended
        assert sum(each.muted for each in conference) == 3

    assert play(script) == []


def two_primaries(world: World) -> None:
    for backend in world.node.backends:
        backend.role = "primary"


def test_a_new_caller_comes_to_where_the_conference_lives() -> None:
    async def script(world: World) -> None:
        two_primaries(world)
        people = [await join(world, number) for number in range(12)]
        await asyncio.sleep(0.5)
        assert sorted(len(flags_at(world, address)) for address in (FIRST, SECOND)) == [0, 12]
        assert {len(each.participants) for each in world.node.conferences} == {12} and not people[0].ended

    assert play(script) == []


def test_without_that_rule_callers_of_one_conference_are_spread() -> None:
    async def script(world: World) -> None:
        two_primaries(world)
        world.node.calls.prefer = lambda pool, user: None
        world.node.failovers.reunions.look = lambda call: None  # type: ignore[method-assign]
        for number in range(12):
            await join(world, number)
        assert min(len(flags_at(world, address)) for address in (FIRST, SECOND)) > 0

    assert play(script) == []


@pytest.mark.parametrize("locked", [False, True])
def test_a_split_conference_is_joined_where_most_are(locked: bool) -> None:
    async def script(world: World) -> None:
        for server in world.servers.values():
            server.tells = False
        controls = control_all(world)
        world.node.calls.prefer = lambda pool, user: None  # as if they had come through a menu
        first = [await join(world, number) for number in range(3)]
        by_name = {backend.name: backend for backend in world.node.backends}
        by_name["as1"].role, by_name["as2"].role = "backup", "primary"
        second = [await join(world, number, Muted=b"yes") for number in (3, 4)]
        controls[FIRST].set_locked(CONFERENCE.decode(), locked)
        assert len(flags_at(world, FIRST)) == 3 and len(flags_at(world, SECOND)) == 2
        await until(lambda: len(flags_at(world, FIRST)) == 5, 3.0)
        await until(lambda: all_moved(world), 3.0)
        assert {number for number, (_, muted) in flags_at(world, FIRST).items() if muted} == {b"3", b"4"}
        assert all(hears(each, FIRST) for each in (*first, *second)) and not flags_at(world, SECOND)
        (report,) = world.node.failovers.reports
        assert (report.cause, report.count("moved")) == ("split conference", 2)
        assert world.servers[FIRST].locked == ({CONFERENCE} if locked else set())

    assert play(script) == []


def test_a_split_conference_is_joined_where_calls_are_taken() -> None:
    async def script(world: World) -> None:
        world.node.calls.prefer = lambda pool, user: None
        people = [await join(world, number) for number in range(3)]
        first = world.node.backends.get("as1")
        assert first is not None
        world.node.failovers.drain(first, move=False)
        people += [await join(world, number) for number in (3, 4)]
        assert len(flags_at(world, FIRST)) == 3 and len(flags_at(world, SECOND)) == 2
        await until(lambda: len(flags_at(world, SECOND)) == 5, 3.0)
        await until(lambda: all_moved(world) and all(hears(each, SECOND) for each in people), 3.0)
        assert not flags_at(world, FIRST)

    assert play(script) == []


def test_a_successor_of_the_node_knows_the_roster(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        controls = control_all(world)
        world.keep_journal(tmp_path)
        people = await conference_of_ten(world)
        controls[FIRST].set_recorded(CONFERENCE.decode(), "sales.wav")
        await asyncio.sleep(0.5)
        world.network.kill(NODE)
        await asyncio.sleep(1.0)
        world.network.restart(NODE)
        await world.start()
        assert world.take_up(tmp_path) == (10, [])
        (conference,) = world.node.conferences
        assert [each.order for each in conference] == list(range(1, 11))
        assert conference.segment is not None and conference.segment.recording == "sales"
        await asyncio.sleep(1.0)
        world.network.kill(FIRST)
        await until(lambda: all(hears(each, SECOND) for each in people), 2.0)
        assert flags_at(world, SECOND) == EXPECTED
        assert world.servers[SECOND].recorded[CONFERENCE] == "sales;segment=2"

    assert play(script) == []


def test_a_backend_that_was_started_anew_does_not_empty_the_roster() -> None:
    """Its control session is up again before anybody has seen that it was gone: it tells of no conference at all."""

    async def script(world: World) -> None:
        for server in world.servers.values():
            server.tells = False
        control_all(world)
        people = await conference_of_ten(world)
        await asyncio.sleep(0.5)
        world.network.kill(FIRST)
        world.restart(FIRST)
        again = SimControl(world, FIRST, boot="again")
        backend = world.node.backends.get("as1")
        assert backend is not None
        again.start(lambda event: world.node.conferences.hear(backend, event))
        await asyncio.sleep(0.01)
        (conference,) = world.node.conferences
        assert len(conference) == 10
        for call in list(world.node.calls.live.values()):  # what says that it has forgotten them is another test
            assert call.b is not None
            world.node.calls.on_leg_lost(call, call.b, "forgotten")
        await until(lambda: all(hears(each, SECOND) or hears(each, FIRST) for each in people), 3.0)
        await until(lambda: all_moved(world), 3.0)
        there = {**flags_at(world, FIRST), **flags_at(world, SECOND)}
        assert there == EXPECTED

    assert play(script) == []


def test_a_hot_conference_stands_on_the_backup_already_and_is_put_right_there() -> None:
    async def script(world: World) -> None:
        for server in world.servers.values():
            server.tells = False
        controls = control_all(world)
        people = await conference_of_ten(world)
        await until(lambda: len(flags_at(world, SECOND)) == 10, 5.0)
        controls[FIRST].set_muted(world.servers[FIRST].calls[b"5"][-1], True)  # after its standby was told otherwise
        await asyncio.sleep(0.5)
        world.network.kill(FIRST)
        await until(lambda: all(hears(each, SECOND) for each in people), 0.3)
        await until(lambda: all_moved(world), 3.0)
        muted = {number for number, (_, muted) in flags_at(world, SECOND).items() if muted}
        assert muted == {b"0", b"1", b"2", b"5"}
        assert controls[SECOND].commands == ["mute 5 True"]

    assert play(script, standby={"standby": "hot"}) == []
