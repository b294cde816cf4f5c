"""All commands, in the order in which `aqueduct --help` lists them."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from proxy.cli.common import app, console

from proxy.cli import run, look, rosters, orders, rolling, recording, demo  # isort: skip  # noqa: F401

__all__ = ["app"]


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"aqueduct {version('aqueduct-sip')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """What comes before the command."""
