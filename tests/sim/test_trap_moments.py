"""Traps of the moment: what befalls a call while something else is under way in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from proxy.sip.message import Response
from proxy.sip.user_agent import CallFailed
from tests.sim.acting import all_moved, answering, both_modes, end_at
from tests.sim.agents import Conversation
from tests.sim.raw_peer import RawPeer, sdp
from tests.sim.scenario import FIRST, PHONE, SECOND, THIRD, hears, play, until
from tests.sim.slow_media import media_takes
from tests.sim.tap import Tap
from tests.sim.world import World

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


def test_an_answer_that_the_dead_backend_asked_for_lets_nothing_overtake_the_recovery() -> None:
    async def script(world: World) -> None:
        media_takes(world, 0.05, 0.05)
        world.servers[SECOND].ring_s = (2.0, 2.0)
        phone = RawPeer(world)
        phone.talk()
        await phone.call(b"X-Call: 1")
        end = end_at(world, FIRST)
        assert end.session is not None
        world.on_server(FIRST, end.session.update(end.describe()))
        update = await phone.expect_request("UPDATE")
        world.network.freeze(FIRST)
        await until(lambda: world.servers[SECOND].calls, 2.0)
        phone.reply(update, 200, body=sdp(phone.address))  # its own media answer comes while the backup still rings
        await asyncio.sleep(0.2)
        phone.request(b"INVITE", 2, body=sdp(phone.address, version=2, lines=b"a=sendonly\r\n"))
        await phone.expect("200 INVITE")  # by the backup: to send it to the dead would be to lose it
        phone.request(b"ACK", 2)
        assert end_at(world, SECOND).direction == b"recvonly"
        await phone.bye(3)

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
        assert world.node.failovers.reports[0].count("stayed") == 1
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
