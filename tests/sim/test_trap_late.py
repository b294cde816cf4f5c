"""Traps of what comes late, or not at all: answers that the dead backend owes, and those that it gives after all."""

from __future__ import annotations

import asyncio

import pytest

from proxy.backends import Admin
from proxy.calls import strays
from proxy.sip.client_transaction import InviteClientTransaction
from proxy.sip.user_agent import CallFailed
from tests.sim.acting import both_modes, end_at
from tests.sim.agents import Conversation
from tests.sim.raw_peer import RawPeer
from tests.sim.scenario import FIRST, SECOND, THIRD, hears, play, until
from tests.sim.slow_media import media_takes
from tests.sim.tap import Tap
from tests.sim.world import NODE, World

# -- requests that the dead backend owes an answer


@both_modes
def test_a_re_invite_that_a_frozen_backend_answers_at_last_is_acknowledged(mode: str) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        world.network.freeze(FIRST)
        await call.hold()  # answered by the backup in its place
        tap = Tap(world, FIRST)
        await asyncio.sleep(1.0)
        world.network.thaw(FIRST)  # it finds the re-INVITE in its socket, and says 200
        await asyncio.sleep(3.0)
        assert [ack.cseq for ack in tap.of(b"ACK")] == [2]
        assert hears(end_at(world, SECOND), "10.0.1.1") and not world.servers[FIRST].live

    assert play(script, mode=mode) == []


async def presses_a_key(world: World, call: Conversation) -> int:
    assert call.session is not None
    return await call.session.info(b"application/dtmf-relay", b"Signal=5\r\n")


@both_modes
@pytest.mark.parametrize("fault", ["freeze", "restart"])
def test_a_key_that_was_pressed_as_the_backend_died_reaches_the_backup(mode: str, fault: str) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        tap = Tap(world, SECOND if fault == "freeze" else FIRST)
        if fault == "freeze":
            world.network.freeze(FIRST)
        else:
            world.restart(FIRST)  # between two probes: the new process answers 481
        assert await presses_a_key(world, call) == 200  # a caller that sees 481 or 408 would hang up
        await asyncio.sleep(1.0)
        keys = tap.of(b"INFO")
        assert keys[-1].body == b"Signal=5\r\n" and keys[-1].cseq > 1
        assert not call.ended and call.hears()

    assert play(script, mode=mode) == []


@both_modes
def test_a_re_invite_that_finds_its_dialog_forgotten_is_answered_by_who_takes_its_place(mode: str) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        world.restart(FIRST)
        await call.hold()  # raises when it is refused
        await asyncio.sleep(1.0)
        (end,) = [end for server in world.servers.values() for end in server.live]
        assert end.direction == b"recvonly"
        await call.hold(b"sendrecv")
        assert call.hears()

    assert play(script, mode=mode) == []


def test_an_update_that_the_dead_backend_owes_an_answer_may_be_tried_again() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        assert call.session is not None
        world.network.freeze(FIRST)
        with pytest.raises(CallFailed, match="500"):  # not 408, which ends a dialog (RFC 3261 §12.2.1.2)
            await call.session.update(call.describe(b"sendonly"))
        await call.session.update(call.describe(b"sendonly"))
        assert end_at(world, SECOND).direction == b"recvonly"

    assert play(script) == []


def test_what_waits_for_an_answer_when_the_call_ends_is_answered() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call()
        world.network.freeze(FIRST)
        phone.request(b"INFO", 2)
        phone.request(b"BYE", 3)
        await phone.expect("481 INFO")

    assert play(script) == []


# -- what comes late from a backend that was given up


async def answer_timeout_is_short(world: World) -> None:
    call = await world.place(1)
    tap = Tap(world, SECOND)
    third = world.node.backends.get("as3")
    assert third is not None
    third.admin = Admin.DRAIN
    world.network.cut(SECOND, NODE, both=False)  # hears, and is not heard
    world.network.kill(FIRST)
    await until(lambda: [end.number for end in world.servers[SECOND].live] == [b"1"], 1.0)
    third.admin = Admin.READY
    await until(lambda: hears(call, THIRD), 3.0)
    world.network.join(SECOND, NODE, both=False)
    await until(lambda: not world.servers[SECOND].live, 5.0)  # and not only when its 200 times out
    assert len(tap.of(b"ACK")) == len(tap.of(b"BYE")) == len({invite.call_id for invite in tap.of(b"INVITE")})
    assert hears(call, THIRD)


@both_modes
def test_a_late_200_of_a_backup_that_was_passed_over_is_ended(mode: str) -> None:
    recovery = {"answer_timeout_ms": 200}
    assert play(answer_timeout_is_short, mode=mode, servers=3, recovery=recovery) == []


@pytest.mark.plain
def test_a_late_200_that_nobody_ends_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InviteClientTransaction, "give_up", lambda placed: placed.fail(408))
    monkeypatch.setattr(strays, "receive", lambda calls, message: None)  # who would end it all the same
    with pytest.raises(AssertionError, match="within 5"):
        play(answer_timeout_is_short, servers=3, recovery={"answer_timeout_ms": 200})


@both_modes
def test_a_late_200_to_a_call_that_rang_at_the_dead_backend_is_ended(mode: str) -> None:
    async def script(world: World) -> None:
        world.servers[FIRST].ring_s = (1.0, 1.0)
        placing = asyncio.create_task(world.place(1))
        await asyncio.sleep(0.5)
        world.network.freeze(FIRST)
        call = await placing
        assert hears(call, SECOND)
        await asyncio.sleep(1.0)
        world.network.thaw(FIRST)
        await asyncio.sleep(0.1)
        await until(lambda: not world.servers[FIRST].live, 5.0)
        assert hears(call, SECOND)

    assert play(script, mode=mode) == []


@both_modes
def test_a_call_that_the_dead_backend_answers_while_it_waits_for_its_turn_is_carried_over(mode: str) -> None:
    async def script(world: World) -> None:
        world.servers[FIRST].ring_s = (0.5, 0.5)
        world.network.cut(NODE, SECOND)  # nobody is there to take it
        await asyncio.sleep(2.0)
        placing = asyncio.create_task(world.place(1))
        await asyncio.sleep(0.2)
        first = world.node.backends.get("as1")
        assert first is not None
        world.node.failovers.failover(first)
        call = await placing
        world.network.join(NODE, SECOND)
        await until(lambda: hears(call, SECOND), 5.0)
        await asyncio.sleep(1.0)
        world.node.failovers.ready(first)

    assert play(script, mode=mode) == []


@both_modes
def test_a_backend_that_dies_while_media_hears_of_its_answer_is_replaced_once_the_call_stands(mode: str) -> None:
    async def script(world: World) -> None:
        media_takes(world, 0.5, 0.5)
        placing = asyncio.create_task(world.place(1))
        await asyncio.sleep(0.6)
        assert world.servers[FIRST].calls  # it has answered, and media has not
        world.network.kill(FIRST)
        call = await placing
        await until(lambda: hears(call, SECOND), 5.0)
        await asyncio.sleep(5.0)
        assert not call.ended

    assert play(script, mode=mode) == []
