"""Whatever arrives on a media port: what is rewritten, translated, converted or mixed must never end the relay."""

from __future__ import annotations

import random
import struct

from hypothesis import given
from hypothesis import strategies as st

from media.relay.line import Line
from media.relay.mixer import Party
from media.relay.ports import PortRange
from media.rtp import rtcp
from media.rtp.continuity import HEAD_SIZE, Continuity
from media.rtp.conversion import Conversion
from media.rtp.formats import read
from media.rtp.packet import pack
from media.rtp.translate import translate

FORMATS = read("0=PCMU/8000 8=PCMA/8000 13=CN/8000 101=TELEPHONE-EVENT/8000")
PCMA = read("8=PCMA/8000")
OLD = 0xAAAA

# Noise, and what looks like RTP or RTCP for as long as one looks at its first bytes.
noise = st.binary(max_size=200)
rtp = st.builds(
    lambda first, kind, rest: bytes([0x80 | first & 0x3F, kind]) + rest,
    st.integers(0, 255), st.sampled_from([0, 8, 13, 101, 0x80, 0xE5, 96]), noise,
)  # fmt: skip
reports = st.lists(
    st.builds(
        lambda count, kind, words, body: struct.pack("!BBH", 0x80 | count, kind, words) + body,
        st.integers(0, 31), st.integers(192, 223), st.integers(0, 20), st.binary(max_size=80),
    ),
    max_size=3,
).map(b"".join)  # fmt: skip
packets = st.lists(st.one_of(noise, rtp, reports), max_size=8)


def heard() -> Continuity:
    continuity = Continuity.after(pack(0, 500, 8000, OLD, bytes(160))[:HEAD_SIZE], 10.0, 100, 17200, FORMATS)
    assert continuity is not None
    return continuity


@given(packets, st.booleans())
def test_rewriting_keeps_the_length_and_the_ssrc(all_packets: list[bytes], left: bool) -> None:
    continuity = heard()
    if left:
        continuity.leave()
    for number, data in enumerate(all_packets):
        packet = bytearray(data)
        if continuity.fit(packet, len(packet), 10.0 + number) and len(packet) >= 12 and packet[0] >> 6 == 2:
            assert packet[8:12] == OLD.to_bytes(4, "big")
        assert len(packet) == len(data)
        for end in continuity.end_event():
            assert len(end) == 16


@given(packets, st.booleans(), st.booleans())
def test_what_is_translated_is_rtcp(all_packets: list[bytes], anchored: bool, both: bool) -> None:
    continuity = heard()
    if not anchored:
        continuity.leave()
    for data in all_packets:
        translated = translate(data, continuity, continuity if both else None)
        if translated is not None:
            assert rtcp.parse(translated)


@given(packets)
def test_conversion_keeps_the_length(all_packets: list[bytes]) -> None:
    conversion = Conversion(FORMATS, PCMA)
    for data in all_packets:
        packet = bytearray(data)
        conversion.apply(memoryview(packet), len(packet))
        assert len(packet) == len(data)


@given(packets)
def test_a_party_of_a_mix_takes_anything(all_packets: list[bytes]) -> None:
    for _, pair in PortRange("127.0.0.1", 31000, 31999).take(1):
        line = Line(31000, pair, None)
        line.formats = FORMATS
        party = Party(line, FORMATS, random.Random(1), 0.0)
        for data in all_packets:
            party.send(memoryview(bytearray(data)))
            samples = party.take()
            assert samples is None or len(samples) == 160
        line.close()
