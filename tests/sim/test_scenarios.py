"""Failovers that went wrong elsewhere, each as a script in virtual time (the traps of the design, by name)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.backends import Backend
from proxy.calls import Call
from proxy.sip.message import Request, Response
from proxy.sip.server_transaction import ServerTransaction
from proxy.sip.user_agent import CallFailed, Incoming
from tests.sim.agents import Conversation
from tests.sim.link import LinkModel
from tests.sim.scenario import FIRST, PHONE, SECOND, THIRD, hears, play, until
from tests.sim.world import NODE, World

both_modes = pytest.mark.parametrize("mode", ["relay", "direct"])


def backend(world: World, name: str) -> Backend:
    found = world.node.backends.get(name)
    assert found is not None
    return found


def there(world: World, address: str, number: bytes = b"1") -> Conversation:
    """The latest end of a call at a server."""
    return world.servers[address].calls[number][-1]


def test_a_caller_of_a_dead_backend_hears_the_backup_and_gets_no_message() -> None:
    async def script(world: World) -> None:
        calls = [await world.place(number) for number in range(20)]
        await asyncio.sleep(0.5)
        before = world.sent_to[PHONE]
        world.network.kill(FIRST)
        await until(lambda: all(hears(call, SECOND) for call in calls), 1.0)
        assert world.sent_to[PHONE] == before
        assert all(hears(end, PHONE) for end in world.servers[SECOND].live)
        (report,) = world.node.failovers.reports
        await until(lambda: report.finished, 1.0)
        assert report.count("moved") == 20 and all(result.audio for result in report.results)

    assert play(script) == []


def test_without_a_relay_the_caller_is_told_where_the_backup_is() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        world.network.kill(FIRST)
        await until(lambda: hears(call, SECOND), 1.0)
        assert b"c=IN IP4 " + SECOND.encode() in call.told

    assert play(script, mode="direct") == []


@both_modes
@pytest.mark.parametrize("fault", ["kill", "power_off", "freeze", "cut"])
def test_every_way_to_die_is_survived(fault: str, mode: str) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        if fault == "cut":
            world.network.cut(NODE, FIRST)
        else:
            getattr(world.network, fault)(FIRST)
        await until(lambda: hears(call, SECOND), 1.5)
        await asyncio.sleep(20.0)

    assert play(script, mode=mode) == []


@both_modes
def test_hold_is_kept_on_both_sides(mode: str) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        await call.hold()
        world.network.kill(FIRST)
        await until(lambda: b"1" in world.servers[SECOND].calls and there(world, SECOND).session, 2.0)
        assert there(world, SECOND).direction == b"recvonly"
        assert hears(there(world, SECOND), PHONE)  # music, or whatever the holder plays
        await asyncio.sleep(1.0)
        await call.hold(b"sendrecv")
        assert hears(call, SECOND) and there(world, SECOND).direction == b"sendrecv"

    assert play(script, mode=mode) == []


@both_modes
def test_a_re_invite_that_the_dead_backend_owes_an_answer_is_answered(mode: str) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        world.network.freeze(FIRST)
        await call.hold()  # the frozen backend never answers it
        await until(lambda: there(world, SECOND).direction == b"recvonly", 2.0)
        await asyncio.sleep(3.0)
        await call.hold(b"sendrecv")
        assert hears(call, SECOND)

    assert play(script, mode=mode) == []


def test_a_re_invite_that_meets_ours_is_refused_with_491_and_tried_again() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        world.servers[SECOND].ring_s = (1.0, 1.0)
        world.network.kill(FIRST)
        await asyncio.sleep(0.8)
        await call.hold()  # comes while the recovery waits for the backup, and must be out of the way of our INVITE
        assert there(world, SECOND).direction == b"recvonly"

    assert play(script, mode="direct") == []


@pytest.mark.plain
def test_glare_for_ever_is_what_happens_without_that(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        world.servers[SECOND].ring_s = (1.0, 1.0)
        world.network.kill(FIRST)
        await asyncio.sleep(0.8)
        with pytest.raises(CallFailed, match="481"):
            await call.hold()

    monkeypatch.setattr(Call, "refuse_held_invites", lambda call, leg: None)
    assert any("dropped" in violation for violation in play(script, mode="direct"))


@both_modes
def test_who_hangs_up_during_recovery_leaves_nothing_behind(mode: str) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        world.servers[SECOND].ring_s = (2.0, 2.0)
        world.network.kill(FIRST)
        await until(lambda: b"1" in world.servers[SECOND].calls, 1.0)
        assert call.session is not None and await call.session.bye() == 200
        await asyncio.sleep(5.0)
        assert not world.servers[SECOND].live

    assert play(script, mode=mode) == []


@both_modes
def test_a_second_backend_may_die_before_the_first_failover_is_over(mode: str) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        world.servers[SECOND].ring_s = world.servers[THIRD].ring_s = (2.0, 2.0)
        world.network.kill(FIRST)
        await until(lambda: any(b"1" in server.calls for server in world.servers.values() if server.host.alive), 1.0)
        ringing = SECOND if b"1" in world.servers[SECOND].calls else THIRD
        last = THIRD if ringing == SECOND else SECOND
        world.network.kill(ringing)
        await until(lambda: hears(call, last), 4.0)

    assert play(script, servers=3, mode=mode) == []


@pytest.mark.plain
def test_a_recovery_that_waits_for_a_dead_backup_is_noticed() -> None:
    async def script(world: World) -> None:
        await world.place(1)
        world.servers[SECOND].ring_s = (2.0, 2.0)
        world.network.kill(FIRST)
        await until(lambda: b"1" in world.servers[SECOND].calls, 1.0)
        world.network.kill(SECOND)
        world.restart(FIRST)
        await asyncio.sleep(12.0)

    def waits_for_the_dead(world: World) -> None:
        world.node.calls.give_up_invites = lambda dead: None  # type: ignore[method-assign]

    assert play(script) == []
    assert any("hears nobody" in violation for violation in play(script, waits_for_the_dead))


def test_a_call_moved_to_a_backup_that_dies_at_once_is_moved_on_while_others_still_wait() -> None:
    async def script(world: World) -> None:
        quick = await world.place(1)
        slow = await world.place(2)
        world.network.kill(FIRST)
        await until(lambda: hears(quick, SECOND) or hears(quick, THIRD), 1.0)
        went = SECOND if hears(quick, SECOND) else THIRD
        world.network.kill(went)
        last = THIRD if went == SECOND else SECOND
        await until(lambda: hears(quick, last) and hears(slow, last), 3.0)

    assert play(script, servers=3) == []


@both_modes
def test_a_caller_still_hears_it_ring_and_is_answered_by_the_backup(mode: str) -> None:
    async def script(world: World) -> None:
        world.servers[FIRST].ring_s = (10.0, 10.0)
        placing = asyncio.create_task(world.place(1))
        await until(lambda: b"1" in world.servers[FIRST].calls, 1.0)
        world.network.kill(FIRST)
        assert hears(await placing, SECOND)

    assert play(script, mode=mode) == []


def test_a_caller_may_give_up_while_his_ringing_call_is_placed_anew() -> None:
    async def script(world: World) -> None:
        for server in world.servers.values():
            server.ring_s = (20.0, 20.0)
        with pytest.raises(CallFailed, match="487"):
            placing = asyncio.create_task(world.place(1, timeout_s=2.0))
            await until(lambda: b"1" in world.servers[FIRST].calls, 1.0)
            world.network.kill(FIRST)
            await placing
        await asyncio.sleep(1.0)
        assert b"1" in world.servers[SECOND].calls and not world.servers[SECOND].live

    assert play(script) == []


@both_modes
def test_a_backup_under_storm_that_says_503_with_retry_after_is_left_alone_so_long(mode: str) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        asked: list[float] = []
        server = world.servers[SECOND]
        accept = server.ua.on_invite
        assert accept is not None

        async def busy_at_first(incoming: Incoming) -> None:
            asked.append(world.loop.time())
            if len(asked) == 1:
                incoming.reject(503, [(b"Retry-After", b"2")])
            else:
                await accept(incoming)

        server.ua.on_invite = busy_at_first
        world.network.kill(FIRST)
        await until(lambda: hears(call, SECOND), 4.0)
        assert len(asked) == 2 and asked[1] - asked[0] >= 2.0

    assert play(script, mode=mode) == []


class DeafToCalls:
    """The core of a server whose SIP thread lives and whose call thread does not."""

    def __init__(self, says_trying: bool) -> None:
        self.says_trying = says_trying

    def on_request(self, request: Request, transaction: ServerTransaction) -> None:
        if request.method == b"OPTIONS":
            transaction.reply(200)
        elif not self.says_trying:
            transaction.stop()

    def on_ack(self, request: Request) -> None:
        return None

    def on_stray(self, message: Response) -> None:
        return None


@pytest.mark.parametrize("says_trying", [False, True])
def test_a_backup_that_answers_probes_and_no_calls_is_passed_over(says_trying: bool) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        world.servers[SECOND].stack.core = DeafToCalls(says_trying)
        world.network.kill(FIRST)
        await until(lambda: hears(call, THIRD), 10.0 if says_trying else 3.0)
        world.restart(SECOND)

    assert play(script, servers=3, patience_s=10.0) == []


def test_a_call_that_nobody_can_take_is_ended_properly_at_the_deadline() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        world.network.power_off(SECOND)
        world.network.kill(FIRST)
        assert call.session is not None
        died = world.loop.time()
        assert await call.session.ended == "bye received"
        assert 5.0 <= world.loop.time() - died < 6.0
        assert [result.result for result in world.node.failovers.reports[-1].results] == ["lost"]

    assert play(script, recovery={"deadline_s": 5}) == []


def test_a_call_that_a_backend_placed_goes_on_when_that_backend_dies() -> None:
    async def script(world: World) -> None:
        await world.place_out(1, FIRST)
        (outside,) = world.carrier.calls[b"1"]
        assert hears(outside, FIRST)
        world.network.kill(FIRST)
        await until(lambda: hears(outside, SECOND), 1.0)

    assert play(script) == []


def test_calls_are_recovered_over_a_bad_network() -> None:
    async def script(world: World) -> None:
        calls = [await world.place(number) for number in range(20)]
        world.network.shape(LinkModel(delay_s=0.02, jitter_s=0.05, loss=0.15, duplicate=0.05, reorder=0.05))
        await asyncio.sleep(5.0)
        world.network.kill(FIRST)
        await until(lambda: all(hears(call, SECOND) for call in calls), 10.0)
        world.network.shape(LinkModel())

    assert play(script, recovery={"deadline_s": 60}, patience_s=12.0) == []


def test_a_drained_backend_loses_its_calls_without_a_gap() -> None:
    async def script(world: World) -> None:
        calls = [await world.place(number) for number in range(5)]
        silent = 0

        async def listen() -> None:
            nonlocal silent
            while True:
                silent += sum(call.hears() is None for call in calls)
                await asyncio.sleep(0.001)

        listening = asyncio.create_task(listen())
        world.node.failovers.drain(backend(world, "as1"), move=True)
        await until(lambda: all(hears(call, SECOND) for call in calls), 2.0)
        await until(lambda: not world.servers[FIRST].live, 2.0)
        listening.cancel()
        assert silent == 0

    assert play(script) == []


def test_a_backend_that_comes_and_goes_is_kept_out() -> None:
    async def script(world: World) -> None:
        for _ in range(4):
            world.network.freeze(FIRST)
            await asyncio.sleep(2.0)
            world.network.thaw(FIRST)
            await asyncio.sleep(3.0)
        call = await world.place(1)
        assert hears(call, SECOND)

    assert play(script) == []


def test_a_successor_of_the_node_takes_its_calls_up(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        world.keep_journal(tmp_path)
        await asyncio.sleep(0.5)
        world.network.kill(NODE)
        await asyncio.sleep(1.0)
        assert hears(call, FIRST)  # the relay is another process
        world.network.restart(NODE)
        await world.start()
        assert world.take_up(tmp_path) == (1, [])
        await call.hold()
        assert there(world, FIRST).direction == b"recvonly"
        await call.hold(b"sendrecv")
        world.network.kill(FIRST)
        await until(lambda: hears(call, SECOND), 1.5)

    assert play(script) == []


def test_a_phone_that_is_cut_off_for_a_moment_keeps_its_call() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        world.network.cut(NODE, PHONE)
        world.network.kill(FIRST)
        await asyncio.sleep(3.0)
        world.network.join(NODE, PHONE)
        await until(lambda: hears(call, SECOND), 4.0)

    assert play(script, mode="direct") == []
