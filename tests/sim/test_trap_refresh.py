"""Traps of a re-INVITE of our own: it refreshes the session timer, its answer counts, its refusal need not be final."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from proxy.sip.message import Request
from proxy.sip.user_agent import CallFailed
from tests.sim.acting import all_moved, answering, both_modes, end_at
from tests.sim.raw_peer import RawPeer, sdp
from tests.sim.scenario import FIRST, PHONE, SECOND, THIRD, hears, play, until
from tests.sim.tap import Tap
from tests.sim.world import World

TIMED = (b"Session-Expires: 90;refresher=uas", b"Supported: timer", b"Allow: INVITE, ACK, BYE, CANCEL")
OURS = b"Session-Expires: 90;refresher=uac"


async def next_reinvite(phone: RawPeer, within_s: float = 60.0) -> Request:
    return await phone.expect_request("INVITE", within_s)


def test_the_re_invite_of_a_recovery_refreshes_the_session_timer() -> None:
    async def script(world: World) -> None:
        call = await world.place(1, headers=[(b"Session-Expires", b"90;refresher=uas"), (b"Supported", b"timer")])
        phone = Tap(world, PHONE)
        await asyncio.sleep(30.0)
        world.network.kill(FIRST)
        await until(lambda: hears(call, SECOND), 2.0)
        (reinvite,) = phone.of(b"INVITE")
        assert reinvite.get(b"session-expires") == b"90;refresher=uac"
        assert reinvite.has_option(b"supported", b"timer")
        await asyncio.sleep(30.0)
        assert not phone.of(b"UPDATE"), "the old timer goes on"

    assert play(script, mode="direct") == []


@both_modes
def test_what_the_answer_to_a_refresh_says_is_taken(mode: str) -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call(b"X-Call: 1", *TIMED)
        end = end_at(world, FIRST)
        reinvite = await next_reinvite(phone)
        phone.talk(5000)
        phone.reply(reinvite, 200, OURS, body=sdp(phone.address, 5000, version=2))
        await phone.expect("ACK")
        await until(lambda: end.hears() == (phone.address, 5000), 1.0)
        phone.hang_up_audio(5000)
        await phone.bye(2)

    assert play(script, mode=mode) == []


def test_a_refresh_that_meets_491_waits_as_the_one_who_did_not_make_the_dialog() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call(b"X-Call: 1", *TIMED)
        at = []
        for _ in range(4):
            reinvite = await next_reinvite(phone)
            phone.reply(reinvite, 491)
            at.append(world.loop.time())
        phone.reply(await next_reinvite(phone), 200, OURS, body=sdp(phone.address))
        waits = [later - earlier for earlier, later in itertools.pairwise(at)]
        assert all(0 <= wait < 2.05 for wait in waits) and min(waits) < 1.9
        await phone.bye(2)

    assert play(script) == []


def test_a_refresh_that_meets_491_waits_longer_as_the_one_who_made_the_dialog() -> None:
    async def script(world: World) -> None:
        server = world.servers[FIRST]
        timed = [(b"Session-Expires", b"90;refresher=uac"), (b"Require", b"timer")]
        server.ua.on_invite = answering(server, lambda end: end.describe(), timed)
        await world.place(1)
        end, at = end_at(world, FIRST), []
        assert end.session is not None

        def busy(request: Request) -> int:
            at.append(world.loop.time())
            return 491 if len(at) < 5 else 200

        end.session.on_request = busy
        await until(lambda: len(at) == 5, 70.0)
        waits = [later - earlier for earlier, later in itertools.pairwise(at)]
        assert all(2.1 <= wait <= 4.05 for wait in waits)

    assert play(script, patience_s=8.0) == []


@both_modes
def test_a_refresh_after_a_refused_offer_is_a_new_version(mode: str) -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call(b"X-Call: 1", *TIMED)
        holding = world.on_server(FIRST, end_at(world, FIRST).hold())
        phone.reply(await next_reinvite(phone), 488)
        with pytest.raises(CallFailed):
            await holding
        refresh = await next_reinvite(phone)
        assert b"a=sendonly" not in refresh.sdp  # that its version has grown is among the checks of every scenario
        phone.reply(refresh, 200, OURS, body=sdp(phone.address))
        await phone.bye(2)

    assert play(script, mode=mode) == []


def test_a_re_invite_that_crosses_is_sent_again_with_the_interval_that_the_other_side_wants() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call(b"X-Call: 1")
        tap = Tap(world, phone.address)
        end = end_at(world, FIRST)
        holding = world.on_server(FIRST, end.hold())
        phone.reply(await next_reinvite(phone), 422, b"Min-SE: 3600")
        again = await next_reinvite(phone)
        assert (again.get(b"session-expires"), again.get(b"min-se")) == (b"3600", b"3600")
        phone.reply(again, 200, body=sdp(phone.address))
        await holding
        assert len(tap.of(b"INVITE")) == 2
        await phone.bye(2)

    assert play(script) == []


# -- refusals of the survivor


def test_a_caller_that_is_busy_is_asked_again_when_he_says() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call(b"X-Call: 1")
        world.network.kill(FIRST)
        phone.reply(await next_reinvite(phone, 2.0), 500, b"Retry-After: 3")
        asked = world.loop.time()
        phone.reply(await next_reinvite(phone, 5.0), 200, body=sdp(phone.address))
        assert 3.0 <= world.loop.time() - asked < 3.5
        await until(lambda: all_moved(world), 1.0)
        assert world.node.failovers.reports[0].count("moved") == 1
        await phone.bye(2)

    assert play(script, mode="direct") == []


def test_a_caller_who_cannot_take_what_one_backup_offers_is_given_another() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        assert call.session is not None
        refused = []

        def picky(offer: bytes) -> bytes | int:
            if not refused:
                refused.append(offer)
                return 488
            return call.answer(offer)

        call.session.on_offer = picky
        world.network.kill(FIRST)
        await until(lambda: all_moved(world), 3.0)
        other = THIRD if SECOND.encode() in refused[0] else SECOND
        assert hears(call, other)

    assert play(script, mode="direct", servers=3) == []


@pytest.mark.parametrize("status", [488, 403])
def test_a_caller_who_takes_nothing_is_hung_up_on(status: int) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        world.hung_up.add(b"1")  # as it must be
        assert call.session is not None
        call.session.on_offer = lambda offer: status
        world.network.kill(FIRST)
        await until(lambda: call.ended, 5.0)
        assert f"{status}" in world.node.failovers.reports[0].results[0].error

    assert play(script, mode="direct", servers=3) == []
