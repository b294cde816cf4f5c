"""What an operator orders, and what he is told: at once what can be known at once, and afterwards what became of it."""

from __future__ import annotations

import asyncio

from proxy.backends import Backend, Verdict
from proxy.sip.user_agent import Incoming
from tests.sim.acting import all_moved
from tests.sim.scenario import FIRST, SECOND, hears, play, until
from tests.sim.world import World


def backend(world: World, name: str) -> Backend:
    found = world.node.backends.get(name)
    assert found is not None
    return found


def test_calls_that_can_go_nowhere_stay_and_the_operator_knows_at_once() -> None:
    async def script(world: World) -> None:
        calls = [await world.place(number) for number in range(3)]
        world.network.kill(SECOND)
        await until(lambda: backend(world, "as2").verdict is Verdict.DOWN, 2.0)
        report = world.node.failovers.drain(backend(world, "as1"), move=True)
        assert report is not None
        assert report.warning == "no backend of pool pbx can take them now; one is waited for, 2 s"
        assert (0.0, report.warning) in report.timeline
        await until(lambda: report.finished, 5.0)
        assert (report.count("stayed"), report.count("lost"), report.count("moved")) == (3, 0, 0)
        assert report.summary()["stayed"] == 3 and report.timeline[-1][1] == "0 moved, 0 lost, 0 ended, 3 stayed"
        assert all(hears(call, FIRST) for call in calls)

    assert play(script, recovery={"deadline_s": 2}) == []


def test_a_failover_without_a_backup_says_so_at_once() -> None:
    async def script(world: World) -> None:
        await world.place(1)
        world.network.kill(SECOND)
        await until(lambda: backend(world, "as2").verdict is Verdict.DOWN, 2.0)
        world.network.kill(FIRST)
        await until(lambda: bool(world.node.failovers.reports), 2.0)
        (report,) = world.node.failovers.reports
        assert not report.finished and "no backend of pool pbx" in report.warning
        world.restart(SECOND)
        await until(lambda: all_moved(world), 20.0)

    assert play(script) == []


def test_what_a_backup_refuses_is_told_at_once_and_summed_up() -> None:
    async def script(world: World) -> None:
        calls = [await world.place(number) for number in range(4)]

        async def busy(incoming: Incoming) -> None:
            incoming.reject(486)

        answers, world.servers[SECOND].ua.on_invite = world.servers[SECOND].ua.on_invite, busy
        world.network.kill(FIRST)
        await until(lambda: bool(world.node.failovers.reports), 2.0)
        (report,) = world.node.failovers.reports
        await until(lambda: any("as2: 486" in what for _, what in report.timeline), 0.5)
        await asyncio.sleep(0.2)
        world.servers[SECOND].ua.on_invite = answers
        await until(lambda: report.finished, 20.0)
        assert report.summary()["refused"] == {"as2: 486 Busy Here": 4}
        assert "as2 refused 4 calls: 486 Busy Here" in [what for _, what in report.timeline]
        assert report.count("moved") == 4 and all(hears(call, SECOND) for call in calls)

    assert play(script) == []


def test_an_operator_lets_in_a_backend_that_flapped() -> None:
    async def script(world: World) -> None:
        for _ in range(4):
            world.network.freeze(FIRST)
            await asyncio.sleep(2.0)
            world.network.thaw(FIRST)
            await asyncio.sleep(3.0)
        first = backend(world, "as1")
        assert world.node.health.explain(first)["diagnosis"] == "Flapping" and not first.usable(world.loop.time())
        world.node.failovers.ready(first)
        assert first.verdict is Verdict.UP and first.usable(world.loop.time())
        assert hears(await world.place(1), FIRST)
        world.network.freeze(FIRST)  # and it counts anew
        await asyncio.sleep(2.0)
        world.network.thaw(FIRST)
        await asyncio.sleep(3.0)
        assert first.verdict is Verdict.UP

    assert play(script) == []
