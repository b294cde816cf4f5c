"""What the commands share: consoles and exit codes, the way to the node.

Text is for people: on a terminal it keeps to its width; into a pipe it goes as it is, a line a thing.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from proxy.admin.control import ControlError, ask, control_path
from proxy.config import ConfigError, Settings, load

console = Console(highlight=False, markup=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True, style="red")

# Exit codes, besides 0: what a script can tell apart.
FAILED, BAD_CONFIG, NO_NODE = 1, 2, 3

Config = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_CONFIG = Path("aqueduct.yaml")


def load_settings(file: Path) -> Settings:
    try:
        return load(file)
    except ConfigError as error:
        for fault in error.faults:
            errors.print(str(fault))
        raise typer.Exit(BAD_CONFIG) from None


def ask_node(file: Path, command: str, **arguments: Any) -> Any:
    settings = load_settings(file)
    try:
        return asyncio.run(ask(control_path(settings.node.state_dir), command, **arguments))
    except ControlError as error:
        errors.print(str(error))
        raise typer.Exit(NO_NODE) from None


def print_json(value: Any) -> None:
    json.dump(value, sys.stdout)
    print()
