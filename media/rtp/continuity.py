"""One stream for the listener, whatever its source: SSRC, sequence numbers and timestamps go on (RFC 3550 §7.1).

`Continuity` remembers what a listener has heard last. Packets of its present source are moved by two offsets, one
for sequence numbers and one for timestamps. When the source changes (another backend, another SSRC, audio that the
relay makes itself) the first packet is given the next sequence number, the marker bit, and a timestamp that has
advanced by the time that has really passed; from that the new offsets follow. Within one source they stay, so that
the packets of a telephone event, which all bear the time of its beginning (RFC 4733 §2.3.1), are kept together.

A source that comes back after the relay has filled its silence keeps its timestamps, for its clock went on; what it
sent for the time that was filled comes too late and is dropped.

Pure: bytes and `now` in, offsets out. Sockets are in `media.relay`.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

from media.rtp.formats import Formats
from media.rtp.packet import HEADER_SIZE, pack

MARKER = 0x80
HEAD_SIZE = HEADER_SIZE + 4  # with the payload of a telephone event
EVENT_END = 0x80
EVENT_REPEATS = 3  # RFC 4733 §2.5.1.4: the last packet of an event is sent three times
RESUME_S = 10.0  # a source that was silent for longer may have started its timestamps anew
REORDERED = 1000  # so many packets after a change of source its first ones may still come out of order

_read = struct.Struct("!xBHII").unpack_from
_write = struct.Struct("!BHII").pack_into


class Continuity:
    __slots__ = (
        "_ahead",
        "_anchored",
        "_event",
        "_event_type",
        "_filled",
        "_floor",
        "_former",
        "_shift",
        "at",
        "dropped",
        "formats",
        "lost",
        "octets",
        "packets",
        "reported",
        "sequence",
        "source",
        "ssrc",
        "step",
        "timestamp",
        "voice",
    )

    def __init__(self, formats: Formats) -> None:
        self.formats = formats
        self.ssrc: int | None = None  # None: nothing has been heard yet, and what comes passes as it is
        self.source: int | None = None  # SSRC of the present source; None: the next packet sets the offsets
        self.sequence = 0  # of the last packet sent
        self.timestamp = 0
        self.at = 0.0  # when that was
        self.step = 0  # its duration in units of its clock
        self.voice = -1  # payload type of the last packet that was audio
        self.packets = 0
        self.octets = 0  # of payload
        self.dropped = 0  # packets that came too late
        self.lost: int | None = None  # packets that the listener had reported lost when the present source began
        self.reported = False  # the listener has had a sender report of the present source
        self._ahead = 0  # what is added to sequence numbers of the source
        self._shift = 0  # and to its timestamps
        self._floor = 0  # first sequence number of the source
        self._anchored = 0  # `packets` at that time
        self._former: int | None = None  # the source whose silence is being filled
        self._filled = 0  # units of the clock for which others stood in
        self._event: bytes | None = None  # payload of the last packet, if it was a telephone event
        self._event_type = -1  # and its payload type

    @classmethod
    def after(cls, head: bytes, at: float, packets: int, octets: int, formats: Formats) -> Continuity | None:
        """Of a listener who has heard `packets` of one source just as they came. `head` starts the last one, which
        was sent at `at`. None when that was not RTP."""
        if len(head) < HEADER_SIZE or head[0] >> 6 != 2 or 192 <= head[1] <= 223:
            return None
        self = cls(formats)
        second, self.sequence, self.timestamp, self.ssrc = _read(head)
        self.at = at
        self.packets = packets
        self.octets = max(0, octets - HEADER_SIZE * packets)
        payload_type = second & 0x7F
        if payload_type in formats.events:
            self._event = head[HEADER_SIZE:HEAD_SIZE] if len(head) >= HEAD_SIZE else None
            self._event_type = payload_type
        else:
            self.voice = payload_type
        self.step = formats.duration(payload_type, self.octets // packets)
        self.source = self.ssrc
        self._anchored = packets - REORDERED
        return self

    @classmethod
    def fresh(cls, formats: Formats, rng: random.Random, now: float) -> Continuity:
        """Of a listener who has heard nothing yet, and to whom only the relay speaks."""
        self = cls(formats)
        self.ssrc, self.sequence, self.timestamp = rng.getrandbits(32), rng.getrandbits(15), rng.getrandbits(31)
        self.at = now
        return self

    @classmethod
    def renamed(cls, head: bytes, ssrc: int, formats: Formats) -> Continuity:
        """Of a listener who has heard nothing yet, and hears one source under another SSRC. `head`: its last packet."""
        self = cls(formats)
        _, self.sequence, self.timestamp, self.source = _read(head)
        self.ssrc = ssrc
        return self

    def leave(self) -> None:
        """The source has changed: the next packet, from wherever it comes, is fitted on."""
        self.source = self._former = None
        self.reported = False
        self.lost = None

    def fit(self, packet: memoryview | bytearray, length: int, now: float) -> bool:
        """Make a packet of the source one of the listener's stream, in place. False: it must not be sent on.

        What is no RTP packet is left as it is.
        """
        if length < HEADER_SIZE or packet[0] >> 6 != 2:
            return True
        second, sequence, timestamp, ssrc = _read(packet)
        if ssrc != self.source:
            fresh = self.ssrc is None
            if not self._anchor(packet, length, second, sequence, timestamp, ssrc, now):
                self.dropped += 1
                return False
            if not fresh:
                second |= MARKER
        sequence = sequence + self._ahead & 0xFFFF
        timestamp = timestamp + self._shift & 0xFFFFFFFF
        if 0 < sequence - self.sequence & 0xFFFF < 0x8000:
            self.sequence = sequence
            self.timestamp = timestamp
            self.at = now
            payload_type = second & 0x7F
            if payload_type != self.voice:
                self._note(packet, length, payload_type)
            elif self._event is not None:
                self._event = None
        elif self.packets - self._anchored < REORDERED and (sequence - self._floor) & 0xFFFF >= 0x8000:
            self.dropped += 1  # sent before what the listener took for the first; its number belongs to another
            return False
        self.packets += 1
        self.octets += length - HEADER_SIZE
        _write(packet, 1, second, sequence, timestamp, self.ssrc)
        return True

    def _anchor(
        self,
        packet: memoryview | bytearray,
        length: int,
        second: int,
        sequence: int,
        timestamp: int,
        ssrc: int,
        now: float,
    ) -> bool:
        """Set the offsets for a source of which this is the first packet, or the first after its silence was filled."""
        payload_type = second & 0x7F
        if self.ssrc is None:
            self.ssrc = ssrc
            self.sequence = sequence - 1 & 0xFFFF
        else:
            if not (ssrc == self._former and self._resumes(timestamp, payload_type)):
                if ssrc == self._former and self._late(timestamp, payload_type):
                    return False
                begun = 0  # a telephone event that has lasted for a while bears the time of its beginning
                if payload_type in self.formats.events and length >= HEAD_SIZE:
                    begun = packet[14] << 8 | packet[15]
                due = self._due(now, self.formats.clock(payload_type))
                self._shift = self.timestamp + max(due - begun, self.step) - timestamp
            self._ahead = self.sequence + 1 - sequence
        self.source = ssrc
        self._former = None
        self._filled = 0
        self._floor = sequence + self._ahead & 0xFFFF
        self._anchored = self.packets
        self.step = self.formats.duration(payload_type, length - HEADER_SIZE)
        return True

    def _due(self, now: float, clock: int) -> int:
        """How far a packet sent now is from the last one in time, in units of the clock, and at least its duration."""
        reached = 0
        if self._event is not None:
            reached = self._event[2] << 8 | self._event[3]
        return reached + max(round((now - self.at) * clock), self.step)

    def _resumes(self, timestamp: int, payload_type: int) -> bool:
        if payload_type in self.formats.events:
            return True
        since = timestamp + self._shift - self.timestamp & 0xFFFFFFFF
        return 0 < since < RESUME_S * self.formats.clock(payload_type)

    def _late(self, timestamp: int, payload_type: int) -> bool:
        return self.timestamp - timestamp - self._shift & 0xFFFFFFFF < self._filled

    def _note(self, packet: memoryview | bytearray, length: int, payload_type: int) -> None:
        """A packet of another payload type than the audio before it."""
        if payload_type in self.formats.events:
            self._event = bytes(packet[HEADER_SIZE:HEAD_SIZE]) if length >= HEAD_SIZE else None
            self._event_type = payload_type
            return
        self._event = None
        if payload_type != self.formats.comfort_noise:
            self.voice = payload_type

    # -- what the relay says itself -------------------------------------------------------------------------------

    def insert(self, payload_type: int, payload: bytes, duration: int, now: float) -> bytes:
        """A packet of our own, sent at `now`, that lasts for `duration` units of its clock."""
        advance = self._due(now, self.formats.clock(payload_type))
        if self.source is not None:
            self._former, self.source = self.source, None
            self.reported = False
            self._filled = 0
        self._filled += advance
        self._event = None
        self.sequence = self.sequence + 1 & 0xFFFF
        self.timestamp = self.timestamp + advance & 0xFFFFFFFF
        self.at = now
        self.step = duration
        self.packets += 1
        self.octets += len(payload)
        assert self.ssrc is not None
        return pack(payload_type, self.sequence, self.timestamp, self.ssrc, payload)

    def end_event(self) -> Iterator[bytes]:
        """The packets that end a telephone event of which the source did not live to send the end."""
        event = self._event
        if event is None or event[1] & EVENT_END or self.ssrc is None:
            return
        payload = bytes([event[0], event[1] | EVENT_END, event[2], event[3]])
        self._event = payload
        for _ in range(EVENT_REPEATS):
            self.sequence = self.sequence + 1 & 0xFFFF
            self.packets += 1
            self.octets += len(payload)
            yield pack(self._event_type, self.sequence, self.timestamp, self.ssrc, payload)

    # -- reports (RTCP) -------------------------------------------------------------------------------------------

    def to_listener(self, timestamp: int) -> int:
        return timestamp + self._shift & 0xFFFFFFFF

    def to_source(self, sequence: int) -> int:
        """An extended sequence number of the listener's, as the source counts. RFC 3550 §7.2"""
        return sequence & 0xFFFF0000 | (sequence - self._ahead & 0xFFFF)
