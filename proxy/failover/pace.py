"""Pacing of INVITEs towards one backup, by what it can take.

Two bounds: INVITEs a second, and INVITEs that have had no answer at all yet (not even 100 Trying). A default
UDP receive buffer holds about 90 INVITEs; what does not fit waits half a second for a retransmission. The window
grows by one with every prompt answer and halves, at most once in a while, when an answer was slow or said 503
(additive increase, multiplicative decrease).
"""

from __future__ import annotations

import asyncio
from collections import deque

WINDOW_START = 24
WINDOW_MIN = 4
SLOW_S = 0.2
HALVE_APART_S = 0.1


class Pace:
    def __init__(self, loop: asyncio.AbstractEventLoop, per_s: float, unanswered_max: int) -> None:
        self._loop = loop
        self._gap = 1.0 / per_s
        self._max = unanswered_max
        self.window = float(min(WINDOW_START, unanswered_max))
        self.unanswered = 0
        self._next_at = 0.0
        self._halved_at = -1.0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._alarm: asyncio.TimerHandle | None = None

    async def turn(self) -> None:
        """Wait until one more INVITE may go; it then counts as unanswered until `heard`."""
        if self._waiting or not self._take():
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append(waiter)
            self._arm()
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self.give_back()  # it was ours already
                raise

    def give_back(self) -> None:
        """No INVITE went: somebody else's turn."""
        self.unanswered = max(0, self.unanswered - 1)
        self._wake()

    def heard(self, delay_s: float, *, refused: bool = False) -> None:
        """The first answer to an INVITE came after `delay_s`."""
        self.unanswered = max(0, self.unanswered - 1)
        now = self._loop.time()
        if refused or delay_s > SLOW_S:
            if now - self._halved_at >= HALVE_APART_S:
                self._halved_at = now
                self.window = max(WINDOW_MIN, self.window / 2)
        else:
            self.window = min(self._max, self.window + 1)
        self._wake()

    def _take(self) -> bool:
        now = self._loop.time()
        if self.unanswered >= int(self.window) or now < self._next_at:
            return False
        self.unanswered += 1
        # Turns that a busy loop was late for are made up, within 20 ms: the rate is an average.
        self._next_at = max(self._next_at, now - 0.02) + self._gap
        return True

    def _wake(self) -> None:
        while self._waiting:
            if self._waiting[0].done():  # cancelled
                self._waiting.popleft()
            elif self._take():
                self._waiting.popleft().set_result(None)
            else:
                break
        self._arm()

    def _arm(self) -> None:
        """A waiter that only time holds back is woken by the clock; one that the window holds back, by `heard`."""
        if self._waiting and self._alarm is None and self.unanswered < int(self.window):
            self._alarm = self._loop.call_at(self._next_at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._wake()
