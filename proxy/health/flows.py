"""What the media plane tells of the streams of one backend, as its detector reads it.

The relay says every 10 ms for how long the share of streams that counts has been silent, and ten times a second that
they flow. A report that is not fresh says nothing: the relay may have died, or we stood still. Pure; awake time.
"""

from __future__ import annotations

import math

from media.api import FlowsSilent

FEW = 5  # fewer streams than this never judge a backend by themselves
FRESH_S = 0.035


class Flows:
    __slots__ = ("active", "alive_at", "silent", "silent_since", "told_at")

    def __init__(self) -> None:
        self.active = 0
        self.silent = 0
        self.silent_since = math.inf
        self.alive_at = -math.inf  # they were said to flow
        self.told_at = -math.inf

    def tell(self, event: FlowsSilent, at: float) -> None:
        self.told_at = at
        self.active = event.active
        self.silent = event.silent
        self.silent_since = at - event.silent_s if event.silent else math.inf
        if event.active and not event.silent:
            self.alive_at = at

    @property
    def many(self) -> bool:
        return self.active >= FEW

    def silence(self, now: float) -> float:
        """How long they have been silent; 0 when they flow, or nobody knows."""
        if not self.silent or now - self.told_at > FRESH_S:
            return 0.0
        return now - self.silent_since

    def explain(self, now: float) -> str:
        return f"{self.silent} of {self.active} streams silent for {self.silence(now) * 1000:.0f} ms"
