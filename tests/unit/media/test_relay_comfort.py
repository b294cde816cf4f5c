"""Comfort audio through a real relay: begun for a group, ended by whoever speaks next."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
import wave
from pathlib import Path

from media.relay.client import RelayPlane
from media.relay.link import RelayOptions
from media.rtp import g711, packet
from media.rtp.packet import RtpPacket
from media.rtp.sound import level, tone
from tests.unit.media.descriptions import audio
from tests.unit.media.relay_bed import BACKEND, BACKUP, CALLER, RELAY, Bed, Peer, address, relay_bed, run, when

Place = tuple[str, int]
WORDS = bytes(160)


def describe(peer: Peer, formats: bytes, *lines: bytes) -> bytes:
    return audio(peer.host, peer.port, *lines, formats=formats)


async def call(bed: Bed, formats: bytes = b"0", backends: bytes | None = None) -> tuple[Peer, Peer, Place, Place]:
    """A call on the backend as1 on which both have talked."""
    caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
    for_backend = address(await bed.plane.offer("c", "a", "b1", describe(caller, formats)))
    for_caller = address(await bed.plane.answer("c", "b1", "a", describe(backend, backends or formats)))
    bed.plane.watch("c", "b1", "as1")
    await bed.settle()
    number = int(formats.split()[0])
    for sequence in range(3):
        caller.say(for_caller, WORDS)
        backend.hear()
        backend.rtp.sendto(packet.pack(number, 7 + sequence, 160 * sequence, backend.ssrc, WORDS), for_backend)
        caller.hear()
    return caller, backend, for_caller, for_backend


def hear_noise(caller: Peer, count: int) -> list[RtpPacket]:
    return [caller.hear_packet() for _ in range(count)]


def test_noise_goes_on_from_where_the_backend_fell_silent(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, _, _ = await call(bed)
            bed.plane.comfort("as1", True)
            await bed.settle()
            began = time.monotonic()
            noise = hear_noise(caller, 10)
            assert 0.1 < time.monotonic() - began < 0.5
            assert {(each.payload_type, each.ssrc, each.marker) for each in noise} == {(0, backend.ssrc, False)}
            assert [each.sequence for each in noise] == list(range(10, 20))
            steps = [after.timestamp - before.timestamp for before, after in itertools.pairwise(noise)]
            assert steps == [160] * 9
            assert 0 < level(g711.decode(b"".join(each.payload for each in noise))) < 60
            assert (await bed.settle())["comfort_packets"] >= 10

    run(test())


def test_the_first_packet_of_the_backup_ends_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, _, _ = await call(bed)
            bed.plane.comfort("as1", True)
            await bed.settle()
            noise = hear_noise(caller, 3)
            backup = bed.peer(BACKUP)
            for_backup = address(await bed.plane.offer("c", "a", "b2", describe(caller, b"0")))
            await bed.plane.answer("c", "b2", "a", describe(backup, b"0"))
            bed.plane.watch("c", "b2", "as2")
            await bed.plane.switch("c", "a", "b2")
            bed.plane.comfort("as1", False)
            await bed.settle()
            noise += hear_noise(caller, 5)  # it goes on until somebody speaks
            backup.say(for_backup, b"here I am")
            while (heard := caller.hear_packet()).payload != b"here I am":
                noise.append(heard)
            assert (heard.ssrc, heard.sequence, heard.marker) == (backend.ssrc, noise[-1].sequence + 1, True)
            assert [each.sequence for each in noise] == list(range(10, 10 + len(noise)))
            await asyncio.sleep(0.1)  # five packets of noise, if it went on
            assert caller.has_heard_nothing()

    run(test())


def test_a_false_alarm_ends_with_the_backend_itself_and_may_come_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, _, for_backend = await call(bed)
            bed.plane.comfort("as1", True)
            await bed.settle()
            noise = hear_noise(caller, 3)
            backend.rtp.sendto(packet.pack(0, 10, 160 * 40, backend.ssrc, b"I am back"), for_backend)
            while (heard := caller.hear_packet()).payload != b"I am back":
                noise.append(heard)
            assert (heard.sequence, heard.marker) == (noise[-1].sequence + 1, True)
            assert hear_noise(caller, 1)[0].sequence == heard.sequence + 1
            bed.plane.comfort("as1", False)
            await bed.settle()
            while not caller.has_heard_nothing():
                pass
            await asyncio.sleep(0.1)
            assert caller.has_heard_nothing()

    run(test())


def test_who_hears_his_backend_hears_no_noise(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, _, for_backend = await call(bed)
            bed.plane.comfort("as1", True)
            bed.plane.comfort("as9", True)
            for number in range(10):
                backend.rtp.sendto(packet.pack(0, 10 + number, 480 + 160 * number, backend.ssrc, WORDS), for_backend)
                heard = caller.hear_packet()
                assert (heard.sequence, heard.payload) == (10 + number, WORDS)
                await asyncio.sleep(0.01)
            assert "comfort_packets" not in await bed.settle()

    run(test())


def test_packets_of_comfort_noise_where_both_have_agreed_on_them(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, _, _, _ = await call(bed, b"0 13")
            bed.plane.comfort("as1", True)
            await bed.settle()
            first, second = hear_noise(caller, 2)
            assert (first.payload_type, first.payload) == (13, b"\x41")
            assert second.timestamp - first.timestamp == 800

    run(test())


def test_no_packets_of_comfort_noise_for_who_has_them_alone(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, _, _, _ = await call(bed, b"8 13", b"8")
            bed.plane.comfort("as1", True)
            await bed.settle()
            assert hear_noise(caller, 1)[0].payload_type == 8

    run(test())


def test_a_codec_that_cannot_be_made_stays_silent_and_is_counted(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, _, _, _ = await call(bed, b"18")
            bed.plane.comfort("as1", True)

            async def counted() -> int | None:
                return (await bed.settle()).get("comfort_impossible")

            assert await when(counted) == 1
            assert caller.has_heard_nothing()

    run(test())


def test_who_is_on_hold_or_is_gone_hears_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, _, _ = await call(bed)
            bed.plane.comfort("as1", True)
            await bed.settle()
            hear_noise(caller, 1)
            await bed.plane.offer("c", "a", "b1", describe(caller, b"0", b"a=sendonly"))
            await bed.plane.answer("c", "b1", "a", describe(backend, b"0", b"a=recvonly"))
            await bed.settle()
            while not caller.has_heard_nothing():
                pass
            await asyncio.sleep(0.1)
            assert caller.has_heard_nothing()
            bed.plane.delete("c")
            bed.plane.comfort("as1", True)
            assert (await bed.settle())["lines"] == 0

    run(test())


def test_a_prompt_is_heard_instead_where_there_is_one(tmp_path: Path) -> None:
    file = tmp_path / "please-hold.wav"
    samples = tone(400, 8000)
    with wave.open(str(file), "wb") as sound:
        sound.setframerate(8000)
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.writeframes(samples.tobytes())

    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            await bed.plane.close()
            options = RelayOptions(str(tmp_path / "other.sock"), (RELAY,), (31000, 31999), prompt=str(file))
            bed.plane = await RelayPlane.start(options, random.Random(8))
            caller, _, _, _ = await call(bed, b"8 13")
            bed.plane.comfort("as1", True)
            await bed.settle()
            heard = b"".join(each.payload for each in hear_noise(caller, 5))
            assert heard == g711.encode(samples, g711.PCMA)[:800]

    run(test())
