"""`aqueduct`: what an operator types."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from media.api import MediaError
from proxy.admin.control import ControlError, ask
from proxy.config import ConfigError, Settings, load
from proxy.demo.asterisk import ROOT_FOLDER
from proxy.demo.demo import demo as play
from proxy.demo.stage import DemoError, Fault
from proxy.demo.view import Moving, Plain, Silent, print_outcome
from proxy.serve import control_path, serve

app = typer.Typer(
    add_completion=True, no_args_is_help=True, help="A SIP/RTP failover proxy: when a backend dies, its calls go on."
)
console = Console()
errors = Console(stderr=True)

# Exit codes, besides 0: what a script can tell apart.
FAILED, BAD_CONFIG, NO_NODE = 1, 2, 3

Config = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_CONFIG = Path("aqueduct.yaml")


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"aqueduct {version('aqueduct-sip')}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """What comes before the command."""


def _load(file: Path) -> Settings:
    try:
        return load(file)
    except ConfigError as error:
        for fault in error.faults:
            errors.print(str(fault), style="red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(BAD_CONFIG) from None


def _ask(file: Path, command: str, **arguments: Any) -> Any:
    settings = _load(file)
    try:
        return asyncio.run(ask(control_path(settings), command, **arguments))
    except ControlError as error:
        errors.print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(NO_NODE) from None


@app.command()
def run(
    config: Config = DEFAULT_CONFIG,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run the node until SIGTERM. Live calls go on meanwhile, and a new run takes them up again."""
    settings = _load(config)
    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    try:
        _runner()(serve(settings))
    except (OSError, MediaError) as error:
        errors.print(f"cannot start: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(FAILED) from None


def _runner() -> Any:
    """uvloop where it is installed: 5-10 % less CPU a call, and nothing else changes."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


@app.command()
def check(config: Config = DEFAULT_CONFIG) -> None:
    """Check the configuration: each fault with its line, key and what was expected."""
    settings = _load(config)
    members = sum(len(pool.backends) for pool in settings.pools.values())
    console.print(f"{config}: good; {len(settings.pools)} pools, {members} backends, {len(settings.routes)} routes")


@app.command()
def status(
    config: Config = DEFAULT_CONFIG,
    as_json: AsJson = False,
    reset_stall: Annotated[bool, typer.Option(help="Begin to measure the longest stall anew.")] = False,
) -> None:
    """The node and its backends."""
    result = _ask(config, "status", reset_stall=reset_stall)
    if as_json:
        print(json.dumps(result))
        return
    console.print(
        f"[bold]{result['node']}[/]: {result['calls']} calls, up {result['uptime_s']} s, "
        f"longest stall {result['loop_stall_ms_max']} ms"
    )
    table = Table("backend", "pool", "role", "admin", "verdict", "calls", "rtt ms", "why")
    for row in result["backends"]:
        table.add_row(
            row["name"], row["pool"], row["role"], row["admin"], row["verdict"] + (" fenced" if row["fenced"] else ""),
            str(row["calls"]), str(row["rtt_ms"]), f"{row['diagnosis'] or ''} {row['reason']}".strip(),
        )  # fmt: skip
    console.print(table)
    if result["rtpengines"]:
        table = Table("rtpengine", "state", "sessions")
        for row in result["rtpengines"]:
            table.add_row(row["name"], {True: "up", False: "down", None: "unknown"}[row["up"]], str(row["sessions"]))
        console.print(table)
    for line in troubles(result):
        console.print(line, style="yellow", highlight=False, markup=False)


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


@app.command()
def calls(config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Live calls."""
    rows = _ask(config, "calls")
    if as_json:
        print(json.dumps(rows))
        return
    table = Table("call", "state", "from", "to", "age s", "media", "legs")
    for row in rows:
        legs = "  ".join(f"{leg['name']}={leg['backend'] or leg['peer']}" for leg in row["legs"])
        state = row["state"] + (" on hold" if row["on_hold"] else "")
        table.add_row(row["id"], state, row["from"], row["to"], str(row["age_s"]), row["media"], legs)
    console.print(table)


@app.command()
def failovers(config: Config = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """The last failovers: what was seen, decided and done."""
    reports = _ask(config, "failovers")
    if as_json:
        print(json.dumps(reports))
        return
    for report in reports:
        print_report(report)


def print_report(report: dict[str, Any]) -> None:
    what = f"{report['backend']} ({report['pool']}), {report['cause']}: {report['reason']}"
    console.print(f"[bold]failover {report['id']}[/]: {what}")
    detection = "" if report["detection_ms"] is None else f"{report['detection_ms']} ms after its last sign of life; "
    gap = report["gap_ms"]
    console.print(
        f"  {detection}{report['moved']} moved, {report['lost']} lost, {report['ended']} hung up meanwhile; "
        f"all moved after {report['all_moved_ms']} ms; silence p50 {gap['p50']} p99 {gap['p99']} ms"
    )
    for at_ms, what in report["timeline"]:
        console.print(f"  {at_ms:>9.1f} ms  {what}", highlight=False)
    for result in report["results"]:
        if result["result"] != "moved":
            console.print(f"  call {result['call']}: {result['result']} {result['error']}", style="red")


@app.command()
def drain(
    backend: str,
    config: Config = DEFAULT_CONFIG,
    move: Annotated[bool, typer.Option(help="Move its live calls away, make-before-break.")] = False,
) -> None:
    """Give a backend no new calls."""
    report = _ask(config, "drain", backend=backend, move=move)
    moving = f"; moving {report['planned']} calls" if report else ""
    console.print(f"{backend} drains{moving}")


@app.command()
def ready(backend: str, config: Config = DEFAULT_CONFIG) -> None:
    """Give a backend calls again."""
    _ask(config, "ready", backend=backend)
    console.print(f"{backend} is ready")


@app.command()
def failover(backend: str, config: Config = DEFAULT_CONFIG) -> None:
    """Treat a backend as dead, now: fence it and move its calls."""
    report = _ask(config, "failover", backend=backend)
    console.print(f"{backend} is fenced; moving {report['planned']} calls")


@app.command()
def demo(
    as_json: AsJson = False,
    asterisk: Annotated[
        bool, typer.Option("--asterisk", help="Two real Asterisk instead of reference backends.")
    ] = False,
    calls: Annotated[int, typer.Option(min=1, max=500, help="Callers.")] = 50,
    fault: Annotated[Fault, typer.Option(help="What the primary suffers: SIGKILL or SIGSTOP.")] = Fault.KILL,
) -> None:
    """Two backends carry calls on this machine, one is killed, the calls go on. Fails if one does not."""
    if asterisk and not ROOT_FOLDER.is_dir():
        errors.print(f"no Asterisk in {ROOT_FOLDER}: `make asterisk` unpacks one", style="red", soft_wrap=True)
        raise typer.Exit(FAILED)
    view = Silent() if as_json else Moving(console) if console.is_terminal else Plain(console)
    try:
        outcome = asyncio.run(play(calls, fault, ROOT_FOLDER if asterisk else None, view))
    except (DemoError, ControlError, OSError) as error:
        errors.print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(FAILED) from None
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None
    finally:
        view.close()
    if as_json:
        print(json.dumps(outcome.as_dict()))
    else:
        print_outcome(console, outcome)
    if not outcome.ok:
        raise typer.Exit(FAILED)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
