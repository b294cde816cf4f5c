"""Hot standby: a second leg is up on a backup, hears the caller, is kept in step, and takes over without a word."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.sip.message import Request
from tests.sim.acting import all_moved, end_at
from tests.sim.agents import Conversation
from tests.sim.scenario import FIRST, PHONE, SECOND, THIRD, hears, play, until
from tests.sim.world import NODE, World

HOT: dict[str, Any] = {"standby": {"standby": "hot"}}


def standby_at(world: World, address: str, number: bytes = b"1") -> Conversation | None:
    """The end of a call that waits at a server, once it stands there."""
    for call in world.node.calls.live.values():
        standby = call.standby
        if standby is not None and standby.leg.backend is not None and standby.leg.backend.address[0] == address:
            for end in world.servers[address].live:
                if end.number == number and not end.ended:
                    return end
    return None


async def hot(world: World, number: int = 1, address: str = SECOND) -> Conversation:
    """A call whose standby stands."""
    call = await world.place(number)
    await until(lambda: standby_at(world, address, call.number), 2.0)
    return call


def invites_to(world: World, address: str) -> int:
    return sum(len(each) for each in world.servers[address].calls.values())


def counted(world: World, name: str) -> int:
    backend = world.node.backends.get(name)
    assert backend is not None
    return backend.calls


def digits(end: Conversation) -> list[bytes]:
    """What comes to a server's end by INFO from now on."""
    heard: list[bytes] = []

    def take(request: Request) -> int:
        if request.method == b"INFO":
            heard.append(request.body)
        return 200

    assert end.session is not None
    end.session.on_request = take
    return heard


def test_the_standby_hears_the_caller_and_is_not_heard() -> None:
    async def script(world: World) -> None:
        call = await hot(world)
        second = standby_at(world, SECOND)
        assert second is not None
        assert hears(second, PHONE) and hears(end_at(world, FIRST), PHONE)
        assert hears(call, FIRST)
        assert counted(world, "as1") == counted(world, "as2") == 1
        await asyncio.sleep(30.0)
        assert hears(call, FIRST) and standby_at(world, SECOND) is second

    assert play(script, **HOT) == []


def test_at_the_death_of_the_primary_the_standby_is_heard_without_any_signalling() -> None:
    async def script(world: World) -> None:
        calls = [await hot(world, number) for number in range(20)]
        await asyncio.sleep(0.1)  # the last ACK
        before = world.sent_to[PHONE], world.sent_to[SECOND], invites_to(world, SECOND)
        died = world.loop.time()
        world.network.kill(FIRST)
        await until(lambda: all(hears(call, SECOND) for call in calls), 0.3, step_s=0.001)
        verdict_at = world.node.failovers.reports[-1].detected_at
        assert world.loop.time() - verdict_at <= 0.002  # the step of the look
        assert verdict_at - died < 0.3
        assert (world.sent_to[PHONE], world.sent_to[SECOND], invites_to(world, SECOND)) == before
        await until(lambda: all_moved(world), 1.0)
        results = world.node.failovers.reports[-1].results
        assert all(result.result == "moved" and result.standby and result.audio for result in results)
        assert world.sent_to[PHONE] == before[0] and invites_to(world, SECOND) == before[2]

    assert play(script, **HOT) == []


def test_a_call_that_was_carried_over_gets_a_new_standby_as_soon_as_somebody_can_take_it() -> None:
    async def script(world: World) -> None:
        call = await hot(world)
        world.network.kill(FIRST)
        await until(lambda: hears(call, SECOND), 0.5)
        await asyncio.sleep(5.0)
        world.restart(FIRST)
        await until(lambda: standby_at(world, FIRST), 5.0)
        world.network.kill(SECOND)
        await until(lambda: hears(call, FIRST), 0.5)

    assert play(script, **HOT) == []


def test_with_a_third_server_the_new_standby_is_there_at_once() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        await until(lambda: standby_at(world, SECOND) or standby_at(world, THIRD), 1.0)
        first, last = (SECOND, THIRD) if standby_at(world, SECOND) else (THIRD, SECOND)
        world.network.kill(FIRST)
        await until(lambda: hears(call, first), 0.5)
        await until(lambda: standby_at(world, last), 1.0)
        world.network.kill(first)
        await until(lambda: hears(call, last), 0.5)

    assert play(script, servers=3, **HOT) == []


@pytest.mark.parametrize("fault", ["power_off", "freeze", "cut"])
def test_every_way_to_die_is_survived_hot(fault: str) -> None:
    async def script(world: World) -> None:
        call = await hot(world)
        before = world.sent_to[PHONE]
        if fault == "cut":
            world.network.cut(NODE, FIRST)
        else:
            getattr(world.network, fault)(FIRST)
        await until(lambda: hears(call, SECOND), 0.6)
        await asyncio.sleep(20.0)
        assert world.sent_to[PHONE] == before

    assert play(script, **HOT) == []


# -- in step


def test_hold_and_resume_are_kept_in_step() -> None:
    async def script(world: World) -> None:
        call = await hot(world)
        second = standby_at(world, SECOND)
        assert second is not None
        await call.hold()
        await until(lambda: second.direction == b"recvonly", 1.0)
        await call.hold(b"sendrecv")
        await until(lambda: second.direction == b"sendrecv", 1.0)
        await call.hold()
        await until(lambda: second.direction == b"recvonly", 1.0)
        before = world.sent_to[PHONE]
        world.network.kill(FIRST)
        await until(lambda: all_moved(world), 1.0)
        assert second.direction == b"recvonly" and world.sent_to[PHONE] == before
        await call.hold(b"sendrecv")
        assert hears(call, SECOND)

    assert play(script, **HOT) == []


def test_who_changes_his_mind_faster_than_the_standby_answers_is_followed_to_the_end() -> None:
    async def script(world: World) -> None:
        call = await hot(world)
        second = standby_at(world, SECOND)
        assert second is not None and second.session is not None
        for _ in range(5):
            await call.hold()
            await call.hold(b"sendrecv")
        await call.hold()
        await until(lambda: second.direction == b"recvonly", 2.0)

    assert play(script, **HOT) == []


def test_hold_by_the_primary_is_kept_in_step() -> None:
    async def script(world: World) -> None:
        call = await hot(world)
        second = standby_at(world, SECOND)
        assert second is not None
        await world.on_server(FIRST, end_at(world, FIRST).hold())
        assert call.direction == b"recvonly"
        await until(lambda: second.direction == b"sendonly", 1.0)
        await world.on_server(FIRST, end_at(world, FIRST).hold(b"sendrecv"))
        await until(lambda: second.direction == b"sendrecv", 1.0)

    assert play(script, **HOT) == []


def test_digits_by_info_go_to_both() -> None:
    async def script(world: World) -> None:
        call = await hot(world)
        second = standby_at(world, SECOND)
        assert second is not None and call.session is not None
        at_first, at_second = digits(end_at(world, FIRST)), digits(second)
        assert await call.session.info(b"application/dtmf-relay", b"Signal=5\r\n") == 200
        await asyncio.sleep(0.1)
        assert at_first == at_second == [b"Signal=5\r\n"]

    assert play(script, **HOT) == []


def test_a_digit_that_the_dead_primary_owes_an_answer_is_heard_once_by_the_standby() -> None:
    async def script(world: World) -> None:
        call = await hot(world)
        second = standby_at(world, SECOND)
        assert second is not None and call.session is not None
        heard = digits(second)
        world.network.freeze(FIRST)
        assert await call.session.info(b"application/dtmf-relay", b"Signal=5\r\n") == 200
        assert hears(call, SECOND)
        await asyncio.sleep(2.0)
        assert heard == [b"Signal=5\r\n"]

    assert play(script, **HOT) == []


def test_a_re_invite_that_the_dead_primary_owes_an_answer_is_answered_by_the_standby() -> None:
    async def script(world: World) -> None:
        call = await hot(world)
        second = standby_at(world, SECOND)
        assert second is not None
        world.network.freeze(FIRST)
        await call.hold()
        assert second.direction == b"recvonly"
        await asyncio.sleep(3.0)
        await call.hold(b"sendrecv")
        assert hears(call, SECOND) and invites_to(world, SECOND) == 1

    assert play(script, **HOT) == []


# -- the end


def test_a_standby_that_refreshes_again_before_its_ack_is_there_stays() -> None:
    async def script(world: World) -> None:
        call = await hot(world)
        end = standby_at(world, SECOND)
        assert end is not None and end.session is not None
        described = end.session.local_sdp
        refreshing = world.on_server(SECOND, end.session.reinvite(described))
        await asyncio.sleep(0.0007)
        world.network.cut(SECOND, NODE, both=False)  # the ACK is lost
        await refreshing
        await asyncio.sleep(0.0001)
        world.network.join(SECOND, NODE, both=False)
        await world.on_server(SECOND, end.session.reinvite(described))
        await asyncio.sleep(40.0)
        assert standby_at(world, SECOND) is end and not world.node.calls.counts["standbys_lost"]
        assert hears(call, FIRST)

    assert play(script, **HOT) == []


def test_when_the_primary_hangs_up_the_standby_is_ended_too() -> None:
    async def script(world: World) -> None:
        call = await hot(world)
        await world.hang_up_far(call)
        await until(lambda: call.ended and not world.servers[SECOND].live, 1.0)

    assert play(script, **HOT) == []


# -- who has one


def test_only_calls_that_a_rule_takes_are_hot() -> None:
    async def script(world: World) -> None:
        await world.place(1)
        await world.place(2, headers=[(b"X-Role", b"agent")])
        await until(lambda: standby_at(world, SECOND, b"2"), 1.0)
        await asyncio.sleep(1.0)
        assert b"1" not in world.servers[SECOND].calls

    assert play(script, standby={"standby": "hot", "hot_for": [{"header": {"X-Role": "^agent$"}}]}) == []


def test_without_a_relay_calls_stay_warm() -> None:
    async def script(world: World) -> None:
        await world.place(1)
        await asyncio.sleep(1.0)
        assert b"1" not in world.servers[SECOND].calls

    assert play(script, mode="direct", **HOT) == []


def test_a_call_that_a_backend_placed_has_a_standby_of_that_backend() -> None:
    async def script(world: World) -> None:
        await world.place_out(1, FIRST)
        await until(lambda: standby_at(world, SECOND), 1.0)
        (outside,) = world.carrier.calls[b"1"]
        assert hears(outside, FIRST)
        world.network.kill(FIRST)
        await until(lambda: hears(outside, SECOND), 0.5)

    assert play(script, **HOT) == []


def test_a_drained_backend_hands_its_hot_calls_over_and_keeps_no_standby() -> None:
    async def script(world: World) -> None:
        call = await hot(world)
        as1, as2 = (world.node.backends.get(name) for name in ("as1", "as2"))
        assert as1 is not None and as2 is not None
        world.node.failovers.drain(as2, move=True)
        await until(lambda: standby_at(world, SECOND) is None and not world.servers[SECOND].live, 1.0)
        world.node.failovers.ready(as2)
        await until(lambda: standby_at(world, SECOND), 90.0)
        world.node.failovers.drain(as1, move=True)
        await until(lambda: hears(call, SECOND) and not world.servers[FIRST].live, 1.0)
        assert invites_to(world, SECOND) == 2

    assert play(script, **HOT) == []


# -- the zombie, and our own restart


def test_a_zombie_is_not_heard_and_says_nothing_to_a_caller() -> None:
    async def script(world: World) -> None:
        calls = [await hot(world, number) for number in range(5)]
        before = world.sent_to[PHONE]
        world.network.freeze(FIRST)
        await until(lambda: all(hears(call, SECOND) for call in calls), 0.6)
        await asyncio.sleep(5.0)
        world.network.thaw(FIRST)
        for conversation in list(world.servers[FIRST].live):
            assert conversation.session is not None
            world.on_server(FIRST, conversation.session.bye())
        for _ in range(5000):
            await asyncio.sleep(0.001)
            assert not any(hears(call, FIRST) for call in calls)
        assert world.sent_to[PHONE] == before
        assert not any(call.ended for call in calls)

    assert play(script, **HOT) == []


def test_a_successor_of_the_node_takes_the_standby_up(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        call = await hot(world)
        world.keep_journal(tmp_path)
        await asyncio.sleep(0.5)
        world.network.kill(NODE)
        await asyncio.sleep(1.0)
        world.network.restart(NODE)
        await world.start()
        assert world.take_up(tmp_path) == (1, [])
        assert standby_at(world, SECOND) and counted(world, "as2") == 1
        await call.hold()
        await until(lambda: end_at(world, SECOND).direction == b"recvonly", 1.0)
        await call.hold(b"sendrecv")
        await asyncio.sleep(1.0)
        world.network.kill(FIRST)
        await until(lambda: hears(call, SECOND), 0.5)
        assert invites_to(world, SECOND) == 1

    assert play(script, **HOT) == []


# -- every safeguard is needed


def test_a_standby_that_is_not_kept_in_step_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(world: World) -> None:
        world.node.calls.on_settled = lambda call: None if call.standby else world.node.failovers.standbys.settled(call)
        call = await hot(world)
        second = standby_at(world, SECOND)
        assert second is not None
        await call.hold()
        await asyncio.sleep(2.0)
        assert second.direction == b"sendrecv"

    assert play(script, **HOT) == []


def test_a_standby_whose_ports_are_gone_is_brought_up_anew() -> None:
    async def script(world: World) -> None:
        call = await hot(world)
        before = standby_at(world, SECOND)
        (live,) = world.node.calls.live.values()
        world.relay.restart(live.id)
        await until(lambda: standby_at(world, SECOND) not in (None, before), 5.0)
        world.network.kill(FIRST)
        await until(lambda: hears(call, SECOND) and all_moved(world), 1.0)
        assert end_at(world, SECOND).hears() and world.node.failovers.reports[-1].results[0].standby

    assert play(script, **HOT) == []
