"""Bypass when more goes wrong: a second failure, a zombie, slow media; and what each safeguard keeps away."""

from __future__ import annotations

import asyncio

import pytest

from proxy.calls import Call, Leg
from proxy.calls.pairs import Bond
from proxy.failover.bypass import Bypass
from tests.sim.acting import all_moved
from tests.sim.scenario import FIRST, PHONE, SECOND, THIRD, play, until
from tests.sim.slow_media import media_takes
from tests.sim.test_bypass import AGENT_PHONE, pair, past, silence, talk, through
from tests.sim.world import World

# -- two failures


@pytest.mark.parametrize("after_s", [0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("ring_s", [0.0, 0.3])
def test_the_backup_may_die_at_any_moment_of_the_takeover(after_s: float, ring_s: float) -> None:
    async def script(world: World) -> None:
        people = await pair(world)
        for address in (SECOND, THIRD):
            world.servers[address].ring_s = (ring_s, ring_s)
        world.network.kill(FIRST)
        await asyncio.sleep(after_s)
        used = [address for address in (SECOND, THIRD) if world.servers[address].calls]
        world.network.kill(used[0] if used else SECOND)
        last = THIRD if used[:1] == [SECOND] or not used else SECOND
        await until(lambda: through(world, people, last), 3.0)

    assert play(script, servers=3) == []


@pytest.mark.parametrize("media", [(0.0, 0.02), (0.01, 0.05)])
def test_media_that_takes_its_time_bypasses_too(media: tuple[float, float]) -> None:
    async def script(world: World) -> None:
        media_takes(world, *media)
        people = await pair(world)
        world.network.kill(FIRST)
        await until(lambda: past(people), 0.3)
        await until(lambda: through(world, people, SECOND), 2.0)

    assert play(script) == []


def test_a_pair_may_be_bypassed_again_and_again() -> None:
    async def script(world: World) -> None:
        people = await pair(world)
        for dead, alive in ((FIRST, SECOND), (SECOND, FIRST), (FIRST, SECOND)):
            world.network.kill(dead)
            await until(lambda: past(people), 0.2)
            await until(lambda to=alive: through(world, people, to), 2.0)  # type: ignore[misc]
            world.restart(dead)
            await asyncio.sleep(3.0)

    assert play(script) == []


def test_a_zombie_is_not_heard_and_ends_nothing() -> None:
    async def script(world: World) -> None:
        pairs = [await pair(world, number) for number in range(1, 6)]
        before = world.sent_to[PHONE], world.sent_to[AGENT_PHONE]
        world.network.freeze(FIRST)
        await until(lambda: all(past(people) for people in pairs), 0.5)
        await until(lambda: all(through(world, people, SECOND) for people in pairs), 2.0)
        world.network.thaw(FIRST)
        for conversation in list(world.servers[FIRST].live):
            assert conversation.session is not None
            world.on_server(FIRST, conversation.session.bye())
        for _ in range(3000):
            await asyncio.sleep(0.001)
            assert all(through(world, people, SECOND) for people in pairs)
        assert (world.sent_to[PHONE], world.sent_to[AGENT_PHONE]) == before

    assert play(script) == []


def test_a_zombie_that_wakes_before_the_backup_has_answered_ends_nothing() -> None:
    async def script(world: World) -> None:
        people = await pair(world)
        world.servers[SECOND].ring_s = (3.0, 3.0)
        world.network.freeze(FIRST)
        await until(lambda: past(people) and world.node.failovers.reports, 0.5)
        await asyncio.sleep(0.5)
        world.network.thaw(FIRST)
        for conversation in list(world.servers[FIRST].live):
            assert conversation.session is not None
            world.on_server(FIRST, conversation.session.bye())
        await until(lambda: through(world, people, SECOND), 5.0)
        assert not world.servers[FIRST].live

    assert play(script) == []


# -- every safeguard is needed


def test_without_the_bypass_a_pair_is_silent_until_the_backup_has_both() -> None:
    async def script(world: World) -> None:
        people = await pair(world)
        world.servers[SECOND].ring_s = (0.5, 0.5)
        longest = [0.0]
        listening = asyncio.create_task(silence(world, people, longest))
        world.network.kill(FIRST)
        await until(lambda: through(world, people, SECOND), 2.0)
        listening.cancel()
        assert longest[0] > 0.5

    assert play(script, recovery={"bypass": False}) == []


@pytest.mark.plain
def test_a_call_that_is_switched_without_waiting_for_the_other_hears_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def at_once(bypass: Bypass, call: Call, leg: Leg) -> bool:
        return True

    async def script(world: World) -> None:
        people = await pair(world)
        world.servers[SECOND].ring_s = (0.1, 3.0)
        longest = [0.0]
        listening = asyncio.create_task(silence(world, people, longest))
        world.network.kill(FIRST)
        await until(lambda: through(world, people, SECOND), 4.0)
        listening.cancel()
        assert longest[0] > 0.3

    monkeypatch.setattr(Bypass, "arrive", at_once)
    assert play(script) == []


@pytest.mark.plain
def test_a_zombie_whose_legs_are_believed_ends_a_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(world: World) -> None:
        people = await pair(world)
        world.servers[SECOND].ring_s = (3.0, 3.0)
        world.network.freeze(FIRST)
        await until(lambda: past(people) and world.node.failovers.reports, 0.5)
        await asyncio.sleep(0.5)
        world.network.thaw(FIRST)
        await asyncio.sleep(0.3)
        for conversation in list(world.servers[FIRST].live):
            assert conversation.session is not None
            world.on_server(FIRST, conversation.session.bye())
        await asyncio.sleep(5.0)

    assert play(script) == []
    monkeypatch.setattr(Leg, "lost", property(lambda leg: False, lambda leg, lost: None))
    assert any("dropped" in violation for violation in play(script))


@pytest.mark.plain
def test_calls_that_are_placed_apart_do_not_meet_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two backups, and nobody sees to it that a pair comes to the same one."""

    async def script(world: World) -> None:
        pairs = [await pair(world, number) for number in range(1, 9)]
        world.network.kill(FIRST)
        await until(lambda: all_moved(world), 3.0)
        apart.append(sum(not talk(world, people) for people in pairs))

    apart: list[int] = []
    assert play(script, servers=3) == []
    monkeypatch.setattr(Bond, "meets_at", property(lambda bond: None, lambda bond, backend: None))
    play(script, servers=3)
    assert apart[0] == 0 and apart[1] > 0
