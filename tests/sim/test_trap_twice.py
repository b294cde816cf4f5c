"""Traps of what befalls a call while it is being carried over already: nobody else may forget it."""

from __future__ import annotations

import asyncio

from proxy.backends import Backend, Verdict
from proxy.sip.user_agent import Incoming
from tests.sim.acting import all_moved, end_at
from tests.sim.agents import Conversation
from tests.sim.raw_peer import RawPeer
from tests.sim.scenario import FIRST, SECOND, hears, play, until
from tests.sim.world import World


def backend(world: World, name: str) -> Backend:
    found = world.node.backends.get(name)
    assert found is not None
    return found


def test_a_primary_that_dies_in_a_planned_move_loses_no_call() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        backup = world.servers[SECOND]
        backup.ring_s = (60.0, 60.0)
        world.node.failovers.drain(backend(world, "as1"), move=True)
        await until(lambda: backup.calls, 1.0)
        world.network.kill(FIRST)  # the planned move runs into its deadline
        await until(lambda: backend(world, "as1").fenced, 1.0)
        backup.ring_s = (0.0, 0.0)
        await until(lambda: hears(call, SECOND), 4.0)
        assert not call.ended

    assert play(script, recovery={"deadline_s": 2}, patience_s=8.0) == []


def test_a_planned_move_does_not_wait_for_the_answer_of_a_primary_that_has_died() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call(b"X-Call: 1")
        end = end_at(world, FIRST)
        assert end.session is not None
        world.on_server(FIRST, end.hold())
        reinvite = await phone.expect_request("INVITE")
        phone.reply(reinvite, 100)  # asks its user
        world.node.failovers.drain(backend(world, "as1"), move=True)
        await asyncio.sleep(0.2)
        assert not world.servers[SECOND].calls, "a planned move lets what is under way end first"
        world.network.kill(FIRST)
        phone.reply(await phone.expect_request("CANCEL"), 200)
        phone.reply(reinvite, 487)
        await until(lambda: all_moved(world), 1.0)
        await phone.bye(2)

    assert play(script) == []


def test_a_backup_that_forgets_a_call_while_its_audio_is_verified_does_not_keep_the_caller_waiting() -> None:
    async def script(world: World) -> None:
        backup = world.servers[SECOND]

        async def answers_silently(incoming: Incoming) -> None:
            end = Conversation(backup, b"1")
            session = incoming.accept(end.answer(incoming.offer))
            assert session is not None
            end.talk(session)

        call = await world.place(1)
        await asyncio.sleep(0.5)
        backup.ua.on_invite = answers_silently
        world.network.kill(FIRST)
        await until(lambda: backup.live, 1.0)
        await asyncio.sleep(0.02)
        world.network.kill(SECOND)
        world.restart(SECOND)
        assert call.session is not None
        assert await call.session.info(b"application/dtmf-relay", b"Signal=5\r\n") == 200
        assert hears(call, SECOND)

    assert play(script) == []


# -- one rule for the fence


def test_a_backend_that_comes_back_degraded_is_not_fenced_any_more() -> None:
    async def script(world: World) -> None:
        first, second = backend(world, "as1"), backend(world, "as2")
        world.network.kill(FIRST)
        await until(lambda: first.verdict is Verdict.DOWN, 1.0)
        world.restart(FIRST)
        world.servers[FIRST].ua.on_outside = lambda request: 503  # it lives, and asks for less
        await until(lambda: first.verdict is Verdict.DEGRADED, 10.0)
        world.network.kill(SECOND)
        await until(lambda: second.verdict is Verdict.DOWN, 1.0)
        call = await world.place(1)  # there is nobody better
        assert hears(call, FIRST)

    assert play(script) == []


def test_an_operator_cannot_let_in_a_backend_that_does_not_answer() -> None:
    async def script(world: World) -> None:
        first = backend(world, "as1")
        call = await world.place(1)
        world.node.failovers.failover(first)
        await until(lambda: hears(call, SECOND), 1.0)
        world.network.freeze(FIRST)
        await until(lambda: first.verdict is Verdict.SUSPECT, 1.0)
        world.node.failovers.ready(first)
        assert first.fenced
        world.network.thaw(FIRST)
        await until(lambda: not first.fenced and not world.servers[FIRST].live, 10.0)

    assert play(script) == []
