"""A node that is started anew takes its calls up: whoever asks for something in them, it works; and a snapshot that
cannot be taken up is refused whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from media.api import MediaError
from proxy.calls.snapshot import VERSION, SnapshotError, restore
from proxy.config import Settings
from proxy.journal.journal import BYTES_MIN
from proxy.journal.left import Left
from proxy.sip.user_agent import CallFailed
from tests.sim.acting import asks, both_modes, end_at
from tests.sim.agents import Conversation
from tests.sim.raw_peer import RawPeer
from tests.sim.scenario import FIRST, SECOND, hears, play, until
from tests.sim.world import CARRIER, NODE, World


def saved(world: World) -> dict[str, Any]:
    """The snapshot of the only call, as it comes back from a file."""
    (call,) = world.node.calls.live.values()
    state: dict[str, Any] = msgpack.unpackb(msgpack.packb(call.snapshot()))
    return state


async def succeed(world: World, state: dict[str, Any] | None = None) -> None:
    """The node dies, and another process takes up the call."""
    state = state or saved(world)
    world.network.kill(NODE)
    await asyncio.sleep(0.2)
    world.network.restart(NODE)
    await world.start()
    await world.host.process.spawn(take_up(world, state))


async def take_up(world: World, state: dict[str, Any]) -> None:
    restore(world.node.calls, state)


async def caller_hangs_up(world: World, call: Conversation, end: Conversation) -> None:
    assert call.session is not None and await call.session.bye() == 200
    await until(lambda: end.ended, 1.0)


async def backend_hangs_up(world: World, call: Conversation, end: Conversation) -> None:
    world.hung_up.add(b"1")
    assert end.session is not None
    assert await world.on_server(end.agent.host.address, end.session.bye()) == 200
    await until(lambda: call.ended, 1.0)


async def caller_holds(world: World, call: Conversation, end: Conversation) -> None:
    await call.hold()
    assert end.direction == b"recvonly"
    await call.hold(b"sendrecv")
    assert end.direction == b"sendrecv"


async def backend_holds(world: World, call: Conversation, end: Conversation) -> None:
    await world.on_server(end.agent.host.address, end.hold())
    assert call.direction == b"recvonly"


async def both_ask(world: World, call: Conversation, end: Conversation) -> None:
    assert call.session is not None
    assert await call.session.info(b"application/dtmf-relay", b"Signal=1\r\n") == 200
    assert await asks(world, end, b"INFO") == 200


async def backend_dies(world: World, call: Conversation, end: Conversation) -> None:
    await asyncio.sleep(2.0)  # its health is known again
    world.network.kill(FIRST)
    await until(lambda: hears(call, SECOND), 1.5)


DEEDS = [caller_hangs_up, backend_hangs_up, caller_holds, backend_holds, both_ask, backend_dies]


@both_modes
@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.__name__)
def test_a_call_goes_on_in_a_node_that_took_it_up(mode: str, deed: Callable[..., Any]) -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        assert call.session is not None
        await call.session.info(b"application/dtmf-relay", b"Signal=1\r\n")  # CSeq has risen on both sides
        await asks(world, end_at(world, FIRST), b"INFO")
        await succeed(world)
        await deed(world, call, end_at(world, FIRST))

    assert play(script, mode=mode) == []


@both_modes
def test_a_call_that_the_backend_placed_goes_on_too(mode: str) -> None:
    async def script(world: World) -> None:
        placed = await world.place_out(1, FIRST)
        (carried,) = world.carrier.live
        await succeed(world)
        await carried.hold()
        assert placed.direction == b"recvonly"
        await carried.hold(b"sendrecv")
        await backend_dies(world, carried, placed)

    assert play(script, mode=mode) == []


def test_routes_and_counts_of_the_backend_come_back() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        edge = RawPeer(world, "10.0.1.78")
        route = f"<sip:{edge.address};lr>".encode()
        await phone.call(b"Record-Route: " + route, b"X-Call: 1")
        await succeed(world)
        assert [backend.calls for backend in world.node.backends if backend.name == "as1"] == [1]
        asking = asyncio.create_task(asks(world, end_at(world, FIRST), b"INFO"))
        info = await edge.expect_request("INFO")
        assert info.list(b"route") == [route]
        edge.reply(info, 200)
        assert await asking == 200
        await phone.bye(2)

    assert play(script) == []


def test_a_call_that_rings_is_not_taken_up() -> None:
    async def script(world: World) -> None:
        world.carrier.ring_s = world.servers[FIRST].ring_s = (5.0, 5.0)
        placing = asyncio.create_task(world.place(1, timeout_s=1.0))
        await asyncio.sleep(0.5)
        state = saved(world) | {"id": "another"}
        with pytest.raises(SnapshotError, match="ringing"):
            restore(world.node.calls, state)
        with pytest.raises(CallFailed, match="487"):
            await placing

    assert play(script) == []


def without(*path: str) -> Callable[[dict[str, Any]], object]:
    def damage(state: dict[str, Any]) -> object:
        for key in path[:-1]:
            state = state[key]
        return state.pop(path[-1])

    return damage


def with_value(value: object, *path: str) -> Callable[[dict[str, Any]], object]:
    def damage(state: dict[str, Any]) -> object:
        for key in path[:-1]:
            state = state[key]
        state[path[-1]] = value
        return None

    return damage


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (with_value(VERSION + 1, "v"), f"version {VERSION + 1} is not known"),
        (without("v"), "version None"),
        (without("a"), "'a'"),
        (without("b", "dialog"), "'dialog'"),
        (with_value(None, "b"), "None"),
        (with_value([b"x"], "b", "dialog"), "unpack"),
        (with_value("sctp", "a", "transport"), "sctp"),
        (with_value([], "a", "remote"), "index"),
        (with_value([1, 2], "fields"), "fields|unpack|int"),
        (lambda state: None, "not known"),  # the relay does not carry it
    ],
)
def test_a_snapshot_that_cannot_be_taken_up_leaves_nothing(damage: Callable[..., object], problem: str) -> None:
    async def script(world: World) -> None:
        await world.place(1)
        state = saved(world)
        calls = world.node.calls
        before = (len(calls.live), len(calls.index), [backend.calls for backend in world.node.backends])
        state["id"] = "nobody"
        damage(state)
        with pytest.raises(SnapshotError, match=problem):
            restore(calls, state)
        assert (len(calls.live), len(calls.index), [backend.calls for backend in world.node.backends]) == before

    assert play(script) == []


def test_a_call_that_lives_here_is_not_taken_up_again() -> None:
    async def script(world: World) -> None:
        await world.place(1)
        with pytest.raises(SnapshotError, match="live"):
            restore(world.node.calls, saved(world))

    assert play(script) == []


@pytest.mark.parametrize("pool", [[], ["old"]], ids=["not told", "renamed"])
def test_whom_a_call_is_connected_to_is_known_whatever_the_pool_was_called(pool: list[str]) -> None:
    async def script(world: World) -> None:
        await world.place(1, headers=[(b"X-Bond", b"pair1")])
        state = saved(world)
        assert state["bond"] == ["Pair", b"pair1", "pbx"]
        state["bond"][2:] = pool
        await succeed(world, state)
        (call,) = world.node.calls.live.values()
        assert call.bond is not None and (call.bond.name, call.bond.pool) == (b"pair1", "pbx")

    assert play(script) == []


def test_the_carrier_of_a_snapshot_may_be_gone_from_the_configuration() -> None:
    async def script(world: World) -> None:
        await world.place_out(1, FIRST)
        (carried,) = world.carrier.live
        state = saved(world)
        assert state["b"]["backend"] == "trunk" and tuple(state["b"]["remote"]) == (CARRIER, 5060)
        state["b"]["backend"] = "gone"
        await succeed(world, state)
        await carried.hold()
        await carried.hold(b"sendrecv")

    assert play(script) == []


async def killed_and_started(world: World, folder: Path) -> tuple[int, list[str]]:
    world.network.kill(NODE)
    await asyncio.sleep(0.5)
    world.network.restart(NODE)
    await world.start()

    async def take_up() -> tuple[int, list[str]]:
        return world.take_up(folder)

    taken: tuple[int, list[str]] = await world.host.process.spawn(take_up())
    return taken


@both_modes
@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.__name__)
def test_what_is_written_down_while_the_node_runs_is_enough_for_a_successor(
    tmp_path: Path, mode: str, deed: Callable[..., Any]
) -> None:
    async def script(world: World) -> None:
        world.keep_journal(tmp_path)
        call = await world.place(1)
        gone = await world.place(2)
        await asyncio.sleep(1.0)
        assert call.session is not None and gone.session is not None
        await call.session.info(b"application/dtmf-relay", b"Signal=1\r\n")  # CSeq has risen on both sides
        await asks(world, end_at(world, FIRST), b"INFO")
        await call.hold()
        await call.hold(b"sendrecv")
        await gone.session.bye()
        await asyncio.sleep(0.2)
        age_s = world.loop.time() - next(iter(world.node.calls.live.values())).created_at
        assert await killed_and_started(world, tmp_path) == (1, [])
        (taken,) = world.node.calls.live.values()
        assert world.loop.time() - taken.created_at == pytest.approx(age_s + 0.5, abs=0.3)
        await deed(world, call, end_at(world, FIRST))

    assert play(script, mode=mode) == []


def test_requests_that_nobody_wrote_down_do_not_make_those_of_the_successor_too_old(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        world.keep_journal(tmp_path)
        call = await world.place(1)
        assert call.session is not None
        await asyncio.sleep(1.0)
        for _ in range(3):  # killed before they are written
            await call.session.info(b"application/dtmf-relay", b"Signal=1\r\n")
        assert await killed_and_started(world, tmp_path) == (1, [])
        assert await call.session.info(b"application/dtmf-relay", b"Signal=2\r\n") == 200

    assert play(script) == []


def test_a_node_killed_while_it_moves_calls_leaves_each_to_its_successor(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        world.keep_journal(tmp_path)
        calls = [await world.place(number) for number in range(20)]
        await asyncio.sleep(0.5)
        world.network.kill(FIRST)
        await until(lambda: sum(hears(call, SECOND) for call in calls) == 5, 3.0)
        await asyncio.sleep(0.1)  # it is written; the next one has its turn after 200 ms
        assert await killed_and_started(world, tmp_path) == (20, [])
        await until(lambda: all(hears(call, SECOND) for call in calls), 6.0)
        assert len(world.servers[SECOND].live) == 20

    assert play(script, recovery={"pace_per_s": 5}) == []


def test_a_successor_killed_while_it_writes_anew_loses_nothing(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        world.keep_journal(tmp_path)
        calls = [await world.place(number) for number in range(100)]
        await asyncio.sleep(0.5)
        assert await killed_and_started(world, tmp_path) == (100, [])
        await asyncio.sleep(0.061)  # two slices are written
        assert len(list(tmp_path.iterdir())) == 2
        assert await killed_and_started(world, tmp_path) == (100, [])
        await asyncio.sleep(1.0)
        assert len(list(tmp_path.iterdir())) == 1
        for call in calls:
            assert call.session is not None and await call.session.bye() == 200
        await asyncio.sleep(0.5)
        assert await killed_and_started(world, tmp_path) == (0, [])

    assert play(script) == []


def test_a_call_whose_media_is_lost_does_not_keep_the_others_from_being_written(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        calls = [await world.place(number) for number in range(3)]
        lost = next(iter(world.node.calls.live))
        real = world.relay.snapshot

        def snapshot(session: str) -> dict[str, object]:
            if session == lost:
                raise MediaError(f"session {session}: not known")
            return real(session)

        world.relay.snapshot = snapshot  # type: ignore[method-assign]
        world.keep_journal(tmp_path)
        await asyncio.sleep(1.0)
        written, problems = world.take_up(tmp_path)
        assert written == 0 and len(problems) == 2 and all("live" in each for each in problems)
        assert len(calls) == 3

    assert play(script) == []


def test_who_answers_a_call_of_a_node_that_was_killed_is_not_left_with_nobody(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        world.keep_journal(tmp_path)
        world.servers[FIRST].ring_s = (2.0, 2.0)
        placing = asyncio.create_task(world.place(1, timeout_s=6.0))
        await asyncio.sleep(1.0)
        assert await killed_and_started(world, tmp_path) == (0, [])
        await until(lambda: b"1" in world.servers[FIRST].calls and end_at(world, FIRST).session is not None, 3.0)
        await until(lambda: end_at(world, FIRST).ended, 1.0)
        with pytest.raises(CallFailed):
            await placing

    play(script)  # the caller rang in vain for long, which the checks do not like


def test_calls_that_ring_when_the_node_stops_are_refused_and_cancelled() -> None:
    async def script(world: World) -> None:
        world.servers[FIRST].ring_s = (9.0, 9.0)
        placing = asyncio.create_task(world.place(1))
        await asyncio.sleep(1.0)
        await world.host.process.spawn(world.node.stop())
        with pytest.raises(CallFailed, match="480"):
            await placing
        assert not world.node.calls.live
        await asyncio.sleep(9.0)
        assert end_at(world, FIRST).session is None  # it was cancelled, else it would have answered
        world.network.kill(NODE)
        world.network.restart(NODE)
        await world.start()

    assert play(script) == []


def configured(world: World, names: dict[str, str]) -> None:
    """The next node has these backends, each by its old name (and address): its new one."""
    told = world.settings.model_dump(mode="json")
    pool = told["pools"]["pbx"]
    pool["backends"] = {new: pool["backends"][old] for old, new in names.items()}
    world.settings = Settings.model_validate(told)


def test_a_backend_with_another_name_is_known_by_its_address(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        world.keep_journal(tmp_path)
        call = await world.place(1)
        await asyncio.sleep(1.0)
        configured(world, {"as2": "as1", "as1": "as2"})  # the names have changed places, too
        assert await killed_and_started(world, tmp_path) == (1, [])
        assert {backend.name: backend.calls for backend in world.node.backends if backend.calls} == {"as2": 1}
        await backend_dies(world, call, end_at(world, FIRST))

    assert play(script) == []


def test_calls_on_a_backend_that_is_gone_from_the_configuration_are_told_of(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        world.keep_journal(tmp_path)
        calls = [await world.place(number) for number in range(2)]
        await asyncio.sleep(1.0)
        configured(world, {"as2": "as2"})
        told = world.settings.model_dump(mode="json")
        told["pools"]["pbx"]["backends"]["as2"]["role"] = "primary"
        world.settings = Settings.model_validate(told)
        restored, (problem,) = await killed_and_started(world, tmp_path)
        assert restored == 2 and "2 calls on as1, which is not configured" in problem
        assert calls[0].session is not None and await calls[0].session.bye() == 200

    assert play(script) == []


def records_in(file: Path) -> list[Any]:
    unpacker = msgpack.Unpacker()
    unpacker.feed(file.read_bytes())
    return list(unpacker)


SPOILT: list[tuple[Callable[[list[Any]], object], int, str]] = [
    (lambda records: records.append(["backends", {"v": 99}]), 3, "99"),
    (lambda records: records.append(["call", 1.0, 5]), 3, "not a call"),
    (lambda records: records.append(["call", 1.0, {"v": VERSION, "id": "x"}]), 3, "'state'"),
    (lambda records: records[3][2].update(age_s="old"), 2, "TypeError"),
    (lambda records: records[2][2]["a"].update(dialog=[1, 2]), 2, "ValueError"),
    (lambda records: records[4][2]["a"].update(transport="tcp"), 2, "no IPv4 listener of tcp"),
]


@pytest.mark.parametrize(("spoil", "expected", "problem"), SPOILT)
def test_what_is_wrong_with_one_record_of_a_journal_costs_no_other(
    tmp_path: Path, spoil: Callable[[list[Any]], object], expected: int, problem: str
) -> None:
    async def script(world: World) -> None:
        for number in range(3):
            await world.place(number)
        world.keep_journal(tmp_path)
        await asyncio.sleep(1.0)
        (file,) = tmp_path.iterdir()
        records = records_in(file)
        assert [record[0] for record in records[:5]] == ["aqueduct", "backends", "call", "call", "call"]
        spoil(records)
        file.write_bytes(b"".join(msgpack.packb(record) for record in records))
        restored, problems = await killed_and_started(world, tmp_path)
        assert restored == expected == len(world.node.calls.live) and len(problems) == 1 and problem in problems[0]
        assert world.node.calls.counts["not_restored"] == (problem != "99")
        assert sum(backend.calls for backend in world.node.backends) == expected

    play(script)  # a call that is not taken up is not ended properly: the checks rightly complain


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (5, "not a conference"),
        ([9, "pbx", "conf-sales", False, [], None], "version 9"),
        ([1, "pbx", "conf-sales", False, 5, None], "TypeError"),
    ],
)
def test_a_roster_that_cannot_be_taken_up_costs_no_call(tmp_path: Path, state: object, problem: str) -> None:
    async def script(world: World) -> None:
        for number in range(3):
            await world.place(number, headers=[(b"X-Bond", b"conf-sales")])
        world.keep_journal(tmp_path)
        await asyncio.sleep(1.0)
        (file,) = tmp_path.iterdir()
        records = records_in(file)
        (roster,) = (record for record in records if record[0] == "conference")
        assert records.index(roster) < min(index for index, record in enumerate(records) if record[0] == "call")
        roster[2] = state
        file.write_bytes(b"".join(msgpack.packb(record) for record in records))
        restored, problems = await killed_and_started(world, tmp_path)
        assert restored == 3 == len(world.node.calls.live)
        assert len(problems) == 1 and problem in problems[0]
        (conference,) = world.node.conferences
        assert len(conference) == 3

    assert play(script) == []


@pytest.mark.parametrize(
    "data", [b"\xc1 is no msgpack", msgpack.packb(["aqueduct", 99]), msgpack.packb(5), b"\x00" * 99]
)
def test_a_journal_that_cannot_be_read_stays_aside_and_is_not_tried_again(tmp_path: Path, data: bytes) -> None:
    async def script(world: World) -> None:
        file = tmp_path / "calls.7.journal"
        file.write_bytes(data)
        restored, (problem,) = world.take_up(tmp_path)
        assert restored == 0 and str(file) in problem
        assert sorted(each.name for each in tmp_path.iterdir()) == ["calls.7.spoilt", "calls.8.journal"]
        assert world.take_up(tmp_path) == (0, [])

    assert play(script) == []


def test_a_journal_cut_off_in_the_middle_of_a_record_is_good_up_to_there(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        world.keep_journal(tmp_path)
        call = await world.place(1)
        await asyncio.sleep(1.0)
        (file,) = tmp_path.iterdir()
        file.write_bytes(file.read_bytes() + msgpack.packb(["ended", next(iter(world.node.calls.live))])[:-1])
        assert await killed_and_started(world, tmp_path) == (1, [])
        await call.hold()
        await call.hold(b"sendrecv")

    assert play(script) == []


def test_a_journal_does_not_grow_for_ever(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        world.keep_journal(tmp_path)
        call, other = await world.place(1), await world.place(2)
        for _ in range(BYTES_MIN // 1000):
            world.node.calls.on_changed(next(iter(world.node.calls.live.values())))
            await asyncio.sleep(0.06)
        (file,) = tmp_path.iterdir()
        assert file.name == "calls.2.journal" and file.stat().st_size < BYTES_MIN
        assert await killed_and_started(world, tmp_path) == (2, [])
        for each in (call, other):
            assert each.session is not None and await each.session.bye() == 200

    assert play(script) == []


def test_a_disk_that_was_full_for_a_while_costs_no_call(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        (tmp_path / "calls.1.journal").symlink_to("/dev/full")
        world.keep_journal(tmp_path)
        call = await world.place(1)
        await asyncio.sleep(3.0)
        (file,) = tmp_path.iterdir()
        assert file.name == "calls.2.journal"
        assert await killed_and_started(world, tmp_path) == (1, [])
        await call.hold()
        await call.hold(b"sendrecv")

    (told,) = play(script)
    assert "journal" in told and "No space left" in told


def test_a_journal_over_which_a_node_died_twice_is_left_aside(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        world.keep_journal(tmp_path)
        await world.place(1)
        await asyncio.sleep(1.0)
        (file,) = tmp_path.iterdir()
        for suffix in (".taken", ".spoilt"):
            left = Left(tmp_path)  # and then it dies
            assert len(left.calls) == 1
            assert [each.suffix for each in tmp_path.iterdir()] == [suffix]
        assert Left(tmp_path).calls == {}
        assert not file.exists()

    assert play(script) == []
