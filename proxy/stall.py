"""How long the event loop was ever unable to turn: a beat that should come on time, and how late it came."""

from __future__ import annotations

import asyncio
import time

BEAT_S = 0.02


class Stall:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.worst_ms = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        # The loop's own clock may count whole milliseconds (uvloop), which is as coarse as what is looked for.
        self._due_at = time.monotonic() + BEAT_S
        self._handle = self._loop.call_later(BEAT_S, self._beat)

    def _beat(self) -> None:
        late_ms = (time.monotonic() - self._due_at) * 1000
        self.worst_ms = max(self.worst_ms, late_ms)
        self.start()

    def stop(self) -> None:
        if self._handle:
            self._handle.cancel()
