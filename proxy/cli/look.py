"""`status`, `calls` and `failovers`: what a node is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.text import Text

from proxy.cli.common import DEFAULT_CONFIG, AsJson, Config, ask_node, console, print_json
from proxy.cli.reports import print_report
from proxy.cli.tables import Column, print_table
from proxy.cli.words import clock, lasting, number_of, or_dash
from proxy.text import counted

_STYLES = {"up": "green", "down": "bold red", "unknown": "dim"}


def status(
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
    reset_stall: Annotated[bool, typer.Option(help="Begin to measure the longest stall anew.")] = False,
) -> None:
    """The node, its backends and its media."""
    told = ask_node(config, "status", reset_stall=reset_stall)
    if as_json:
        print_json(told)
        return
    console.print(
        f"{told['node']}: {counted(told['calls'], 'call')}, up {lasting(told['uptime_s'])} "
        f"(since {clock(told['started'])}), longest stall {told['loop_stall_ms_max']} ms"
    )
    print_table(console, list(backend_columns(told["backends"])))
    for row in told["backends"]:
        if row["verdict"] != "up" and row["power"] != "off":
            why = ", ".join(part for part in (row["diagnosis"], row["reason"]) if part)
            console.print(Text(f"{row['name']}: {why}", style=_STYLES.get(row["verdict"], "yellow")))
        for fault in row["parity"]:
            console.print(Text(f"{row['name']}: parity: {fault}", style="yellow"))
    if told["rtpengines"]:
        states = {True: "up", False: "down", None: "unknown"}
        rows = told["rtpengines"]
        print_table(console, [
            Column("rtpengine", [row["name"] for row in rows]),
            Column("state", [states[row["up"]] for row in rows]),
            Column("sessions", [str(row["sessions"]) for row in rows], right=True),
        ])  # fmt: skip
    if told["relay"]:
        console.print(relay_line(told["relay"]))
    for problem in told["alerts"]["problems"]:
        console.print(Text(f"alerts: {problem}", style="yellow"))
    for line in troubles(told):
        console.print(Text(line, style="yellow"))


def backend_columns(rows: list[dict[str, Any]]) -> Iterator[Column]:
    yield Column("backend", [row["name"] for row in rows])
    yield Column("pool", [row["pool"] for row in rows], 2)
    yield Column("role", [row["role"] for row in rows], 3)
    yield Column("admin", [row["admin"] for row in rows])
    yield Column("verdict", [verdict_of(row) for row in rows])
    yield Column("calls", [str(row["calls"]) for row in rows], right=True)
    yield Column("rtt ms", [or_dash(row["rtt_ms"]) for row in rows], 1, right=True)
    yield Column("address", [row["address"] for row in rows], 4)


def verdict_of(row: dict[str, Any]) -> str:
    """`off` where nobody expects anything; else what health believes."""
    if row["power"] == "off":
        return "off"
    starting = " starting" if row["power"] == "starting" else ""
    return f"{row['verdict']}{starting}{' fenced' if row['fenced'] else ''}"


def relay_line(relay: dict[str, Any]) -> str:
    if "down" in relay:
        return f"relay: down, {relay['down']}"
    restarts = f", {counted(relay['restarts'], 'restart')}" if relay["restarts"] else ""
    return (
        f"relay: process {relay['pid']}, {counted(relay['sessions'], 'session')}, {counted(relay['lines'], 'line')}, "
        f"{counted(relay['packets'], 'packet')}{restarts}"
    )


def troubles(status: dict[str, Any]) -> Iterator[str]:
    """What was counted of things that should not be, a line a place; nothing when all is well."""
    places: dict[str, dict[str, Any]] = {"messages refused or not understood": status["errors"]}
    for row in status["transports"]:
        wrong = {key: row[key] for key in ("lost", "refused", "framing_errors", "last_framing_error") if key in row}
        places[f"{row['transport']}:{row['address']}"] = wrong
    places |= {f"media {mode}": counters for mode, counters in status["media"].items()}
    for place, counts in places.items():
        told = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items() if count)
        if told:
            yield f"{place}: {told}"


def calls(config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Live calls."""
    rows = ask_node(config, "calls")
    if as_json:
        print_json(rows)
    elif rows:
        print_table(console, list(call_columns(rows)))
    else:
        console.print("no calls")


def call_columns(rows: list[dict[str, Any]]) -> Iterator[Column]:
    yield Column("call", [row["id"] for row in rows])
    yield Column("state", ["on hold" if row["on_hold"] else row["state"] for row in rows])
    yield Column("from", [number_of(row["from"]) for row in rows])
    yield Column("to", [number_of(row["to"]) for row in rows])
    yield Column("age", [lasting(row["age_s"]) for row in rows], right=True)
    backends = [" ".join(leg["backend"] for leg in row["legs"] if leg["backend"]) for row in rows]
    yield Column("backend", [or_dash(names) for names in backends])
    yield Column("media", [row["media"] for row in rows], 1)
    yield Column("caller", [row["legs"][0]["peer"] for row in rows], 2)


def failovers(
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
    each_call: Annotated[bool, typer.Option("--calls", help="Each call with its times.")] = False,
) -> None:
    """The last failovers: what was seen, decided and done."""
    reports = ask_node(config, "failovers")
    if as_json:
        print_json(reports)
        return
    if not reports:
        started = ask_node(config, "status")["started"]
        console.print(f"no failovers since {clock(started)}")
    for report in reports:
        print_report(console, report, each_call=each_call)
