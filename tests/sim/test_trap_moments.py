"""Traps of the moment: what befalls a call while something else is under way in it."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from proxy.sip.message import Response
from proxy.sip.user_agent import CallFailed
from tests.sim.raw_peer import RawPeer, sdp
from tests.sim.scenario import FIRST, hears, play, until
from tests.sim.slow_media import slow_down
from tests.sim.tap import Tap
from tests.sim.test_traps import both_modes, end_at
from tests.sim.world import World


def all_moved(world: World) -> bool:
    reports = world.node.failovers.reports
    return bool(reports) and all(report.finished for report in reports)


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
