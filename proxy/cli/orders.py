"""`drain`, `ready` and `failover`: what a node is ordered."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from proxy.cli.common import DEFAULT_CONFIG, Config, ask_node, console
from proxy.text import counted

Backend = Annotated[str, typer.Argument(help="Its name.")]


def drain(
    backend: Backend,
    config: Config = DEFAULT_CONFIG,
    move: Annotated[bool, typer.Option(help="Move its live calls away, make-before-break.")] = False,
) -> None:
    """Give a backend no new calls."""
    report = ask_node(config, "drain", backend=backend, move=move)
    moving = f"; moving {counted(report['planned'], 'call')}" if report else ""
    console.print(f"{backend} drains{moving}")
    if report:
        warn(report)


def ready(backend: Backend, config: Config = DEFAULT_CONFIG) -> None:
    """Give a backend calls again."""
    told = ask_node(config, "ready", backend=backend)
    if told["verdict"] != "down":
        console.print(f"{backend} is ready")
    else:
        why = f"{told['diagnosis']}, {told['reason']}"
        console.print(f"{backend} is ready, but down ({why}): it gets calls when it is well")


def failover(backend: Backend, config: Config = DEFAULT_CONFIG) -> None:
    """Treat a backend as dead, now: fence it and move its calls."""
    report = ask_node(config, "failover", backend=backend)
    console.print(f"{backend} is fenced; moving {counted(report['planned'], 'call')}")
    warn(report)


def warn(report: dict[str, Any]) -> None:
    if report["warning"]:
        console.print(Text(report["warning"], style="yellow"))
