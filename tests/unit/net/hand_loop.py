"""An event loop whose clock the test moves by hand: what Timers uses of one."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any


class Handle:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def __lt__(self, other: Handle) -> bool:
        return self.when < other.when


class HandLoop:
    """What Timers uses of an event loop: `time`, `call_at` and the exception handler."""

    def __init__(self, start: float = 1000.0) -> None:
        self.now = start
        self.handles: list[Handle] = []
        self.failures: list[dict[str, Any]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Handle:
        handle = Handle(when, callback)
        heapq.heappush(self.handles, handle)
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(context)

    @property
    def armed(self) -> int:
        return sum(not handle.cancelled for handle in self.handles)

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.handles and self.handles[0].when <= end:
            handle = heapq.heappop(self.handles)
            if not handle.cancelled:
                self.now = max(self.now, handle.when)
                handle.callback()
        self.now = end
