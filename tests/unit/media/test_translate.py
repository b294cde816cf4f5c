"""RTCP over changes of source (RFC 3550 §7.2): reports speak of the stream that their reader knows."""

from __future__ import annotations

import struct

from media.rtp import rtcp
from media.rtp.continuity import HEAD_SIZE, Continuity
from media.rtp.formats import read
from media.rtp.packet import pack
from media.rtp.translate import translate

OLD, NEW, CALLER = 0xAAAA, 0xBBBB, 0xCCCC
FORMATS = read("0=PCMU/8000")


def moved() -> Continuity:
    """The caller heard OLD up to sequence 500, timestamp 8000; then one packet of NEW (7, 70000), 0.1 s later."""
    continuity = Continuity.after(pack(0, 500, 8000, OLD, bytes(160))[:HEAD_SIZE], 10.0, 100, 17200, FORMATS)
    assert continuity is not None
    continuity.leave()
    packet = bytearray(pack(0, 7, 70000, NEW, bytes(160)))
    assert continuity.fit(packet, len(packet), 10.1)
    return continuity


def left() -> Continuity:
    continuity = moved()
    continuity.leave()
    return continuity


def block(ssrc: int, loss: int = 0, highest: int = 0, last_report: int = 0, delay: int = 0) -> bytes:
    return struct.pack("!IIIIII", ssrc, loss, highest, 3, last_report, delay)


def receiver_report(*blocks: bytes, ssrc: int = CALLER) -> bytes:
    body = struct.pack("!I", ssrc) + b"".join(blocks)
    return struct.pack("!BBH", 0x80 | len(blocks), 201, len(body) // 4) + body


def blocks_of(packet: bytes) -> list[tuple[int, ...]]:
    report = rtcp.parse(packet)[0]
    start = 24 if report.packet_type == rtcp.SENDER_REPORT else 4
    return [struct.unpack_from("!IIIIII", report.body, start + 24 * number) for number in range(report.items)]


def test_a_sender_report_speaks_of_the_listeners_stream() -> None:
    translated = translate(rtcp.sender_report(NEW, 1000.5, 70160, 1, 160, b"backup"), moved(), None)
    assert translated is not None
    report, description = rtcp.parse(translated)
    ssrc, seconds, fraction, timestamp, packets, octets = struct.unpack("!IIIIII", report.body)
    assert (ssrc, timestamp) == (OLD, 8800 + 160)
    assert (packets, octets) == (101, 101 * 160)  # of both sources: what the listener was sent
    assert (seconds, fraction) == (2208988800 + 1000, 0x80000000)
    assert description.body[:4] == struct.pack("!I", OLD) and b"backup" in description.body


def test_a_sender_report_of_a_source_that_is_not_heard_yet_is_not_passed() -> None:
    translated = translate(rtcp.sender_report(NEW, 1000.5, 70160, 1, 160, b"backup"), left(), None)
    assert translated is not None
    assert [packet.packet_type for packet in rtcp.parse(translated)] == [rtcp.SOURCE_DESCRIPTION]


def test_a_listeners_report_reaches_the_source_as_one_about_its_own_stream() -> None:
    heard = moved()
    translate(rtcp.sender_report(NEW, 1000.5, 70160, 1, 160, b"backup"), heard, None)
    reports = [
        receiver_report(block(OLD, 0x10000000 | lost, highest, 0x1234, 5)) for lost, highest in ((40, 502), (43, 510))
    ]
    first, second = (translate(report, None, heard) for report in reports)
    assert first and second
    assert blocks_of(first) == [(NEW, 0x10000000, 8, 3, 0x1234, 5)]
    assert blocks_of(second) == [(NEW, 0x10000003, 16, 3, 0x1234, 5)]  # lost since the source began


def test_a_listeners_report_about_the_former_sources_sender_report_tells_no_round_trip() -> None:
    translated = translate(receiver_report(block(OLD, 0, 501, 0x1234, 5)), None, moved())
    assert translated and blocks_of(translated) == [(NEW, 0, 7, 3, 0, 0)]


def test_a_source_that_has_not_been_heard_is_told_of_no_stream() -> None:
    translated = translate(receiver_report(block(OLD), block(99)), None, left())
    assert translated and blocks_of(translated) == [(99, 0, 0, 3, 0, 0)]


def test_reports_about_other_streams_stay_as_they_are() -> None:
    packet = receiver_report(block(99, 1, 2, 3, 4))
    assert translate(packet, None, moved()) == packet
    assert translate(packet, None, None) == packet


def test_a_goodbye_is_not_passed_and_the_rest_of_its_compound_is() -> None:
    compound = rtcp.receiver_report(NEW, b"backup") + rtcp.goodbye(NEW)
    translated = translate(compound, moved(), None)
    assert translated
    kinds = [packet.packet_type for packet in rtcp.parse(translated)]
    assert kinds == [rtcp.RECEIVER_REPORT, rtcp.SOURCE_DESCRIPTION]
    assert translate(rtcp.goodbye(NEW), moved(), None) is None
    assert translate(rtcp.goodbye(CALLER), None, moved()) == rtcp.goodbye(
        CALLER
    )  # the caller's own stream is as it was


def test_a_picture_is_asked_of_the_source_and_its_sequence_numbers_are_not() -> None:
    picture, nack = (
        struct.pack("!BBHII", 0x81, kind, 2 + len(rest) // 4, CALLER, OLD) + rest
        for kind, rest in ((206, b""), (205, bytes(4)))
    )
    assert translate(picture, None, moved()) == struct.pack("!BBHII", 0x81, 206, 2, CALLER, NEW)
    assert translate(picture, None, left()) is None
    assert translate(nack, None, moved()) is None
    assert translate(nack, None, None) == nack


def test_what_is_cut_off_or_no_rtcp_is_not_passed() -> None:
    whole = receiver_report(block(OLD)) + rtcp.goodbye(CALLER)
    for length in range(1, len(whole)):
        cut = whole[:length]
        if length != 32:  # the first packet of the compound is whole
            assert translate(cut, moved(), moved()) is None
    assert translate(b"", moved(), None) is None
    assert translate(b"\x81\xc9\x00\x01" + bytes(4), moved(), moved()) is None  # says that it has a block
