"""Tracks: what was kept of a stream, decoded and laid out in time.

Time is counted in samples of CLOCK_MONOTONIC (a second is 8,000). Within a stream the RTP timestamps say where a packet
belongs, so jitter does not matter; where that is in time is what its fastest packets say. What is no G.711 cannot be
decoded here, and counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from media.rtp import g711, packet
from proxy.recordings.files import RATE_HZ, Samples
from proxy.recordings.job import Packet

JUMP = RATE_HZ // 2  # timestamps that are so far off the time of arrival have begun anew
SMALL = 16  # bytes: telephone events, comfort noise


@dataclass(slots=True)
class Track:
    """`samples[0]` is at `begin`. Where nothing came there are zeros."""

    name: str
    begin: int
    samples: Samples
    undecoded: int = 0  # packets

    @property
    def end(self) -> int:
        return self.begin + len(self.samples)

    def cut(self, begin: int, end: int) -> Samples:
        """From `begin` to `end`, with zeros where there is nothing."""
        result = np.zeros(max(0, end - begin), dtype=np.int16)
        first, last = max(begin, self.begin), min(end, self.end)
        if first < last:
            result[first - begin : last - begin] = self.samples[first - self.begin : last - self.begin]
        return result

    def hush(self, begin: int, end: int) -> None:
        """Nobody was to hear it from `begin` to `end`."""
        first, last = max(begin, self.begin) - self.begin, min(end, self.end) - self.begin
        if first < last:
            self.samples[first:last] = 0


class _Run:
    """Packets whose timestamps belong together."""

    def __init__(self, first: packet.RtpPacket, samples: Samples, begun: float) -> None:
        self._last = first
        self._position = first.timestamp  # of the last packet, without the wrap at 2**32
        self.anchor = begun - self._position  # what is added to a position to have its time
        self.pieces = [(self._position, samples)]

    def take(self, heard: packet.RtpPacket, samples: Samples, begun: float) -> bool:
        """False: it does not belong here."""
        last = self._last
        if heard.ssrc != last.ssrc:
            return False
        steps = (heard.sequence - last.sequence + 0x8000 & 0xFFFF) - 0x8000
        ahead = (heard.timestamp - last.timestamp + 0x80000000 & 0xFFFFFFFF) - 0x80000000
        position = self._position + ahead
        follows = abs(ahead - steps * len(samples)) <= len(samples)
        if not follows and abs(begun - position - self.anchor) > JUMP:
            return False
        if steps > 0:
            self._last, self._position = heard, position
        self.anchor = min(self.anchor, begun - position)
        self.pieces.append((position, samples))
        return True


def track(name: str, packets: Iterable[Packet]) -> Track:
    """`packets` in the order in which they came."""
    runs: list[_Run] = []
    undecoded = 0
    for at, data in packets:
        try:
            heard = packet.parse(data)
        except ValueError:
            continue
        if heard.payload_type not in (g711.PCMU, g711.PCMA):
            undecoded += len(heard.payload) > SMALL
            continue
        samples = g711.decode(heard.payload, heard.payload_type)
        begun = at * RATE_HZ - len(samples)  # its first sample is that much older
        if not runs or not runs[-1].take(heard, samples, begun):
            runs.append(_Run(heard, samples, begun))
    return _laid_out(name, runs, undecoded)


def _laid_out(name: str, runs: list[_Run], undecoded: int) -> Track:
    placed = [(position + round(run.anchor), samples) for run in runs for position, samples in run.pieces]
    if not placed:
        return Track(name, 0, np.zeros(0, dtype=np.int16), undecoded)
    begin = min(position for position, _ in placed)
    end = max(position + len(samples) for position, samples in placed)
    laid = np.zeros(end - begin, dtype=np.int16)
    for position, samples in placed:
        laid[position - begin : position - begin + len(samples)] = samples
    return Track(name, begin, laid, undecoded)
