"""Hot standby in trouble: the standby breaks, both backends die, the caller hangs up in the middle of it."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from proxy.sip.user_agent import CallFailed, Incoming
from tests.sim.acting import all_moved, answering, asks, end_at
from tests.sim.agents import Conversation
from tests.sim.scenario import FIRST, PHONE, SECOND, THIRD, hears, play, until
from tests.sim.slow_media import media_takes
from tests.sim.test_hot_standby import HOT, counted, hot, invites_to, standby_at
from tests.sim.world import World


def test_a_standby_whose_backend_dies_is_brought_up_elsewhere_and_nobody_notices() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        await until(lambda: standby_at(world, SECOND) or standby_at(world, THIRD), 1.0)
        first, last = (SECOND, THIRD) if standby_at(world, SECOND) else (THIRD, SECOND)
        before = world.sent_to[PHONE], world.sent_to[FIRST]
        world.network.kill(first)
        await until(lambda: standby_at(world, last), 3.0)
        assert (world.sent_to[PHONE], world.sent_to[FIRST]) == before
        assert hears(call, FIRST)
        world.restart(first)
        world.network.kill(FIRST)
        await until(lambda: hears(call, last), 0.5)

    assert play(script, servers=3, **HOT) == []


def test_a_standby_that_its_backend_ends_is_brought_up_again_later_and_later() -> None:
    async def script(world: World) -> None:
        call = await hot(world)
        before = world.sent_to[PHONE]
        again: list[float] = []
        for _ in range(4):
            second = standby_at(world, SECOND)
            assert second is not None and second.session is not None
            began = world.loop.time()
            await world.on_server(SECOND, second.session.bye())
            await until(lambda ended=second: standby_at(world, SECOND) not in (None, ended), 20.0)  # type: ignore[misc]
            again.append(world.loop.time() - began)
        assert all(later > 1.3 * earlier for earlier, later in itertools.pairwise(again)), again
        assert hears(call, FIRST) and world.sent_to[PHONE] == before

    assert play(script, **HOT) == []


def test_a_standby_that_was_forgotten_by_a_restart_is_noticed_and_brought_up_again() -> None:
    async def script(world: World) -> None:
        call = await hot(world)
        assert call.session is not None
        world.network.kill(SECOND)
        world.restart(SECOND)  # no probe has missed it
        assert await call.session.info(b"application/dtmf-relay", b"Signal=5\r\n") == 200
        await until(lambda: standby_at(world, SECOND), 3.0)
        assert hears(call, FIRST) and not world.node.failovers.reports

    assert play(script, **HOT) == []


def test_what_the_backend_of_the_standby_asks_does_not_reach_the_caller() -> None:
    async def script(world: World) -> None:
        call = await hot(world)
        second = standby_at(world, SECOND)
        assert second is not None and second.session is not None
        before = world.sent_to[PHONE]
        with pytest.raises(CallFailed, match="488"):
            await world.on_server(SECOND, second.hold())
        await world.on_server(SECOND, second.hold(b"sendrecv"))  # nothing new: a refresh
        assert await asks(world, second, b"INFO") == 200
        assert await asks(world, second, b"REFER") == 603
        assert world.sent_to[PHONE] == before and hears(call, FIRST)
        assert standby_at(world, SECOND) is second

    assert play(script, **HOT) == []


def test_a_backup_that_wants_other_codecs_is_no_standby() -> None:
    async def script(world: World) -> None:
        def other_codec(end: Conversation) -> bytes:
            return end.describe().replace(b"RTP/AVP 8", b"RTP/AVP 0")

        world.servers[SECOND].ua.on_invite = answering(world.servers[SECOND], other_codec)
        call = await world.place(1)
        await asyncio.sleep(10.0)
        assert standby_at(world, SECOND) is None and not world.servers[SECOND].live
        assert invites_to(world, SECOND) == 1
        world.network.kill(FIRST)
        await until(lambda: hears(call, SECOND), 1.0)  # warm: the caller is told by a re-INVITE

    assert play(script, **HOT) == []


def test_a_backup_that_refuses_is_asked_again_later_and_later() -> None:
    async def script(world: World) -> None:
        asked: list[float] = []

        async def busy(incoming: Incoming) -> None:
            asked.append(world.loop.time())
            incoming.reject(486)

        world.servers[SECOND].ua.on_invite = busy
        call = await world.place(1)
        await asyncio.sleep(60.0)
        assert 5 <= len(asked) <= 8 and hears(call, FIRST)

    assert play(script, **HOT) == []


# -- two failures


def test_when_both_die_the_third_takes_the_call() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        await until(lambda: standby_at(world, SECOND) or standby_at(world, THIRD), 1.0)
        both = FIRST, SECOND if standby_at(world, SECOND) else THIRD
        last = THIRD if both[1] == SECOND else SECOND
        for address in both:
            world.network.kill(address)
        await until(lambda: hears(call, last), 2.0)

    assert play(script, servers=3, **HOT) == []


def test_a_standby_that_waits_for_its_call_keeps_no_turn_from_the_recovery_of_it() -> None:
    """Both die, and the second one is back first: the calls are carried over to it, and want a standby meanwhile."""

    async def script(world: World) -> None:
        calls = [await hot(world, number) for number in (1, 2, 3)]
        world.network.kill(SECOND)
        await until(lambda: all(call.standby is None for call in world.node.calls.live.values()), 3.0)
        world.network.kill(FIRST)
        await asyncio.sleep(1.0)
        world.restart(SECOND)
        await until(lambda: all(hears(call, SECOND) for call in calls), 3.0)
        await until(lambda: all_moved(world), 3.0)

    assert play(script, recovery={"unanswered_max": 2}, **HOT) == []


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.04, 0.06, 0.1, 0.3])
def test_the_standby_may_die_at_any_moment_of_the_failover(after_s: float) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        await until(lambda: standby_at(world, SECOND) or standby_at(world, THIRD), 1.0)
        second = SECOND if standby_at(world, SECOND) else THIRD
        world.network.kill(FIRST)
        await asyncio.sleep(after_s)
        world.network.freeze(second)
        await until(lambda: hears(call, THIRD if second == SECOND else SECOND), 3.0)

    assert play(script, servers=3, **HOT) == []


@pytest.mark.parametrize("media", [(0.0, 0.0), (0.01, 0.05)])
@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.01, 0.03, 0.05, 0.1, 0.2])
def test_the_primary_may_die_while_the_standby_is_brought_up(after_s: float, media: tuple[float, float]) -> None:
    async def script(world: World) -> None:
        media_takes(world, *media)
        world.servers[SECOND].ring_s = (0.05, 0.05)
        call = await world.place(1)
        await asyncio.sleep(after_s)
        world.network.kill(FIRST)
        await until(lambda: hears(call, SECOND), 2.0)
        await asyncio.sleep(1.0)
        assert len(world.servers[SECOND].live) == 1

    assert play(script, **HOT) == []


@pytest.mark.parametrize("media", [(0.0, 0.0), (0.01, 0.05)])
@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.01, 0.03, 0.05, 0.1])
def test_the_primary_may_die_while_the_standby_is_brought_in_step(after_s: float, media: tuple[float, float]) -> None:
    async def script(world: World) -> None:
        media_takes(world, *media)
        call = await hot(world)
        await call.hold()
        await asyncio.sleep(after_s)
        world.network.kill(FIRST)
        await until(lambda: all_moved(world), 3.0)
        assert end_at(world, SECOND).direction == b"recvonly"
        await call.hold(b"sendrecv")
        assert hears(call, SECOND)

    assert play(script, **HOT) == []


# -- the end


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.002, 0.01, 0.05, 0.1, 0.5])
def test_a_caller_may_hang_up_while_the_standby_is_brought_up(after_s: float) -> None:
    async def script(world: World) -> None:
        world.servers[SECOND].ring_s = (0.05, 0.05)
        call = await world.place(1)
        await asyncio.sleep(after_s)
        assert call.session is not None and await call.session.bye() == 200
        await asyncio.sleep(1.0)
        assert not world.servers[FIRST].live and not world.servers[SECOND].live

    assert play(script, **HOT) == []


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.1])
def test_a_caller_may_hang_up_at_any_moment_of_the_failover(after_s: float) -> None:
    async def script(world: World) -> None:
        call = await hot(world)
        world.network.kill(FIRST)
        await asyncio.sleep(after_s)
        assert call.session is not None and await call.session.bye() == 200
        await asyncio.sleep(1.0)
        assert not world.servers[SECOND].live and counted(world, "as1") == counted(world, "as2") == 0

    assert play(script, **HOT) == []
