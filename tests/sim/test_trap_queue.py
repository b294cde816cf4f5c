"""Traps of requests that wait for their turn, and of those that meet each other."""

from __future__ import annotations

import asyncio

from tests.sim.acting import end_at
from tests.sim.link import LinkModel
from tests.sim.raw_peer import RawPeer, sdp
from tests.sim.scenario import FIRST, SECOND, play, until
from tests.sim.tap import Tap
from tests.sim.world import World


async def while_it_is_carried_over(world: World) -> RawPeer:
    """A phone whose call waits for a backup that rings for a second."""
    phone = RawPeer(world)
    phone.talk()
    await phone.call(b"X-Call: 1")
    world.servers[SECOND].ring_s = (1.0, 1.0)
    world.network.kill(FIRST)
    await until(lambda: world.servers[SECOND].calls, 2.0)
    return phone


def assert_complaints_of_a_fault(complaints: list[str]) -> None:
    """It is logged and counted as what it is, and that is all."""
    logged, counted = complaints
    assert "a fault" in logged and "handler" in counted


def test_a_re_invite_that_waits_can_be_cancelled() -> None:
    async def script(world: World) -> None:
        phone = await while_it_is_carried_over(world)
        tap = Tap(world, SECOND)
        branch = phone.request(b"INVITE", 2, body=sdp(phone.address, version=2, lines=b"a=sendonly\r\n"))
        await asyncio.sleep(0.1)
        phone.request(b"CANCEL", 2, branch=branch)
        await phone.expect("487 INVITE", 0.1)
        phone.request(b"ACK", 2, branch=branch)
        await until(lambda: world.servers[SECOND].live, 2.0)
        await asyncio.sleep(1.0)
        assert not tap.of(b"INVITE")
        await phone.bye(3)

    assert play(script) == []


def test_a_fault_in_one_event_does_not_keep_those_behind_it_waiting() -> None:
    async def script(world: World) -> None:
        phone = await while_it_is_carried_over(world)
        (call,) = world.node.calls.live.values()
        assert call.held_events is not None

        def faulty() -> None:
            raise RuntimeError("a fault")

        call.held_events.append(faulty)
        phone.request(b"INFO", 2)
        await phone.expect("200 INFO", 2.0)
        await phone.bye(3)

    assert_complaints_of_a_fault(play(script))


def test_a_fault_after_media_was_asked_lets_events_go_on() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call(b"X-Call: 1")
        (call,) = world.node.calls.live.values()
        asked: asyncio.Future[bytes] = world.host.loop.create_future()

        def faulty(sdp: bytes) -> None:
            raise RuntimeError("a fault")

        call.then(asked, faulty, lambda problem: None)
        phone.request(b"INFO", 2)
        await asyncio.sleep(0.1)
        asked.set_result(b"")
        await phone.expect("200 INFO", 1.0)
        await phone.bye(3)

    assert_complaints_of_a_fault(play(script))


def test_an_update_that_meets_our_re_invite_is_refused_with_491() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call(b"X-Call: 1")
        holding = world.on_server(FIRST, end_at(world, FIRST).hold())
        reinvite = await phone.expect_request("INVITE")
        phone.request(b"UPDATE", 2, body=sdp(phone.address, version=2, lines=b"a=sendonly\r\n"))
        await phone.expect("491 UPDATE", 1.0)
        phone.reply(reinvite, 200, body=sdp(phone.address))
        await holding
        await phone.bye(3)

    assert play(script) == []


def test_an_update_that_meets_one_of_ours_is_refused_with_491() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call(b"X-Call: 1")
        end = end_at(world, FIRST)
        assert end.session is not None
        asking = world.on_server(FIRST, end.session.update(end.describe()))
        update = await phone.expect_request("UPDATE")
        phone.request(b"UPDATE", 2, body=sdp(phone.address, version=2, lines=b"a=sendonly\r\n"))
        await phone.expect("491 UPDATE", 1.0)
        phone.reply(update, 200, body=sdp(phone.address))
        await asking
        await phone.bye(3)

    assert play(script) == []


def test_a_second_offer_of_a_peer_whose_update_has_no_answer_yet_is_refused_with_500() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call(b"X-Call: 1")
        world.network.shape(LinkModel(delay_s=0.1))
        phone.request(b"UPDATE", 2, body=sdp(phone.address, version=2, lines=b"a=sendonly\r\n"))
        phone.request(b"INVITE", 3, body=sdp(phone.address, version=3))
        await phone.expect("500 INVITE", 1.0)
        await phone.expect("200 UPDATE", 1.0)
        await phone.bye(4)

    assert play(script) == []


def test_a_re_invite_that_meets_a_refresh_of_ours_on_the_other_side_is_refused_with_491() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        timed = (b"Session-Expires: 90;refresher=uas", b"Supported: timer", b"Allow: INVITE, ACK, BYE, CANCEL")
        await phone.call(b"X-Call: 1", *timed)
        reinvite = await phone.expect_request("INVITE", 60.0)
        phone.reply(reinvite, 100)
        holding = world.on_server(FIRST, end_at(world, FIRST).hold())
        await asyncio.sleep(0.1)
        assert phone.count("INVITE") == 1, "two at a time on one dialog"
        phone.reply(reinvite, 200, b"Session-Expires: 90;refresher=uac", body=sdp(phone.address))
        again = await phone.expect_request("INVITE")
        phone.reply(again, 200, body=sdp(phone.address))
        await holding
        await phone.bye(2)

    assert play(script) == []
