"""A switch of source through a real relay: what the listener and the backends see of it."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from media.relay.client import RelayPlane
from media.rtp import packet, rtcp
from media.rtp.packet import RtpPacket
from tests.unit.media.descriptions import audio
from tests.unit.media.relay_bed import (
    BACKEND,
    BACKUP,
    CALLER,
    Bed,
    Peer,
    address,
    lost,
    relay_bed,
    run,
)

Place = tuple[str, int]
WORDS = bytes(160)


async def moved(bed: Bed, caller: Peer, backend: Peer, backup: Peer) -> tuple[Place, Place, Place]:
    """The backend has said five packets, then the call was switched to the backup. Where the three must send."""
    for_caller, for_backend = await bed.call(caller, backend)
    for _ in range(5):
        caller.say(for_caller, WORDS)
        backend.hear()
        backend.say(for_backend, WORDS)
        caller.hear()
    for_backup = await switch(bed, caller, backup, "b2")
    return for_caller, for_backend, for_backup


async def switch(bed: Bed, caller: Peer, backup: Peer, leg: str) -> Place:
    for_backup = address(await bed.plane.offer("c", "a", leg, caller.sdp()))
    await bed.plane.answer("c", leg, "a", backup.sdp())
    await bed.plane.switch("c", "a", leg)
    await bed.settle()
    return for_backup


def test_the_listener_hears_one_stream(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, backup = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(BACKUP)
            _, for_backend, for_backup = await moved(bed, caller, backend, backup)
            backup.sequence = 60000
            before = time.monotonic()
            for number in range(4):
                backend.say(for_backend, b"late")  # from the grave, between packets of the backup
                backup.say(for_backup, WORDS)
                heard = caller.hear_packet()
                assert (heard.ssrc, heard.sequence, heard.marker) == (backend.ssrc, 6 + number, number == 0)
                if number == 0:
                    first = heard.timestamp
                    passed = (time.monotonic() - before) * 8000
                    assert 5 * 160 + 160 <= first <= 5 * 160 + 160 + passed + 8000
                assert heard.timestamp == first + 160 * number
            stats = await bed.stats_when(lambda stats: lost(stats, "b1") == 4)
            assert lost(stats, "b2") == 0

    run(test())


def test_timestamps_advance_by_the_time_that_has_passed(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, backup = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(BACKUP)
            for_caller, for_backend = await bed.call(caller, backend)
            caller.say(for_caller, WORDS)
            backend.hear()
            sent = time.monotonic()
            backend.say(for_backend, WORDS)
            before = caller.hear_packet().timestamp
            arrived = time.monotonic()
            for_backup = await switch(bed, caller, backup, "b2")
            time.sleep(0.15)  # the gap itself is what is measured
            least = time.monotonic() - arrived
            backup.say(for_backup, WORDS)
            after = caller.hear_packet().timestamp
            most = time.monotonic() - sent
            assert least * 8000 - 1 <= after - before <= most * 8000 + 1

    run(test())


def test_before_a_switch_packets_are_what_was_sent(tmp_path: Path) -> None:
    """And the backup, too, gets the caller's own stream: it has heard no other."""

    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, backup = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(BACKUP)
            for_caller, _, _ = await moved(bed, caller, backend, backup)
            caller.say(for_caller, WORDS)
            assert backup.hear_packet() == RtpPacket(0, False, 6, 960, caller.ssrc, WORDS)

    run(test())


def test_a_second_switch_and_one_back_do_not_show_either(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, backup, third = (bed.peer(host) for host in (CALLER, BACKEND, BACKUP, BACKUP))
            _, for_backend, for_backup = await moved(bed, caller, backend, backup)
            backup.say(for_backup, WORDS)
            heard = [caller.hear_packet()]
            for_third = await switch(bed, caller, third, "b3")
            third.say(for_third, WORDS)
            heard.append(caller.hear_packet())
            await bed.plane.switch("c", "a", "b1")
            await bed.settle()
            backend.say(for_backend, WORDS)
            heard.append(caller.hear_packet())
            assert [(each.ssrc, each.sequence, each.marker) for each in heard] == [
                (backend.ssrc, 6, True),
                (backend.ssrc, 7, True),
                (backend.ssrc, 8, True),
            ]

    run(test())


def test_the_stream_goes_on_when_another_proxy_takes_the_session_up(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, backup = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(BACKUP)
            _, _, for_backup = await moved(bed, caller, backend, backup)
            backup.say(for_backup, WORDS)
            heard = [caller.hear_packet()]
            snapshot = bed.plane.snapshot("c")
            await bed.plane.close()
            bed.plane = await RelayPlane.start(bed.options, random.Random(8))
            bed.plane.restore("c", snapshot)
            await bed.settle()
            backup.say(for_backup, WORDS)
            heard.append(caller.hear_packet())
            assert [(each.ssrc, each.sequence, each.marker) for each in heard] == [
                (backend.ssrc, 6, True),
                (backend.ssrc, 7, False),
            ]
            assert heard[1].timestamp == heard[0].timestamp + 160

    run(test())


def test_the_old_leg_may_be_gone_before_the_new_one_is_connected(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, backup = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(BACKUP)
            for_caller, for_backend = await bed.call(caller, backend)
            caller.say(for_caller, WORDS)
            backend.hear()
            backend.say(for_backend, WORDS)
            caller.hear()
            bed.plane.delete("c", "b1")
            for_backup = address(await bed.plane.offer("c", "a", "b2", caller.sdp()))
            await bed.plane.answer("c", "b2", "a", backup.sdp())
            await bed.settle()
            backup.say(for_backup, WORDS)
            heard = caller.hear_packet()
            assert (heard.ssrc, heard.sequence, heard.marker) == (backend.ssrc, 2, True)

    run(test())


def test_reports_follow_the_switch(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, backup = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(BACKUP)
            for_caller, _, for_backup = await moved(bed, caller, backend, backup)
            backup.say(for_backup, WORDS)
            heard = caller.hear_packet()
            to_relay = (for_backup[0], for_backup[1] + 1)
            report = rtcp.sender_report(backup.ssrc, time.time(), 160 + 80, 1, 160, b"backup")
            backup.rtcp.sendto(report + rtcp.goodbye(backup.ssrc), to_relay)
            sender, description = rtcp.parse(caller.hear_report())
            assert sender.body[:4] == description.body[:4] == backend.ssrc.to_bytes(4, "big")
            assert int.from_bytes(sender.body[12:16], "big") == heard.timestamp + 80
            assert int.from_bytes(sender.body[16:20], "big") == 6

            block = backend.ssrc.to_bytes(4, "big") + bytes(6) + heard.sequence.to_bytes(2, "big") + bytes(12)
            body = caller.ssrc.to_bytes(4, "big") + block
            caller.rtcp.sendto(b"\x81\xc9\x00\x07" + body, (for_caller[0], for_caller[1] + 1))
            about = rtcp.parse(backup.hear_report())[0].body[4:]
            assert about[:4] == backup.ssrc.to_bytes(4, "big")
            assert int.from_bytes(about[8:12], "big") == 1

    run(test())


def test_a_digit_that_the_dead_backend_did_not_end_is_ended(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, backup = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(BACKUP)
            lines, formats = (b"a=rtpmap:101 telephone-event/8000",), b"0 101"
            for_backend = address(await bed.plane.offer("c", "a", "b1", caller.sdp(*lines, formats=formats)))
            await bed.plane.answer("c", "b1", "a", backend.sdp(*lines, formats=formats))
            await bed.settle()
            for number in range(2):
                digit = bytes([7, 10, 0, 160 * number])
                backend.rtp.sendto(packet.pack(101, 9 + number, 4000, 5, digit, not number), for_backend)
                assert caller.hear_packet().payload == digit
            await bed.plane.offer("c", "a", "b2", caller.sdp(*lines, formats=formats))
            await bed.plane.answer("c", "b2", "a", backup.sdp(*lines, formats=formats))
            await bed.plane.switch("c", "a", "b2")
            await bed.settle()
            ends = [caller.hear_packet() for _ in range(3)]
            assert ends == [
                RtpPacket(101, False, 11 + number, 4000, 5, bytes([7, 0x8A, 0, 160])) for number in range(3)
            ]

    run(test())


@pytest.mark.parametrize("profile", [b"RTP/SAVP", b"RTP/SAVPF"])
def test_packets_that_are_authenticated_stay_as_they_are(tmp_path: Path, profile: bytes) -> None:
    async def test() -> None:
        def sdp(peer: Peer) -> bytes:
            return audio(peer.host, peer.port).replace(b"RTP/AVP", profile)

        async with relay_bed(tmp_path) as bed:
            caller, backend, backup = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(BACKUP)
            for_backend = address(await bed.plane.offer("c", "a", "b1", sdp(caller)))
            await bed.plane.answer("c", "b1", "a", sdp(backend))
            await bed.settle()
            backend.say(for_backend, WORDS)
            caller.hear()
            for_backup = address(await bed.plane.offer("c", "a", "b2", sdp(caller)))
            await bed.plane.answer("c", "b2", "a", sdp(backup))
            await bed.plane.switch("c", "a", "b2")
            await bed.settle()
            backup.say(for_backup, WORDS)
            assert caller.hear_packet() == RtpPacket(0, False, 1, 160, backup.ssrc, WORDS)

    run(test())


def test_reports_on_the_port_of_the_media_follow_the_switch(tmp_path: Path) -> None:
    """RFC 5761. The last that the old backend sent may then be a report, and its numbers must be known all the same."""

    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, backup = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(BACKUP)
            for_backend = address(await bed.plane.offer("c", "a", "b1", caller.sdp(b"a=rtcp-mux")))
            for_caller = address(await bed.plane.answer("c", "b1", "a", backend.sdp(b"a=rtcp-mux")))
            await bed.settle()
            caller.say(for_caller, WORDS)
            backend.hear()
            backend.say(for_backend, WORDS)
            caller.hear()
            backend.rtp.sendto(rtcp.receiver_report(backend.ssrc, b"backend"), for_backend)
            assert b"backend" in caller.rtp.recv(100)
            for_backup = address(await bed.plane.offer("c", "a", "b2", caller.sdp(b"a=rtcp-mux")))
            await bed.plane.answer("c", "b2", "a", backup.sdp(b"a=rtcp-mux"))
            await bed.plane.switch("c", "a", "b2")
            await bed.settle()
            backup.say(for_backup, WORDS)
            heard = caller.hear_packet()
            assert (heard.ssrc, heard.sequence, heard.marker) == (backend.ssrc, 2, True)
            backup.rtp.sendto(rtcp.receiver_report(backup.ssrc, b"backup"), for_backup)
            assert caller.rtp.recv(100)[4:8] == backend.ssrc.to_bytes(4, "big")

    run(test())
