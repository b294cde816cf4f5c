"""How long to wait, in seconds: the timer values of RFC 3261 table 4 (tests and lossy networks change T1), and the
back-off after glare."""

from __future__ import annotations

import random
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


def glare_delay_s(owns_call_id: bool, rng: random.Random) -> float:
    """How long to wait after a 491 before trying again (RFC 3261 §14.1): bands that cannot collide, in units of
    10 ms. The owner of the Call-ID is who made the dialog."""
    return (rng.randint(210, 400) if owns_call_id else rng.randint(0, 200)) / 100
