"""One set of timers for the whole node, cheap to start and cheaper to cancel.

SIP starts about six timers a call and lets almost none of them fire. Timers of one 10 ms slot share a list; a
heap holds slot numbers only; a cancelled timer is a flag. The loop has at most one timer of ours at a time.
Firing is never early and at most one slot late.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Any

SLOT_S = 0.01


class Timer:
    __slots__ = ("argument", "callback")

    def __init__(self, callback: Callable[[Any], None], argument: Any) -> None:
        self.callback: Callable[[Any], None] | None = callback
        self.argument = argument

    def cancel(self) -> None:
        self.callback = None
        self.argument = None


class Timers:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.now = loop.time
        self._slots: dict[int, list[Timer]] = {}
        self._due: list[int] = []
        self._armed: asyncio.TimerHandle | None = None
        self._armed_slot = 0

    def start(self, delay_s: float, callback: Callable[[Any], None], argument: Any = None) -> Timer:
        """Call `callback(argument)` once, `delay_s` seconds from now."""
        slot = int((self.now() + delay_s) / SLOT_S) + 1
        timer = Timer(callback, argument)
        timers = self._slots.get(slot)
        if timers is not None:
            timers.append(timer)
            return timer
        self._slots[slot] = [timer]
        heapq.heappush(self._due, slot)
        if self._armed is None or slot < self._armed_slot:
            self._arm(slot)
        return timer

    def _arm(self, slot: int) -> None:
        if self._armed is not None:
            self._armed.cancel()
        self._armed_slot = slot
        self._armed = self._loop.call_at(slot * SLOT_S, self._fire)

    def _fire(self) -> None:
        self._armed = None
        current = int(self.now() / SLOT_S + 1e-6)
        while self._due and self._due[0] <= current:
            for timer in self._slots.pop(heapq.heappop(self._due)):
                callback = timer.callback
                if callback is not None:
                    argument = timer.argument
                    timer.cancel()
                    try:
                        callback(argument)
                    except Exception as error:  # one timer's fault must not stop the others
                        self._loop.call_exception_handler(
                            {"message": f"timer callback {callback!r} failed", "exception": error}
                        )
        if self._due:
            self._arm(self._due[0])
