"""Dead or not: what a dead backend still says, one that restarted unseen, and what only looked like death."""

from __future__ import annotations

import asyncio

import pytest

from proxy.backends import Verdict
from proxy.calls import Leg
from tests.sim.scenario import FIRST, SECOND, hears, play, until
from tests.sim.test_scenarios import backend
from tests.sim.world import CARRIER, NODE, World


def test_a_late_200_of_the_dead_backend_changes_nothing() -> None:
    async def script(world: World) -> None:
        world.servers[FIRST].ring_s = (1.0, 1.0)
        placing = asyncio.create_task(world.place(1))
        await until(lambda: b"1" in world.servers[FIRST].calls, 1.0)
        world.network.freeze(FIRST)
        call = await placing
        assert hears(call, SECOND)
        world.network.thaw(FIRST)  # its second of ringing is over: it answers
        await asyncio.sleep(40.0)
        assert hears(call, SECOND) and not world.servers[FIRST].live

    assert play(script) == []


def late_bye(world: World) -> None:
    """The first server, which hears nothing any more, ends its calls."""

    async def end_all() -> None:
        for conversation in list(world.servers[FIRST].live):
            assert conversation.session is not None
            await conversation.session.bye()

    world.on_server(FIRST, end_all())


async def dead_hangs_up_during_recovery(world: World) -> None:
    await world.place(1)
    world.servers[SECOND].ring_s = (2.0, 2.0)
    world.network.cut(NODE, FIRST, both=False)
    await until(lambda: b"1" in world.servers[SECOND].calls, 2.0)
    late_bye(world)
    await asyncio.sleep(10.0)


def test_a_late_bye_of_the_dead_backend_ends_nothing() -> None:
    assert play(dead_hangs_up_during_recovery) == []


def test_a_dead_backend_that_is_not_fenced_ends_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leg, "lost", property(lambda leg: False, lambda leg, lost: None))

    def does_not_fence(world: World) -> None:
        world.node.health.subscribe(lambda change: setattr(change.backend, "fenced", False))

    assert any("dropped" in violation for violation in play(dead_hangs_up_during_recovery, does_not_fence))


async def restarts_at_once(world: World) -> None:
    call = await world.place(1)
    world.network.kill(FIRST)
    world.restart(FIRST)
    await asyncio.sleep(1.0)
    assert world.node.failovers.reports.maxlen and not world.node.failovers.reports
    assert call.session is not None
    await call.session.info(b"application/dtmf-relay", b"Signal=5\r\n")  # the first to notice
    await asyncio.sleep(3.0)


def test_a_restart_that_no_probe_missed_is_noticed_by_the_dialog_that_is_unknown() -> None:
    assert play(restarts_at_once) == []


def test_a_lost_dialog_that_is_not_recovered_is_noticed() -> None:
    def lets_it_go(world: World) -> None:
        world.node.calls.on_leg_lost = lambda call, leg, why: False

    assert any("dropped" in violation for violation in play(restarts_at_once, lets_it_go))


def test_nothing_is_moved_when_it_is_we_who_are_cut_off() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        for address in (*world.addresses, CARRIER):
            world.network.cut(NODE, address)
        await asyncio.sleep(5.0)
        assert backend(world, "as1").verdict is not Verdict.UP
        for address in (*world.addresses, CARRIER):
            world.network.join(NODE, address)
        await asyncio.sleep(5.0)
        assert not world.node.failovers.reports and hears(call, FIRST)

    assert play(script) == []


@pytest.mark.parametrize("stall_s", [0.1, 0.5, 2.0])
def test_nothing_is_moved_when_it_is_we_who_stood_still(stall_s: float) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        for _ in range(5):
            world.network.freeze(NODE)
            await asyncio.sleep(stall_s)
            world.network.thaw(NODE)
            await asyncio.sleep(3.0)
        assert not world.node.failovers.reports and hears(call, FIRST)

    assert play(script) == []


def test_a_false_alarm_costs_no_call_and_leaves_nothing_on_the_old_backend() -> None:
    async def script(world: World) -> None:
        calls = [await world.place(number) for number in range(5)]
        world.network.freeze(FIRST)
        await asyncio.sleep(3.0)
        world.network.thaw(FIRST)
        await asyncio.sleep(3.0)
        assert all(hears(call, SECOND) for call in calls)
        assert not world.servers[FIRST].live
        assert not backend(world, "as1").fenced

    assert play(script) == []
