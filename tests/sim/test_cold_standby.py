"""Cold standbys in virtual time: started when calls need them, used when they are ready, stopped when nobody does."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from media.probe.call import Outcome, SyntheticCall
from proxy.backends import Backend, Power, Verdict
from proxy.failover.report import Report
from tests.sim.acting import all_moved
from tests.sim.power import COLD, SimDriver, members, power_for
from tests.sim.scenario import FIRST, SECOND, THIRD, hears, play, until
from tests.sim.world import NODE, World


class Stage:
    """Servers of which the cold ones are off, with their drivers."""

    def __init__(self, *cold: int) -> None:
        self.cold = cold
        self.drivers: dict[int, SimDriver] = {}

    def __call__(self, world: World) -> None:
        for number, driver in zip(self.cold, power_for(world, *self.cold), strict=True):
            self.drivers[number] = driver
            world.network.power_off(driver.address)


def named(world: World, name: str) -> Backend:
    backend = world.node.backends.get(name)
    assert backend is not None
    return backend


def only_report(world: World) -> Report:
    (report,) = world.node.failovers.reports
    return report


def pool(*more: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {"backends": members(*more), **settings}


@pytest.mark.parametrize("fault", ["kill", "freeze", "power_off"])
def test_a_cold_standby_is_started_and_the_calls_go_there_when_it_is_ready(fault: str) -> None:
    stage = Stage(1)

    async def script(world: World) -> None:
        as2 = named(world, "as2")
        assert as2.power is Power.OFF and not as2.usable(world.loop.time())
        calls = [await world.place(number) for number in range(3)]
        getattr(world.network, fault)(FIRST)
        struck_at = world.loop.time()
        await until(lambda: all_moved(world), 5.0)
        assert all(hears(call, SECOND) for call in calls)
        report = only_report(world)
        ready_ms = report.started["as2"]
        assert 1250 < ready_ms < 1800 and (report.count("moved"), report.count("lost")) == (3, 0)
        assert (world.loop.time() - struck_at) * 1000 > ready_ms
        told = [what for _, what in report.timeline]
        assert "cold standby as2 is being started" in told
        assert any(what.startswith("cold standby as2 started by us (sim), ready after 1.") for what in told)
        assert stage.drivers[1].orders == ["start"] and as2.power is Power.ON

    assert play(script, prepare=stage, standby=pool(COLD)) == []


def test_it_is_started_at_suspicion_where_the_pool_says_so() -> None:
    async def script(world: World) -> None:
        await world.place(1)
        named(world, "as1")
        world.network.freeze(FIRST)
        await until(lambda: named(world, "as1").verdict is Verdict.SUSPECT, 2.0)
        assert named(world, "as2").power is Power.STARTING
        world.network.thaw(FIRST)
        await until(lambda: named(world, "as2").power is Power.ON, 3.0)
        assert not world.node.failovers.reports

    assert play(script, prepare=Stage(1), standby=pool(COLD, start_on="suspect")) == []


def test_a_suspicion_starts_nothing_otherwise() -> None:
    stage = Stage(1)

    async def script(world: World) -> None:
        await world.place(1)
        world.network.freeze(FIRST)
        await until(lambda: named(world, "as1").verdict is Verdict.SUSPECT, 2.0)
        world.network.thaw(FIRST)
        await asyncio.sleep(5.0)
        assert stage.drivers[1].orders == []

    assert play(script, prepare=stage, standby=pool(COLD)) == []


def test_a_warm_backup_with_room_comes_first() -> None:
    stage = Stage(2)

    async def script(world: World) -> None:
        calls = [await world.place(number) for number in range(2)]
        world.network.kill(FIRST)
        await until(lambda: all_moved(world), 5.0)
        await asyncio.sleep(5.0)
        assert all(hears(call, SECOND) for call in calls) and stage.drivers[2].orders == []

    assert play(script, prepare=stage, servers=3, standby=pool({"role": "backup"}, COLD)) == []


def test_a_warm_backup_without_room_for_all_is_joined_by_a_cold_one() -> None:
    stage = Stage(2)

    async def script(world: World) -> None:
        calls = [await world.place(number) for number in range(5)]
        world.network.kill(FIRST)
        await until(lambda: all_moved(world), 5.0)
        assert only_report(world).count("moved") == 5 and stage.drivers[2].orders == ["start"]
        assert [sum(hears(call, there) for call in calls) for there in (SECOND, THIRD)] == [2, 3]

    warm = {"role": "backup", "calls_max": 2}
    assert play(script, prepare=stage, servers=3, standby=pool(warm, COLD)) == []


def test_one_that_does_not_start_is_tried_again_and_the_next_one_is_started_at_once() -> None:
    stage = Stage(1, 2)

    async def script(world: World) -> None:
        stage.drivers[1].refuse = "start-as2 ended with 4: no licence"
        call = await world.place(1)
        world.network.kill(FIRST)
        await until(lambda: all_moved(world), 5.0)
        assert hears(call, THIRD)
        report = only_report(world)
        assert "cold standby as2: start-as2 ended with 4: no licence" in [what for _, what in report.timeline]
        assert list(report.started) == ["as3"] and stage.drivers[1].orders == ["start"]

    assert play(script, prepare=stage, servers=3, standby=pool(COLD, COLD)) == []


def test_one_that_is_refused_at_first_is_started_later() -> None:
    stage = Stage(1)

    async def script(world: World) -> None:
        driver = stage.drivers[1]
        driver.refuse = "busy"
        call = await world.place(1)
        world.network.kill(FIRST)
        await asyncio.sleep(5.0)
        driver.refuse = ""
        await until(lambda: all_moved(world), 15.0)
        assert hears(call, SECOND) and driver.orders == ["start"] * 3

    assert play(script, prepare=stage, standby=pool(COLD), patience_s=20.0) == []


def test_one_that_is_not_ready_in_time_is_said_to_be_and_the_next_is_started() -> None:
    stage = Stage(1, 2)

    async def script(world: World) -> None:
        stage.drivers[1].boot_s = 60.0
        call = await world.place(1)
        world.network.kill(FIRST)
        await until(lambda: all_moved(world), 20.0)
        assert hears(call, THIRD)
        assert "cold standby as2: not ready within 4 s: it is down" in [w for _, w in only_report(world).timeline]
        await until(lambda: named(world, "as2").power is Power.ON, 80.0)  # late, and not forgotten

    backends = members(COLD, COLD)
    backends["as2"] = {**backends["as2"], "power": {**backends["as2"]["power"], "ready_timeout_s": 4}}
    assert play(script, prepare=stage, servers=3, standby={"backends": backends}, patience_s=20.0) == []


def test_one_that_keeps_dying_is_started_less_and_less_often_and_at_once_after_it_ran_well() -> None:
    stage = Stage(1)

    async def script(world: World) -> None:
        driver, booted_at = stage.drivers[1], []

        def dies() -> None:
            booted_at.append(world.loop.time())
            world.network.after(1.0, lambda: world.network.kill(SECOND))

        driver.on_boot = dies
        world.network.kill(FIRST)
        await asyncio.sleep(250.0)
        apart = [after - before for before, after in pairwise(booted_at)]
        took_s = apart[0] - 2  # to boot, to die and to be missed
        assert 2 < took_s < 4
        assert [round(each - took_s) for each in apart] == [2, 4, 8, 16, 32, 60, 60]
        driver.on_boot = lambda: None
        await until(lambda: named(world, "as2").power is Power.ON, 70.0)
        await asyncio.sleep(61.0)
        ordered = len(driver.orders)
        driver.on_boot = dies
        world.network.kill(SECOND)
        await until(lambda: len(driver.orders) == ordered + 1, 1.5)
        await until(lambda: len(driver.orders) == ordered + 2, took_s + 3)  # and the next wait is a short one
        driver.on_boot = lambda: None

    assert play(script, prepare=stage, standby=pool(COLD)) == []


def test_the_waits_of_the_last_incident_are_not_those_of_the_next() -> None:
    stage = Stage(1)

    async def script(world: World) -> None:
        driver = stage.drivers[1]
        driver.refuse = "no licence"
        world.network.kill(FIRST)
        await asyncio.sleep(40.0)
        assert driver.orders == ["start"] * 5
        world.restart(FIRST)
        await asyncio.sleep(150.0)
        world.network.kill(FIRST)
        await asyncio.sleep(7.0)
        assert driver.orders == ["start"] * 8

    assert play(script, prepare=stage, standby=pool(COLD)) == []


def test_one_that_dies_under_calls_is_started_again_for_them() -> None:
    stage = Stage(1)

    async def script(world: World) -> None:
        calls = [await world.place(number) for number in range(3)]
        world.network.kill(FIRST)
        await until(lambda: all_moved(world), 5.0)
        world.network.kill(SECOND)
        await until(lambda: world.node.failovers.reports[-1].backend == "as2" and all_moved(world), 10.0)
        second = world.node.failovers.reports[-1]
        assert (second.count("moved"), second.count("lost")) == (3, 0)
        assert all(hears(call, SECOND) for call in calls) and stage.drivers[1].orders == ["start"] * 2

    assert play(script, prepare=stage, standby=pool(COLD), patience_s=12.0) == []


def test_one_that_a_human_being_starts_is_used_though_it_could_not_be_started() -> None:
    stage = Stage(1)

    async def script(world: World) -> None:
        driver = stage.drivers[1]
        driver.refuse = "no licence"
        call = await world.place(1)
        world.network.kill(FIRST)
        await asyncio.sleep(7.0)
        assert driver.orders == ["start"] * 3  # the next time is 8 s later
        world.restart(SECOND)
        await until(lambda: hears(call, SECOND), 3.0)
        assert driver.orders == ["start"] * 3

    assert play(script, prepare=stage, standby=pool(COLD), patience_s=12.0) == []


class Ear:
    """The caller of test calls, which hear from a moment on."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.hears_from = 0.0

    async def place(self, call: SyntheticCall) -> Outcome:
        await asyncio.sleep(0.1)
        return Outcome(200, 0.01, silence_s=0.02 if self.world.loop.time() >= self.hears_from else None)

    async def close(self) -> None:
        return


def test_ready_is_who_answers_and_has_a_control_session_and_was_heard() -> None:
    stage = Stage(1)

    async def script(world: World) -> None:
        ear, control = Ear(world), SimpleNamespace(up=False, hurry=lambda: None)
        world.node.synthetic.callers["builtin"] = ear
        world.node.controls.of["as2"] = control
        as2 = named(world, "as2")
        call = await world.place(1)
        world.network.kill(FIRST)
        await until(lambda: as2.verdict is Verdict.UP, 4.0)
        await asyncio.sleep(1.0)
        assert as2.power is Power.STARTING and not as2.usable(world.loop.time())
        control.up = True
        ear.hears_from = world.loop.time() + 1.0
        await until(lambda: as2.power is Power.ON, 3.0)
        assert world.loop.time() >= ear.hears_from
        await until(lambda: hears(call, SECOND), 2.0)

    health = {"synthetic": {"extension": "600", "caller": "builtin", "interval_s": 3600}}
    assert play(script, prepare=stage, standby=pool(COLD), health=health) == []


def test_one_that_somebody_else_has_started_is_used_as_a_warm_one() -> None:
    stage = Stage(1)

    async def script(world: World) -> None:
        call = await world.place(1)
        world.restart(SECOND)
        await until(lambda: named(world, "as2").power is Power.ON, 3.0)
        world.network.kill(FIRST)
        await until(lambda: hears(call, SECOND), 2.0)
        assert stage.drivers[1].orders == []

    assert play(script, prepare=stage, standby=pool(COLD)) == []


def test_it_is_stopped_when_nobody_has_needed_it_for_a_while() -> None:
    stage = Stage(1)

    async def script(world: World) -> None:
        call = await world.place(1)
        world.network.kill(FIRST)
        await until(lambda: hears(call, SECOND), 5.0)
        world.restart(FIRST)
        await asyncio.sleep(120.0)
        assert stage.drivers[1].orders == ["start"]  # it has a call
        assert call.session is not None
        await call.session.bye()
        await asyncio.sleep(55.0)
        assert stage.drivers[1].orders == ["start"]
        await asyncio.sleep(10.0)
        assert stage.drivers[1].orders == ["start", "stop"] and named(world, "as2").power is Power.OFF
        again = await world.place(2)  # and it can be started again
        world.network.kill(FIRST)
        await until(lambda: hears(again, SECOND), 5.0)

    assert play(script, prepare=stage, standby=pool(COLD, cold_after_s=60)) == []


def test_new_calls_are_taken_by_a_cold_standby_when_there_were_none_to_move() -> None:
    async def script(world: World) -> None:
        world.network.kill(FIRST)
        await until(lambda: named(world, "as2").power is Power.ON, 5.0)
        assert hears(await world.place(1), SECOND)

    assert play(script, prepare=Stage(1), standby=pool(COLD)) == []


def test_a_planned_move_starts_it_too() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        report = world.node.failovers.drain(named(world, "as1"), move=True)
        assert report is not None
        await until(lambda: report.finished, 5.0)
        assert report.count("moved") == 1 and hears(call, SECOND)

    assert play(script, prepare=Stage(1), standby=pool(COLD)) == []


def cut_off_alone(*, safeguard: bool) -> None:
    """Two backends and nobody else: the primary is cut off, its standby's host is off."""

    def prepare(world: World) -> None:
        Stage(1)(world)
        routes = world.settings.routes[1:]
        world.settings = world.settings.model_copy(
            update={"pools": {"pbx": world.settings.pools["pbx"]}, "routes": routes}
        )

    def without(world: World) -> None:
        health = world.node.health
        vars(health)["_witness_at"] = health.selfcheck.witness_at

    async def script(world: World) -> None:
        call = await world.place(1)
        world.network.cut(NODE, FIRST)
        await until(lambda: hears(call, SECOND), 5.0)

    assert play(script, None if safeguard else without, prepare=prepare, standby=pool(COLD)) == []


def test_who_is_switched_off_is_not_missed_as_a_witness() -> None:
    cut_off_alone(safeguard=True)


def test_without_that_it_would_be_us_who_are_cut_off() -> None:
    with pytest.raises(AssertionError, match="did not hold within"):
        cut_off_alone(safeguard=False)
