"""Traps of the moment: what befalls a call while something else is under way in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import pytest

from proxy.sip.client_transaction import InviteClientTransaction
from proxy.sip.message import Response
from proxy.sip.user_agent import CallFailed
from tests.sim.acting import all_moved, answering, both_modes, end_at
from tests.sim.agents import Conversation
from tests.sim.raw_peer import RawPeer, sdp
from tests.sim.scenario import FIRST, PHONE, SECOND, THIRD, hears, play, until
from tests.sim.slow_media import slow_down
from tests.sim.tap import Tap
from tests.sim.world import NODE, World


def media_takes(world: World, least_s: float, most_s: float) -> None:
    slow_down(world.node.calls, (least_s, most_s), Random(world.seed))


# -- answers that come again


@both_modes
def test_a_200_that_comes_again_while_media_is_asked_does_not_end_the_call(mode: str) -> None:
    async def script(world: World) -> None:
        media_takes(world, 0.7, 0.7)  # longer than T1
        call = await world.place(1)
        await asyncio.sleep(5.0)
        assert not call.ended and hears(call, FIRST)

    assert play(script, mode=mode) == []


@both_modes
def test_a_200_with_a_late_offer_that_comes_again_waits_for_the_answer(mode: str) -> None:
    async def script(world: World) -> None:
        tap = Tap(world, FIRST)
        phone = RawPeer(world)
        phone.talk()
        phone.request(b"INVITE", 1)
        answer = await phone.expect("200 INVITE")
        assert isinstance(answer, Response) and answer.sdp
        phone.stand(answer)
        await asyncio.sleep(0.8)  # the backend says 200 again
        phone.request(b"ACK", 1, body=sdp(phone.address))
        await asyncio.sleep(5.0)
        (ack,) = tap.of(b"ACK")
        assert b"m=audio" in ack.sdp and tap.of(b"BYE") == []
        await phone.bye(2)

    assert play(script, mode=mode) == []


@both_modes
def test_a_200_to_a_re_invite_with_a_late_offer_that_comes_again_waits_for_the_answer(mode: str) -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call()
        tap = Tap(world, FIRST)
        phone.request(b"INVITE", 2)
        answer = await phone.expect("200 INVITE")
        assert isinstance(answer, Response) and answer.sdp
        await asyncio.sleep(0.8)
        phone.request(b"ACK", 2, body=sdp(phone.address, version=2, lines=b"a=sendonly\r\n"))
        await asyncio.sleep(1.0)
        (ack,) = tap.of(b"ACK")
        assert b"a=sendonly" in ack.sdp
        await phone.bye(3)

    assert play(script, mode=mode) == []


# -- re-INVITEs under way


def test_a_re_invite_of_a_backend_that_lives_after_all_gets_an_answer() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call(b"X-Call: 1")
        end = end_at(world, FIRST)
        holding = world.on_server(FIRST, end.hold())
        reinvite = await phone.expect_request("INVITE")
        phone.reply(reinvite, 100)  # asks its user
        world.network.freeze(FIRST)
        cancel = await phone.expect_request("CANCEL")
        phone.reply(cancel, 200)
        phone.reply(reinvite, 487)
        await until(lambda: all_moved(world), 2.0)
        world.network.thaw(FIRST)
        with pytest.raises(CallFailed):
            await holding
        await phone.bye(2)

    assert play(script) == []


# -- late offers


@both_modes
def test_a_call_whose_late_offer_is_not_answered_yet_is_carried_over_with_the_answer(mode: str) -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        phone.request(b"INVITE", 1)
        answer = await phone.expect("200 INVITE")
        assert isinstance(answer, Response) and answer.sdp
        phone.stand(answer)
        world.network.kill(FIRST)
        await asyncio.sleep(1.0)
        phone.request(b"ACK", 1, body=sdp(phone.address, port=4444))
        if mode == "direct":
            reinvite = await phone.expect_request("INVITE")
            phone.reply(reinvite, 200, body=sdp(phone.address, port=4444))
        await until(lambda: all_moved(world), 2.0)
        (end,) = world.servers[SECOND].live
        phone.talk(4444)
        assert hears(end, phone.address)
        await phone.bye(2)
        phone.hang_up_audio(4444)

    assert play(script, mode=mode) == []


@both_modes
def test_the_answer_to_the_late_offer_that_a_dead_backend_asked_for_is_the_backups(mode: str) -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call(b"X-Call: 1")
        world.on_server(FIRST, ask_for_an_offer(end_at(world, FIRST)))
        reinvite = await phone.expect_request("INVITE")
        assert not reinvite.sdp
        world.network.kill(FIRST)
        phone.reply(reinvite, 200, body=sdp(phone.address, port=4444))
        phone.talk(4444)
        ack = await phone.expect_request("ACK")
        assert b"m=audio" in ack.sdp
        await until(lambda: all_moved(world), 2.0)
        (end,) = world.servers[SECOND].live
        assert hears(end, phone.address) and phone.count("BYE") == 0
        await phone.bye(2)
        phone.hang_up_audio(4444)

    assert play(script, mode=mode) == []


async def ask_for_an_offer(end: Conversation) -> None:
    assert end.session is not None
    await end.session.reinvite(b"")


# -- backups that answer badly


def answers(world: World, address: str, answer: Callable[[Conversation], bytes]) -> None:
    """From now on this server answers calls with that description."""
    world.servers[address].ua.on_invite = answering(world.servers[address], answer)


def without_address(conversation: Conversation) -> bytes:
    return sdp(conversation.agent.host.address, conversation.port, connection=False)


def with_pcmu_only(conversation: Conversation) -> bytes:
    return sdp(conversation.agent.host.address, conversation.port).replace(b"RTP/AVP 8 101", b"RTP/AVP 0 101")


def test_an_answer_without_an_address_fails_the_call_and_ends_the_dialog() -> None:
    async def script(world: World) -> None:
        answers(world, FIRST, without_address)
        with pytest.raises(CallFailed, match="500"):
            await world.place(1)
        await until(lambda: not world.servers[FIRST].live, 1.0)

    assert play(script) == []


@both_modes
def test_a_backup_whose_answer_has_no_address_is_passed_over(mode: str) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        answers(world, SECOND, without_address)
        answers(world, THIRD, lambda conversation: conversation.describe())
        tap = Tap(world, SECOND)
        world.network.kill(FIRST)
        await until(lambda: hears(call, THIRD), 4.0)
        await asyncio.sleep(1.0)
        assert not world.servers[SECOND].live  # and it was told
        assert len(tap.of(b"ACK")) == len(tap.of(b"BYE")) == len(tap.of(b"INVITE"))

    assert play(script, mode=mode, servers=3) == []


def test_a_planned_move_that_the_caller_refuses_leaves_the_call_as_it_was() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        answers(world, SECOND, with_pcmu_only)
        assert call.session is not None
        call.session.on_offer = lambda offer: 488
        first = world.node.backends.get("as1")
        assert first is not None
        world.node.failovers.drain(first, move=True)
        await until(lambda: all_moved(world), 40.0)
        assert world.node.failovers.reports[0].count("lost") == 1
        call.session.on_offer = call.answer
        assert hears(call, FIRST) and hears(end_at(world, FIRST), PHONE)
        await call.hold()
        await asyncio.sleep(2.0)
        assert not world.servers[SECOND].live

    assert play(script) == []


def test_a_call_that_stands_when_the_deadline_passes_is_not_ended_for_lack_of_audio() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        await asyncio.sleep(1.0)
        answers(world, SECOND, lambda conversation: conversation.describe(b"inactive"))
        world.network.kill(FIRST)
        await until(lambda: all_moved(world), 8.0)
        assert not call.ended
        (report,) = world.node.failovers.reports
        assert report.results[0].result == "moved" and report.results[0].audio is False

    assert play(script, recovery={"deadline_s": 1, "verify_audio_ms": 5000}) == []


# -- requests that the dead backend owes an answer


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
    world.network.cut(SECOND, NODE, both=False)  # hears, and is not heard
    world.network.kill(FIRST)
    await until(lambda: hears(call, THIRD), 3.0)
    assert [end.number for end in world.servers[SECOND].live] == [b"1"]
    world.network.join(SECOND, NODE, both=False)
    await until(lambda: not world.servers[SECOND].live, 5.0)  # and not only when its 200 times out
    assert len(tap.of(b"ACK")) == len(tap.of(b"BYE")) == len({invite.call_id for invite in tap.of(b"INVITE")})
    assert hears(call, THIRD)


@both_modes
def test_a_late_200_of_a_backup_that_was_passed_over_is_ended(mode: str) -> None:
    recovery = {"answer_timeout_ms": 200}
    assert play(answer_timeout_is_short, mode=mode, servers=3, recovery=recovery) == []


def test_a_late_200_that_nobody_ends_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InviteClientTransaction, "give_up", lambda placed: placed.fail(408))
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


# -- one re-INVITE after the other


def test_a_re_invite_after_one_whose_ack_was_lost_does_not_end_the_call() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call()
        phone.request(b"INVITE", 2, body=sdp(phone.address, version=2))
        await phone.expect("200 INVITE")  # its ACK is lost
        phone.request(b"INVITE", 3, body=sdp(phone.address, version=3))
        while phone.heard[-1][1].cseq != 3:
            await phone.expect("200 INVITE")
        phone.request(b"ACK", 3)
        await asyncio.sleep(40.0)
        assert phone.count("BYE") == 0
        await phone.bye(4)

    assert play(script) == []


def test_a_second_re_invite_before_the_first_is_answered_gets_500_at_once() -> None:
    async def script(world: World) -> None:
        media_takes(world, 0.3, 0.3)
        phone = RawPeer(world)
        phone.talk()
        await phone.call()
        phone.request(b"INVITE", 2, body=sdp(phone.address, version=2))
        phone.request(b"INVITE", 3, body=sdp(phone.address, version=3))
        refusal = await phone.expect("500 INVITE", 0.1)
        assert refusal.cseq == 3 and refusal.get(b"retry-after")
        phone.request(b"ACK", 3, branch=b"z9hG4bKraw%d" % phone.sent)
        await phone.expect("200 INVITE")
        phone.request(b"ACK", 2)
        await phone.bye(4)

    assert play(script) == []
