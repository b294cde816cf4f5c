"""The contract of a driver: it starts, stops and restarts one backend, and says whether it runs.

An order returns when it is carried out, not when the backend is ready: who gave it finds that out. What came of it is
one short text for the report. A driver has time-outs of its own, holds no state of the backend, and may be ordered the
same twice.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class PowerError(Exception):
    """The order was not carried out; the text says why, in a line, with the end of what was said."""


class Running(StrEnum):
    RUNNING = "running"
    STOPPED = "stopped"
    CHANGING = "changing"  # starts or stops
    UNKNOWN = "unknown"  # this driver cannot know


class Driver(Protocol):
    kind: str  # exec, systemd, docker, http: for people

    async def start(self) -> str:
        """Raises PowerError."""
        ...

    async def stop(self) -> str:
        """Raises PowerError."""
        ...

    async def restart(self) -> str:
        """Raises PowerError."""
        ...

    async def state(self) -> Running:
        """Raises PowerError when it cannot be asked."""
        ...

    async def close(self) -> None: ...
