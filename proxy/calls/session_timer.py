"""Session timers of one leg (RFC 4028)."""

from __future__ import annotations

from proxy.config import SipSettings
from proxy.sip.message import Field


def proposal(settings: SipSettings) -> list[Field]:
    return []


class LegTimer:
    def cancel(self) -> None: ...
