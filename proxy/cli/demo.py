"""`demo`."""

from __future__ import annotations

import asyncio
import signal
from enum import StrEnum
from typing import Annotated

import typer

from proxy.admin.control import ControlError
from proxy.cli.common import FAILED, AsJson, errors, print_json


class Strike(StrEnum):
    """See `proxy.demo.stage.Fault`, which is not read before it is wanted."""

    KILL = "kill"
    STOP = "stop"


def demo(
    as_json: AsJson = False,
    asterisk: Annotated[
        bool, typer.Option("--asterisk", help="Two real Asterisk instead of reference backends.")
    ] = False,
    calls: Annotated[int, typer.Option(min=1, max=500, help="Callers.")] = 50,
    fault: Annotated[Strike, typer.Option(help="What the primary suffers: SIGKILL or SIGSTOP.")] = Strike.KILL,
) -> None:
    """Two backends carry calls on this machine, one is killed, the calls go on. Fails if one does not."""
    from rich.console import Console

    from proxy.demo.asterisk import ROOT_FOLDER
    from proxy.demo.demo import demo as play
    from proxy.demo.stage import DemoError, Fault
    from proxy.demo.view import Moving, Plain, Silent, print_outcome

    if asterisk and not ROOT_FOLDER.is_dir():
        errors.print(f"no Asterisk in {ROOT_FOLDER}: `make asterisk` unpacks one")
        raise typer.Exit(FAILED)
    console = Console()
    view = Silent() if as_json else Moving(console) if console.is_terminal else Plain(console)
    try:
        outcome = asyncio.run(play(calls, Fault(fault), ROOT_FOLDER if asterisk else None, view))
    except (DemoError, ControlError, OSError) as error:
        errors.print(str(error))
        raise typer.Exit(FAILED) from None
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None
    finally:
        view.close()
    if as_json:
        print_json(outcome.as_dict())
    else:
        print_outcome(console, outcome)
    if not outcome.ok:
        raise typer.Exit(FAILED)
