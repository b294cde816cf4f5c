"""`aqueduct`: what an operator types, and what he reads."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from proxy.cli.commands import app  # here, so that Ctrl-C meanwhile ends it without a trace

        app()
    except KeyboardInterrupt:
        sys.exit(130)
