"""Self-check: is it them, or is it us?

*Awake time* is the loop's clock without the times in which this process stood still (a long callback, a paused
machine): silence is measured in it, so that what we did not listen to is not held against anybody. And when a
backend falls silent, another one that was heard meanwhile is the witness that our own network works. Pure.
"""

from __future__ import annotations

import math

BEAT_S = 0.02  # somebody asks for the time at least this often
STALL_S = 0.04  # not having been asked for longer than this means that we stood still


class SelfCheck:
    def __init__(self, now: float, alone: bool) -> None:
        """`alone`: there is just one backend, so nobody can be a witness."""
        self.stalls = 0
        self._lost = 0.0
        self._asked_at = now
        self._latest: tuple[object, float] = (None, math.inf if alone else -math.inf)
        self._other: tuple[object, float] = self._latest

    def awake(self, now: float) -> float:
        """The awake time at `now` of the loop's clock. Whoever is woken by the loop asks before anything else."""
        gap = now - self._asked_at
        self._asked_at = now
        if gap > STALL_S:
            self.stalls += 1
            self._lost += gap - BEAT_S
        return now - self._lost

    def heard(self, who: object, awake: float) -> None:
        """A sign of life, or any other packet from its host: our network carries packets both ways."""
        if who is not self._latest[0]:
            self._other = self._latest
        self._latest = (who, awake)

    def witness_at(self, who: object) -> float:
        """When somebody other than `who` was heard last, in awake time."""
        latest = self._latest
        return self._other[1] if latest[0] is who else latest[1]
