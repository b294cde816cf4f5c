"""Peers that never negotiated with each other: payload types by encoding, PCMU and PCMA by table."""

from __future__ import annotations

import numpy as np
import pytest

from media.rtp import g711, laws
from media.rtp.conversion import Conversion, can_hear, first_audio
from media.rtp.formats import Formats, read
from media.rtp.packet import RtpPacket, pack, parse


def convert(spoken: str, taken: str, packet: bytes) -> RtpPacket | None:
    data = bytearray(packet)
    return parse(data) if Conversion(read(spoken), read(taken)).apply(memoryview(data), len(data)) else None


def test_the_same_codec_passes_under_the_number_that_the_other_peer_gave_it() -> None:
    packet = convert("111=OPUS/48000/2 101=TELEPHONE-EVENT/8000", "96=OPUS/48000/2", pack(111, 1, 2, 3, b"audio", True))
    assert packet == RtpPacket(96, True, 1, 2, 3, b"audio")


def test_nothing_is_needed_where_both_have_the_same_numbers() -> None:
    assert not Conversion(read("8=PCMA/8000"), read("0=PCMU/8000 8=PCMA/8000 101=TELEPHONE-EVENT/8000")).needed


def test_what_the_other_peer_does_not_take_is_dropped_and_counted() -> None:
    conversion = Conversion(read("0=PCMU/8000 101=TELEPHONE-EVENT/8000"), read("0=PCMU/8000"))
    assert conversion.needed
    for payload_type, passes in ((0, True), (101, False), (77, False)):
        data = bytearray(pack(payload_type, 1, 2, 3, b"1234"))
        assert conversion.apply(memoryview(data), len(data)) is passes
    assert conversion.dropped == 2


@pytest.mark.parametrize(("source", "target"), [("PCMU", "PCMA"), ("PCMA", "PCMU")])
def test_g711_is_transcoded_to_the_nearest_code(source: str, target: str) -> None:
    numbers = {"PCMU": g711.PCMU, "PCMA": g711.PCMA}
    codes = bytes(range(256))
    packet = convert(
        f"{numbers[source]}={source}/8000", f"{numbers[target]}={target}/8000", pack(numbers[source], 1, 2, 3, codes)
    )
    assert packet is not None and packet.payload_type == numbers[target]
    before, after = g711.decode(codes, numbers[source]), g711.decode(packet.payload, numbers[target])
    all_values = np.unique(g711.decode(codes, numbers[target])).astype(np.int32)
    nearest = np.abs(before.astype(np.int32)[:, None] - all_values).min(axis=1)
    assert np.array_equal(np.abs(before.astype(np.int32) - after), nearest)


def test_contributing_sources_and_extensions_are_not_transcoded() -> None:
    packet = bytearray(pack(0, 1, 2, 3, b""))
    packet[0] |= 0x11
    head = bytes(packet) + b"csrc" + b"\xbe\xde\x00\x01abcd"
    data = bytearray(head + bytes(10))
    conversion = Conversion(read("0=PCMU/8000"), read("8=PCMA/8000"))
    assert conversion.apply(memoryview(data), len(data))
    assert data[: len(head)] == head[:1] + b"\x08" + head[2:]
    assert data[len(head) :] == laws.encode("PCMA", [laws.DECODE["PCMU"][0]] * 10)


def test_both_makings_of_g711_are_the_same() -> None:
    for law, number in (("PCMU", g711.PCMU), ("PCMA", g711.PCMA)):
        assert laws.DECODE[law] == g711.decode(bytes(range(256)), number).tolist()
        samples = np.arange(-32768, 32768, dtype=np.int16)
        assert laws.encode(law, samples.tolist()) == g711.encode(samples, number)


@pytest.mark.parametrize(
    ("spoken", "own", "audio"),
    [
        ("0=PCMU/8000 8=PCMA/8000", "8=PCMA/8000", ("PCMA", 8000)),
        ("101=TELEPHONE-EVENT/8000 13=CN/8000 9=G722/8000", "9=G722/8000 101=TELEPHONE-EVENT/8000", ("G722", 8000)),
        ("0=PCMU/8000", "9=G722/8000", None),
    ],
)
def test_what_a_peer_speaks_is_what_its_backend_wanted_first(
    spoken: str, own: str, audio: tuple[str, int] | None
) -> None:
    assert first_audio(read(spoken), read(own)) == audio


def test_who_hears_whom() -> None:
    pcma: Formats = read("8=PCMA/8000")
    assert can_hear(("PCMU", 8000), pcma) and can_hear(("PCMA", 8000), pcma)
    assert not can_hear(("PCMU", 16000), pcma) and not can_hear(("G722", 8000), pcma)
    assert can_hear(("G722", 8000), read("9=G722/8000"))
