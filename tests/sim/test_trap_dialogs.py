"""Traps of order and of time within dialogs: responses, ACKs, glare, session timers, and both ends at once."""

from __future__ import annotations

import asyncio

import pytest

from proxy.failover import survivor
from proxy.sip.user_agent import CallFailed, Incoming
from tests.sim.acting import all_moved, answering, both_modes, end_at, moved_to
from tests.sim.agents import Conversation
from tests.sim.raw_peer import RawPeer, kind, sdp
from tests.sim.scenario import FIRST, PHONE, SECOND, hears, play, until
from tests.sim.slow_media import media_takes
from tests.sim.tap import Tap
from tests.sim.world import NODE, World

# -- order


def test_no_provisional_response_comes_after_the_200_although_media_takes_its_time() -> None:
    async def script(world: World) -> None:
        server = world.servers[FIRST]

        async def rings_and_answers_at_once(incoming: Incoming) -> None:
            end = Conversation(server, b"1")
            server.calls.setdefault(b"1", []).append(end)
            end.listen()
            incoming.ring(183, end.describe())
            session = incoming.accept(b"")  # needs no media, and could overtake the 183 that does
            assert session is not None
            end.talk(session)

        server.ua.on_invite = rings_and_answers_at_once
        media_takes(world, 0.05, 0.05)
        phone = RawPeer(world)
        phone.talk()
        await phone.call()
        answers = [kind(message) for _, message in phone.heard]
        assert answers == ["183 INVITE", "200 INVITE"]
        await phone.bye(2)

    assert play(script) == []


def test_an_ack_with_another_cseq_does_not_acknowledge() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        phone.request(b"INVITE", 7, body=sdp(phone.address))
        answer = await phone.expect("200 INVITE")
        phone.stand(answer)  # type: ignore[arg-type]
        phone.request(b"ACK", 6)
        await asyncio.sleep(2.0)
        assert phone.count("200 INVITE") > 2
        phone.request(b"ACK", 7)
        await asyncio.sleep(0.1)
        repeated = phone.count("200 INVITE")
        await asyncio.sleep(40.0)
        assert phone.count("200 INVITE") == repeated and phone.count("BYE") == 0
        await phone.bye(8)

    assert play(script) == []


def test_a_call_that_nobody_acknowledges_is_ended_on_both_sides() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.request(b"INVITE", 1, body=sdp(phone.address))
        await phone.expect("200 INVITE")
        bye = await phone.expect_request("BYE", 40.0)
        phone.reply(bye, 200)
        await until(lambda: not world.servers[FIRST].live, 1.0)

    assert play(script) == []


# -- glare


def test_both_ends_may_ask_for_something_at_the_same_moment() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        far = world.on_server(FIRST, end_at(world, FIRST).hold())
        await call.hold(b"recvonly")
        await far
        assert not call.ended

    assert play(script) == []


class Stubborn:
    """Answers 491 to so many re-INVITEs, and notes when they came."""

    def __init__(self, conversation: Conversation, refusals: int) -> None:
        assert conversation.session is not None
        self.conversation = conversation
        self.refusals = refusals
        self.asked: list[float] = []
        conversation.session.on_offer = self

    def __call__(self, offer: bytes) -> bytes | int:
        self.asked.append(self.conversation.agent.host.network.loop.time())
        return 491 if len(self.asked) <= self.refusals else self.conversation.answer(offer)

    @property
    def waits(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.asked, self.asked[1:], strict=False)]


def test_after_491_the_one_who_did_not_make_the_dialog_waits_up_to_two_seconds() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        stubborn = Stubborn(call, 5)
        world.network.kill(FIRST)
        await until(lambda: len(stubborn.asked) == 6 and all_moved(world), 15.0)
        assert all(0 <= wait <= 2.05 for wait in stubborn.waits) and hears(call, SECOND)

    assert play(script, mode="direct", patience_s=16.0) == []


def test_after_491_the_one_who_made_the_dialog_waits_two_to_four_seconds() -> None:
    async def script(world: World) -> None:
        await world.place_out(1, FIRST)
        (carried,) = world.carrier.live  # its dialog is ours: we called it
        stubborn = Stubborn(carried, 4)
        world.network.kill(FIRST)
        await until(lambda: len(stubborn.asked) == 5 and all_moved(world), 20.0)
        assert all(2.1 <= wait <= 4.05 for wait in stubborn.waits) and hears(carried, SECOND)

    assert play(script, mode="direct", patience_s=22.0) == []


def test_a_caller_that_answers_491_for_ever_is_hung_up_on_with_a_reason() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        tap = Tap(world, PHONE)
        world.hung_up.add(b"1")  # as it must be
        Stubborn(call, 1000)
        world.network.kill(FIRST)
        await until(lambda: call.ended, 40.0)
        assert b"491" in (tap.of(b"BYE")[0].get(b"reason") or b"")

    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(survivor, "ATTEMPTS", 4)
    try:
        assert play(script, mode="direct") == []
    finally:
        monkeypatch.undo()


# -- who hangs up


@both_modes
def test_the_backup_may_hang_up_the_moment_it_has_answered(mode: str) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        world.hung_up.add(b"1")
        server = world.servers[SECOND]

        async def answers_and_leaves(incoming: Incoming) -> None:
            end = Conversation(server, b"1")
            session = incoming.accept(end.answer(incoming.offer))
            assert session is not None
            end.talk(session)
            await session.bye()

        server.ua.on_invite = answers_and_leaves
        world.network.kill(FIRST)
        await until(lambda: call.ended, 3.0)

    assert play(script, mode=mode) == []


@both_modes
@pytest.mark.parametrize("who", ["caller", "backup"])
def test_after_a_failover_a_bye_of_either_side_reaches_the_other(mode: str, who: str) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        world.network.kill(FIRST)
        await moved_to(world, call, SECOND)
        end = end_at(world, SECOND)
        assert call.session is not None and end.session is not None
        if who == "caller":
            assert await call.session.bye() == 200
            assert await end.session.ended == "bye received"
        else:
            world.hung_up.add(b"1")
            assert await world.on_server(SECOND, end.session.bye()) == 200
            assert await call.session.ended == "bye received"

    assert play(script, mode=mode) == []


def test_a_call_that_is_cancelled_while_its_backend_is_dying_is_placed_nowhere_else() -> None:
    async def script(world: World) -> None:
        world.servers[FIRST].ring_s = (5.0, 5.0)
        placing = asyncio.create_task(world.place(1, timeout_s=0.5))
        await asyncio.sleep(0.45)
        world.network.freeze(FIRST)  # the CANCEL finds it dead, the failover finds the call cancelled
        with pytest.raises(CallFailed, match="487"):
            await placing
        await asyncio.sleep(3.0)
        assert not world.servers[SECOND].calls
        world.network.thaw(FIRST)
        await asyncio.sleep(2.0)
        assert not world.servers[FIRST].live

    assert play(script) == []


# -- outbound calls


@both_modes
def test_a_call_that_still_rings_at_the_carrier_is_carried_over_when_it_is_answered(mode: str) -> None:
    async def script(world: World) -> None:
        world.carrier.ring_s = (3.0, 3.0)
        tap = Tap(world, SECOND)
        world.on_server(FIRST, world.servers[FIRST].call(f"sip:200@{NODE}", 1))
        await until(lambda: world.carrier.calls, 1.0)
        world.network.kill(FIRST)
        await asyncio.sleep(1.0)
        assert tap.of(b"INVITE") == []
        await until(lambda: world.carrier.live and hears(next(iter(world.carrier.live)), SECOND), 5.0)
        (invite,) = tap.of(b"INVITE")
        assert invite.uri.startswith(b"sip:200@") and invite.get(b"x-aqueduct-direction") == b"outbound"

    assert play(script, mode=mode) == []


# -- planned moves


@both_modes
def test_a_planned_move_makes_the_new_leg_before_it_breaks_the_old_one(mode: str) -> None:
    async def script(world: World) -> None:
        old, new = Tap(world, FIRST), Tap(world, SECOND)
        call = await world.place(1)
        first = world.node.backends.get("as1")
        assert first is not None
        world.node.failovers.drain(first, move=True)
        deaf = 0
        for _ in range(500):
            deaf += call.hears() is None
            await asyncio.sleep(0.001)
        assert deaf == 0 and hears(call, SECOND)
        assert new.when(b"ACK")[0] <= old.when(b"BYE")[0]

    assert play(script, mode=mode) == []


# -- one call's fault


def test_the_fault_of_one_recovery_stays_with_its_call() -> None:
    async def script(world: World) -> None:
        calls = [await world.place(number) for number in range(5)]
        victim = next(call for call in world.node.calls.live.values())
        real, world.hung_up = world.relay.offer, {b"0"}

        def offer(session: str, *args: str | bytes) -> object:
            if session == victim.id:
                raise RuntimeError("a fault")
            return real(session, *args)  # type: ignore[arg-type]

        world.relay.offer = offer  # type: ignore[method-assign, assignment]
        world.network.kill(FIRST)
        await until(lambda: all(hears(call, SECOND) for call in calls[1:]), 2.0)
        await until(lambda: all_moved(world) and calls[0].ended, 2.0)
        (report,) = world.node.failovers.reports
        assert (report.count("moved"), report.count("lost")) == (4, 1)
        assert "a fault" in next(each.error for each in report.results if each.result == "lost")
        assert all(pace.unanswered == 0 for pace in world.node.failovers._paces.values())

    complaints = play(script)
    assert len(complaints) == 1 and "recovery failed" in complaints[0]  # it is logged as the fault that it is


# -- session timers

TIMER = (b"Session-Expires", b"90;refresher=uac")


def test_session_timers_of_both_legs_go_on_after_a_failover() -> None:
    async def script(world: World) -> None:
        server = world.servers[SECOND]
        server.ua.on_invite = answering(server, lambda end: end.describe(), [TIMER, (b"Require", b"timer")])
        call = await world.place(1, headers=[(b"Session-Expires", b"90;refresher=uas"), (b"Supported", b"timer")])
        phone, backup = Tap(world, PHONE), Tap(world, SECOND)
        world.network.kill(FIRST)
        await moved_to(world, call, SECOND)
        await asyncio.sleep(50.0)
        assert phone.of(b"UPDATE") and backup.of(b"UPDATE")
        assert backup.of(b"UPDATE")[0].get(b"session-expires") == b"90;refresher=uac"
        assert not call.ended

    assert play(script) == []


def test_a_backup_whose_refresh_stays_away_loses_its_call_to_another() -> None:
    async def script(world: World) -> None:
        server = world.servers[SECOND]
        refresher = (b"Session-Expires", b"90;refresher=uas")
        server.ua.on_invite = answering(server, lambda end: end.describe(), [refresher, (b"Require", b"timer")])
        call = await world.place(1)
        world.network.kill(FIRST)
        await moved_to(world, call, SECOND)
        tap = Tap(world, SECOND)
        await until(lambda: tap.of(b"INVITE"), 90.0)  # no refresh came: its leg is made anew
        await asyncio.sleep(1.0)
        assert not call.ended and call.hears()

    assert play(script) == []
