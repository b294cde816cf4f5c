"""`rolling-restart`: every backend of a pool, one after the other, with its calls moved away first.

The node does it; this only looks on. Ctrl-C asks it to stop before the next backend.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.text import Text

from proxy.cli.common import DEFAULT_CONFIG, FAILED, AsJson, Config, ask_node, console, errors, print_json
from proxy.cli.tables import Column, print_table
from proxy.cli.words import or_dash
from proxy.text import counted

LOOK_S = 0.3


def rolling_restart(
    pool: Annotated[str, typer.Argument(help="Its name.")],
    config: Config = DEFAULT_CONFIG,
    drain_s: Annotated[float, typer.Option(min=1, help="A backend that has calls for longer ends it.")] = 120.0,
    as_json: AsJson = False,
) -> None:
    """Restart all backends of a pool, one after the other, without losing a call."""
    told = ask_node(config, "rolling-restart", pool=pool, drain_s=drain_s)
    seen = 0 if as_json else print_timeline(told, 0)
    while told["outcome"] == "running":
        try:
            time.sleep(LOOK_S)
            told = ask_node(config, "rolling", pool=pool)
        except KeyboardInterrupt:
            errors.print("stopping before the next backend")
            told = ask_node(config, "rolling-stop", pool=pool)
        seen = seen if as_json else print_timeline(told, seen)
    if as_json:
        print_json(told)
    else:
        print_outcome(told)
    if told["outcome"] != "done":
        raise typer.Exit(FAILED)


def print_timeline(told: dict[str, Any], seen: int) -> int:
    """What is new in it; how much there is."""
    for at_s, what in told["timeline"][seen:]:
        console.print(f"{at_s:>8.2f} s  {what}")
    return len(told["timeline"])


def print_outcome(told: dict[str, Any]) -> None:
    parts = told["parts"]
    print_table(console, [
        Column("backend", [part["backend"] for part in parts]),
        Column("step", [step_of(part) for part in parts]),
        Column("moved", [str(part["moved"]) for part in parts], right=True),
        Column("drained s", [or_dash(part["drained_s"]) for part in parts], 2, right=True),
        Column("ready s", [or_dash(part["ready_s"]) for part in parts], 3, right=True),
        Column("now", [part["service"] for part in parts], 1),
    ])  # fmt: skip
    sum_ = f"{counted(told['moved'], 'call')} moved, {told['took_s']} s"
    if told["outcome"] == "done":
        console.print(f"pool {told['pool']} restarted: {sum_}")
    else:
        console.print(Text(f"aborted: {told['reason']} ({sum_})", style="red"))


def step_of(part: dict[str, Any]) -> str:
    return "not touched" if part["step"] in ("waiting", "skipped") else str(part["step"])
