"""What one caller heard, and when: arrival times of packets that carry the audio it waits for. Pure.

A packet counts when it is a frame with one of the expected tones in it. Comfort noise, silence and another party's
echo do not count, so a gap is what a person would call one.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable

from media.rtp.g711 import PACKET_SAMPLES, SAMPLE_RATE

PACKET_S = PACKET_SAMPLES / SAMPLE_RATE
HEARING_S = 0.1  # who has heard something within this hears


class Hearing:
    __slots__ = ("arrivals", "expected", "packets", "tones")

    def __init__(self, expected: Iterable[int]) -> None:
        self.expected = frozenset(expected)
        self.packets = 0  # of any kind
        self.arrivals = array("d")
        self.tones: list[frozenset[int]] = []  # of each arrival

    def take(self, tones: frozenset[int], at: float) -> None:
        self.packets += 1
        if tones & self.expected:
            self.arrivals.append(at)
            self.tones.append(tones)

    @property
    def last_at(self) -> float | None:
        return self.arrivals[-1] if self.arrivals else None

    def hears(self, now: float) -> bool:
        return bool(self.arrivals) and now - self.arrivals[-1] <= HEARING_S

    def longest_gap_s(self, since: float, until: float) -> float:
        """The longest time from `since` on without the expected audio, less one packet interval. It counts from the
        last packet before; who is deaf at `until` has been so until then."""
        first = max((at for at in self.arrivals if at <= since), default=since)
        times = [first, *(at for at in self.arrivals if since < at < until), until]
        return max(0.0, max(later - earlier for earlier, later in itertools.pairwise(times)) - PACKET_S)

    def heard_between(self, since: float, until: float) -> frozenset[int]:
        """The tones that were in most of the audio between two moments."""
        frames = [tones for at, tones in zip(self.arrivals, self.tones, strict=True) if since <= at < until]
        every = frozenset[int]().union(*frames)
        return frozenset(hz for hz in every if 2 * sum(hz in tones for tones in frames) > len(frames))
