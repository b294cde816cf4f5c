"""Traps of the media plane: what becomes of a call while it is down, has no ports, or refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from media.api import MediaError, MediaFull
from proxy.calls.agreement import without_origin
from proxy.sip.user_agent import CallFailed
from tests.sim.acting import all_moved, end_at, moved_to
from tests.sim.raw_peer import RawPeer, sdp
from tests.sim.scenario import FIRST, PHONE, SECOND, hears, play, until
from tests.sim.tap import Tap
from tests.sim.world import World


def fails(world: World, ask: str, while_: Callable[[], bool], error: type[MediaError] = MediaError) -> None:
    """The relay does not do that as long as `while_` holds."""
    real = getattr(world.relay, ask)

    def instead(*args: Any, **options: Any) -> asyncio.Future[Any]:
        if not while_():
            answer: asyncio.Future[Any] = real(*args, **options)
            return answer
        future: asyncio.Future[Any] = world.host.loop.create_future()
        future.set_exception(error("the media relay is down"))
        return future

    setattr(world.relay, ask, instead)


def test_a_relay_that_cannot_be_asked_for_its_counters_costs_no_call() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        fails(world, "query", lambda: True)
        world.network.kill(FIRST)
        await moved_to(world, call, SECOND)
        (report,) = world.node.failovers.reports
        assert report.results[0].result == "moved" and report.results[0].gap_ms is None

    assert play(script) == []


@pytest.mark.parametrize("ask", ["offer", "answer", "switch"])
def test_a_relay_that_is_away_for_a_while_costs_no_call(ask: str) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        back_at = world.loop.time() + 1.5
        fails(world, ask, lambda: world.loop.time() < back_at)
        world.network.kill(FIRST)
        await until(lambda: all_moved(world), 4.0)
        assert hears(call, SECOND) and world.loop.time() > back_at

    assert play(script) == []


def test_a_new_call_for_which_there_is_no_port_is_refused_as_by_a_full_house() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        fails(world, "offer", lambda: True, MediaFull)
        with pytest.raises(CallFailed, match="503"):
            await world.place(2)
        counts = world.node.calls.counts
        assert (counts["media_full"], counts["media_refused"]) == (1, 0)
        assert hears(call, FIRST)

    assert play(script) == []


# -- it refuses what is exchanged in a call


def test_a_late_offer_that_media_cannot_take_leaves_the_call_as_it_was() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call(b"X-Call: 1")
        tap, broken = Tap(world, FIRST), [True]
        fails(world, "offer", lambda: bool(broken))
        phone.request(b"INVITE", 2)
        await phone.expect("488 INVITE")
        phone.request(b"ACK", 2)
        await asyncio.sleep(1.0)
        (ack,) = tap.of(b"ACK")
        assert ack.sdp, "an offer in a 2xx wants an answer"
        broken.clear()
        phone.request(b"INVITE", 3, body=sdp(phone.address, version=2, lines=b"a=sendonly\r\n"))
        await phone.expect("200 INVITE")
        phone.request(b"ACK", 3)
        assert end_at(world, FIRST).direction == b"recvonly"
        world.network.kill(FIRST)
        await until(lambda: all_moved(world), 2.0)
        await phone.bye(4)

    assert play(script) == []


@pytest.mark.parametrize("method", [b"INVITE", b"UPDATE"])
def test_an_answer_that_media_cannot_take_is_called_off_on_both_sides(method: bytes) -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call(b"X-Call: 1")
        end, tap, broken = end_at(world, FIRST), Tap(world, FIRST), [True]
        fails(world, "answer", lambda: bool(broken))
        phone.request(method, 2, body=sdp(phone.address, version=2, lines=b"a=sendonly\r\n"))
        await phone.expect(f"488 {method.decode()}")
        if method == b"INVITE":
            phone.request(b"ACK", 2)
        broken.clear()
        await until(lambda: len(tap.descriptions) == 2, 1.0)
        assert [b"sendonly" in each for each in tap.descriptions] == [True, False]
        await until(lambda: end.direction == b"sendrecv", 1.0)
        (call,) = world.node.calls.live.values()
        assert not call.on_hold
        await phone.bye(3)

    assert play(script) == []


def test_an_update_that_is_refused_leaves_the_session_as_it_was() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call(b"X-Call: 1")
        end = end_at(world, FIRST)
        assert end.session is not None
        end.session.on_offer = lambda offer: 488
        (call,) = world.node.calls.live.values()

        def session() -> list[list[bytes]]:
            return [without_origin(each) for leg in call.legs() for each in (leg.local_sdp, leg.remote_sdp)]

        before = session()
        for cseq, method in enumerate((b"UPDATE", b"INVITE"), 2):
            phone.request(method, cseq, body=sdp(phone.address, 5000, version=cseq))
            await phone.expect(f"488 {method.decode()}")
            if method == b"INVITE":
                phone.request(b"ACK", cseq)
            assert session() == before
            assert end.hears() == (phone.address, 4000)
        await phone.bye(4)

    assert play(script) == []


# -- it restarts


@pytest.mark.parametrize("lost", [True, False])
def test_a_call_whose_ports_are_gone_after_a_restart_of_the_relay_is_given_others(lost: bool) -> None:
    async def script(world: World) -> None:
        phone, server = Tap(world, PHONE), Tap(world, FIRST)
        calls = [await world.place(number) for number in (1, 2)]
        taken = list(world.node.calls.live)[:1] if lost else []
        world.relay.restart(*taken)
        assert (calls[0].hears() is None) == lost
        await asyncio.sleep(0.5)
        assert all(hears(call, FIRST) for call in calls) and all(end.hears() for end in world.servers[FIRST].live)
        reports = world.node.failovers.reports
        assert [(each.backend, each.planned, each.count("moved")) for each in reports] == [("relay", 1, 1)] * lost
        assert len(phone.of(b"INVITE")) == lost and len(server.of(b"INVITE")) == 2 + lost
        assert world.node.calls.counts["media_lost"] == lost

    assert play(script) == []
