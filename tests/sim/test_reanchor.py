"""An rtpengine dies under live calls: both ends are told of another one, and nobody notices more than a gap.

The real driver, with simulated daemons; what they do was seen on real ones, which `tests/integration/test_rtpengine`
uses. The checks of every scenario hold here too: nobody is dropped, everybody hears somebody, nothing is left over.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.failover import reanchor
from proxy.failover.report import Report
from proxy.sip.message import Request
from tests.sim.acting import end_at
from tests.sim.agents import Conversation
from tests.sim.link import LinkModel
from tests.sim.raw_peer import RawPeer, sdp
from tests.sim.scenario import FIRST, PHONE, SECOND, Script, hears, play, until
from tests.sim.tap import Tap
from tests.sim.world import ENGINES, World

DETECTED_S = 0.6  # of a dead daemon, at the latest


def engine_of(world: World, number: int = 1) -> str:
    """The daemon that carries the call of that number."""
    calls = {call for engine in world.engines.values() for call in engine.calls}
    assert len(calls) == number, calls
    return next(address for address, engine in world.engines.items() if engine.calls)


def reports(world: World) -> list[Report]:
    return list(world.node.failovers.reports)


async def anchored_anew(world: World, count: int = 1, within_s: float = DETECTED_S + 1.0) -> list[Report]:
    await until(lambda: len(reports(world)) == count and all(each.finished for each in reports(world)), within_s)
    return reports(world)


def run(script: Script, **options: Any) -> None:
    assert play(script, mode="rtpengine", **options) == []


def version(sdp: bytes) -> int:
    return int(sdp.split(b"\r\n")[1].split()[2])


def test_a_call_goes_on_through_the_other_engine_and_both_ends_are_told_once() -> None:
    async def script(world: World) -> None:
        phone, server = Tap(world, PHONE), Tap(world, FIRST)
        call = await world.place(1)
        await until(lambda: hears(call, FIRST), 1.0)
        world.network.kill(engine_of(world))
        (report,) = await anchored_anew(world)
        assert (report.cause, report.planned, report.count("moved")) == ("media node lost", 1, 1)
        await until(lambda: hears(call, FIRST) and end_at(world, FIRST).hears(), 1.0)
        for tap in (phone, server):
            first, second = tap.descriptions
            assert version(second) == version(first) + 1
            assert first.split()[2] == second.split()[2]  # the id of the session
        assert len(phone.of(b"INVITE")) == 1 and len(server.of(b"INVITE")) == 2

    run(script)


@pytest.mark.parametrize("direction", [b"sendonly", b"inactive"])
def test_a_hold_is_kept_on_both_sides(direction: bytes) -> None:
    async def script(world: World) -> None:
        phone, server = Tap(world, PHONE), Tap(world, FIRST)
        call = await world.place(1)
        await call.hold(direction)
        world.network.kill(engine_of(world))
        (report,) = await anchored_anew(world)
        assert report.results[0].kind == "held"
        mirrored = {b"sendonly": b"recvonly", b"inactive": b"inactive"}[direction]
        assert b"a=" + direction in server.of(b"INVITE")[-1].sdp
        assert b"a=" + mirrored in phone.of(b"INVITE")[-1].sdp
        await call.hold(b"sendrecv")
        await until(lambda: hears(call, FIRST), 1.0)

    run(script)


def test_a_peer_that_answers_491_is_asked_again_after_its_back_off() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call()
        world.network.kill(engine_of(world))
        first = await phone.expect_request("INVITE")
        phone.reply(first, 491)
        await phone.expect("ACK")
        refused_at = world.loop.time()
        again = await phone.expect_request("INVITE")
        assert 0.0 <= world.loop.time() - refused_at <= 4.1
        assert again.cseq == first.cseq + 1 and again.sdp == first.sdp
        phone.reply(again, 200, body=sdp(phone.address))
        await phone.expect("ACK")
        (report,) = await anchored_anew(world, within_s=5.0)
        assert report.count("moved") == 1
        await phone.bye(2)

    run(script)


def test_a_re_invite_that_crosses_ours_gets_491_and_succeeds_later() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call()
        world.network.kill(engine_of(world))
        ours = await phone.expect_request("INVITE")
        phone.request(b"INVITE", 2, body=sdp(phone.address, version=2, lines=b"a=sendonly\r\n"))
        await phone.expect("491 INVITE")
        phone.request(b"ACK", 2)
        phone.reply(ours, 200, body=sdp(phone.address))
        await phone.expect("ACK")
        await anchored_anew(world)
        phone.request(b"INVITE", 3, body=sdp(phone.address, version=2, lines=b"a=sendonly\r\n"))
        answer = await phone.expect("200 INVITE")
        assert b"a=recvonly" in answer.sdp
        phone.request(b"ACK", 3)
        await phone.bye(4)

    run(script)


def test_an_exchange_that_is_under_way_comes_first_and_tells_as_much_as_it_can() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        world.network.kill(engine_of(world))
        await call.hold()  # before anybody knows: it is asked of the dead engine, and then of the other
        await anchored_anew(world)
        assert end_at(world, FIRST).direction == b"recvonly"
        await call.hold(b"sendrecv")
        await until(lambda: hears(call, FIRST) and end_at(world, FIRST).hears(), 1.0)

    run(script)


def test_an_answer_that_says_something_new_is_passed_on() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call()
        server = Tap(world, FIRST)
        world.network.kill(engine_of(world))
        ours = await phone.expect_request("INVITE")
        phone.hang_up_audio()
        phone.talk(4400)
        phone.reply(ours, 200, body=sdp(phone.address, 4400, version=2, lines=b"a=sendonly\r\n"))
        await phone.expect("ACK")
        agreed = await phone.expect_request("INVITE")  # what the backend says to that
        assert b"a=recvonly" in agreed.sdp and version(agreed.sdp) == version(ours.sdp) + 1
        phone.reply(agreed, 200, body=sdp(phone.address, 4400, version=2, lines=b"a=sendonly\r\n"))
        await phone.expect("ACK")
        (report,) = await anchored_anew(world)
        assert report.count("moved") == 1
        assert b"a=sendonly" in server.of(b"INVITE")[-1].sdp
        assert end_at(world, FIRST, b"?").hears() == (phone.address, 4400)
        await phone.bye(2)
        phone.hang_up_audio(4400)

    run(script)


def test_who_rings_is_told_when_he_answers() -> None:
    async def script(world: World) -> None:
        world.servers[FIRST].ring_s = (3.0, 3.0)
        placing = asyncio.create_task(world.place(1))
        await asyncio.sleep(1.0)
        world.network.kill(engine_of(world))
        call = await placing
        (report,) = await anchored_anew(world, within_s=5.0)
        assert report.results[0].kind == "ringing" and report.count("moved") == 1
        await until(lambda: hears(call, FIRST) and end_at(world, FIRST).hears(), 1.0)

    run(script)


def test_a_second_engine_that_dies_too_leaves_nobody_behind() -> None:
    async def script(world: World) -> None:
        calls = [await world.place(number, phone) for number, phone in ((1, 0), (2, 1))]
        one, other = ENGINES
        world.network.kill(one)
        await asyncio.sleep(0.05)
        world.network.kill(other)
        await asyncio.sleep(1.0)
        world.restart(one)
        await until(lambda: all(hears(call, FIRST) for call in calls), 3.0)
        await until(lambda: all(each.finished for each in reports(world)), 1.0)
        assert sum(each.count("moved") for each in reports(world)) >= 2
        assert not any(each.count("lost") for each in reports(world))

    run(script)


def test_a_backend_that_dies_with_the_engine_costs_no_call() -> None:
    async def script(world: World) -> None:
        calls = [await world.place(number, phone) for number, phone in ((1, 0), (2, 1))]
        world.network.kill(ENGINES[0])
        world.network.kill(FIRST)
        await until(lambda: all(hears(call, SECOND) for call in calls), 4.0)
        await until(lambda: all(end_at(world, SECOND, number).hears() for number in (b"1", b"2")), 4.0)

    run(script)


def test_an_engine_that_restarts_unseen_is_found_out_by_its_age() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        await asyncio.sleep(5.0)
        engine = engine_of(world)
        world.restart(engine)  # between two probes
        await until(lambda: reports(world), 2.5)
        await anchored_anew(world)
        await until(lambda: hears(call, FIRST) and end_at(world, FIRST).hears(), 1.0)

    run(script)


def test_a_frozen_engine_forgets_its_calls_when_it_wakes_up() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        engine = engine_of(world)
        world.network.freeze(engine)
        await anchored_anew(world, within_s=2.0)
        await until(lambda: hears(call, FIRST), 1.0)
        assert world.engines[engine].calls
        world.network.thaw(engine)
        await until(lambda: not world.engines[engine].calls, 2.0)
        await asyncio.sleep(2.0)
        assert hears(call, FIRST) and len(reports(world)) == 1

    run(script)


def test_a_stall_of_our_own_moves_nothing() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        world.network.freeze("10.0.0.1")
        await asyncio.sleep(3.0)
        world.network.thaw("10.0.0.1")
        await asyncio.sleep(2.0)
        assert hears(call, FIRST) and not reports(world)

    run(script)


def test_a_call_that_ends_meanwhile_is_told_nothing_more() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call()
        world.network.kill(engine_of(world))
        await phone.expect_request("INVITE")
        await phone.bye(2)  # and the INVITE stays without an answer
        (report,) = await anchored_anew(world)
        assert report.count("ended") == 1 and report.count("lost") == 0

    run(script)


def test_a_peer_that_refuses_loses_the_call_properly() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call()
        world.network.kill(engine_of(world))
        phone.reply(await phone.expect_request("INVITE"), 488)
        await phone.expect("ACK")
        phone.reply(await phone.expect_request("BYE"), 200)
        (report,) = await anchored_anew(world)
        assert report.count("lost") == 1 and "488" in report.results[0].error
        phone.hang_up_audio()

    assert [each for each in play(script, mode="rtpengine") if "dropped" not in each] == []


def test_without_any_engine_calls_wait_longer_than_any_deadline() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        for engine in ENGINES:
            world.network.kill(engine)
        await asyncio.sleep(12.0)
        (waiting,) = world.node.reanchors.running.values()
        assert not call.ended and "no rtpengine is up" in waiting.result.error
        world.restart(ENGINES[1])
        await until(lambda: hears(call, FIRST) and end_at(world, FIRST).hears(), 1.0)
        assert sum(each.count("moved") for each in reports(world)) == 1

    run(script, recovery={"deadline_s": 5}, patience_s=30.0)


def test_a_peer_that_never_answers_is_waited_for_until_the_deadline() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call()
        world.network.kill(engine_of(world))
        await phone.expect_request("INVITE")
        phone.reply(await phone.expect_request("BYE", within_s=7.0), 200)
        (report,) = await anchored_anew(world)
        assert report.count("lost") == 1 and "deadline passed" in report.results[0].error
        phone.hang_up_audio()

    assert [each for each in play(script, mode="rtpengine", recovery={"deadline_s": 5}) if "dropped" not in each] == []


def test_a_path_that_becomes_slow_or_lossy_is_no_death() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        for bad in (LinkModel(delay_s=0.12), LinkModel(loss=0.12), LinkModel(delay_s=0.06, jitter_s=0.05, loss=0.05)):
            for engine in ENGINES:
                world.network.shape(bad, "10.0.0.1", engine)
                world.network.shape(bad, engine, "10.0.0.1")
            await asyncio.sleep(300.0)
            assert not reports(world), bad
        assert hears(call, FIRST)

    run(script)


def tell_both_whatever_they_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if an end that has been told already were told again."""
    real = reanchor.Reanchoring._tell_one

    async def tell_one(self: reanchor.Reanchoring, leg: Any, sdp: bytes) -> bool:
        leg.local_sdp = b""
        return await real(self, leg, sdp)

    monkeypatch.setattr(reanchor.Reanchoring, "_tell_one", tell_one)


async def the_caller_asks_before_we_know(world: World) -> list[Request]:
    phone = Tap(world, PHONE)
    call = await world.place(1)
    world.network.kill(engine_of(world))
    await call.hold()
    await anchored_anew(world)
    return phone.of(b"INVITE")


@pytest.mark.parametrize("ablated", [False, True])
def test_who_has_been_told_is_left_alone(ablated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if ablated:
        tell_both_whatever_they_know(monkeypatch)
    asked: list[Request] = []

    async def script(world: World) -> None:
        asked.extend(await the_caller_asks_before_we_know(world))

    run(script)
    assert bool(asked) is ablated


def test_many_calls_of_one_engine_are_anchored_at_a_pace_and_none_is_lost() -> None:
    calls: list[Conversation] = []

    async def script(world: World) -> None:
        calls.extend([await world.place(number, number % 2) for number in range(1, 61)])
        world.network.kill(ENGINES[0])
        (report,) = await anchored_anew(world, within_s=4.0)
        assert (report.planned, report.count("moved")) == (30, 30)
        await until(lambda: all(hears(call, FIRST) for call in calls), 1.0)
        assert len(world.engines[ENGINES[1]].calls) == 60

    run(script)
