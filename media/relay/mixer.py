"""A lifeboat for a conference whose backend is dead: its parties hear each other until the backup's conference stands.

G.711 only, 20 ms at a time. What a party says waits for a moment in a buffer that evens out its jitter; each hears the
sum of the others as the continuation of the stream that it had. Who is linked to a leg again is out of it. Loads numpy,
which takes longer than a listener should wait: a relay is asked to load this in advance (`--prepare-mixing`).
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from media.relay.line import Line
from media.relay.sinks import NOWHERE, Rewriter
from media.rtp import g711, laws, rtcp
from media.rtp.continuity import Continuity
from media.rtp.formats import G711, Formats
from media.rtp.packet import HEADER_SIZE

FRAME = g711.PACKET_SAMPLES
FRAME_S = FRAME / g711.SAMPLE_RATE
READY = 2 * FRAME  # samples that wait before a party is heard
BEHIND = 5 * FRAME  # so many waiting ones are too many: its clock is faster, or it was late
REPORT_S = 5.0
_CNAME = b"lifeboat"
_NUMBERS = {"PCMU": g711.PCMU, "PCMA": g711.PCMA}


class Party:
    """One who speaks and listens. Takes what its peer sends, as a sink."""

    __slots__ = ("_laws", "_ready", "_waiting", "continuity", "law", "line", "number", "reported_at")

    def __init__(self, line: Line, spoken: Formats, rng: random.Random, now: float) -> None:
        """Raises ValueError for one that does not take G.711."""
        self.line = line
        formats = line.formats
        if line.rtp.rewriter is None:
            line.rtp.rewriter = Rewriter(line.rtp.outlet(), Continuity.fresh(formats, rng, now))
        self.continuity = line.rtp.rewriter.continuity
        offered = [number for number, encoding in formats.encodings.items() if encoding in G711]
        if not offered:
            raise ValueError(f"line {line.number} does not take G.711")
        self.number = self.continuity.voice if self.continuity.voice in offered else offered[0]
        self.law = formats.encodings[self.number]
        self.reported_at = now
        self._laws = {number: encoding for number, encoding in spoken.encodings.items() if encoding in G711}
        self._waiting = bytearray()
        self._ready = False

    def send(self, packet: memoryview, /) -> None:
        length = len(packet)
        law = self._laws.get(packet[1] & 0x7F) if length > HEADER_SIZE else None
        if law is None:
            return
        start = HEADER_SIZE + 4 * (packet[0] & 0x0F)
        if packet[0] & 0x10 and length >= start + 4:
            start += 4 + 4 * (packet[start + 2] << 8 | packet[start + 3])
        said = packet[start:].tobytes()
        self._waiting += said if law == self.law else said.translate(laws.transcoding(law, self.law))
        if len(self._waiting) > BEHIND:
            del self._waiting[:-READY]

    def take(self) -> g711.Samples | None:
        """What it has said for the next 20 ms."""
        if len(self._waiting) < (FRAME if self._ready else READY):
            self._ready = False
            return None
        self._ready = True
        said = bytes(self._waiting[:FRAME])
        del self._waiting[:FRAME]
        return g711.decode(said, _NUMBERS[self.law])

    def hear(self, samples: g711.Samples, due: float) -> None:
        payload = g711.encode(samples, _NUMBERS[self.law])
        packet = self.continuity.insert(self.number, payload, FRAME, due)
        if self.line.rtp.rewriter is not None:
            self.line.rtp.rewriter.put(packet)

    def report(self, due: float) -> None:
        if due - self.reported_at < REPORT_S:
            return
        self.reported_at = due
        heard = self.continuity
        assert heard.ssrc is not None
        report = rtcp.sender_report(heard.ssrc, time.time(), heard.timestamp, heard.packets, heard.octets, _CNAME)
        self.line.rtcp.outlet().send(report)


class Mix:
    """An act of `Pace`."""

    def __init__(
        self, lines: Sequence[tuple[Line, Formats]], rng: random.Random, counters: Counter[str], now: float
    ) -> None:
        for line, _ in lines:
            line.link(None)
        self._counters = counters
        self._parties = [Party(line, spoken, rng, now) for line, spoken in lines]
        for party in self._parties:
            party.line.take_in(party)

    def __call__(self, due: float, now: float) -> float | None:
        parties = self._parties = [party for party in self._parties if party.line.input is party]
        if len(parties) < 2:
            for party in parties:
                party.line.take_in(NOWHERE)
            return None
        said = [party.take() for party in parties]
        total = np.zeros(FRAME, dtype=np.int32)
        for samples in said:
            if samples is not None:
                total += samples
        for party, own in zip(parties, said, strict=True):
            if not party.line.sends:  # on hold
                continue
            others = total if own is None else total - own
            try:
                party.hear(np.clip(others, -32768, 32767).astype(np.int16), due)
                party.report(due)
            except OSError:  # an ICMP error of an earlier packet, or a full buffer
                self._counters["packet_errors"] += 1
        return due + FRAME_S
