"""Is the relay alive? It is asked ten times a second; one that is there and says nothing is frozen.

Who is asked answers as soon as it reads: the question does not wait behind commands. What passes while we stand still
ourselves does not count, for an answer may be waiting for us.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

BEAT_S = 0.1
MUTE_S = 0.3
LATE_S = 0.05


class Heartbeat:
    """`on_mute(seconds)` is called once; then there is rest until `start`."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ask: Callable[[], None], on_mute: Callable[[float], None]
    ) -> None:
        self._loop = loop
        self._ask = ask
        self._on_mute = on_mute
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._heard_at = 0.0

    def start(self) -> None:
        self.stop()
        self.heard()
        self._beat_after(0.0)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def heard(self) -> None:
        self._heard_at = self._loop.time()

    def _beat_after(self, delay_s: float) -> None:
        self._due = self._loop.time() + delay_s
        self._timer = self._loop.call_at(self._due, self._beat)

    def _beat(self) -> None:
        now = self._loop.time()
        if now - self._due > LATE_S:
            self._heard_at = now
        silent_s = now - self._heard_at
        if silent_s > MUTE_S:
            self._timer = None
            self._on_mute(silent_s)
            return
        self._ask()
        self._beat_after(BEAT_S)
