"""`conferences`: who is in which, and where it lives."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from proxy.cli.common import DEFAULT_CONFIG, AsJson, Config, ask_node, console, print_json
from proxy.cli.tables import Column, print_table
from proxy.cli.words import number_of
from proxy.text import counted


def conferences(
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
    people: Annotated[bool, typer.Option("--people", help="Name everybody who is in them.")] = False,
) -> None:
    """The conferences of the backends, as they would be rebuilt."""
    rows = ask_node(config, "conferences")
    if as_json:
        print_json(rows)
        return
    if not rows:
        console.print("no conferences")
        return
    for row in rows:
        console.print(Text(conference_line(row), style="yellow" if len(row["backends"]) > 1 else ""))
        if people:
            print_table(console, people_columns(row["participants"]))


def conference_line(row: dict[str, Any]) -> str:
    parts = " and ".join(f"{count} on {backend}" for backend, count in row["backends"].items())
    said = [f"{row['name']} ({row['pool']}): {counted(len(row['participants']), 'participant')}, {parts}"]
    said += ["locked"] * row["locked"] + ["is being carried over"] * row["moving"]
    if row["recording"]:
        said.append(f"recorded as {row['recording']['name']}, segment {row['recording']['segment']}")
    return ", ".join(said)


def people_columns(rows: list[dict[str, Any]]) -> list[Column]:
    flags = ("moderator", "muted", "deaf", "on_hold", "talking")
    told = [", ".join(flag.replace("_", " ") for flag in flags if row[flag]) for row in rows]
    return [
        Column("call", [row["call"] for row in rows], 1),
        Column("from", [number_of(row["from"]) for row in rows]),
        Column("", told),
    ]
