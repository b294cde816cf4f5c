"""RTCP of a source and of a listener between whom a stream was moved (RFC 3550 §7.2).

The listener hears one SSRC whatever the source; its reports must reach the present source as reports about that
source's own stream, and the source's reports must speak of the stream that the listener knows. Each direction has its
`Continuity`; None where packets pass as they are.

Not passed: a BYE, for the stream does not end with its source (the call's end is told by SIP); sender reports and
reports of a source that the listener does not hear yet; report blocks about a stream that is not the reader's.
"""

from __future__ import annotations

import struct

from media.rtp.continuity import Continuity
from media.rtp.rtcp import GOODBYE, RECEIVER_REPORT, SENDER_REPORT, SOURCE_DESCRIPTION

_TRANSPORT_FEEDBACK = 205  # RFC 4585 §6.1: SSRC of who speaks, SSRC of the stream that is meant
_PAYLOAD_FEEDBACK = 206
_BLOCK = struct.Struct("!IIIIII")
_SENDER = struct.Struct("!IIIIII")
_WORD = struct.Struct("!I")
_LOST = 0x00FFFFFF


def translate(data: bytes, heard: Continuity | None, told: Continuity | None) -> bytes | None:
    """A compound packet of a source, for its listener. `heard`: what the listener hears of the source; `told`: what the
    source hears of the listener. None when nothing of it is for the listener, or when it is not RTCP."""
    result = b""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            return None
        first, kind, words = struct.unpack_from("!BBH", data, at)
        stop = at + 4 + 4 * words
        if first >> 6 != 2 or stop > len(data) or words < 1:
            return None
        body = _packet(kind, first & 0x1F, data[at + 4 : stop], heard, told)
        if body is not None:
            count, content = body
            result += struct.pack("!BBH", first & 0xE0 | count, kind, len(content) // 4) + content
        at = stop
    return result or None


def _packet(
    kind: int, count: int, body: bytes, heard: Continuity | None, told: Continuity | None
) -> tuple[int, bytes] | None:
    if kind == GOODBYE and heard is not None:
        return None
    speaker = body[:4]
    if heard is not None and heard.ssrc is not None:
        speaker = _WORD.pack(heard.ssrc)
    if kind == SENDER_REPORT:
        if len(body) < _SENDER.size + count * _BLOCK.size:
            return None
        sender = body[: _SENDER.size]
        if heard is not None:
            ssrc, seconds, fraction, timestamp, _, _ = _SENDER.unpack(sender)
            if ssrc != heard.source or heard.ssrc is None:
                return None
            timestamp = heard.to_listener(timestamp)
            sender = _SENDER.pack(
                heard.ssrc, seconds, fraction, timestamp, heard.packets & 0xFFFFFFFF, heard.octets & 0xFFFFFFFF
            )
            heard.reported = True
        return _with_blocks(sender, body[_SENDER.size :], count, told)
    if kind == RECEIVER_REPORT:
        if len(body) < 4 + count * _BLOCK.size:
            return None
        return _with_blocks(speaker, body[4:], count, told)
    if kind == SOURCE_DESCRIPTION:
        # The first chunk is of who speaks; others, of contributing sources, stay what they are.
        return count, speaker + body[4:]
    if (
        kind in (_TRANSPORT_FEEDBACK, _PAYLOAD_FEEDBACK)
        and told is not None
        and len(body) >= 8
        and body[4:8] == _WORD.pack(told.ssrc or 0)
    ):
        # Transport feedback asks for sequence numbers, and means those of the listener.
        if told.source is None or kind == _TRANSPORT_FEEDBACK:
            return None
        return count, speaker + _WORD.pack(told.source) + body[8:]
    return count, speaker + body[4:]


def _with_blocks(head: bytes, rest: bytes, count: int, told: Continuity | None) -> tuple[int, bytes]:
    if told is None:
        return count, head + rest
    blocks = []
    for number in range(count):
        ssrc, loss, highest, jitter, last_report, delay = _BLOCK.unpack_from(rest, number * _BLOCK.size)
        if ssrc == told.ssrc:
            if told.source is None:
                continue
            ssrc = told.source
            highest = told.to_source(highest)
            if not told.reported:
                # RFC 3550 §6.4.1: zero when no SR was received; the one that was is another source's.
                last_report = delay = 0
            if told.lost is None:
                told.lost = loss & _LOST  # of the sources before, as far as this can be told
            loss = loss & ~_LOST | (loss - told.lost) & _LOST
        blocks.append(_BLOCK.pack(ssrc, loss, highest, jitter, last_report, delay))
    return len(blocks), head + b"".join(blocks) + rest[count * _BLOCK.size :]
