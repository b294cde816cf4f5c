"""One stream for the listener over changes of source (RFC 3550 §7.1): numbers, times, marker, telephone events."""

from __future__ import annotations

import pytest

from media.rtp.continuity import HEAD_SIZE, Continuity
from media.rtp.formats import read
from media.rtp.packet import RtpPacket, pack, parse

FORMATS = read("0=PCMU/8000 13=CN/8000 96=OPUS/48000/2 101=TELEPHONE-EVENT/8000 ptime=20")
OLD, NEW, THIRD = 0xAAAA, 0xBBBB, 0xCCCC
AUDIO = bytes(160)


def heard(
    sequence: int = 500, timestamp: int = 8000, at: float = 10.0, payload_type: int = 0, payload: bytes = AUDIO
) -> Continuity:
    """A listener who has heard 100 packets of the old source, this the last."""
    last = pack(payload_type, sequence, timestamp, OLD, payload)
    continuity = Continuity.after(last[:HEAD_SIZE], at, 100, 17200, FORMATS)
    assert continuity is not None
    continuity.leave()
    return continuity


def fit(continuity: Continuity, packet: bytes, now: float) -> RtpPacket | None:
    data = bytearray(packet)
    return parse(data) if continuity.fit(data, len(data), now) else None


def event(sequence: int, timestamp: int, duration: int, ssrc: int = NEW, *, end: bool = False) -> bytes:
    return pack(101, sequence, timestamp, ssrc, bytes([5, 0x80 | 10 if end else 10, *duration.to_bytes(2, "big")]))


def test_the_new_source_goes_on_where_the_old_one_stopped() -> None:
    continuity = heard()
    first = fit(continuity, pack(0, 7, 70000, NEW, AUDIO), 10.3)
    assert first == RtpPacket(0, True, 501, 8000 + 2400, OLD, AUDIO)
    second = fit(continuity, pack(0, 8, 70160, NEW, AUDIO), 10.33)
    assert second == RtpPacket(0, False, 502, 8000 + 2400 + 160, OLD, AUDIO)


def test_numbers_and_timestamps_wrap() -> None:
    continuity = heard(0xFFFF, 0xFFFFFFF0)
    first = fit(continuity, pack(0, 0xFFFF, 0xFFFFFFFF, NEW, AUDIO), 10.02)
    second = fit(continuity, pack(0, 0, 159, NEW, AUDIO), 10.04)
    assert first and second
    assert [(each.sequence, each.timestamp) for each in (first, second)] == [(0, 0x90), (1, 0x90 + 160)]


def test_a_source_that_overlaps_the_old_one_comes_after_what_was_heard() -> None:
    first = fit(heard(), pack(0, 1, 1, NEW, AUDIO), 10.001)
    assert first and first.timestamp == 8160


def test_time_is_counted_in_the_clock_of_the_codec() -> None:
    continuity = heard(payload_type=96, payload=bytes(60))
    first = fit(continuity, pack(96, 1, 1, NEW, bytes(60)), 10.5)
    assert first and first.timestamp == 8000 + 24000
    third = fit(continuity, pack(96, 9, 9, THIRD, bytes(60)), 10.501)
    assert third and third.timestamp == 8000 + 24000 + 960


def test_what_the_source_lost_stays_lost_and_what_it_reordered_stays_reordered() -> None:
    continuity = heard()
    numbers = [7, 8, 10, 9, 14]
    fitted = [fit(continuity, pack(0, number, number * 160, NEW, AUDIO), 10.1) for number in numbers]
    assert [each.sequence for each in fitted if each] == [501, 502, 504, 503, 508]


def test_a_packet_from_before_the_first_of_the_source_is_dropped() -> None:
    continuity = heard()
    assert fit(continuity, pack(0, 7, 160, NEW, AUDIO), 10.1)
    assert fit(continuity, pack(0, 6, 0, NEW, AUDIO), 10.1) is None  # its number was given to another packet
    assert continuity.dropped == 1


def test_old_packets_pass_when_numbers_have_gone_round() -> None:
    continuity = heard()
    for number in range(1, 40000):
        assert fit(continuity, pack(0, number & 0xFFFF, number * 160, NEW, b""), 10.1)
    assert fit(continuity, pack(0, 39990, 39990 * 160, NEW, b""), 10.1)


def test_each_further_source_is_fitted_on_as_well() -> None:
    continuity = heard()
    assert fit(continuity, pack(0, 7, 70000, NEW, AUDIO), 10.1)
    third = fit(continuity, pack(0, 90, 5, THIRD, AUDIO), 10.2)
    assert third == RtpPacket(0, True, 502, 8000 + 1600, OLD, AUDIO)


def test_a_source_that_takes_another_ssrc_after_a_switch_does_not_show() -> None:
    continuity = heard()
    packets = [pack(0, 7, 70000, NEW, AUDIO), pack(0, 500, 3, THIRD, AUDIO), pack(0, 501, 163, THIRD, AUDIO)]
    fitted = [fit(continuity, packet, 10.1 + 0.02 * number) for number, packet in enumerate(packets)]
    assert [(each.ssrc, each.sequence, each.timestamp, each.marker) for each in fitted if each] == [
        (OLD, 501, 8800, True),
        (OLD, 502, 8960, True),
        (OLD, 503, 9120, False),
    ]


def test_contributing_sources_extensions_and_padding_are_left_alone() -> None:
    packet = bytearray(pack(0, 7, 8, NEW, b""))
    packet[0] |= 0x32
    packet += bytes(8) + b"\xbe\xde\x00\x01abcd" + b"audio" + b"\x00\x00\x03"
    data = bytearray(packet)
    assert heard().fit(data, len(data), 10.1)
    assert (data[0], data[12:]) == (packet[0], packet[12:])


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n", b"\x00\x01" + bytes(40)])
def test_what_is_not_rtp_passes_unchanged(data: bytes) -> None:
    packet = bytearray(data)
    assert heard().fit(packet, len(packet), 10.1)
    assert packet == data


@pytest.mark.parametrize("head", [b"", b"\x80\x00", b"\x80\xc8" + bytes(14), b"\x00" * 16])
def test_a_listener_who_has_heard_no_rtp_has_nothing_to_go_on_from(head: bytes) -> None:
    assert Continuity.after(head, 10.0, 3, 600, FORMATS) is None


def test_a_stream_that_is_noted_from_its_start_passes_as_it_is() -> None:
    continuity = Continuity(FORMATS)
    packets = [pack(0, 65535, 7, OLD, AUDIO), pack(0, 0, 167, OLD, AUDIO)]
    assert [fit(continuity, packet, 10.0) for packet in packets] == [parse(packet) for packet in packets]
    continuity.leave()
    new = fit(continuity, pack(0, 3, 3, NEW, AUDIO), 10.02)
    assert new == RtpPacket(0, True, 1, 327, OLD, AUDIO)


# -- telephone events (RFC 4733) -----------------------------------------------------------------------------------


def test_packets_of_an_event_keep_their_common_timestamp() -> None:
    continuity = heard()
    assert fit(continuity, pack(0, 1, 1000, NEW, AUDIO), 10.1)
    packets = [event(2 + number, 1160, 160 * (number + 1)) for number in range(4)]
    fitted = [fit(continuity, packet, 10.12 + 0.02 * number) for number, packet in enumerate(packets)]
    assert [(each.sequence, each.timestamp) for each in fitted if each] == [(502 + number, 8960) for number in range(4)]


def test_an_event_that_the_old_source_did_not_end_is_ended() -> None:
    continuity = heard(500, 8000, 10.0, 101, bytes([5, 10, 0x01, 0x40]))
    ends = [parse(packet) for packet in continuity.end_event()]
    assert [(end.payload_type, end.sequence, end.timestamp, end.ssrc) for end in ends] == [
        (101, number, 8000, OLD) for number in (501, 502, 503)
    ]
    assert {end.payload for end in ends} == {bytes([5, 0x80 | 10, 0x01, 0x40])}
    assert list(continuity.end_event()) == []
    first = fit(continuity, pack(0, 1, 1, NEW, AUDIO), 10.1)
    assert first and (first.sequence, first.timestamp) == (504, 8000 + 320 + 800)


def test_an_event_that_was_ended_needs_no_other_end() -> None:
    continuity = heard(500, 8000, 10.0, 101, bytes([5, 0x80 | 10, 0x01, 0x40]))
    assert list(continuity.end_event()) == []


def test_audio_after_an_event_in_which_the_source_begins_is_not_late() -> None:
    """The event began 100 ms ago, and says so by its timestamp: what follows it is now, not in 100 ms."""
    continuity = heard()
    begun = fit(continuity, event(1, 1000, 800), 10.2)
    assert begun and begun.timestamp == 8000 + 1600 - 800
    after = fit(continuity, pack(0, 2, 1960, NEW, AUDIO), 10.22)
    assert after and after.timestamp == 8000 + 1600 + 160


# -- audio of our own ----------------------------------------------------------------------------------------------


def test_what_is_inserted_goes_on_and_the_source_after_it_too() -> None:
    continuity = heard()
    ours = [parse(continuity.insert(0, AUDIO, 160, 10.06 + 0.02 * number)) for number in range(3)]
    assert [(each.sequence, each.timestamp, each.marker, each.ssrc) for each in ours] == [
        (501, 8480, False, OLD),
        (502, 8640, False, OLD),
        (503, 8800, False, OLD),
    ]
    new = fit(continuity, pack(0, 7, 7, NEW, AUDIO), 10.12)
    assert new == RtpPacket(0, True, 504, 8960, OLD, AUDIO)


def test_a_source_that_has_not_changed_passes_as_it_is_and_resumes_after_a_filling() -> None:
    """A false alarm: nothing had to be rewritten until then."""
    last = pack(0, 500, 8000, OLD, AUDIO)
    continuity = Continuity.after(last[:HEAD_SIZE], 10.0, 100, 17200, FORMATS)
    assert continuity is not None
    unchanged = [pack(0, 501, 8160, OLD, AUDIO), pack(0, 499, 7840, OLD, AUDIO)]
    assert [fit(continuity, packet, 10.02) for packet in unchanged] == [parse(packet) for packet in unchanged]
    continuity.insert(0, AUDIO, 160, 10.06)
    assert fit(continuity, pack(0, 502, 8320, OLD, AUDIO), 10.07) is None
    assert fit(continuity, pack(0, 504, 8640, OLD, AUDIO), 10.08) == RtpPacket(0, True, 503, 8640, OLD, AUDIO)


def flowing(continuity: Continuity) -> None:
    """The source NEW sends ten packets from 10.02 on, with timestamps from 1000 on."""
    for number in range(10):
        assert fit(continuity, pack(0, number, 1000 + 160 * number, NEW, AUDIO), 10.02 + 0.02 * number)


def test_a_source_that_comes_back_keeps_its_time_and_what_comes_too_late_is_dropped() -> None:
    continuity = heard()
    flowing(continuity)  # the last one at 10.2: sequence 510, timestamp 9600
    for number in range(3):
        continuity.insert(0, AUDIO, 160, 10.24 + 0.02 * number)
    assert (continuity.sequence, continuity.timestamp) == (513, 9600 + 640)
    late = [pack(0, 10 + number, 2600 + 160 * number, NEW, AUDIO) for number in range(4)]
    assert [fit(continuity, packet, 10.29) for packet in late] == [None] * 4
    assert continuity.dropped == 4
    back = fit(continuity, pack(0, 14, 2600 + 640, NEW, AUDIO), 10.3)
    assert back == RtpPacket(0, True, 514, 9600 + 800, OLD, AUDIO)


def test_without_the_filling_the_same_packets_are_heard() -> None:
    """The ablation of the test above."""
    continuity = heard()
    flowing(continuity)
    late = [pack(0, 10 + number, 2600 + 160 * number, NEW, AUDIO) for number in range(4)]
    assert all(fit(continuity, packet, 10.29) for packet in late)


def test_a_source_that_comes_back_with_other_timestamps_is_fitted_on_anew() -> None:
    continuity = heard()
    flowing(continuity)
    continuity.insert(0, AUDIO, 160, 10.22)
    back = fit(continuity, pack(0, 3000, 5_000_000, NEW, AUDIO), 10.24)
    assert back and (back.sequence, back.timestamp) == (512, 9920)
