"""`run` and `check`."""

from __future__ import annotations

import asyncio
import logging
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from media.api import MediaError
from proxy.cli.common import DEFAULT_CONFIG, FAILED, Config, console, errors, load_settings
from proxy.text import counted


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def run(
    config: Config = DEFAULT_CONFIG,
    log_level: Annotated[LogLevel, typer.Option(help="What is logged, to standard error.")] = LogLevel.INFO,
) -> None:
    """Run the node until SIGTERM. Live calls go on meanwhile, and a new run takes them up again."""
    from proxy.serve import serve

    settings = load_settings(config)
    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    try:
        _runner()(serve(settings))
    except (OSError, MediaError) as error:
        errors.print(f"cannot start: {error}")
        raise typer.Exit(FAILED) from None


def _runner() -> Any:
    """uvloop where it is installed: 5-10 % less CPU a call, and nothing else changes."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


def check(config: Config = DEFAULT_CONFIG) -> None:
    """Check the configuration: each fault with its line, key and what was expected."""
    settings = load_settings(config)
    members = sum(len(pool.backends) for pool in settings.pools.values())
    parts = ((len(settings.pools), "pool"), (members, "backend"), (len(settings.routes), "route"))
    console.print(f"{config}: good; {', '.join(counted(number, thing) for number, thing in parts)}")
