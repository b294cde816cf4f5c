"""Rolling restarts in virtual time: all backends of a pool, no call lost, and an end at the first sign of trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from proxy.backends import Admin, Backend, Power, Verdict
from proxy.sip.user_agent import Incoming
from proxy.upkeep import RefusedRolling, Rollout
from proxy.upkeep.rollout import Outcome, Step
from tests.sim.agents import Conversation
from tests.sim.power import SimDriver, members, power_for
from tests.sim.scenario import FIRST, SECOND, THIRD, Script, play, until
from tests.sim.world import World

CALLS = 60
BACKUP: dict[str, Any] = {"role": "backup"}


class Pool:
    """Three servers with a driver each."""

    def __init__(self) -> None:
        self.drivers: list[SimDriver] = []

    def __call__(self, world: World) -> None:
        self.drivers = power_for(world, 0, 1, 2)

    def orders(self) -> list[list[str]]:
        return [driver.orders for driver in self.drivers]


def roll(script: Script, pool: Pool, *, third: dict[str, Any] = BACKUP, **options: Any) -> None:
    standby = {"backends": members(BACKUP, third), **options.pop("settings", {})}
    assert play(script, prepare=pool, servers=3, standby=standby, **options) == []


def begin(world: World, **options: Any) -> Rollout:
    return world.node.upkeep.rolling.begin("pbx", **{"drain_s": 30.0, **options})


async def over(rollout: Rollout, within_s: float = 60.0) -> None:
    await until(lambda: rollout.outcome is not Outcome.RUNNING, within_s)


def steps(rollout: Rollout) -> dict[str, Step]:
    return {part.backend: part.step for part in rollout.parts}


def named(world: World, name: str) -> Backend:
    backend = world.node.backends.get(name)
    assert backend is not None
    return backend


def where(call: Conversation) -> str | None:
    source = call.hears()
    return source[0] if source else None


async def calls_up(world: World, count: int = CALLS) -> list[Conversation]:
    return [await world.place(number, phone=number % 2) for number in range(count)]


def test_each_backend_is_restarted_once_and_no_call_is_lost() -> None:
    pool = Pool()

    async def script(world: World) -> None:
        calls = await calls_up(world)
        rollout = begin(world)
        silent = 0
        while rollout.outcome is Outcome.RUNNING:
            silent = max(silent, sum(where(call) is None for call in calls))
            assert not [call for call in calls if call.ended]
            await asyncio.sleep(0.01)
        assert (rollout.outcome, rollout.reason) == (Outcome.DONE, "")
        assert pool.orders() == [["restart"]] * 3
        assert [part.backend for part in rollout.parts] == ["as2", "as3", "as1"]  # backups first
        assert set(steps(rollout).values()) == {Step.RESTARTED} and rollout.moved == CALLS
        assert silent == 0 and {where(call) for call in calls} <= {SECOND, THIRD}
        assert all(report.count("lost") == 0 for report in world.node.failovers.reports)
        assert all(named(world, name).usable(world.loop.time()) for name in ("as1", "as2", "as3"))

    roll(script, pool)


def test_a_backend_that_does_not_come_back_ends_it() -> None:
    pool = Pool()

    async def script(world: World) -> None:
        calls = await calls_up(world, 10)
        pool.drivers[2].boot_s = 1000.0
        rollout = begin(world)
        await over(rollout)
        assert rollout.outcome is Outcome.ABORTED and rollout.reason.startswith("as3: not ready within 25 s")
        assert steps(rollout) == {"as2": Step.RESTARTED, "as3": Step.FAILED, "as1": Step.WAITING}
        assert pool.orders() == [[], ["restart"], ["restart"]]
        assert {where(call) for call in calls} == {FIRST}
        assert named(world, "as3").admin is Admin.DRAIN and named(world, "as1").admin is Admin.READY
        row = rollout.row(world.node.backends.pools["pbx"].members)
        assert [part["service"] for part in row["parts"]][1] == "drain, down fenced, on, calls 0"

    roll(script, pool)


def test_one_that_cannot_be_ordered_to_restart_ends_it() -> None:
    pool = Pool()

    async def script(world: World) -> None:
        pool.drivers[1].refuse = "restart-as2 ended with 1: no licence"
        rollout = begin(world)
        await over(rollout)
        assert rollout.reason == "as2: restart-as2 ended with 1: no licence"
        assert pool.orders() == [[], ["restart"], []]

    roll(script, pool)


@pytest.mark.parametrize(("when", "at"), [(Step.DRAINING, Step.GIVEN_BACK), (Step.RESTARTING, Step.RESTARTED)])
def test_another_one_that_goes_down_ends_it(when: Step, at: Step) -> None:
    """What has been ordered to restart is brought back all the same: it is needed now."""
    pool = Pool()

    async def script(world: World) -> None:
        calls = await calls_up(world, 10)
        rollout = begin(world)
        await until(lambda: rollout.parts[0].step is when, 10.0)
        world.network.kill(THIRD)
        await over(rollout)
        assert rollout.outcome is Outcome.ABORTED and rollout.reason.startswith("as3 is down: Dead")
        assert steps(rollout) == {"as2": at, "as3": Step.WAITING, "as1": Step.WAITING}
        assert pool.orders() == [[], ["restart"] if at is Step.RESTARTED else [], []]
        assert {where(call) for call in calls} == {FIRST} and named(world, "as2").usable(world.loop.time())

    roll(script, pool)


def test_a_backend_that_dies_while_it_is_drained_ends_it_and_its_calls_are_recovered() -> None:
    pool = Pool()

    async def script(world: World) -> None:
        calls = await calls_up(world, 10)
        rollout = begin(world)
        await until(lambda: rollout.parts[2].step is Step.DRAINING, 20.0)
        world.network.kill(FIRST)
        await over(rollout)
        await asyncio.sleep(2.0)
        assert rollout.outcome is Outcome.ABORTED and "as1 is down" in rollout.reason
        assert pool.orders() == [[], ["restart"], ["restart"]]
        assert {where(call) for call in calls} <= {SECOND, THIRD}

    roll(script, pool)


@pytest.mark.parametrize("alive", [True, False])
def test_a_move_off_a_backend_that_lives_is_no_trouble_and_any_other_is(alive: bool) -> None:
    """Moves bring pairs and conferences apart for a moment, which are then brought together again."""

    async def script(world: World) -> None:
        rollout = begin(world)
        await until(lambda: rollout.parts[0].step is Step.DRAINING, 10.0)
        world.node.failovers.open_report("split pair", "as1", "pbx", "a test", 1, alive=alive).finished = True
        await over(rollout)
        assert rollout.outcome is (Outcome.DONE if alive else Outcome.ABORTED)
        assert alive or rollout.reason == "failover 2 of as1: split pair"

    roll(script, Pool())


def test_calls_that_cannot_be_moved_end_it() -> None:
    pool = Pool()

    async def script(world: World) -> None:
        calls = await calls_up(world, 10)

        async def busy(incoming: Incoming) -> None:
            incoming.reject(486)

        def refuses(address: str) -> None:
            world.servers[address].ua.on_invite = busy

        pool.drivers[1].on_boot = lambda: refuses(SECOND)  # the new version does not take calls
        pool.drivers[2].on_boot = lambda: refuses(THIRD)
        rollout = begin(world)
        await over(rollout)
        assert rollout.reason.startswith("10 calls of as1 could not be moved: deadline passed")
        assert "486 Busy Here" in rollout.reason
        assert steps(rollout) == {"as2": Step.RESTARTED, "as3": Step.RESTARTED, "as1": Step.GIVEN_BACK}
        assert pool.orders() == [[], ["restart"], ["restart"]]
        assert {where(call) for call in calls} == {FIRST} and named(world, "as1").usable(world.loop.time())

    roll(script, pool, recovery={"deadline_s": 2})


def test_nothing_is_drained_where_the_others_have_no_room() -> None:
    pool = Pool()

    async def script(world: World) -> None:
        await calls_up(world, 10)
        rollout = begin(world)
        await over(rollout)
        assert rollout.reason == "the others have no room for the calls of as1 (10)"
        assert steps(rollout)["as1"] is Step.WAITING and not world.node.failovers.reports[-1].planned

    third = {"role": "backup", "calls_max": 4}
    standby = {"backends": members({"role": "backup", "calls_max": 5}, third)}
    assert play(script, prepare=pool, servers=3, standby=standby) == []


def test_who_rings_is_waited_for_and_moved_when_he_talks() -> None:
    pool = Pool()

    async def script(world: World) -> None:
        world.servers[FIRST].ring_s = (15.0, 15.0)
        ringing = asyncio.create_task(world.place(1))
        await asyncio.sleep(1.0)
        rollout = begin(world)
        call = await ringing
        assert rollout.parts[2].step is Step.DRAINING
        await over(rollout)
        assert rollout.outcome is Outcome.DONE and rollout.moved == 1 and where(call) in (SECOND, THIRD)

    roll(script, pool)


def test_a_backend_that_does_not_get_rid_of_its_calls_in_time_is_given_back() -> None:
    pool = Pool()

    async def script(world: World) -> None:
        world.servers[FIRST].ring_s = (25.0, 25.0)
        ringing = asyncio.create_task(world.place(1))
        await asyncio.sleep(1.0)
        rollout = begin(world, drain_s=3.0)
        await over(rollout)
        assert rollout.reason == "as1 still has 1 call" and pool.orders()[0] == []
        assert where(await ringing) == FIRST

    roll(script, pool)


def test_the_operator_stops_it_before_the_next_backend() -> None:
    pool = Pool()

    async def script(world: World) -> None:
        rollout = begin(world)
        await until(lambda: rollout.parts[0].step is Step.RESTARTING, 10.0)
        world.node.upkeep.rolling.stop("pbx")
        await over(rollout)
        assert rollout.reason == "stopped by the operator" and pool.orders() == [[], ["restart"], []]
        assert named(world, "as2").usable(world.loop.time())
        with pytest.raises(RefusedRolling, match="no rolling restart of pool pbx is running"):
            world.node.upkeep.rolling.stop("pbx")
        again = begin(world)
        await over(again)
        assert again.outcome is Outcome.DONE and pool.orders() == [["restart"], ["restart"] * 2, ["restart"]]

    roll(script, pool)


def test_one_that_is_ready_and_goes_down_again_does_not_count_as_restarted() -> None:
    pool = Pool()

    async def script(world: World) -> None:
        pool.drivers[1].on_boot = lambda: world.network.after(1.0, lambda: world.network.kill(SECOND))
        rollout = begin(world)
        await over(rollout)
        assert rollout.reason == "as2: not up for 20 probes on end within 25 s after it was ready; it is down"
        assert steps(rollout)["as2"] is Step.FAILED and named(world, "as2").admin is Admin.DRAIN

    roll(script, pool)


def _drained(world: World) -> None:
    named(world, "as2").admin = Admin.DRAIN
    named(world, "as3").admin = Admin.MAINT


def _powerless(world: World) -> None:
    del world.node.upkeep.starts.drivers["as3"]


def _down(world: World) -> None:
    named(world, "as2").verdict = Verdict.DEGRADED


@pytest.mark.parametrize(
    ("prepare", "pool", "why"),
    [
        (lambda world: None, "pbs", "no pool 'pbs'; known are carrier, pbx"),
        (lambda world: None, "carrier", "pool carrier says recover: false, so its calls cannot be moved"),
        (_drained, "pbx", "pool pbx has 1 backend in service; it needs two"),
        (_powerless, "pbx", "as3 has no power in the configuration, so nobody can restart it"),
        (_down, "pbx", "as2 is degraded, not up"),
    ],
)
def test_what_cannot_go_well_is_not_begun(prepare: Callable[[World], None], pool: str, why: str) -> None:
    async def script(world: World) -> None:
        prepare(world)
        with pytest.raises(RefusedRolling) as refused:
            world.node.upkeep.rolling.begin(pool, drain_s=10.0)
        assert str(refused.value) == why and not world.node.upkeep.rolling.rollouts
        for name in ("as1", "as2", "as3"):
            world.node.failovers.ready(named(world, name))

    roll(script, Pool())


def test_it_is_not_begun_twice_and_who_is_not_in_service_is_left_as_he_is() -> None:
    pool = Pool()

    async def script(world: World) -> None:
        named(world, "as3").admin = Admin.MAINT
        rollout = begin(world)
        with pytest.raises(RefusedRolling, match="is being restarted already"):
            begin(world)
        await over(rollout)
        assert pool.orders() == [["restart"], ["restart"], []]
        skipped = rollout.parts[1]
        assert (skipped.step, skipped.told) == (Step.SKIPPED, "left as it is: maint")
        assert named(world, "as1").power is Power.ON
        named(world, "as3").admin = Admin.READY

    roll(script, pool)
