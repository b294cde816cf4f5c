"""Callers in queues and IVRs, in virtual time: they go on where their backend has said, with what they have waited."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.calls import Call
from proxy.sip.message import Request
from proxy.sip.user_agent import Headers
from tests.sim.acting import answering, end_at, moved_to
from tests.sim.agents import Conversation
from tests.sim.scenario import FIRST, SECOND, hears, play, until
from tests.sim.test_successor import succeed
from tests.sim.world import World


def asked(world: World, address: str) -> list[Request]:
    """INVITEs as this server gets them from now on."""
    requests: list[Request] = []
    answer = world.servers[address].ua.on_invite

    async def on_invite(incoming: Any) -> None:
        requests.append(incoming.request)
        await answer(incoming)

    world.servers[address].ua.on_invite = on_invite
    return requests


def says(world: World, *headers: tuple[bytes, bytes]) -> None:
    """The first server says this in its 200."""
    server = world.servers[FIRST]
    server.ua.on_invite = answering(server, lambda conversation: conversation.describe(), list(headers))


async def info(world: World, call: Conversation, headers: Headers) -> int:
    end = end_at(world, FIRST, call.number)
    assert end.session is not None
    answer = await world.on_server(FIRST, end.session.request(b"INFO", headers=headers))
    status: int = answer.status
    return status


def told(request: Request) -> dict[str, str]:
    names = ("waited", "queue", "pair", "state")
    found = {name: request.get(b"x-aqueduct-" + name.encode()) for name in names}
    return {name: value.decode() for name, value in found.items() if value is not None}


def user(request: Request) -> bytes:
    return request.uri.partition(b":")[2].partition(b"@")[0]


def the_call(world: World) -> Call:
    (call,) = world.node.calls.live.values()
    return call


REENTER = (b"X-Aqueduct-Reenter", b"queue-sales")
THIRD_IN_LINE = (b"X-Aqueduct-Queue", b"sales;position=3")


def test_a_caller_goes_on_where_his_backend_has_said() -> None:
    async def script(world: World) -> None:
        requests = asked(world, SECOND)
        says(world, REENTER, THIRD_IN_LINE)
        call = await world.place(1)
        await asyncio.sleep(42.0)
        world.network.kill(FIRST)
        await moved_to(world, call, SECOND)
        (request,) = requests
        assert user(request) == b"queue-sales"
        assert told(request) == {"waited": "42", "queue": "sales;position=3", "state": "talking"}

    assert play(script) == []


def test_info_says_where_he_is_now_and_what_he_has_waited_is_kept_for_the_same_queue() -> None:
    async def script(world: World) -> None:
        requests = asked(world, SECOND)
        says(world, REENTER, THIRD_IN_LINE)
        call = await world.place(1)
        await asyncio.sleep(20.0)
        assert await info(world, call, [(b"X-Aqueduct-Queue", b"sales;position=2")]) == 200
        assert await info(world, call, [(b"X-Aqueduct-Reenter", b"overflow")]) == 200
        await asyncio.sleep(10.0)
        world.network.kill(FIRST)
        await moved_to(world, call, SECOND)
        assert user(requests[0]) == b"overflow"
        assert told(requests[0]) == {"waited": "30", "queue": "sales;position=2", "state": "talking"}

    assert play(script) == []


def test_another_queue_begins_anew_and_an_empty_value_ends_it() -> None:
    async def script(world: World) -> None:
        requests = asked(world, SECOND)
        says(world, REENTER, THIRD_IN_LINE)
        calls = [await world.place(number) for number in (1, 2)]
        await asyncio.sleep(20.0)
        billing = [(b"X-Aqueduct-Reenter", b"q2"), (b"X-Aqueduct-Queue", b"billing;position=9")]
        assert await info(world, calls[0], billing) == 200
        assert await info(world, calls[1], [(b"X-Aqueduct-Reenter", b"")]) == 200
        await asyncio.sleep(5.0)
        world.network.kill(FIRST)
        for call in calls:
            await moved_to(world, call, SECOND)
        found = {request.get(b"x-call"): (user(request), told(request)) for request in requests}
        assert found[b"1"] == (b"q2", {"waited": "5", "queue": "billing;position=9", "state": "talking"})
        assert found[b"2"] == (b"100", {"state": "talking"})

    assert play(script) == []


def test_a_second_failover_still_knows_what_he_has_waited() -> None:
    async def script(world: World) -> None:
        says(world, REENTER, THIRD_IN_LINE)
        call = await world.place(1)
        await asyncio.sleep(10.0)
        world.network.kill(FIRST)
        await moved_to(world, call, SECOND)
        world.restart(FIRST)
        requests = asked(world, FIRST)
        await asyncio.sleep(10.0)
        world.network.kill(SECOND)
        await moved_to(world, call, FIRST)
        assert user(requests[0]) == b"queue-sales" and int(told(requests[0])["waited"]) in (20, 21)

    assert play(script) == []


def test_a_rule_says_it_where_the_backend_does_not() -> None:
    async def script(world: World) -> None:
        requests = asked(world, SECOND)
        call = await world.place(1)
        await asyncio.sleep(7.0)
        world.network.kill(FIRST)
        await moved_to(world, call, SECOND)
        assert (user(requests[0]), told(requests[0])) == (b"menu", {"waited": "7", "state": "talking"})

    assert play(script, recovery={"reenter": [{"user": "^9", "to": "x"}, {"user": "^1..$", "to": "menu"}]}) == []


def test_who_is_connected_to_somebody_goes_on_with_him() -> None:
    async def script(world: World) -> None:
        requests = asked(world, SECOND)
        calls = [await world.place(number, phone=number, headers=[(b"X-Bond", b"p1")]) for number in (0, 1)]
        for call in calls:
            assert await info(world, call, [REENTER, THIRD_IN_LINE, (b"X-Aqueduct-Pair", b"p1")]) == 200
        world.network.kill(FIRST)
        for call in calls:
            await moved_to(world, call, SECOND)
        assert [(user(each), told(each)) for each in requests] == [(b"100", {"pair": "p1", "state": "talking"})] * 2

    assert play(script) == []


@pytest.mark.parametrize("value", [b"a b", b"x@elsewhere", b"<sip:1@a>", b"%zz", b"q" * 101, b"\xc3\xa4"])
def test_what_is_no_user_part_is_counted_and_changes_nothing(value: bytes) -> None:
    async def script(world: World) -> None:
        says(world, REENTER)
        call = await world.place(1)
        assert await info(world, call, [(b"X-Aqueduct-Reenter", value)]) == 200
        waiting = the_call(world).waiting
        assert waiting is not None and waiting.point == b"queue-sales"
        assert world.node.calls.counts["reenter_refused"] == 1

    assert play(script) == []


def test_callers_are_not_believed() -> None:
    async def script(world: World) -> None:
        requests = asked(world, SECOND)
        call = await world.place(1, headers=[REENTER, THIRD_IN_LINE])
        assert the_call(world).waiting is None
        world.network.kill(FIRST)
        await moved_to(world, call, SECOND)
        assert (user(requests[0]), told(requests[0])) == (b"100", {"state": "talking"})

    assert play(script) == []


def test_a_hot_standby_stands_where_he_would_go_on() -> None:
    async def script(world: World) -> None:
        requests = asked(world, SECOND)
        call = await world.place(1)
        await until(lambda: the_call(world).standby is not None, 5.0)
        assert await info(world, call, [REENTER, THIRD_IN_LINE]) == 200
        await until(lambda: len(requests) == 2 and the_call(world).standby is not None, 5.0)
        assert [user(request) for request in requests] == [b"100", b"queue-sales"]
        assert told(requests[1]) == {"waited": "0", "queue": "sales;position=3", "state": "standby"}
        world.network.kill(FIRST)
        await until(lambda: hears(call, SECOND), 2.0)

    assert play(script, standby={"standby": "hot"}) == []


def test_a_successor_knows_it_too() -> None:
    async def script(world: World) -> None:
        says(world, REENTER, THIRD_IN_LINE)
        call = await world.place(1)
        await asyncio.sleep(10.0)
        await succeed(world)
        requests = asked(world, SECOND)
        await asyncio.sleep(5.0)
        world.network.kill(FIRST)
        await moved_to(world, call, SECOND)
        assert user(requests[0]) == b"queue-sales"
        assert told(requests[0]) == {"waited": "15", "queue": "sales;position=3", "state": "talking"}

    assert play(script) == []
