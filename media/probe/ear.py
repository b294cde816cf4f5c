"""An ear for one tone: when it was first heard, and the longest time since without it. Pure."""

from __future__ import annotations

from media.rtp.g711 import Samples
from media.rtp.sound import level, power_share

FRAME_S = 0.02
LEVEL_MIN = 100.0  # what is quieter is silence
SHARE_MIN = 0.5  # most of the power must be at the tone: neither noise nor another's voice is taken for it


class Ear:
    """`hz` should have whole periods in 20 ms."""

    __slots__ = ("first_at", "frames", "gap_s", "hz", "last_at")

    def __init__(self, hz: int) -> None:
        self.hz = hz
        self.frames = 0  # with the tone in them
        self.first_at: float | None = None
        self.last_at = 0.0
        self.gap_s = 0.0

    def take(self, samples: Samples, at: float) -> None:
        """20 ms of sound that came at `at`."""
        if level(samples) < LEVEL_MIN or power_share(samples, self.hz) < SHARE_MIN:
            return
        if self.first_at is None:
            self.first_at = at
        else:
            self.gap_s = max(self.gap_s, at - self.last_at - FRAME_S)
        self.last_at = at
        self.frames += 1

    def longest_gap_s(self, now: float) -> float:
        """Who is deaf at `now` has been so since the last frame of the tone."""
        if self.first_at is None:
            return 0.0
        return max(0.0, self.gap_s, now - self.last_at - FRAME_S)
