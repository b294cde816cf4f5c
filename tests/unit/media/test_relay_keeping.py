"""What the relay keeps of a stream for recordings: all that came lately, however it went on, and after its end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

import pytest

from media.api import Kept
from media.relay.keeping import PACKETS_PER_S_MAX, PIECE, Keep, Keeps
from media.rtp import packet
from tests.unit.media.relay_bed import BACKEND, BACKUP, CALLER, Bed, Peer, address, relay_bed, run


def words(kept: tuple[Kept, ...], leg: str) -> list[bytes]:
    return [packet.parse(each).payload for stream in kept if stream.leg == leg for _, each in stream.packets]


def spoken(number: int) -> bytes:
    return number.to_bytes(2, "big") * 80


async def moved(bed: Bed, caller: Peer, backup: Peer) -> tuple[tuple[str, int], tuple[str, int]]:
    """The call is carried over: where the backup and, as before, the caller must send."""
    for_backup = address(await bed.plane.offer("c", "a", "b2", caller.sdp()))
    for_caller = address(await bed.plane.answer("c", "b2", "a", backup.sdp()))
    await bed.plane.switch("c", "a", "b2")
    bed.plane.delete("c", "b1")
    await bed.settle()
    return for_backup, for_caller


def test_both_sides_of_a_call_are_kept_from_when_it_is_asked_for(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, for_backend = await bed.call(caller, backend)
            caller.say(for_caller, spoken(0))
            backend.hear()
            assert await bed.plane.kept("c") == ()
            bed.plane.keep("c", "a", 10.0)
            bed.plane.keep("c", "b1", 10.0)
            await bed.settle()
            began = monotonic()
            for number in range(1, 5):
                caller.say(for_caller, spoken(number))
                assert backend.hear() == spoken(number)
                backend.say(for_backend, spoken(100 + number))
                assert caller.hear() == spoken(100 + number)
            kept = await bed.plane.kept("c")
            assert words(kept, "a") == [spoken(number) for number in range(1, 5)]
            assert words(kept, "b1") == [spoken(number) for number in range(101, 105)]
            times = [at for at, _ in kept[0].packets]
            assert began < times[0]
            assert times == sorted(times)
            assert times[-1] < monotonic()
            assert words(await bed.plane.kept("c", times[1]), "a") == [spoken(3), spoken(4)]

    run(test())


def test_what_the_dead_backend_said_can_be_read_after_the_call_has_moved_and_the_caller_goes_on(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, backup = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(BACKUP)
            for_caller, for_backend = await bed.call(caller, backend)
            bed.plane.keep("c", "a", 10.0)
            bed.plane.keep("c", "b1", 10.0)
            await bed.settle()
            for number in range(3):
                caller.say(for_caller, spoken(number))
                backend.hear()
            backend.say(for_backend, spoken(100))
            caller.hear()
            backend.close()
            for number in range(3, 6):  # nobody hears them but the relay
                caller.say(for_caller, spoken(number))
            _, again = await moved(bed, caller, backup)
            for number in range(6, 9):
                caller.say(again, spoken(number))
                assert backup.hear() == spoken(number)
            kept = await bed.plane.kept("c")
            assert words(kept, "a") == [spoken(number) for number in range(9)]
            assert words(kept, "b1") == [spoken(100)]
            bed.plane.delete("c")
            assert words(await bed.plane.kept("c"), "a") == [spoken(number) for number in range(9)]

    run(test())


def test_all_legs_of_a_call_are_kept_also_the_one_that_takes_anothers_place(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, backup = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(BACKUP)
            _, for_backend = await bed.call(caller, backend)
            bed.plane.keep("c", None, 10.0)
            await bed.settle()
            backend.say(for_backend, spoken(100))
            caller.hear()
            for_backup, _ = await moved(bed, caller, backup)
            backup.say(for_backup, spoken(200))
            caller.hear()
            kept = await bed.plane.kept("c")
            assert words(kept, "b1") == [spoken(100)]
            assert words(kept, "b2") == [spoken(200)]
            bed.plane.keep("c", None, 0.0)
            assert words(await bed.plane.kept("c"), "b2") == []

    run(test())


@pytest.mark.parametrize("suite", [b"AES_CM_128_HMAC_SHA1_80", b"AEAD_AES_128_GCM"])
def test_what_is_encrypted_is_not_kept(tmp_path: Path, suite: bytes) -> None:
    """It would be noise in a recording, whether the relay could open it or not."""

    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            secret, answer = (
                peer.sdp(b"a=crypto:1 %b inline:%b" % (suite, key * 40)).replace(b"RTP/AVP", b"RTP/SAVP")
                for peer, key in ((caller, b"A"), (backend, b"B"))
            )
            towards_backend = address(await bed.plane.offer("c", "a", "b1", secret))
            towards_caller = address(await bed.plane.answer("c", "b1", "a", answer))
            bed.plane.keep("c", None, 10.0)
            await bed.settle()
            for _ in range(3):
                caller.say(towards_caller, spoken(1))
                backend.hear_packet()
                backend.say(towards_backend, spoken(2))
                caller.hear_packet()
            assert await bed.plane.kept("c") == ()

    run(test())


def test_people_who_are_connected_past_a_dead_backend_are_kept(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            peers = []
            for name in ("c", "d", "e"):
                caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
                for_caller, _ = await bed.call(caller, backend, name)
                caller.say(for_caller, spoken(0))
                backend.hear()
                bed.plane.keep(name, "a", 10.0)
                peers.append((name, caller, for_caller))
            await bed.plane.mix([(name, "a") for name, _, _ in peers])
            await bed.settle()
            for name, caller, for_caller in peers:
                caller.say(for_caller, spoken(1))
                async with asyncio.timeout(5):
                    while words(await bed.plane.kept(name), "a") != [spoken(1)]:
                        await asyncio.sleep(0.002)

    run(test())


def test_it_is_forgotten_when_it_is_not_wanted_any_more_and_some_time_after_its_end(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            for name in ("c", "d"):
                caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
                for_caller, _ = await bed.call(caller, backend, name)
                bed.plane.keep(name, "a", 0.2)
                await bed.settle()
                caller.say(for_caller, spoken(1))
                backend.hear()
                assert words(await bed.plane.kept(name), "a") == [spoken(1)]
            bed.plane.keep("c", "a", 0.0)
            assert await bed.plane.kept("c") == ()
            bed.plane.delete("d")
            assert words(await bed.plane.kept("d"), "a") == [spoken(1)]
            assert (await bed.settle())["kept"] == 1
            await asyncio.sleep(0.25)
            assert await bed.plane.kept("d") == ()
            assert (await bed.settle())["kept"] == 0

    run(test())


def test_a_successor_goes_on_with_what_is_kept(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, _ = await bed.call(caller, backend)
            bed.plane.keep("c", "a", 10.0)
            await bed.settle()
            caller.say(for_caller, spoken(1))
            backend.hear()
            state = bed.plane.snapshot("c")
            await bed.successor()
            bed.plane.restore("c", state)
            bed.plane.keep("c", "a", 10.0)
            await bed.settle()
            caller.say(for_caller, spoken(2))
            backend.hear()
            assert words(await bed.plane.kept("c"), "a") == [spoken(1), spoken(2)]

    run(test())


def test_much_is_read_in_pieces(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, for_backend = await bed.call(caller, backend)
            for leg in ("a", "b1"):
                bed.plane.keep("c", leg, 10.0)
            await bed.settle()
            count = 2 * PIECE + 1
            for number in range(count):
                caller.say(for_caller, spoken(number))
                backend.hear()
            backend.say(for_backend, spoken(9))
            caller.hear()
            kept = await bed.plane.kept("c")
            assert words(kept, "a") == [spoken(number) for number in range(count)]
            assert words(kept, "b1") == [spoken(9)]

    run(test())


def test_only_the_last_seconds_are_kept_and_no_flood() -> None:
    keep = Keep(0.05)
    keep.add(memoryview(b"old"))
    began = monotonic()
    while monotonic() < began + 0.06:
        pass
    keep.add(memoryview(b"new"))
    assert [each for _, each in keep.after(0.0, 10)] == [b"new"]
    flooded = Keep(1.0)
    for number in range(PACKETS_PER_S_MAX + 1):
        flooded.add(memoryview(number.to_bytes(2, "big")))
    kept = flooded.after(0.0, 10_000)
    assert len(kept) == PACKETS_PER_S_MAX
    assert kept[-1][1] == PACKETS_PER_S_MAX.to_bytes(2, "big")


@pytest.mark.parametrize("seconds", [-1.0, 61.0, float("nan")])
def test_nobody_can_have_more_kept_than_there_is_room_for(seconds: float) -> None:
    with pytest.raises(ValueError, match="cannot be kept"):
        Keeps().keep(None, "c", "0 a", seconds)  # type: ignore[arg-type]
