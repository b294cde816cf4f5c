"""How long a silence of a backend must be to mean something: learned from its healthy silences.

A clean network never leaves a gap much above the probe interval, so a short one suffices; a network with bursts
of loss leaves long ones, and patience must be above what it does every hour. `needed` is twice the longest
healthy silence of the last half to full hour, within the configured bounds. In the first minute, with little
learned, it is not below `PRIOR_S`. For silence that streams and probes share both numbers are smaller. Pure.
"""

from __future__ import annotations

PATIENCE = 2.0
PERIOD_S = 1800.0
PRIOR_S = 0.26
PRIOR_FOR_S = 60.0


class Silence:
    __slots__ = ("_current", "_max", "_min", "_patience", "_previous", "_prior", "_turns_at", "needed")

    def __init__(
        self,
        now: float,
        shortest_s: float,
        longest_s: float,
        *,
        prior_s: float = PRIOR_S,
        patience: float = PATIENCE,
    ) -> None:
        self._min = shortest_s
        self._max = longest_s
        self._patience = patience
        self._prior = max(shortest_s, min(prior_s, longest_s))
        self._current = 0.0  # the longest healthy silence of this period
        self._previous = 0.0  # and of the one before
        self._turns_at = now + PRIOR_FOR_S
        self.needed = self._prior

    @property
    def learned(self) -> float:
        """The longest healthy silence that is remembered."""
        return max(self._current, self._previous)

    def learn(self, length: float, now: float) -> None:
        """A silence of `length` ended with the backend alive."""
        if length > self._max:  # an outage: to learn from it would make us blind to the next
            return
        if now >= self._turns_at:
            self._turn(now)
        elif length <= self._current:
            return
        self._current = max(self._current, length)
        self.needed = min(self._max, max(self._prior, self._patience * self.learned))

    def _turn(self, now: float) -> None:
        """A period is over: the first, short one ends the rule of the prior, the others age what was learned."""
        if self._prior > self._min:
            self._prior = self._min
        else:
            self._previous, self._current = self._current, 0.0
        self._turns_at = now + PERIOD_S
