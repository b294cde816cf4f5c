"""A backend that shuts down hangs up all its calls, and its control session says a moment later that it does."""

from __future__ import annotations

import asyncio

import pytest

from proxy.backends import Verdict
from proxy.calls import calls as calls_module
from proxy.health import Evidence
from tests.sim.scenario import FIRST, SECOND, hears, play, until
from tests.sim.test_doubt import late_bye
from tests.sim.test_liveness import backend
from tests.sim.world import World

SAYS_SO_AFTER_S = 0.015

standbys = pytest.mark.parametrize("standby", [None, {"standby": "hot"}])


async def told_to_stop(world: World) -> None:
    backend(world).announces = True
    calls = [await world.place(number) for number in range(5)]
    await asyncio.sleep(3.0)
    late_bye(world)
    await asyncio.sleep(SAYS_SO_AFTER_S)
    world.node.health.observe(backend(world), Evidence.CONTROL_STOPPING)
    world.network.kill(FIRST)
    await until(lambda: all(hears(call, SECOND) for call in calls), 3.0)
    await asyncio.sleep(10.0)


@standbys
def test_its_calls_are_carried_over(standby: dict[str, str] | None) -> None:
    assert play(told_to_stop, standby=standby) == []


def test_without_a_byes_wait_they_end() -> None:
    async def script(world: World) -> None:
        backend(world).announces = False  # nobody waits for what it may say
        calls = [await world.place(number) for number in range(5)]
        await asyncio.sleep(3.0)
        late_bye(world)
        world.hung_up.update(call.number for call in calls)
        await asyncio.sleep(SAYS_SO_AFTER_S)
        world.node.health.observe(backend(world), Evidence.CONTROL_STOPPING)
        await asyncio.sleep(1.0)
        assert not world.node.calls.live

    assert play(script) == []


def test_who_only_hangs_up_a_call_ends_it_a_moment_later() -> None:
    async def script(world: World) -> None:
        backend(world).announces = True
        call, other = await world.place(1), await world.place(2)
        await asyncio.sleep(1.0)
        began = world.loop.time()
        await world.hang_up_far(call)
        await until(lambda: len(world.node.calls.live) == 1, 1.0)
        assert calls_module.BYE_WAITS_S <= world.loop.time() - began <= 2 * calls_module.BYE_WAITS_S
        assert hears(other, FIRST) and backend(world).verdict is Verdict.UP

    assert play(script) == []


def test_a_caller_who_hangs_up_meanwhile_ends_it_too() -> None:
    async def script(world: World) -> None:
        backend(world).announces = True
        call = await world.place(1)
        await asyncio.sleep(1.0)
        leaving = asyncio.create_task(world.hang_up_far(call))
        await asyncio.sleep(0.01)
        assert call.session is not None
        await call.session.bye()
        await leaving
        await asyncio.sleep(1.0)
        assert not world.node.calls.live

    assert play(script) == []
