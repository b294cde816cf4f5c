"""What a demo shows: a live picture on a terminal, plain lines elsewhere, nothing at all with --json."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from proxy.demo.outcome import Outcome, histogram
from proxy.demo.script import BACKUP_HZ, PARTY_HZ, PRIMARY_HZ, SAID_HZ
from proxy.text import counted

BAR = 40
_VERDICT_STYLES = {"up": "green", "suspect": "yellow", "degraded": "yellow", "down": "bold red"}


@dataclass(frozen=True)
class Picture:
    """The state of one moment."""

    backends: list[dict[str, Any]] = field(default_factory=list)
    callers: dict[str, Any] = field(default_factory=dict)


class View(Protocol):
    def say(self, what: str) -> None: ...
    def show(self, picture: Picture) -> None: ...
    def close(self) -> None: ...


class Silent:
    def say(self, what: str) -> None:
        return None

    def show(self, picture: Picture) -> None:
        return None

    def close(self) -> None:
        return None


class Plain:
    """A line for each event, and one a second of how things stand."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._shown_at = 0.0

    def say(self, what: str) -> None:
        self._line(what)

    def show(self, picture: Picture) -> None:
        now = time.monotonic()
        if now - self._shown_at < 1.0:
            return
        self._shown_at = now
        backends = ", ".join(f"{row['name']} {row['verdict']}" for row in picture.backends)
        self._line(f"  {backends}; {_callers(picture)}")

    def _line(self, text: str) -> None:
        self._console.print(
            f"{time.monotonic() - self._began:5.1f} s  {text}", markup=False, highlight=False, soft_wrap=True
        )

    def close(self) -> None:
        return None


class Moving:
    """One picture that changes in place, with what happened below it."""

    def __init__(self, console: Console) -> None:
        self._began = time.monotonic()
        self._said: list[tuple[float, str]] = []
        self._picture = Picture()
        self._live = Live(self._render(), console=console, auto_refresh=False)
        self._live.start()

    def say(self, what: str) -> None:
        self._said.append((time.monotonic() - self._began, what))
        self._live.update(self._render(), refresh=True)

    def show(self, picture: Picture) -> None:
        self._picture = picture
        self._live.update(self._render(), refresh=True)

    def close(self) -> None:
        self._live.stop()

    def _render(self) -> RenderableType:
        parts: list[RenderableType] = []
        if self._picture.backends:
            parts += [_backends(self._picture), _heard(self._picture)]
        parts += [Text(f"{at:5.1f} s  {what}") for at, what in self._said]
        return Group(*parts)


def _backends(picture: Picture) -> Table:
    calls = max(1, sum(row["calls"] for row in picture.backends))
    table = Table("backend", "address", "verdict", "why", "calls", "", box=None, pad_edge=False)
    for row in picture.backends:
        table.add_row(
            Text(row["name"], "bold"),
            row["address"],
            Text(row["verdict"], _VERDICT_STYLES.get(row["verdict"], "")),
            row["diagnosis"] or "",
            str(row["calls"]),
            Text("█" * round(BAR * row["calls"] / calls), "cyan"),
        )
    return table


def _heard(picture: Picture) -> Table:
    tones = {int(hz): count for hz, count in picture.callers.get("tones", {}).items()}
    table = Table("callers hear", "", "", box=None, pad_edge=False)
    rows = [
        ("the primary's tone", tones.get(PRIMARY_HZ, 0)),
        ("the backup's tone", tones.get(BACKUP_HZ, 0)),
        ("their echo", tones.get(SAID_HZ, 0)),
        ("voices in a conference", sum(tones.get(hz, 0) for hz in PARTY_HZ)),
    ]
    for name, count in rows:
        table.add_row(name, str(count), Text("█" * min(BAR, count), "magenta"))
    table.add_row("all of them", f"{picture.callers.get('hearing', 0)} of {picture.callers.get('calls', 0)}", "")
    return table


def _callers(picture: Picture) -> str:
    callers = picture.callers
    return f"{callers['hearing']} of {callers['calls']} callers hear what they should" if callers else "no callers yet"


def print_outcome(console: Console, outcome: Outcome) -> None:
    console.print("\nTimeline (ms after the fault)", style="bold")
    for at_ms, what in outcome.timeline:
        console.print(f"{at_ms:>9.1f}  {what}", highlight=False, markup=False, soft_wrap=True)
    console.print("\nGap in what callers heard (ms without the expected audio, less one packet)", style="bold")
    bins = histogram(outcome.gaps_ms)
    most = max((count for _, _, count in bins), default=1)
    for low, high, count in bins:
        bar = "█" * -(-BAR * count // most)
        console.print(f"{low:>6} -{high:>5}  {count:>4}  {bar}", highlight=False, soft_wrap=True)
    quantiles = (f"{name} {'-' if value is None else value}" for name, value in outcome.gap_ms.items())
    console.print("   " + "   ".join(quantiles), highlight=False)
    console.print()
    for fault in outcome.faults:
        console.print(fault, style="red", highlight=False, markup=False, soft_wrap=True)
    if outcome.detection_ms is None:
        when = "no failover was seen"
    elif outcome.all_moved_ms is None:
        when = f"detected after {outcome.detection_ms} ms, none moved"
    else:
        when = f"detected after {outcome.detection_ms} ms, all moved {outcome.all_moved_ms} ms later"
    became = f"{outcome.moved} moved, {outcome.lost} lost, {outcome.deaf} deaf"
    console.print(
        f"{counted(outcome.calls, 'call')} on {outcome.backend}: {became}; {when}",
        style="bold green" if outcome.ok else "bold red", highlight=False, soft_wrap=True,
    )  # fmt: skip
