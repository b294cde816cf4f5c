"""The timer values of RFC 3261 table 4, in seconds; tests and lossy networks change T1."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Times:
    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0

    @property
    def timeout(self) -> float:
        """64·T1: Timers B, F, H, J, L, M, and D on UDP."""
        return 64 * self.t1
