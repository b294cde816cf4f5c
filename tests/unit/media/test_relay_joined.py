"""A standby that hears, too, and callers who are connected to each other around a dead backend, in a real relay."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from media.api import MediaError
from media.relay.client import RelayPlane
from media.rtp import laws, packet
from media.rtp.packet import RtpPacket
from tests.unit.media.descriptions import audio
from tests.unit.media.relay_bed import (
    BACKEND,
    BACKUP,
    CALLER,
    Bed,
    Peer,
    address,
    heard,
    lost,
    relay_bed,
    run,
)

Place = tuple[str, int]
WORDS = bytes(range(160))


def describe(peer: Peer, formats: bytes) -> bytes:
    return audio(peer.host, peer.port, b"a=rtpmap:101 telephone-event/8000", formats=formats)


async def call(bed: Bed, name: str, formats: bytes = b"0 101") -> tuple[Peer, Peer, Place, Place]:
    """A call in which both have talked: caller, backend, where they send to."""
    caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
    for_backend = address(await bed.plane.offer(name, "a", "b1", describe(caller, formats)))
    for_caller = address(await bed.plane.answer(name, "b1", "a", describe(backend, formats)))
    await bed.settle()
    caller.say(for_caller, WORDS)
    backend.hear()
    backend.say(for_backend, WORDS)
    caller.hear()
    return caller, backend, for_caller, for_backend


async def standby(bed: Bed, caller: Peer) -> tuple[Peer, Place]:
    backup = bed.peer(BACKUP)
    for_backup = address(await bed.plane.offer("c", "a", "b2", describe(caller, b"0 101")))
    await bed.plane.answer("c", "b2", "a", describe(backup, b"0 101"))
    await bed.plane.fork("c", "a", "b2")
    await bed.settle()
    return backup, for_backup


# -- fork ----------------------------------------------------------------------------------------------------------


def test_a_standby_hears_the_caller_and_is_not_heard(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, for_caller, for_backend = await call(bed, "c")
            backup, for_backup = await standby(bed, caller)
            for _ in range(3):
                caller.say(for_caller, WORDS)
                assert backend.hear_packet() == backup.hear_packet()
                backup.say(for_backup, b"not yet")
                backend.say(for_backend, WORDS)
                assert caller.hear() == WORDS
            assert caller.has_heard_nothing()
            stats = await bed.stats_when(lambda stats: heard(stats, "b2") == 3)
            assert (lost(stats, "b2"), heard(stats, "b1")) == (0, 4)

    run(test())


def test_a_standby_takes_over_in_the_middle_of_its_stream(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, for_caller, _ = await call(bed, "c")
            backup, for_backup = await standby(bed, caller)
            caller.say(for_caller, WORDS)
            backup.hear()
            backend.close()
            for number in range(4):  # every other one is answered by ICMP; the standby must not miss it
                caller.say(for_caller, WORDS)
                assert backup.hear_packet().sequence == 3 + number
            await bed.plane.switch("c", "a", "b2")
            await bed.settle()
            caller.say(for_caller, WORDS)
            assert backup.hear_packet() == RtpPacket(0, False, 7, 7 * 160, caller.ssrc, WORDS)
            assert backup.has_heard_nothing()  # once, not twice
            backup.say(for_backup, WORDS)
            taken = caller.hear_packet()
            assert (taken.ssrc, taken.sequence, taken.marker) == (backend.ssrc, 2, True)

    run(test())


def test_a_fork_ends_when_it_is_told_and_when_its_leg_is_deleted(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, for_caller, _ = await call(bed, "c")
            backup, _ = await standby(bed, caller)
            await bed.plane.fork("c", "a", None)
            await bed.settle()
            caller.say(for_caller, WORDS)
            backend.hear()
            assert backup.has_heard_nothing()
            await bed.plane.fork("c", "a", "b2")
            bed.plane.delete("c", "b2")
            await bed.settle()
            caller.say(for_caller, WORDS)
            assert backend.hear() == WORDS
            assert backup.has_heard_nothing()
            with pytest.raises(MediaError, match="session c: no legs a and b2"):
                await bed.plane.fork("c", "a", "b2")

    run(test())


def test_a_standby_of_a_moved_call_hears_the_callers_own_stream(tmp_path: Path) -> None:
    """The live leg may hear a rewritten one: the packet is the same, the two must not meet."""

    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, _, _ = await call(bed, "c")
            elsewhere = bed.peer(CALLER)
            await bed.plane.offer("c", "x", "b1", describe(elsewhere, b"0 101"))
            for_elsewhere = address(await bed.plane.answer("c", "b1", "x", describe(backend, b"0 101")))
            await bed.plane.switch("c", "x", "b1")  # now the backend hears somebody else as it heard the caller
            await bed.settle()
            backup, _ = await standby(bed, elsewhere)
            await bed.plane.fork("c", "x", "b2")
            await bed.settle()
            elsewhere.say(for_elsewhere, WORDS)
            live, beside = backend.hear_packet(), backup.hear_packet()
            assert (live.ssrc, live.sequence) == (caller.ssrc, 2)
            assert beside == RtpPacket(0, False, 1, 160, elsewhere.ssrc, WORDS)

    run(test())


def test_a_fork_survives_the_proxy(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, for_caller, _ = await call(bed, "c")
            backup, _ = await standby(bed, caller)
            snapshot = bed.plane.snapshot("c")
            await bed.plane.close()
            bed.plane = await RelayPlane.start(bed.options, random.Random(8))
            bed.plane.restore("c", snapshot)
            await bed.settle()
            caller.say(for_caller, WORDS)
            assert (backend.hear(), backup.hear()) == (WORDS, WORDS)

    run(test())


# -- bridge --------------------------------------------------------------------------------------------------------


def test_two_callers_of_a_dead_backend_hear_each_other(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            agent, agents_backend, for_agent, _ = await call(bed, "agent")
            customer, backend, for_customer, for_backend = await call(bed, "customer")
            await bed.plane.bridge("agent", "a", "customer", "a")
            await bed.settle()
            for number in range(3):
                backend.say(for_backend, b"from the grave")
                agent.say(for_agent, WORDS)
                said = customer.hear_packet()
                assert (said.ssrc, said.sequence, said.payload) == (backend.ssrc, 2 + number, WORDS)
                customer.say(for_customer, WORDS)
                said = agent.hear_packet()
                assert (said.ssrc, said.sequence, said.payload) == (agents_backend.ssrc, 2 + number, WORDS)
            await bed.stats_when(lambda stats: lost(stats, "b1") == 3, "customer")

    run(test())


@pytest.mark.parametrize("formats", [(b"0 101", b"8 101"), (b"0 101", b"0 101")])
def test_g711_is_transcoded_where_it_must_be(tmp_path: Path, formats: tuple[bytes, bytes]) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            agent, _, for_agent, _ = await call(bed, "agent", formats[0])
            customer, _, for_customer, _ = await call(bed, "customer", formats[1])
            await bed.plane.bridge("agent", "a", "customer", "a")
            await bed.settle()
            agent.say(for_agent, WORDS)
            said = customer.hear_packet()
            if formats[0] == formats[1]:
                assert (said.payload_type, said.payload) == (0, WORDS)
                return
            assert (said.payload_type, said.payload) == (8, WORDS.translate(laws.transcoding("PCMU", "PCMA")))
            customer.rtp.sendto(packet.pack(8, 2, 320, customer.ssrc, WORDS), for_customer)
            said = agent.hear_packet()
            assert (said.payload_type, said.payload) == (0, WORDS.translate(laws.transcoding("PCMA", "PCMU")))

    run(test())


def test_a_digit_passes_a_bridge_under_the_others_number(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            agent, _, for_agent, _ = await call(bed, "agent", b"0 101")
            customer, backend = bed.peer(CALLER), bed.peer(BACKEND)
            lines = (b"a=rtpmap:96 telephone-event/8000",)
            await bed.plane.offer("customer", "a", "b1", customer.sdp(*lines, formats=b"0 96"))
            await bed.plane.answer("customer", "b1", "a", backend.sdp(*lines, formats=b"0 96"))
            await bed.plane.bridge("agent", "a", "customer", "a")
            await bed.settle()
            agent.rtp.sendto(packet.pack(101, 9, 1600, agent.ssrc, b"\x05\x0a\x00\xa0"), for_agent)
            assert customer.hear_packet().payload_type == 96

    run(test())


def test_who_would_not_understand_each_other_is_not_bridged(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            agent, backend, for_agent, _ = await call(bed, "agent", b"0")
            await call(bed, "customer", b"9")
            with pytest.raises(MediaError, match="one peer speaks PCMU/8000, the other takes 9=G722/8000"):
                await bed.plane.bridge("agent", "a", "customer", "a")
            for other in ("b9", "b1"):
                with pytest.raises(MediaError):
                    await bed.plane.bridge("agent", "a", "nobody", other)
            await bed.settle()
            agent.say(for_agent, WORDS)
            assert backend.hear() == WORDS  # nothing has happened

    run(test())


def test_the_backup_takes_over_from_the_bridge_one_by_one(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            agent, backend, for_agent, _ = await call(bed, "agent")
            customer, _, for_customer, _ = await call(bed, "customer")
            await bed.plane.bridge("agent", "a", "customer", "a")
            backup = bed.peer(BACKUP)
            for_backup = address(await bed.plane.offer("agent", "a", "b2", describe(agent, b"0 101")))
            await bed.plane.answer("agent", "b2", "a", describe(backup, b"0 101"))
            await bed.settle()
            agent.say(for_agent, WORDS)
            assert customer.hear() == WORDS  # the backup's answer alone ends nothing
            await bed.plane.switch("agent", "a", "b2")
            await bed.settle()
            agent.say(for_agent, WORDS)
            assert backup.hear() == WORDS
            backup.say(for_backup, WORDS)
            taken = agent.hear_packet()
            assert (taken.ssrc, taken.sequence) == (backend.ssrc, 2)
            customer.say(for_customer, b"alone")
            await bed.stats_when(lambda stats: heard(stats, "a") == 2, "customer")
            assert agent.has_heard_nothing() and customer.has_heard_nothing()

    run(test())


def test_a_reinvite_in_the_middle_of_a_bridge_does_not_end_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            agent, backend, for_agent, _ = await call(bed, "agent")
            customer, _, _, _ = await call(bed, "customer")
            await bed.plane.bridge("agent", "a", "customer", "a")
            moved = bed.peer(CALLER)
            await bed.plane.offer("customer", "a", "b1", describe(moved, b"0 101"))
            await bed.plane.answer("customer", "b1", "a", describe(backend, b"0 101"))
            await bed.settle()
            agent.say(for_agent, WORDS)
            assert moved.hear() == WORDS
            assert customer.has_heard_nothing()

    run(test())


def test_a_standby_goes_on_hearing_through_a_bridge_and_after_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            await call(bed, "agent")
            caller, backend, for_caller, _ = await call(bed, "c")
            backup, for_backup = await standby(bed, caller)
            await bed.plane.bridge("agent", "a", "c", "a")
            await bed.settle()
            caller.say(for_caller, WORDS)
            assert backup.hear() == WORDS and backend.has_heard_nothing()
            backup.say(for_backup, b"not yet")
            await bed.plane.switch("c", "a", "b1")
            await bed.settle()
            caller.say(for_caller, WORDS)
            assert backup.hear() == backend.hear() == WORDS
            stats = await bed.stats_when(lambda stats: heard(stats, "b2") == 1)
            assert lost(stats, "b2") == 0

    run(test())


def test_a_bridge_survives_the_proxy(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            agent, backend, for_agent, _ = await call(bed, "agent")
            customer, _, _, _ = await call(bed, "customer")
            await bed.plane.bridge("agent", "a", "customer", "a")
            snapshots = {name: bed.plane.snapshot(name) for name in ("agent", "customer")}
            await bed.plane.close()
            bed.plane = await RelayPlane.start(bed.options, random.Random(8))
            for name, snapshot in snapshots.items():
                bed.plane.restore(name, snapshot)
            await bed.settle()
            agent.say(for_agent, WORDS)
            assert customer.hear() == WORDS
            await bed.plane.switch("customer", "a", "b1")  # both know: the agent is joined with nobody now
            await bed.plane.answer("agent", "b1", "a", describe(backend, b"0 101"))
            await bed.settle()
            agent.say(for_agent, WORDS)
            assert backend.hear() == WORDS
            assert customer.has_heard_nothing()

    run(test())
