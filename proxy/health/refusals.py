"""The refusals of one backend since it was last heard: ICMP port unreachable, or a refused connection.

Two of them, or one and silence after it, are enough: kernels send one ICMP error a second to a destination, so the
second may never come. Pure; awake time.
"""

from __future__ import annotations

REFUSALS_APART_S = 0.01
REFUSED_SILENCE_S = 0.06  # after one refusal, this long and …
REFUSED_MISSES = 3  # … this many unanswered probes are as good as a second one


class Refusals:
    """Falsy when there were none. `misses`: unanswered probes in a row."""

    __slots__ = ("_first", "_misses", "latest")

    def __init__(self) -> None:
        self._first: float | None = None
        self.latest = 0.0
        self._misses = 0  # when the first one came

    def __bool__(self) -> bool:
        return self._first is not None

    def note(self, now: float, misses: int) -> None:
        if self._first is None:
            self._first, self._misses = now, misses
        self.latest = now

    def forget(self) -> None:
        self._first = None

    def enough(self, now: float, misses: int) -> bool:
        first = self._first
        if first is None:
            return False
        return self.latest - first >= REFUSALS_APART_S or (
            now - first >= REFUSED_SILENCE_S and misses - self._misses >= REFUSED_MISSES
        )

    def explain(self, misses: int, streams: str) -> str:
        """`streams`: how those are silent, if they are."""
        if self._first is not None and self.latest > self._first:
            return f"refused again {(self.latest - self._first) * 1000:.0f} ms after the first refusal"
        return f"refused, and {streams}" if streams else f"refused, then {misses - self._misses} probes without answer"
