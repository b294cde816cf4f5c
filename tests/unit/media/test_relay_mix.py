"""The lifeboat of a conference through a real relay: all hear all others, and each leaves on his own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from media.api import MediaError
from media.rtp import g711, packet, rtcp
from media.rtp.packet import RtpPacket
from media.rtp.sound import level, power_share, tone
from tests.unit.media.descriptions import audio
from tests.unit.media.relay_bed import BACKEND, BACKUP, CALLER, Bed, Peer, address, relay_bed, run

Place = tuple[str, int]
TONES = {"ann": 400, "bob": 1000, "cid": 1700}
NUMBERS = {"ann": g711.PCMU, "bob": g711.PCMA, "cid": g711.PCMU}


class Member:
    """A caller who says a tone, and what he hears."""

    def __init__(self, peer: Peer, backend: Peer, number: int, to: Place, hz: int) -> None:
        self.peer = peer
        self.backend = backend
        self.number = number
        self.to = to
        self.hz = hz
        self.heard: list[RtpPacket] = []
        self._said = 0

    def say(self) -> None:
        samples = tone(self.hz, 160, 4000, self._said * 160)
        self._said += 1
        data = packet.pack(
            self.number, self._said + 1, self._said * 160, self.peer.ssrc, g711.encode(samples, self.number)
        )
        self.peer.rtp.sendto(data, self.to)

    def listen(self) -> None:
        self.peer.rtp.setblocking(False)
        while True:
            try:
                self.heard.append(packet.parse(self.peer.rtp.recv(2048)))
            except BlockingIOError:
                return

    def hears(self, hz: int) -> float:
        """The share of a tone in the last half second."""
        payload = b"".join(each.payload for each in self.heard[-25:])
        return power_share(g711.decode(payload, self.number), hz)


async def conference(bed: Bed) -> dict[str, Member]:
    """Three calls, each with a backend that has said one packet."""
    members = {}
    for name, hz in TONES.items():
        caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
        number = NUMBERS[name]
        formats = b"%d 101" % number
        lines = (b"a=rtpmap:101 telephone-event/8000",)
        for_backend = address(
            await bed.plane.offer(name, "a", "b1", audio(caller.host, caller.port, *lines, formats=formats))
        )
        for_caller = address(
            await bed.plane.answer(name, "b1", "a", audio(backend.host, backend.port, *lines, formats=formats))
        )
        await bed.settle()
        backend.rtp.sendto(packet.pack(number, 9, 1440, backend.ssrc, bytes(160)), for_backend)
        caller.hear()
        members[name] = Member(caller, backend, number, for_caller, hz)
    return members


async def talk(members: dict[str, Member], seconds: float) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    for tick in range(round(seconds * 50)):
        for member in members.values():
            member.say()
        await asyncio.sleep(max(0.0, began + (tick + 1) * 0.02 - loop.time()))
        for member in members.values():
            member.listen()


def parties(members: dict[str, Member]) -> list[tuple[str, str]]:
    return [(name, "a") for name in members]


def test_everybody_hears_the_others_and_nobody_himself(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            members = await conference(bed)
            await bed.plane.mix(parties(members))
            await talk(members, 1.0)
            for name, member in members.items():
                for other, hz in TONES.items():
                    share = member.hears(hz)
                    assert share < 0.02 if other == name else 0.4 < share < 0.6, (name, other, share)

    run(test())


@pytest.mark.parametrize("names", [("ann", "bob"), ("ann", "bob", "cid")])
def test_who_is_muted_hears_the_others_and_is_heard_by_nobody(names: tuple[str, ...], tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            everybody = await conference(bed)
            members = {name: everybody[name] for name in names}
            await bed.plane.mix(parties(members), [("ann", "a")])
            await talk(members, 0.5)
            assert all(member.hears(TONES["ann"]) < 0.02 for member in members.values())
            assert members["ann"].hears(TONES["bob"]) > 0.4

    run(test())


def test_the_mix_goes_on_from_what_the_dead_backend_said(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            members = await conference(bed)
            await bed.plane.mix(parties(members))
            await talk(members, 0.3)
            for member in members.values():
                heard = member.heard
                assert {each.ssrc for each in heard} == {member.backend.ssrc}
                assert [each.sequence for each in heard] == list(range(10, 10 + len(heard)))
                times = [each.timestamp for each in heard]
                assert times[0] >= 1440 + 160 and np.diff(times).tolist() == [160] * (len(times) - 1)

    run(test())


def test_who_is_switched_to_the_backup_leaves_and_the_others_stay(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            members = await conference(bed)
            await bed.plane.mix(parties(members))
            await talk(members, 0.2)
            backup, ann = bed.peer(BACKUP), members["ann"]
            offer = await bed.plane.offer("ann", "a", "b2", ann.peer.sdp())
            await bed.plane.answer("ann", "b2", "a", backup.sdp())
            await bed.plane.switch("ann", "a", "b2")
            await bed.settle()
            ann.listen()
            last = ann.heard[-1]
            backup.say(address(offer), b"welcome")
            ann.peer.rtp.setblocking(True)
            taken = ann.peer.hear_packet()
            assert (taken.ssrc, taken.sequence, taken.payload) == (ann.backend.ssrc, last.sequence + 1, b"welcome")
            await talk(members, 0.7)
            assert members["bob"].hears(TONES["cid"]) > 0.9 and members["cid"].hears(TONES["bob"]) > 0.9
            await bed.plane.switch("bob", "a", "b1")
            await bed.settle()
            count = len(members["cid"].heard)
            await talk({"cid": members["cid"]}, 0.2)
            assert len(members["cid"].heard) <= count + 1  # alone: there is nothing to mix

    run(test())


def test_digits_are_not_mixed(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            members = await conference(bed)
            await bed.plane.mix(parties(members))
            await bed.settle()
            ann = members["ann"]
            for number in range(20):
                digit = packet.pack(101, 100 + number, 16000, ann.peer.ssrc, b"\x05\x0a\x00\xa0")
                ann.peer.rtp.sendto(digit, ann.to)
            await asyncio.sleep(0.2)
            for member in members.values():
                member.listen()
                assert len(member.heard) > 5
                assert level(g711.decode(b"".join(each.payload for each in member.heard), member.number)) < 16

    run(test())


def test_who_cannot_be_mixed_is_named(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            members = await conference(bed)
            with pytest.raises(MediaError, match="2 parties cannot be mixed, but 3 to 32"):
                await bed.plane.mix(parties(members)[:2])
            stranger, backend = bed.peer(CALLER), bed.peer(BACKEND)
            await bed.plane.offer("dan", "a", "b1", stranger.sdp(formats=b"9"))
            await bed.plane.answer("dan", "b1", "a", backend.sdp(formats=b"9"))
            with pytest.raises(MediaError, match=r"session dan: leg a does not speak G\.711"):
                await bed.plane.mix([*parties(members), ("dan", "a")])
            members["ann"].say()
            assert members["ann"].backend.hear()  # nothing has happened

    run(test())


def test_the_mix_reports_what_it_sent(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            members = await conference(bed)
            await bed.plane.mix(parties(members))
            await talk(members, 5.2)
            ann = members["ann"]
            sender = rtcp.parse(ann.peer.hear_report())[0]
            assert sender.packet_type == rtcp.SENDER_REPORT
            ssrc, timestamp, packets = (int.from_bytes(sender.body[at : at + 4], "big") for at in (0, 12, 16))
            assert ssrc == ann.backend.ssrc
            assert timestamp in [each.timestamp for each in ann.heard[-30:]]
            assert 240 <= packets <= len(ann.heard) + 1

    run(test())
