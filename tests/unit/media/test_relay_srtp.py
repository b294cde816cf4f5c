"""SRTP that the relay terminates from a switch on: each end goes on with the keys that it has."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from media.api import MediaError
from media.rtp import rtcp
from media.rtp.packet import RtpPacket
from tests.unit.media.relay_bed import BACKEND, BACKUP, CALLER, Bed, Peer, address, heard, relay_bed, run
from tests.unit.media.secure_peer import SecurePeer, crypto, secure

Place = tuple[str, int]
WORDS = bytes(range(160))
SHORT = b"AES_CM_128_HMAC_SHA1_32"


def keys(sdp: bytes) -> list[bytes]:
    return re.findall(rb"a=crypto:[^\r]+", sdp)


async def call(bed: Bed, name: str = "c", who: str = "caller") -> tuple[SecurePeer, SecurePeer, Place, Place]:
    """A call in which both have talked: caller, backend, where they send to."""
    caller, backend = secure(bed, CALLER, who), secure(bed, BACKEND, f"backend of {who}")
    for_backend = address(await bed.plane.offer(name, "a", "b1", caller.describe()))
    answer = await bed.plane.answer(name, "b1", "a", backend.describe())
    assert keys(answer) == [crypto(backend.name)]
    caller.told(backend.name)
    backend.told(caller.name)
    await bed.settle()
    talk(caller, backend, address(answer), for_backend)
    return caller, backend, address(answer), for_backend


def talk(caller: SecurePeer, backend: SecurePeer, for_caller: Place, for_backend: Place, step: int = 1) -> None:
    for peer, other, place in ((caller, backend, for_caller), (backend, caller, for_backend)):
        peer.sequence += step - 1
        peer.say(place, WORDS)
        assert other.hear_packet() == RtpPacket(0, False, peer.sequence & 0xFFFF, peer.sequence * 160, peer.ssrc, WORDS)


def hears(listener: Peer, speaker: Peer, place: Place, *stream: int) -> None:
    """What is sent to that place. `stream`: SSRC and sequence number that it must have."""
    speaker.say(place, WORDS)
    said = listener.hear_packet()
    assert said.payload == WORDS
    assert not stream or (said.ssrc, said.sequence) == stream


async def bring_up(bed: Bed, caller: SecurePeer, told: bytes, leg: str = "b2") -> tuple[SecurePeer, Place]:
    """A leg on a backup, of which the caller is not told. `told`: the key that he has been told."""
    backup = secure(bed, BACKUP, f"backup {leg}")
    offer = await bed.plane.offer("c", "a", leg, caller.describe())
    assert keys(offer) == [crypto(caller.name)]
    answer = await bed.plane.answer("c", leg, "a", backup.describe(), preview=True)
    assert keys(answer) == [told]  # for the caller nothing has changed
    backup.told(caller.name)
    return backup, address(offer)


async def move(bed: Bed, caller: SecurePeer, backend: SecurePeer, leg: str = "b2") -> tuple[SecurePeer, Place]:
    backup, for_backup = await bring_up(bed, caller, crypto(backend.name), leg)
    await bed.plane.switch("c", "a", leg)
    await bed.settle()
    return backup, for_backup


def test_the_caller_keeps_his_keys_when_a_backup_with_others_takes_over(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            assert "srtp" in bed.plane.capabilities
            caller, backend, for_caller, for_backend = await call(bed)
            backup, for_backup = await move(bed, caller, backend)
            backup.sequence = 60000
            for number in range(3):
                backend.say(for_backend, b"late")
                backup.say(for_backup, WORDS)
                said = caller.hear_packet()
                assert (said.ssrc, said.sequence, said.marker) == (backend.ssrc, 2 + number, number == 0)
                assert said.payload == WORDS
                caller.say(for_caller, WORDS)
                assert backup.hear_packet() == RtpPacket(0, False, 2 + number, 160 * (2 + number), caller.ssrc, WORDS)
            assert (await bed.settle())["srtp_refused"] == 0

    run(test())


def test_counts_of_roll_over_go_on_for_each_side(tmp_path: Path) -> None:
    """RFC 3711 §3.3.1: a call of an hour and more. The backup begins to count at 0, the caller goes on."""

    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, for_caller, for_backend = await call(bed)
            for _ in range(7):
                talk(caller, backend, for_caller, for_backend, step=0x7000)
            assert caller.sequence >> 16 == backend.sequence >> 16 == 3
            backup, for_backup = await move(bed, caller, backend)
            for step in (1, 0x7000, 0x7000, 0x7000, 0x7000):
                before = backend.sequence
                backend.sequence += step
                backup.sequence += step - 1
                backup.say(for_backup, WORDS)
                said = caller.hear_packet()
                assert (said.ssrc, said.sequence) == (backend.ssrc, backend.sequence & 0xFFFF), before
                caller.sequence += step - 1
                caller.say(for_caller, WORDS)
                said = backup.hear_packet()
                assert (said.sequence, said.timestamp) == (caller.sequence & 0xFFFF, caller.sequence * 160)
                # Under the caller's key his indexes must not be used for another packet (RFC 3711 §9.1).
                assert said.ssrc != caller.ssrc and said.payload == WORDS
            backup.told("caller")
            third, for_third = await move(bed, caller, backend, "b3")
            third.say(for_third, WORDS)
            assert caller.hear_packet().sequence == backend.sequence + 1 & 0xFFFF
            hears(third, caller, for_caller)

    run(test())


def test_reports_are_understood_on_both_sides_and_come_in_order(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, for_caller, for_backend = await call(bed)
            for _ in range(3):
                backend.report(for_backend, b"backend")
                assert b"backend" in caller.hear_report()
                caller.report(for_caller, b"caller")
                assert b"caller" in backend.hear_report()
            backup, for_backup = await move(bed, caller, backend)
            hears(caller, backup, for_backup)
            hears(backup, caller, for_caller)
            for _ in range(2):
                backup.report(for_backup, b"backup")  # as the fourth of one sender, or it would be a replay
                said = rtcp.parse(caller.hear_report())
                assert said[0].body[:4] == backend.ssrc.to_bytes(4, "big")
                caller.report(for_caller, b"caller")
                assert b"caller" in backup.hear_report()
            assert (await bed.settle())["srtp_refused"] == 0

    run(test())


def test_a_sender_report_counts_the_payload_of_both_senders_without_tags(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, _, _ = await call(bed)
            backup, (host, port) = await move(bed, caller, backend)
            hears(caller, backup, (host, port))
            report = rtcp.sender_report(backup.ssrc, 1000.5, 160, 1, 160, b"backup")
            backup.rtcp.sendto(backup.sending.protect_rtcp(report), (host, port + 1))
            packets, octets = struct.unpack("!II", rtcp.parse(caller.hear_report())[0].body[16:24])
            assert (packets, octets) == (2, 320)

    run(test())


def test_what_is_not_authentic_is_counted_and_not_passed(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, _, _ = await call(bed)
            backup, for_backup = await move(bed, caller, backend)
            hears(caller, backup, for_backup)
            forged = backup.sending.protect(b"\x80\x00\x00\x09" + bytes(8) + WORDS)
            backup.rtp.sendto(forged[:-1] + bytes([forged[-1] ^ 1]), for_backup)
            backup.rtp.sendto(forged, for_backup)
            backup.rtp.sendto(forged, for_backup)  # replayed
            assert caller.hear() == WORDS
            await bed.stats_when(lambda stats: heard(stats, "b2") == 4)
            assert caller.has_heard_nothing()
            assert (await bed.settle())["srtp_refused"] == 2
            bed.plane.delete("c")
            assert (await bed.settle())["srtp_refused"] == 2

    run(test())


def test_the_backup_may_choose_another_suite(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, backup = (
                secure(bed, CALLER, "caller"),
                secure(bed, BACKEND, "one"),
                secure(bed, BACKUP, "two"),
            )
            offered = (crypto("caller"), crypto("caller again", 2, SHORT))
            for_backend = address(await bed.plane.offer("c", "a", "b1", caller.describe(lines=offered)))
            for_caller = address(await bed.plane.answer("c", "b1", "a", backend.describe()))
            caller.told("one")
            backend.told("caller")
            await bed.settle()
            talk(caller, backend, for_caller, for_backend)
            for_backup = address(await bed.plane.offer("c", "a", "b2", caller.describe(lines=offered)))
            lines = (crypto("two", 2, SHORT),)
            answer = await bed.plane.answer("c", "b2", "a", backup.describe(lines=lines), preview=True)
            assert keys(answer) == [crypto("one")]
            await bed.plane.switch("c", "a", "b2")
            await bed.settle()
            backup.told("caller again", SHORT)
            hears(caller, backup, for_backup)
            hears(backup, caller, for_caller)

    run(test())


@pytest.mark.parametrize(
    "line",
    [
        crypto("two", suite=b"AEAD_AES_128_GCM"),
        crypto("two") + b"|2^20|1:4",  # MKI
        crypto("two") + b" UNENCRYPTED_SRTP",
        crypto("two").replace(b"inline:", b"inline:AAAA"),
        crypto("two", 7),  # a tag that was not offered
    ],
)
def test_what_cannot_be_terminated_passes_and_has_to_be_told(tmp_path: Path, line: bytes) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, _, _, _ = await call(bed)
            backup = secure(bed, BACKUP, "two")
            for_backup = address(await bed.plane.offer("c", "a", "b2", caller.describe()))
            answer = await bed.plane.answer("c", "b2", "a", backup.describe(lines=(line,)), preview=True)
            assert keys(answer) == [line]
            await bed.plane.switch("c", "a", "b2")
            await bed.plane.offer("c", "b2", "a", backup.describe(lines=(line,)))
            await bed.plane.answer("c", "a", "b2", caller.describe(), preview=True)
            await bed.settle()
            caller.told("two")
            backup.say(for_backup, WORDS)
            assert caller.hear_packet() == RtpPacket(0, False, 1, 160, backup.ssrc, WORDS)
            assert (await bed.settle())["srtp_refused"] == 0

    run(test())


def test_a_caller_who_is_told_of_the_backups_key_goes_on_with_that(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, for_caller, _ = await call(bed)
            backup, for_backup = await move(bed, caller, backend)
            hears(caller, backup, for_backup)
            caller.name = "caller anew"
            offer = await bed.plane.offer("c", "a", "b2", caller.describe())
            assert keys(offer) == [crypto("caller anew")]
            answer = await bed.plane.answer("c", "b2", "a", backup.describe())
            assert keys(answer) == [crypto(backup.name)]
            await bed.settle()
            caller.sending = secure(bed, CALLER, "caller anew").sending
            caller.told(backup.name)
            backup.told("caller anew")
            hears(caller, backup, for_backup, backend.ssrc, 3)
            hears(backup, caller, for_caller)

    run(test())


def test_two_callers_of_a_dead_backend_hear_each_other(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            agent, agents_backend, for_agent, _ = await call(bed, "agent", "agent")
            customer, backend, for_customer, for_backend = await call(bed, "customer", "customer")
            await bed.plane.bridge("agent", "a", "customer", "a")
            await bed.settle()
            for number in range(3):
                backend.say(for_backend, b"from the grave")
                hears(customer, agent, for_agent, backend.ssrc, 2 + number)
                hears(agent, customer, for_customer, agents_backend.ssrc, 2 + number)
            await bed.plane.switch("customer", "a", "b1")  # it was a false alarm
            await bed.plane.switch("agent", "a", "b1")
            await bed.settle()
            hears(customer, backend, for_backend, backend.ssrc, 5)
            hears(backend, customer, for_customer)

    run(test())


def test_one_who_encrypts_and_one_who_does_not_are_bridged_too(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            agent, _, for_agent, _ = await call(bed, "agent", "agent")
            customer, backend = bed.peer(CALLER), bed.peer(BACKEND)
            for_customer, for_backend = await bed.call(customer, backend, "customer")
            hears(backend, customer, for_customer)
            hears(customer, backend, for_backend)
            await bed.plane.bridge("agent", "a", "customer", "a")
            await bed.settle()
            hears(customer, agent, for_agent)
            hears(agent, customer, for_customer)

    run(test())


def test_keys_that_are_of_no_use_are_no_bridge(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            await call(bed, "agent", "agent")
            customer, backend = secure(bed, CALLER, "customer"), secure(bed, BACKEND, "x")
            lines = (crypto("customer", suite=b"AEAD_AES_128_GCM"),)
            await bed.plane.offer("customer", "a", "b1", customer.describe(lines=lines))
            await bed.plane.answer("customer", "b1", "a", backend.describe(lines=lines))
            with pytest.raises(MediaError, match="the other takes SRTP"):
                await bed.plane.bridge("agent", "a", "customer", "a")

    run(test())


def test_three_of_a_conference_hear_each_other(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            parties = [(*await call(bed, name, name), name) for name in ("x", "y", "z")]
            await bed.plane.mix([(name, "a") for *_, name in parties])
            await bed.settle()
            loud = bytes([0x80]) * 160
            for _ in range(6):
                parties[0][0].say(parties[0][2], loud)
            first = [caller.hear_packet() for caller, *_ in parties]
            assert [said.ssrc for said in first] == [backend.ssrc for _, backend, *_ in parties]
            assert [said.sequence for said in first] == [2, 2, 2]
            listener = parties[1][0]
            assert any(listener.hear_packet().payload[0] == 0x80 for _ in range(20))

    run(test())


def test_silence_is_filled_with_comfort_noise(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, _, for_backend = await call(bed)
            bed.plane.watch("c", "b1", "as1")
            await bed.settle()
            hears(caller, backend, for_backend)
            bed.plane.comfort("as1", True)
            await bed.settle()
            for number in range(3):
                said = caller.hear_packet()
                assert (said.ssrc, said.sequence, len(said.payload)) == (backend.ssrc, 3 + number, 160)
            bed.plane.comfort("as1", False)

    run(test())


def test_a_hot_standby_hears_what_it_can_read(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, for_caller, for_backend = await call(bed)
            for _ in range(3):
                talk(caller, backend, for_caller, for_backend, step=0x7000)
            assert caller.sequence >> 16 == 1  # further than a standby that has heard nothing yet
            backup, for_backup = await bring_up(bed, caller, crypto(backend.name))
            await bed.plane.fork("c", "a", "b2")
            await bed.settle()
            for _ in range(2):
                caller.sequence += 0x6FFF
                caller.say(for_caller, WORDS)
                assert backend.hear_packet().ssrc == caller.ssrc
                assert backup.hear() == WORDS
            for _ in range(4):
                backup.sequence += 0x6FFF
                backup.say(for_backup, b"not yet")
            await bed.stats_when(lambda stats: heard(stats, "b2") == 4)
            assert caller.has_heard_nothing()
            await bed.plane.switch("c", "a", "b2")
            await bed.settle()
            hears(caller, backup, for_backup, backend.ssrc, backend.sequence + 1 & 0xFFFF)
            hears(backup, caller, for_caller)

    run(test())


def test_keys_survive_the_proxy(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, for_caller, _ = await call(bed)
            backup, for_backup = await move(bed, caller, backend)
            hears(caller, backup, for_backup)
            snapshot = bed.plane.snapshot("c")
            await bed.successor()
            bed.plane.restore("c", snapshot)
            await bed.settle()
            hears(caller, backup, for_backup, backend.ssrc, 3)
            hears(backup, caller, for_caller)
            third, for_third = await move(bed, caller, backend, "b3")
            third.say(for_third, WORDS)
            assert caller.hear_packet().sequence == 4

    run(test())


def test_without_the_library_encrypted_calls_pass_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "pylibsrtp.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    caplog.set_level("INFO")

    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            assert "srtp" not in bed.plane.capabilities
            caller, _, _, _ = await call(bed)
            await call(bed, "another")
            offer = await bed.plane.offer("c", "a", "b2", caller.describe())
            assert keys(offer) == [crypto(caller.name)]
            answer = await bed.plane.answer("c", "b2", "a", secure(bed, BACKUP, "two").describe(), preview=True)
            assert keys(answer) == [crypto("two")]
            with pytest.raises(MediaError, match="the other takes SRTP"):
                await bed.plane.bridge("c", "a", "another", "a")

    run(test())
    assert [record.message for record in caplog.records if "SRTP" in record.message] == [
        "SRTP passes as it is: the relay has no pylibsrtp (pip install 'aqueduct-sip[srtp]')"
    ]
