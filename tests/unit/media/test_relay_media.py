"""Media through a real relay process: both ways, switches, fences, hold, T.38, IPv6."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from media.api import MediaError
from media.rtp import packet
from tests.unit.media.descriptions import audio
from tests.unit.media.relay_bed import BACKEND, BACKUP, CALLER, RELAY, address, heard, lost, port, relay_bed, run


def test_rtp_and_rtcp_pass_both_ways(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, for_backend = await bed.call(caller, backend)
            for _ in range(3):
                caller.say(for_caller, b"hello")
                assert backend.hear() == b"hello"
                backend.say(for_backend, b"welcome")
                assert caller.hear() == b"welcome"
            caller.report(for_caller, b"caller")
            assert b"caller" in backend.hear_report()
            backend.report(for_backend, b"backend")
            assert b"backend" in caller.hear_report()

    run(test())


def test_streams_are_counted_and_their_times_are_on_the_monotonic_clock(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, _ = await bed.call(caller, backend)
            before = time.monotonic()
            for _ in range(4):
                caller.say(for_caller, bytes(160))
                backend.hear()
            stats = await bed.stats_when(lambda stats: heard(stats, "a") == 4)
            ours, theirs = stats.streams
            assert (ours.leg, ours.line, ours.packets, ours.bytes) == ("a", 0, 4, 4 * 172)
            assert before <= ours.first_packet_at <= ours.last_packet_at <= time.monotonic()
            assert ours.source == (caller.host, caller.port)
            assert (theirs.leg, theirs.packets, theirs.last_packet_at, theirs.source) == ("b1", 0, 0.0, None)

    run(test())


def test_payload_is_not_touched_whatever_its_size(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, _ = await bed.call(caller, backend)
            for size in (0, 1, 160, 1460, 2035, 2036, 9000):
                data = packet.pack(96, 7, 8, 9, bytes(range(256)) * 40)[: 12 + size]
                caller.rtp.sendto(data, for_caller)
                assert backend.rtp.recv(65536) == data

    run(test())


def test_switch_connects_the_backup_and_fences_the_dead_backend(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, backup = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(BACKUP)
            for_caller, for_backend = await bed.call(caller, backend)
            caller.say(for_caller, b"1")
            assert backend.hear() == b"1"
            for_backup = address(await bed.plane.offer("c", "a", "b2", caller.sdp()))
            await bed.plane.answer("c", "b2", "a", backup.sdp())
            await bed.settle()

            backup.say(for_backup, b"too early")
            await bed.stats_when(lambda stats: heard(stats, "b2") == 1)
            caller.say(for_caller, b"2")
            assert backend.hear() == b"2"  # still connected

            await bed.plane.switch("c", "a", "b2")
            await bed.settle()
            backend.say(for_backend, b"from the grave")
            await bed.stats_when(lambda stats: lost(stats, "b1") == 1)
            caller.say(for_caller, b"3")
            assert backup.hear() == b"3"
            backup.say(for_backup, b"here I am")
            assert caller.hear() == b"here I am"  # and nothing before it

            bed.plane.delete("c", "b1")
            assert (await bed.settle())["lines"] == 2
            caller.say(for_caller, b"4")
            assert backup.hear() == b"4"

    run(test())


def test_fence_without_the_switch_would_let_late_media_through(tmp_path: Path) -> None:
    """The ablation of the test above: the very same packet of the old backend is heard while it is connected."""

    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, for_backend = await bed.call(caller, backend)
            caller.say(for_caller, b"1")
            backend.say(for_backend, b"from the grave")
            assert caller.hear() == b"from the grave"

    run(test())


def test_switch_back_lifts_the_fence(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, backup = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(BACKUP)
            for_caller, for_backend = await bed.call(caller, backend)
            await bed.plane.offer("c", "a", "b2", caller.sdp())
            await bed.plane.answer("c", "b2", "a", backup.sdp())
            await bed.plane.switch("c", "a", "b2")
            await bed.plane.switch("c", "a", "b1")
            await bed.settle()
            backend.say(for_backend, b"back")
            assert caller.hear() == b"back"
            caller.say(for_caller, b"good")
            assert backend.hear() == b"good"

    run(test())


def test_an_offer_alone_moves_nothing_and_its_answer_does(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, elsewhere = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(CALLER)
            _, for_backend = await bed.call(caller, backend)
            await bed.plane.offer("c", "a", "b1", elsewhere.sdp())
            await bed.settle()
            backend.say(for_backend, b"old place")
            assert caller.hear() == b"old place"
            await bed.plane.answer("c", "b1", "a", backend.sdp())
            await bed.settle()
            backend.say(for_backend, b"new place")
            assert elsewhere.hear() == b"new place"
            assert caller.has_heard_nothing()

    run(test())


def test_hold_by_address_and_resume_keep_the_way(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, for_backend = await bed.call(caller, backend)
            caller.say(for_caller, b"1")
            assert backend.hear() == b"1"
            await bed.plane.offer("c", "a", "b1", audio("0.0.0.0", caller.port))
            await bed.plane.answer("c", "b1", "a", backend.sdp(b"a=recvonly"))
            await bed.settle()
            caller.say(for_caller, b"music on hold")
            assert backend.hear() == b"music on hold"
            await bed.plane.offer("c", "a", "b1", caller.sdp())
            await bed.plane.answer("c", "b1", "a", backend.sdp())
            await bed.settle()
            backend.say(for_backend, b"2")
            assert caller.hear() == b"2"

    run(test())


def test_answer_of_another_fork_takes_the_shared_ports_over_at_the_switch(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, first, second = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(BACKUP)
            for_caller, for_backend = await bed.call(caller, first)
            await bed.plane.answer("c", "b1.2", "a", second.sdp())
            await bed.settle()
            caller.say(for_caller, b"ringing")
            assert first.hear() == b"ringing"
            await bed.plane.switch("c", "a", "b1.2")
            bed.plane.delete("c", "b1")
            await bed.settle()
            second.say(for_backend, b"hello")
            assert caller.hear() == b"hello"
            caller.say(for_caller, b"talking")
            assert second.hear() == b"talking"

    run(test())


def test_fax_by_udptl_is_relayed_as_it_is(tmp_path: Path) -> None:
    def fax(host: str, port: int) -> bytes:
        return audio(host, port).replace(b"m=audio %d RTP/AVP 0" % port, b"m=image %d udptl t38" % port)

    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            await bed.call(caller, backend)
            offer = await bed.plane.offer("c", "b1", "a", fax(backend.host, backend.port))
            answer = await bed.plane.answer("c", "a", "b1", fax(caller.host, caller.port))
            await bed.settle()
            caller.rtp.sendto(b"\x00\x01\x06t30-ind", (RELAY, port(offer)))
            assert backend.rtp.recv(100) == b"\x00\x01\x06t30-ind"
            backend.rtp.sendto(b"\x00\x02", (RELAY, port(answer)))
            assert caller.rtp.recv(100) == b"\x00\x02"

    run(test())


def test_each_media_line_has_ports_of_its_own(tmp_path: Path) -> None:
    def two_lines(first: int, second: int, host: str) -> bytes:
        return audio(host, first) + b"m=video %d RTP/AVP 96\r\n" % second

    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, camera = bed.peer(CALLER), bed.peer(CALLER)
            backend, screen = bed.peer(BACKEND), bed.peer(BACKEND)
            await bed.plane.offer("c", "a", "b1", two_lines(caller.port, camera.port, CALLER))
            answer = await bed.plane.answer("c", "b1", "a", two_lines(backend.port, screen.port, BACKEND))
            await bed.settle()
            camera.say((RELAY, port(answer, 1)), b"picture")
            assert screen.hear() == b"picture"
            caller.say((RELAY, port(answer, 0)), b"sound")
            assert backend.hear() == b"sound"
            stats = await bed.stats_when(lambda stats: heard(stats, "a") == 2)
            assert [(stream.leg, stream.line, stream.packets) for stream in stats.streams[:2]] == [
                ("a", 0, 1),
                ("a", 1, 1),
            ]

    run(test())


def test_ipv6(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path, hosts=("::1",)) as bed:
            caller, backend = bed.peer("::1"), bed.peer("::1")
            for_caller, for_backend = await bed.call(caller, backend)
            assert for_caller[0] == "::1"
            caller.say(for_caller, b"hello")
            assert backend.hear() == b"hello"
            backend.say(for_backend, b"welcome")
            assert caller.hear() == b"welcome"

    run(test())


def test_ipv6_caller_talks_to_an_ipv4_backend(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path, hosts=(RELAY, "::1")) as bed:
            caller, backend = bed.peer("::1"), bed.peer(BACKEND)
            for_caller, for_backend = await bed.call(caller, backend)
            assert (for_caller[0], for_backend[0]) == ("::1", RELAY)
            caller.say(for_caller, b"hello")
            assert backend.hear() == b"hello"
            backend.say(for_backend, b"welcome")
            assert caller.hear() == b"welcome"

    run(test())


def test_a_peer_of_a_family_that_we_do_not_have_is_an_error(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            with pytest.raises(MediaError, match="session c: a peer wants media at ::1"):
                await bed.plane.offer("c", "a", "b1", bed.peer("::1").sdp())
            assert bed.plane.sessions() == []
            assert (await bed.settle())["lines"] == 0

    run(test())


def test_deleted_ports_are_closed_and_deleting_disturbs_no_other_call(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            other_caller, other_backend = bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, _ = await bed.call(caller, backend)
            for_other, _ = await bed.call(other_caller, other_backend, "d")
            bed.plane.delete("c")
            await bed.settle()
            caller.rtp.connect(for_caller)
            caller.rtp.send(b"anyone?")
            with pytest.raises(ConnectionRefusedError):
                caller.rtp.recv(10)
            other_caller.say(for_other, b"still here")
            assert other_backend.hear() == b"still here"

    run(test())


def test_a_peer_whose_port_is_closed_harms_nobody(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, for_backend = await bed.call(caller, backend)
            caller.say(for_caller, b"1")
            assert backend.hear() == b"1"
            backend.say(for_backend, b"2")
            assert caller.hear() == b"2"
            backend.close()
            for _ in range(5):
                caller.say(for_caller, b"into the void")
            await bed.stats_when(lambda stats: heard(stats, "a") == 6)
            assert (await bed.settle())["packet_errors"] > 0

    run(test())
