"""A backend: one telephony server behind us, and what is known of it now.

Plain state, written by others: `admin` by the operator, `verdict` by health, `calls` by the calls that count
themselves in and out, `fenced` by a failover, `power` by the upkeep. Times are those of the event loop's clock.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from proxy.config import BackendSettings, Role, Transport
from proxy.net.api import Address


class Admin(StrEnum):
    """What the operator wants."""

    READY = "ready"
    DRAIN = "drain"  # no new calls; live ones go on or are moved
    MAINT = "maint"  # as if it were not there


class Verdict(StrEnum):
    """What health believes."""

    UNKNOWN = "unknown"  # never heard of yet, or we cannot tell; never triggers a failover
    UP = "up"
    DEGRADED = "degraded"  # answers, but should get no new calls while others can take them
    SUSPECT = "suspect"  # may be dying: reversible preparations only
    DOWN = "down"


class Power(StrEnum):
    """Whether it is meant to run."""

    ON = "on"
    OFF = "off"  # a cold standby that nobody has started: that it is silent says nothing
    STARTING = "starting"  # ordered to, and not ready yet, whatever its SIP says


class Backend:
    __slots__ = (
        "address",
        "admin",
        "announces",
        "calls",
        "calls_max",
        "fenced",
        "name",
        "pool",
        "power",
        "retry_after_until",
        "role",
        "transport",
        "up_since",
        "verdict",
        "weight",
    )

    def __init__(self, name: str, pool: str, settings: BackendSettings) -> None:
        self.name = name
        self.pool = pool  # the pool's name
        self.address: Address = settings.address
        self.transport: Transport = settings.transport
        self.role: Role = settings.role
        self.weight = settings.weight
        self.calls_max = settings.calls_max
        self.admin = Admin.READY
        self.verdict = Verdict.UNKNOWN
        self.power = Power.OFF if settings.standby == "cold" else Power.ON
        self.fenced = False  # its late packets and requests are dropped: its calls were moved away
        self.announces = False  # its control session says at once when it shuts down and hangs up its calls
        self.calls = 0  # live calls on it; the calls count themselves
        self.retry_after_until = 0.0  # RFC 3261 §20.33: it asked to be left alone until then
        self.up_since: float | None = None  # when it last came back from down; None: it never was

    def __repr__(self) -> str:
        return f"<Backend {self.name} {self.admin} {self.verdict} calls={self.calls}>"

    @property
    def full(self) -> bool:
        return self.calls_max is not None and self.calls >= self.calls_max

    def usable(self, now: float) -> bool:
        """May it be given a new call at all (whether it should is a question of rank)?"""
        return (
            self.admin is Admin.READY
            and self.verdict is not Verdict.DOWN
            and self.power is Power.ON
            and not self.fenced
            and now >= self.retry_after_until
            and not self.full
        )

    def snapshot(self) -> dict[str, Any]:
        """What the operator has set: the rest is learned again after a restart."""
        return {"v": 1, "admin": str(self.admin), "weight": self.weight, "fenced": self.fenced}

    def restore(self, snapshot: dict[str, Any]) -> None:
        if snapshot.get("v") != 1:
            raise ValueError(f"snapshot of backend {self.name}: version {snapshot.get('v')!r} is not known")
        self.admin = Admin(snapshot["admin"])
        self.weight = int(snapshot["weight"])
        self.fenced = bool(snapshot["fenced"])
