"""Whom a real relay listens to, and whom it does not."""

from __future__ import annotations

from pathlib import Path

from media.relay.latch import PROBATION, LatchPolicy
from tests.unit.media.descriptions import audio
from tests.unit.media.relay_bed import (
    BACKEND,
    CALLER,
    STRANGER,
    Bed,
    Peer,
    address,
    heard,
    lost,
    relay_bed,
    run,
)


async def refused(bed: Bed, count: int) -> None:
    stats = await bed.stats_when(lambda stats: lost(stats, "a") == count)
    assert heard(stats, "a") == 0


def test_stranger_is_not_heard_before_the_caller(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, stranger = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(STRANGER)
            for_caller, _ = await bed.call(caller, backend)
            for _ in range(2 * PROBATION):
                stranger.say(for_caller, b"hijack")
            await refused(bed, 2 * PROBATION)
            caller.say(for_caller, b"me")
            assert backend.hear() == b"me"

    run(test())


def test_stranger_is_not_heard_after_the_caller(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, stranger = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(STRANGER)
            for_caller, for_backend = await bed.call(caller, backend)
            caller.say(for_caller, b"1")
            assert backend.hear() == b"1"
            for _ in range(3):
                stranger.say(for_caller, b"hijack")
            caller.say(for_caller, b"2")
            assert backend.hear() == b"2"
            backend.say(for_backend, b"secret")
            assert caller.hear() == b"secret"
            assert stranger.has_heard_nothing()

    run(test())


def test_strangers_packets_that_were_queued_before_the_latch_are_dropped(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, stranger = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(STRANGER)
            towards_backend = await bed.plane.offer("c", "a", "b1", caller.sdp())
            for_caller = address(await bed.plane.answer("c", "b1", "a", backend.sdp()))
            # The relay has not heard of the session yet, or has just: all of this may be queued at once.
            caller.say(for_caller, b"1")
            stranger.say(for_caller, b"hijack")
            caller.say(for_caller, b"2")
            await bed.settle()
            caller.say(for_caller, b"3")
            while (words := backend.hear()) != b"3":
                assert words != b"hijack"
            assert address(towards_backend) != for_caller

    run(test())


def test_another_port_of_the_callers_host_is_heard(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            signalled, sending, backend = bed.peer(CALLER), bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, for_backend = await bed.call(signalled, backend)
            sending.say(for_caller, b"behind NAT")
            assert backend.hear() == b"behind NAT"
            backend.say(for_backend, b"symmetric")
            assert sending.hear() == b"symmetric"

    run(test())


def test_strict_hears_the_signalled_port_only(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path, latch=LatchPolicy.STRICT) as bed:
            signalled, other, backend = bed.peer(CALLER), bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, _ = await bed.call(signalled, backend)
            other.say(for_caller, b"wrong port")
            signalled.say(for_caller, b"right port")
            assert backend.hear() == b"right port"
            stats = await bed.stats_when(lambda stats: heard(stats, "a") == 1)
            assert stats.streams[0].first_packet_at > 0

    run(test())


def test_another_host_is_heard_after_probation_where_sdp_has_a_private_address(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            await bed.plane.offer("c", "a", "b1", audio("192.168.1.5", 4000))
            for_caller = address(await bed.plane.answer("c", "b1", "a", backend.sdp()))
            await bed.settle()
            for number in range(PROBATION + 1):
                caller.say(for_caller, b"%d" % number)
            assert backend.hear() == b"%d" % (PROBATION - 1)
            assert backend.hear() == b"%d" % PROBATION

    run(test())


def test_probation_starts_anew_when_someone_else_interferes(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path, latch=LatchPolicy.ANY) as bed:
            caller, backend, stranger = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(STRANGER)
            for_caller, _ = await bed.call(caller, backend)
            for _ in range(PROBATION - 1):
                stranger.say(for_caller, b"hijack")
            await refused(bed, PROBATION - 1)
            caller.say(for_caller, b"me")  # the signalled address goes before anyone on probation
            stranger.say(for_caller, b"hijack")
            caller.say(for_caller, b"me again")
            assert [backend.hear(), backend.hear()] == [b"me", b"me again"]

    run(test())


def test_what_is_not_rtp_does_not_latch(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            signalled, other, backend = bed.peer(CALLER), bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, _ = await bed.call(signalled, backend)
            for garbage in (b"", b"\x00" * 40, b"\x80\x00", b"OPTIONS sip:x SIP/2.0\r\n\r\n"):
                other.rtp.sendto(garbage, for_caller)
            await refused(bed, 4)
            signalled.say(for_caller, b"voice")
            assert backend.hear() == b"voice"

    run(test())


def test_new_sdp_latches_anew_and_the_old_source_is_no_longer_heard(tmp_path: Path) -> None:
    async def move(bed: Bed, caller: Peer, backend: Peer) -> None:
        await bed.plane.offer("c", "a", "b1", caller.sdp())
        await bed.plane.answer("c", "b1", "a", backend.sdp())
        await bed.settle()

    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, moved = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(STRANGER)
            for_caller, for_backend = await bed.call(caller, backend)
            caller.say(for_caller, b"1")
            assert backend.hear() == b"1"
            await move(bed, moved, backend)
            caller.say(for_caller, b"old")
            moved.say(for_caller, b"new")
            assert backend.hear() == b"new"
            backend.say(for_backend, b"hello")
            assert moved.hear() == b"hello"

    run(test())


def test_the_same_sdp_again_keeps_the_latch(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            signalled, sending, backend = bed.peer(CALLER), bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, for_backend = await bed.call(signalled, backend)
            sending.say(for_caller, b"1")
            assert backend.hear() == b"1"
            await bed.plane.offer("c", "a", "b1", signalled.sdp())
            await bed.plane.answer("c", "b1", "a", backend.sdp())
            await bed.settle()
            backend.say(for_backend, b"2")
            assert sending.hear() == b"2"

    run(test())


def test_nothing_is_heard_before_there_is_an_answer(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            for_backend = address(await bed.plane.offer("c", "a", "b1", caller.sdp()))
            await bed.settle()
            backend.say(for_backend, b"whose voice is this?")
            await bed.stats_when(lambda stats: lost(stats, "b1") == 1)
            assert caller.has_heard_nothing()

    run(test())
