"""Go, or a named refusal. Pure: it looks at what health says and what there is to move, and decides nothing else."""

from __future__ import annotations

from enum import StrEnum

from proxy.backends import Pool, Verdict
from proxy.health import Diagnosis


class Refusal(StrEnum):
    """Why a verdict moved nothing. docs/failover.md explains each; each is counted."""

    NOT_DOWN = "not_down"  # suspect, degraded and unknown never move calls
    OBSERVER_BLIND = "observer_blind"  # everybody is silent: it is us
    CARRIER = "carrier"  # the pool says recover: false
    RUNNING = "running"  # this backend's calls are being moved already
    NO_CALLS = "no_calls"  # nothing lives there


class RefusedOrder(Exception):
    """What an operator ordered is not done; the text says why."""

    def __init__(self, refusal: Refusal, text: str) -> None:
        super().__init__(text)
        self.refusal = refusal


def decide(verdict: Verdict, diagnosis: Diagnosis | None, pool: Pool, *, calls: int, running: bool) -> Refusal | None:
    """None: go. A pool without a usable backup is no refusal: its calls wait for one until their deadline."""
    if diagnosis is Diagnosis.OBSERVER_BLIND:
        return Refusal.OBSERVER_BLIND
    if verdict is not Verdict.DOWN:
        return Refusal.NOT_DOWN
    if not pool.settings.recover:
        return Refusal.CARRIER
    if running:
        return Refusal.RUNNING
    if calls == 0:
        return Refusal.NO_CALLS
    return None
