"""Dialogs that could not be ended when their calls went on elsewhere: their backend was dead, as far as we know, or
would have hung up on a mate with them. They are ended later; those that are too many are forgotten.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from proxy.backends import Backend
from proxy.calls.leg import Leg
from proxy.sip.dialog import Dialog
from proxy.sip.flow import Flow

A_BACKEND_MAX = 20_000


class Left(NamedTuple):
    call: str  # its id
    dialog: Dialog
    flow: Flow


class LeftBehind:
    def __init__(self) -> None:
        self._on: dict[str, list[Left]] = {}  # by backend

    def __len__(self) -> int:
        return sum(len(left) for left in self._on.values())

    def leave(self, leg: Leg) -> None:
        if leg.backend is not None and leg.dialog is not None and leg.call is not None:
            left = self._on.setdefault(leg.backend.name, [])
            if len(left) < A_BACKEND_MAX:
                left.append(Left(leg.call.id, leg.dialog, leg.flow))

    def take(self, backend: Backend, of: Container[str] | None = None) -> list[Left]:
        """To be ended now: all that are on that backend, or those of some calls (by id)."""
        left = self._on.pop(backend.name, [])
        stay = [each for each in left if of is not None and each.call not in of]
        if stay:
            self._on[backend.name] = stay
        return [each for each in left if of is None or each.call in of]
