"""Traps of what must not cross from one leg to the other, and of whom a call may be sent to."""

from __future__ import annotations

import asyncio

import pytest

from proxy.backends import Admin
from proxy.sip.user_agent import CallFailed, Incoming
from tests.sim.acting import answering
from tests.sim.raw_peer import RawPeer, sdp
from tests.sim.scenario import FIRST, SECOND, THIRD, hears, play
from tests.sim.tap import Tap
from tests.sim.world import World

# -- abilities


def test_session_timers_of_one_side_are_not_demanded_of_the_other() -> None:
    async def script(world: World) -> None:
        server, tap = world.servers[FIRST], Tap(world, FIRST)
        timed = [(b"Session-Expires", b"1800;refresher=uac"), (b"Require", b"timer"), (b"Supported", b"timer")]
        server.ua.on_invite = answering(server, lambda end: end.describe(), timed)
        phone = RawPeer(world)
        phone.talk()
        answer = await phone.call(b"X-Call: 1", b"Require: timer, x-any", b"Session-Expires: 1800;refresher=uas")
        invite = tap.of(b"INVITE")[0]
        assert invite.list(b"require") == [b"x-any"]
        assert invite.has_option(b"supported", b"timer"), "that is our own"
        assert not answer.has_option(b"require", b"timer") and not answer.has_option(b"supported", b"timer")
        await phone.bye(2)

    assert play(script) == []


def test_a_re_invite_does_not_ask_for_reliable_responses_that_nobody_would_acknowledge() -> None:
    async def script(world: World) -> None:
        tap = Tap(world, FIRST)
        phone = RawPeer(world)
        phone.talk()
        await phone.call(b"X-Call: 1", b"Supported: 100rel, replaces")
        body = sdp(phone.address, version=2, lines=b"a=sendonly\r\n")
        phone.request(b"INVITE", 2, b"Supported: 100rel, replaces", b"Require: 100rel", body=body)
        await phone.expect("200 INVITE")
        phone.request(b"ACK", 2)
        first, again = tap.of(b"INVITE")
        assert first.has_option(b"supported", b"100rel")
        assert again.list(b"supported") == [b"replaces", b"timer"] and again.get(b"require") is None
        await phone.bye(3)

    assert play(script) == []


def test_an_update_that_crosses_keeps_the_session_timer_of_the_other_leg() -> None:
    async def script(world: World) -> None:
        server, tap = world.servers[FIRST], Tap(world, FIRST)
        timed = [(b"Session-Expires", b"90;refresher=uac"), (b"Require", b"timer")]
        server.ua.on_invite = answering(server, lambda end: end.describe(), timed)
        phone = RawPeer(world)
        phone.talk()
        await phone.call(b"X-Call: 1")
        phone.request(b"UPDATE", 2, body=sdp(phone.address, version=2, lines=b"a=sendonly\r\n"))
        await phone.expect("200 UPDATE")
        (update,) = tap.of(b"UPDATE")
        assert update.get(b"session-expires") == b"90;refresher=uac" and update.has_option(b"supported", b"timer")
        await phone.bye(3)

    assert play(script) == []


# -- redirects


def redirects_to(*addresses: str) -> object:
    async def on_invite(incoming: Incoming) -> None:
        contacts = ", ".join(f"<sip:100@{address}>" for address in addresses)
        incoming.reject(302, [(b"Contact", contacts.encode())])

    return on_invite


def follows_redirects(world: World) -> None:
    calls = world.node.calls
    sip = calls.settings.sip.model_copy(update={"follow_redirects": True})
    calls.settings = calls.settings.model_copy(update={"sip": sip})


def test_a_redirect_is_not_followed_to_a_backend_that_takes_no_calls() -> None:
    async def script(world: World) -> None:
        follows_redirects(world)
        second = world.node.backends.get("as2")
        assert second is not None
        second.admin = Admin.DRAIN
        world.servers[FIRST].ua.on_invite = redirects_to(SECOND, THIRD)  # type: ignore[assignment]
        call = await world.place(1)
        assert hears(call, THIRD) and not world.servers[SECOND].calls
        assert call.session is not None
        await call.session.bye()
        world.servers[FIRST].ua.on_invite = redirects_to(SECOND)  # type: ignore[assignment]
        with pytest.raises(CallFailed, match="302"):
            await world.place(2)

    assert play(script, servers=3) == []


# -- pace


def test_calls_that_ring_are_paced_by_the_answers_of_the_backup() -> None:
    """A backup that does not even say 100 Trying is not sent more INVITEs at once than it may have unanswered."""

    async def script(world: World) -> None:
        world.servers[FIRST].ring_s = (30.0, 30.0)
        placing = [asyncio.create_task(world.place(number)) for number in range(20)]
        await asyncio.sleep(0.2)
        world.network.freeze(SECOND)
        world.network.kill(FIRST)
        tap = Tap(world, SECOND)
        await asyncio.sleep(0.15)
        assert len(tap.of(b"INVITE")) == 4
        world.network.thaw(SECOND)
        await asyncio.gather(*placing)
        assert all(pace.unanswered == 0 for pace in world.node.failovers._paces.values())

    assert play(script, recovery={"unanswered_max": 4}) == []
