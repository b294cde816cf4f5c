"""Traps of the media plane: what becomes of a call while it is down, has no ports, or refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from media.api import MediaError, MediaFull
from proxy.sip.user_agent import CallFailed
from tests.sim.acting import all_moved, moved_to
from tests.sim.scenario import FIRST, SECOND, hears, play, until
from tests.sim.world import World

DOWN = MediaError("the media relay is down")


def fails(world: World, ask: str, while_: Callable[[], bool], error: MediaError = DOWN) -> None:
    """The relay does not do that as long as `while_` holds."""
    real = getattr(world.relay, ask)

    def instead(*args: Any, **options: Any) -> asyncio.Future[Any]:
        if not while_():
            answer: asyncio.Future[Any] = real(*args, **options)
            return answer
        future: asyncio.Future[Any] = world.host.loop.create_future()
        future.set_exception(error)
        return future

    setattr(world.relay, ask, instead)


def test_a_relay_that_cannot_be_asked_for_its_counters_costs_no_call() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        fails(world, "query", lambda: True)
        world.network.kill(FIRST)
        await moved_to(world, call, SECOND)
        (report,) = world.node.failovers.reports
        assert report.results[0].result == "moved" and report.results[0].gap_ms is None

    assert play(script) == []


@pytest.mark.parametrize("ask", ["offer", "answer", "switch"])
def test_a_relay_that_is_away_for_a_while_costs_no_call(ask: str) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        back_at = world.loop.time() + 1.5
        fails(world, ask, lambda: world.loop.time() < back_at)
        world.network.kill(FIRST)
        await until(lambda: all_moved(world), 4.0)
        assert hears(call, SECOND) and world.loop.time() > back_at

    assert play(script) == []


def test_a_new_call_for_which_there_is_no_port_is_refused_as_by_a_full_house() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        fails(world, "offer", lambda: True, MediaFull("no free media ports for another call"))
        with pytest.raises(CallFailed, match="503"):
            await world.place(2)
        counts = world.node.calls.counts
        assert (counts["media_full"], counts["media_refused"]) == (1, 0)
        assert hears(call, FIRST)

    assert play(script) == []
