"""RTP, RTCP, G.711 and tones."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.rtp import g711, packet, rtcp, sound


def test_rtp_packet_survives_the_way() -> None:
    data = packet.pack(8, 65537, 1 << 33 | 160, 0xDEADBEEF, b"sound", marker=True)
    assert packet.parse(data) == packet.RtpPacket(8, True, 1, 160, 0xDEADBEEF, b"sound")


def test_contributors_extension_and_padding_are_passed_over() -> None:
    head = bytes([0x80 | 0x20 | 0x10 | 1, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3])
    data = head + b"CSRC" + b"\xbe\xde\x00\x01" + b"ext!" + b"voice" + b"\0\0\3"
    assert packet.parse(data).payload == b"voice"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(12),
        b"\x80" * 11,
        b"\x90" + bytes(11),
        b"\x8f" + bytes(11),
        b"\xa0" + bytes(11),
        b"\xa0" + b"\xff" * 12,
    ],
)
def test_what_is_not_rtp_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        packet.parse(data)


@given(st.binary(max_size=60))
def test_garbage_raises_nothing_but_value_errors(data: bytes) -> None:
    for parse in (packet.parse, rtcp.parse):
        with contextlib.suppress(ValueError):
            parse(data)


def test_reports_are_compounds_with_a_name() -> None:
    report = rtcp.parse(rtcp.sender_report(1, 0.5, 160, 3, 480, b"a@b"))
    assert [item.packet_type for item in report] == [rtcp.SENDER_REPORT, rtcp.SOURCE_DESCRIPTION]
    assert report[0].body[4:12] == bytes.fromhex("83aa7e8080000000")  # 1970-01-01 00:00:00.5 in NTP time
    assert report[1].body[4:9] == b"\x01\x03a@b"
    both = rtcp.parse(rtcp.receiver_report(1, b"name") + rtcp.goodbye(1))
    assert [item.packet_type for item in both] == [201, 202, 203]


def test_g711_known_values() -> None:
    # ITU-T G.191 reference: the ends and the middle of both laws.
    assert g711.decode(bytes([0x00, 0x80, 0xFF, 0x7F]), g711.PCMU).tolist() == [-32124, 32124, 0, 0]
    assert g711.decode(bytes([0xD5, 0x55, 0xAA, 0x2A]), g711.PCMA).tolist() == [8, -8, 32256, -32256]
    assert g711.encode(sound.silence(2), g711.PCMU) == b"\xff\xff"


@pytest.mark.parametrize("payload_type", [g711.PCMU, g711.PCMA])
def test_g711_is_stable_and_close(payload_type: int) -> None:
    samples = np.arange(-32000, 32000, 7, dtype=np.int16)
    once = g711.decode(g711.encode(samples, payload_type), payload_type)
    assert (g711.decode(g711.encode(once, payload_type), payload_type) == once).all()
    error = np.abs(once.astype(int) - samples)
    assert (error <= np.maximum(16, np.abs(samples.astype(int)) // 16)).all()


def test_power_share_tells_a_tone_from_another() -> None:
    heard = g711.decode(g711.encode(sound.tone(440, 800)))
    assert sound.power_share(heard, 440) > 0.99
    assert sound.power_share(heard, 1000) < 0.01
    assert sound.power_share(sound.silence(800), 440) == 0.0
    mixed = sound.tone(440, 800, 4000) + sound.tone(1000, 800, 4000)
    assert 0.45 < sound.power_share(mixed, 440) < 0.55


def test_pieces_of_a_tone_join_without_a_click() -> None:
    whole = sound.tone(440, 320)
    pieces = np.concatenate([sound.tone(440, 160), sound.tone(440, 160, start=160)])
    assert (pieces == whole).all()


def test_level_of_a_sine_is_its_amplitude_over_root_two() -> None:
    assert sound.level(sound.tone(500, 1600, 10000)) == pytest.approx(7071, rel=0.01)
    assert sound.level(sound.silence(0)) == 0.0
