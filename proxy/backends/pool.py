"""A pool: interchangeable backends, and the choice of one of them for a new call.

Choice goes by verdict and role first, then by load: two of the best are drawn by chance and weight, and the less
loaded one is taken ("power of two choices"), which spreads a burst of calls without all of it chasing one
momentarily empty member. A member that came back from down is given a growing share first (slow start).
"""

from __future__ import annotations

import random
from collections.abc import Collection

from proxy.backends.backend import Backend, Verdict
from proxy.config import MediaMode, PoolSettings

SLOW_START_S = 30.0
SLOW_START_SHARE_MIN = 0.1

# A backup that is well comes before a primary that is not; between equals the primary comes first.
_RANK = {Verdict.UP: 0, Verdict.DEGRADED: 2, Verdict.UNKNOWN: 4, Verdict.SUSPECT: 6}


class Pool:
    def __init__(self, name: str, settings: PoolSettings, media_mode: MediaMode) -> None:
        self.name = name
        self.settings = settings
        self.media_mode: MediaMode = settings.media or media_mode
        self.members = [Backend(member, name, each) for member, each in settings.backends.items()]

    def __repr__(self) -> str:
        return f"<Pool {self.name} {self.members}>"

    def select(self, now: float, rng: random.Random, exclude: Collection[Backend] = ()) -> Backend | None:
        """The backend for a new call at `now`, or None when nobody can take it."""
        best: list[Backend] = []
        best_rank = 99
        for backend in self.members:
            if backend in exclude or not backend.usable(now):
                continue
            rank = _RANK[backend.verdict] + (backend.role == "backup")
            if rank < best_rank:
                best, best_rank = [backend], rank
            elif rank == best_rank:
                best.append(backend)
        if len(best) < 2:
            return best[0] if best else None
        shares = [backend.weight * _warmth(backend, now) for backend in best]
        first = _draw(best, shares, rng)
        second = _draw(best, shares, rng)
        return first if _load(first, now) <= _load(second, now) else second


def _draw(members: list[Backend], shares: list[float], rng: random.Random) -> Backend:
    point = rng.random() * sum(shares)
    for backend, share in zip(members, shares, strict=True):
        point -= share
        if point < 0:
            return backend
    return members[-1]


def _load(backend: Backend, now: float) -> float:
    return (backend.calls + 1) / (backend.weight * _warmth(backend, now))


def _warmth(backend: Backend, now: float) -> float:
    """Share of its weight that a backend is given: all of it, but less at first after it was down."""
    if backend.up_since is None:
        return 1.0
    return min(1.0, max(SLOW_START_SHARE_MIN, (now - backend.up_since) / SLOW_START_S))
