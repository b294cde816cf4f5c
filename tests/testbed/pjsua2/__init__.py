"""PJSIP's phones as third-party callers: a process of its own (`agent`), and what gives it orders in a test (`phones`).

`make pjsua2` builds the library. Whoever imports this package without it can ask `unavailable`.
"""

from __future__ import annotations

from media.probe.client import installed


def unavailable() -> str | None:
    """Why there are no such phones here, or None when there are."""
    return None if installed() else "no pjsua2: make pjsua2"
