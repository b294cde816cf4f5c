"""Liveness in the whole node: what its streams tell of a backend moves calls, or keeps them where they are."""

from __future__ import annotations

import asyncio

import pytest

from proxy.backends import Backend, Verdict
from proxy.health import Diagnosis, Evidence, VerdictChanged
from tests.sim.agents import Conversation
from tests.sim.scenario import FIRST, SECOND, hears, play, until
from tests.sim.test_successor import succeed
from tests.sim.world import NODE, World

STREAMS = 6


def backend(world: World, name: str = "as1") -> Backend:
    found = world.node.backends.get(name)
    assert found is not None
    return found


def streams(world: World, name: str = "as1") -> dict[str, int]:
    found: dict[str, int] = world.node.health.explain(backend(world, name))["streams"]
    return found


async def talking(world: World, count: int = STREAMS) -> list[Conversation]:
    calls = [await world.place(number) for number in range(1, count + 1)]
    await until(lambda: streams(world)["active"] == count, 3.0)
    return calls


def news(world: World) -> list[VerdictChanged]:
    events: list[VerdictChanged] = []
    world.node.health.subscribe(events.append)
    return events


def stop_talking(world: World, address: str, count: int = STREAMS) -> None:
    """Its media stops; its SIP goes on."""
    for conversation in list(world.servers[address].live)[:count]:
        world.audio.close((address, conversation.port))


@pytest.mark.parametrize("fault", ["freeze", "cut", "power_off"])
def test_death_under_calls_is_known_within_115_ms(fault: str) -> None:
    async def script(world: World) -> None:
        calls = await talking(world)
        events = news(world)
        at = world.loop.time()
        if fault == "cut":
            world.network.cut(NODE, FIRST)
        else:
            getattr(world.network, fault)(FIRST)
        await until(lambda: backend(world).verdict is Verdict.DOWN, 0.115, 0.001)
        assert events[0].verdict is Verdict.SUSPECT and events[0].at - at <= 0.05
        assert Evidence.RTP_SILENT in events[-1].evidence
        await until(lambda: all(hears(call, SECOND) for call in calls), 1.0)
        await until(lambda: streams(world) == {"active": 0, "silent": 0}, 1.0)
        await until(lambda: streams(world, "as2")["active"] == STREAMS, 3.0)

    assert play(script) == []


def test_without_the_watch_the_same_death_takes_longer() -> None:
    async def script(world: World) -> None:
        await asyncio.gather(*(world.place(number) for number in range(1, STREAMS + 1)))
        await asyncio.sleep(65.0)
        world.network.freeze(FIRST)
        await asyncio.sleep(0.13)
        assert backend(world).verdict is not Verdict.DOWN

    def deaf(world: World) -> None:
        world.relay.watch = lambda *args, **options: None  # type: ignore[method-assign]

    assert play(script, deaf) == []


def test_media_that_dies_behind_a_living_sip_moves_the_calls() -> None:
    async def script(world: World) -> None:
        calls = await talking(world)
        events = news(world)
        stop_talking(world, FIRST)
        await asyncio.sleep(1.9)
        assert backend(world).verdict is Verdict.SUSPECT
        await until(lambda: all(hears(call, SECOND) for call in calls), 1.0)
        assert events[-1].diagnosis is Diagnosis.MEDIA_DEAD
        (report,) = world.node.failovers.reports
        await until(lambda: report.finished, 1.0)
        assert report.count("moved") == STREAMS and report.evidence == ["rtp_silent"]

    assert play(script, patience_s=10.0) == []


def test_a_dead_sip_with_living_media_moves_nobody() -> None:
    async def script(world: World) -> None:
        calls = await talking(world)
        events = news(world)
        port = world.servers[FIRST].host.udp_ports[5060]
        port.arrive = lambda data, source: True  # type: ignore[method-assign]
        await asyncio.sleep(10.0)
        assert all(hears(call, FIRST) for call in calls) and not world.node.failovers.reports
        assert events[-1].diagnosis is Diagnosis.SIP_DEAF
        world.network.freeze(FIRST)
        await until(lambda: all(hears(call, SECOND) for call in calls), 1.0)
        del port.arrive

    assert play(script, patience_s=30.0) == []


def test_the_silence_of_one_call_is_its_own() -> None:
    async def script(world: World) -> None:
        calls = await talking(world)
        events = news(world)
        stop_talking(world, FIRST, 1)
        await asyncio.sleep(4.0)
        assert events == [] and len(world.node.calls.live) == STREAMS
        assert all(hears(call, FIRST) for call in calls[1:]) and not hears(calls[0], FIRST)

    assert play(script, patience_s=30.0) == []


@pytest.mark.parametrize("policy", ["log", "end"])
def test_a_media_timeout_is_logged_or_ends_the_call(policy: str) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        await asyncio.sleep(2.0)
        stop_talking(world, FIRST)
        world.hung_up.add(b"1")
        await asyncio.sleep(3.5)
        assert world.node.calls.counts["media_timeouts"] == 1
        assert call.ended is (policy == "end")

    pool = {"media_timeout_s": 3, "on_media_timeout": policy}
    assert play(script, patience_s=60.0, standby=pool) == []


def test_who_takes_the_calls_up_listens_to_them() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        await asyncio.sleep(2.0)
        await succeed(world)
        await until(lambda: streams(world)["active"] == 1, 1.0)
        world.network.freeze(FIRST)
        await until(lambda: hears(call, SECOND), 1.5)

    assert play(script) == []


def test_our_own_stall_is_no_silence() -> None:
    async def script(world: World) -> None:
        await talking(world)
        events = news(world)
        for _ in range(20):
            world.network.freeze(NODE)
            await asyncio.sleep(0.3)
            world.network.thaw(NODE)
            await asyncio.sleep(0.3)
        assert [event for event in events if event.verdict is not Verdict.UP] == []

    assert play(script) == []


@pytest.mark.parametrize("pause_s", [0.06, 0.08, 0.115, 0.13, 0.16, 0.3])
def test_a_pause_that_was_taken_for_death_costs_no_call(pause_s: float) -> None:
    async def script(world: World) -> None:
        calls = await talking(world)
        events = news(world)
        world.network.freeze(FIRST)
        await asyncio.sleep(pause_s)
        world.network.thaw(FIRST)
        await asyncio.sleep(3.0)
        assert all(call.hears() is not None for call in calls) and len(world.node.calls.live) == STREAMS
        assert backend(world).verdict is Verdict.UP
        moved = any(event.verdict is Verdict.DOWN for event in events)
        assert moved is (pause_s > 0.1)
        assert all(hears(call, SECOND if moved else FIRST) for call in calls)

    assert play(script) == []


def test_reports_of_unknown_groups_are_nobodys() -> None:
    async def script(world: World) -> None:
        await world.place(1)
        world.relay.watch(next(iter(world.node.calls.live)), "b1", "no such backend")
        await asyncio.sleep(2.0)
        assert streams(world)["active"] == 0

    assert play(script) == []
