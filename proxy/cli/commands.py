"""All commands, in the order in which `aqueduct --help` lists them."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from proxy.cli import demo, look, orders, recording, rolling, rosters, run
from proxy.cli.common import console

app = typer.Typer(
    add_completion=True, no_args_is_help=True, help="A SIP/RTP failover proxy: when a backend dies, its calls go on."
)
for command in (
    run.run, run.check, look.status, look.calls, look.failovers, rosters.conferences, orders.drain, orders.ready,
    orders.failover, rolling.rolling_restart, demo.demo,
):  # fmt: skip
    app.command()(command)
app.add_typer(recording.recording, name="recording")


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"aqueduct {version('aqueduct-sip')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """What comes before the command."""
