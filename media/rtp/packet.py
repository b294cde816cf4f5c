"""RTP packets (RFC 3550 §5.1): pack and parse. Sequence numbers and timestamps wrap; who counts them does that."""

from __future__ import annotations

import struct
from typing import NamedTuple

HEADER_SIZE = 12
_HEADER = struct.Struct("!BBHII")


class RtpPacket(NamedTuple):
    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


def pack(payload_type: int, sequence: int, timestamp: int, ssrc: int, payload: bytes, marker: bool = False) -> bytes:
    second = payload_type | 0x80 if marker else payload_type
    return _HEADER.pack(0x80, second, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc) + payload


def parse(data: bytes | memoryview) -> RtpPacket:
    """Raises ValueError for what is not an RTP packet. CSRCs, header extension and padding are passed over."""
    if len(data) < HEADER_SIZE:
        raise ValueError(f"{len(data)} bytes are too short for an RTP header")
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
    if first >> 6 != 2:
        raise ValueError(f"RTP version {first >> 6}")
    start = HEADER_SIZE + 4 * (first & 0x0F)
    if first & 0x10:  # RFC 3550 §5.3.1: the length counts 32-bit words after the extension's own header
        if len(data) < start + 4:
            raise ValueError("RTP header extension is cut off")
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    stop = len(data)
    if first & 0x20:
        padding = data[-1]
        if padding == 0 or start + padding > stop:
            raise ValueError(f"{padding} bytes of RTP padding")
        stop -= padding
    if start > stop:
        raise ValueError("RTP header is longer than the packet")
    return RtpPacket(second & 0x7F, second >= 0x80, sequence, timestamp, ssrc, bytes(data[start:stop]))
