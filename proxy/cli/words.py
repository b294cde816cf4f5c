"""How figures are said to people: never `None`, and no more digits than anybody reads."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proxy.text import counted


def ms(value: float | None) -> str:
    """`12 ms`, `0.4 ms`, `1.3 s`; nothing known: `-`."""
    if value is None:
        return "-"
    if value >= 10_000:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def lasting(seconds: float) -> str:
    """`0:07`, `12:41`, `3:05:09`, `2 d 3:05:09`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    clock = f"{hour}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
    return f"{counted(days, 'day')} {clock}" if days else clock


def clock(time: str) -> str:
    """`2026-02-03 14:05:06.789` of an ISO time."""
    return datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def number_of(address: str) -> str:
    """`100` of `"Anna" <sip:100@192.0.2.1>;tag=1`: the user, or else the host."""
    uri = address[address.find("<") + 1 :].partition(">")[0] if "<" in address else address.partition(";")[0]
    rest = uri.partition(":")[2].partition(";")[0] or uri
    user, at, host = rest.rpartition("@")
    return user.partition(";")[0] if at else host


def or_dash(value: Any) -> str:
    return "-" if value is None or value == "" else str(value)
