"""What the relay does by the clock: packets that it makes itself, each at its time.

An act is called at its time and says when it is due again, or that it is over. Many at once are spread over rounds of
the loop, so that they do not hold up the packets that are relayed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from time import monotonic

BUDGET_S = 0.001  # in one round
LATE_S = 0.1  # after a longer stall, what was missed is not made up for

Act = Callable[[float, float], "float | None"]  # when it was due and now -> when it is due again


class Pace:
    def __init__(self) -> None:
        self.due = inf
        self._acts: list[tuple[float, int, Act]] = []
        self._numbers = itertools.count()

    def add(self, due: float, act: Act) -> None:
        heappush(self._acts, (due, next(self._numbers), act))
        self.due = self._acts[0][0]

    def run(self, now: float) -> None:
        until = monotonic() + BUDGET_S
        acts = self._acts
        while acts and acts[0][0] <= now:
            due, number, act = heappop(acts)
            again = act(due if now - due < LATE_S else now, now)
            if again is not None:
                heappush(acts, (again, number, act))
            if monotonic() > until:
                break
        self.due = acts[0][0] if acts else inf
