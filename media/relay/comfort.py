"""Comfort audio: who hears a backend that has fallen silent hears low noise or a prompt until somebody speaks again.

Told for a whole group at once (`on`). A listener whose source has flowed until now gets packets of ours that continue
its stream (`media.rtp.continuity`), at the pace of that source. It ends with the first packet of a new source; the one
of the group may come back and fall silent again for as long as `on` holds. On a line that is on hold, and in a
codec that we cannot make (counted), silence stays silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from media.relay.line import Line
from media.relay.pace import Pace
from media.relay.stream import Stream
from media.rtp.filling import NOISE, Sound
from media.rtp.formats import CLOCK_HZ, G711

FLOWED_S = 1.0  # who was silent for longer was so before the backend was
OVERDUE = 2.0  # in packet intervals: then a packet is missing
NOISE_INTERVAL_S = 0.1  # of RFC 3389 packets


class Filler:
    """Fills the silence of `source` for one listener. An act of `Pace`."""

    __slots__ = ("_comfort", "_interval", "_line", "_noise", "_position", "group", "on", "source")

    def __init__(self, comfort: Comfort, group: str, line: Line, source: Stream, interval: float) -> None:
        self._comfort = comfort
        self._line = line
        self._interval = interval
        self._position = 0
        both = source.line is not None and source.line.formats.comfort_noise is not None
        self._noise = line.formats.comfort_noise if both else None
        self.group = group
        self.source = source
        self.on = True

    def first_due(self, now: float) -> float:
        return max(now, self.source.last + OVERDUE * self._interval)

    def __call__(self, due: float, now: float) -> float | None:
        again = self._next(due)
        if again is None:
            self._comfort.ended(self._line)
        return again

    def _next(self, due: float) -> float | None:
        line = self._line
        listener = line.rtp
        if listener.line is None or not line.sends or line.fenced:
            return None
        peer = listener.peer
        if peer is self.source:
            if not self.on:
                return None
            flows_until = peer.last + OVERDUE * self._interval
            if flows_until > due:
                return flows_until
        elif peer is not None and peer.head:
            return None
        pause = self._fill(listener, due)
        return due + pause if pause else None

    def _fill(self, listener: Stream, now: float) -> float:
        """Seconds until the next packet; 0: this cannot be done."""
        rewriter = listener.continue_from(self.source)
        if rewriter is None:
            return 0.0
        continuity = rewriter.continuity
        formats = continuity.formats
        encoding, clock = formats.encodings.get(continuity.voice), formats.clock(continuity.voice)
        comfort = self._comfort
        if encoding in G711 and (comfort.prompt is not None or self._noise is None):
            length = round(self._interval * CLOCK_HZ)
            payload = (comfort.prompt or comfort.noise).piece(encoding, self._position, length)
            self._position += length
            packet, again = continuity.insert(continuity.voice, payload, length, now), self._interval
        elif self._noise is not None and clock == CLOCK_HZ:
            length = round(self._interval * CLOCK_HZ)
            packet, again = continuity.insert(self._noise, NOISE, length, now), NOISE_INTERVAL_S
        else:
            comfort.counters["comfort_impossible"] += 1
            return 0.0
        comfort.counters["comfort_packets"] += 1
        try:
            rewriter.put(packet)
        except OSError:  # an ICMP error of an earlier packet, or a full buffer
            comfort.counters["packet_errors"] += 1
        return again


class Comfort:
    def __init__(self, pace: Pace, counters: Counter[str], noise: Sound, prompt: Sound | None) -> None:
        self.counters = counters
        self.noise = noise
        self.prompt = prompt
        self._pace = pace
        self._fillers: dict[Line, Filler] = {}  # by the line of who listens

    def on(self, group: str, sources: Iterable[Line], now: float) -> None:
        for source in sources:
            stream, listener = source.rtp, source.rtp.peer
            line = listener.line if listener is not None else None
            if line is None or source.fenced or not source.sends or not line.sends or now - stream.last > FLOWED_S:
                continue
            known = self._fillers.get(line)
            if known is not None and known.source is stream:
                known.on = True
            if known is None:
                filler = Filler(self, group, line, stream, stream.interval())
                self._fillers[line] = filler
                self._pace.add(filler.first_due(now), filler)

    def off(self, group: str) -> None:
        """Who waits for the first packet of a new source goes on waiting with comfort."""
        for filler in self._fillers.values():
            if filler.group == group:
                filler.on = False

    def ended(self, line: Line) -> None:
        self._fillers.pop(line, None)
