"""RTCP (RFC 3550 §6): parse compound packets, and pack the reports that a simple endpoint sends."""

from __future__ import annotations

import struct
from typing import NamedTuple

SENDER_REPORT = 200
RECEIVER_REPORT = 201
SOURCE_DESCRIPTION = 202
GOODBYE = 203

_NTP_EPOCH = 2208988800  # 1970 in seconds since 1900
_CNAME = 1


class RtcpPacket(NamedTuple):
    """One of the packets of a compound; `items` is its report or source count, or the format of feedback."""

    packet_type: int
    items: int
    body: bytes  # after the four bytes of header; padding included


def parse(data: bytes) -> list[RtcpPacket]:
    """Raises ValueError for what is not RTCP."""
    packets = []
    at = 0
    while at < len(data):
        if len(data) - at < 4:
            raise ValueError("RTCP header is cut off")
        first, packet_type, words = struct.unpack_from("!BBH", data, at)
        if first >> 6 != 2:
            raise ValueError(f"RTCP version {first >> 6}")
        stop = at + 4 + 4 * words
        if stop > len(data):
            raise ValueError(f"RTCP packet of {4 + 4 * words} bytes in {len(data) - at}")
        packets.append(RtcpPacket(packet_type, first & 0x1F, data[at + 4 : stop]))
        at = stop
    if not packets:
        raise ValueError("empty RTCP packet")
    return packets


def _pack(packet_type: int, count: int, body: bytes) -> bytes:
    return struct.pack("!BBH", 0x80 | count, packet_type, len(body) // 4) + body


def sender_report(ssrc: int, wall_clock: float, timestamp: int, packets: int, octets: int, cname: bytes) -> bytes:
    """RFC 3550 §6.4.1 without report blocks, and the CNAME that §6.1 wants in every compound."""
    seconds, fraction = divmod(wall_clock, 1.0)
    body = struct.pack(
        "!IIIIII",
        ssrc,
        (int(seconds) + _NTP_EPOCH) & 0xFFFFFFFF,
        int(fraction * 0x100000000),
        timestamp & 0xFFFFFFFF,
        packets & 0xFFFFFFFF,
        octets & 0xFFFFFFFF,
    )
    return _pack(SENDER_REPORT, 0, body) + source_description(ssrc, cname)


def receiver_report(ssrc: int, cname: bytes) -> bytes:
    return _pack(RECEIVER_REPORT, 0, struct.pack("!I", ssrc)) + source_description(ssrc, cname)


def source_description(ssrc: int, cname: bytes) -> bytes:
    chunk = struct.pack("!IBB", ssrc, _CNAME, len(cname)) + cname + b"\0"
    return _pack(SOURCE_DESCRIPTION, 1, chunk + bytes(-len(chunk) % 4))


def goodbye(ssrc: int) -> bytes:
    return _pack(GOODBYE, 1, struct.pack("!I", ssrc))
