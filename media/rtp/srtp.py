"""What SRTP (RFC 3711) shows without its keys, and which suites of SDES (RFC 4568 §6.2) the relay can terminate.

A packet bears 16 bits of its index; the rest, the rollover counter (ROC), each side counts for itself (§3.3.1). Who is
to take a stream over in its middle, as its reader or as its sender, must have counted too: `Progress`. The index of
SRTCP is in the packet (§3.4).

AEAD suites (RFC 7714) are not among them. After a switch the relay goes on with the SSRC and the numbers of a sender
that may not be dead after all, and what one number used twice gives away there is the key of authentication.
"""

from __future__ import annotations

import struct

from media.rtp.packet import HEADER_SIZE

MASTER_OCTETS = {"AES_CM_128_HMAC_SHA1_80": 30, "AES_CM_128_HMAC_SHA1_32": 30}  # key and salt, by suite
TAG_OCTETS = {"AES_CM_128_HMAC_SHA1_80": 10, "AES_CM_128_HMAC_SHA1_32": 4}  # of RTP; RTCP always has 10
_RTCP_TRAILER = 14  # index and tag
_SSRCS_MAX = 8  # that are remembered of one sender

_read = struct.Struct("!xxHxxxxI").unpack_from
_read_rtcp = struct.Struct("!xxxxI").unpack_from


def is_rtcp(packet: memoryview | bytes) -> bool:
    """RFC 5761 §4: told from RTP by its second octet."""
    return len(packet) > 1 and 192 <= packet[1] <= 223


class Progress:
    """How far one sender's streams have come: the index of the last packet of each SSRC, and of its last SRTCP."""

    __slots__ = ("head", "indexes", "reports")

    def __init__(self) -> None:
        self.head = b""  # of the last RTP packet
        self.indexes: dict[int, int] = {}
        self.reports: dict[int, int] = {}

    @property
    def rolled_over(self) -> bool:
        """The last packet's ROC is not 0 any more: who has heard nothing yet cannot begin here."""
        return bool(self.head) and self.last()[1] > 0xFFFF

    def last(self) -> tuple[int, int]:
        """SSRC and index of the last packet."""
        ssrc = _read(self.head)[1]
        return ssrc, self.indexes[ssrc]

    def copy(self) -> Progress:
        copied = Progress()
        copied.head, copied.indexes, copied.reports = self.head, self.indexes.copy(), self.reports.copy()
        return copied

    def note(self, packet: memoryview | bytes) -> None:
        if len(packet) < HEADER_SIZE or packet[0] >> 6 != 2 or is_rtcp(packet):
            return
        self.head = head = bytes(packet[:HEADER_SIZE])
        sequence, ssrc = _read(head)
        index = self.indexes.get(ssrc)
        if index is None:
            _enter(self.indexes, ssrc, sequence)
        elif 0 < (ahead := sequence - index & 0xFFFF) < 0x8000:
            self.indexes[ssrc] = index + ahead

    def note_rtcp(self, packet: memoryview | bytes) -> None:
        """A packet of SRTCP as it is on the wire."""
        if len(packet) < 8 + _RTCP_TRAILER or not is_rtcp(packet):
            return
        ssrc = _read_rtcp(packet)[0]
        index = int.from_bytes(packet[-_RTCP_TRAILER : 4 - _RTCP_TRAILER], "big") & 0x7FFFFFFF
        if index > self.reports.get(ssrc, 0):
            _enter(self.reports, ssrc, index)


def _enter(table: dict[int, int], ssrc: int, index: int) -> None:
    if len(table) >= _SSRCS_MAX and ssrc not in table:
        del table[next(iter(table))]
    table[ssrc] = index
