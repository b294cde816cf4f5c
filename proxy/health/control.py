"""What control sessions tell of a backend's life, as evidence.

A wrong secret and a stream that is not the protocol say nothing of it. A session that is up again says whether it is
the same process: one that was started anew has lost its calls.
"""

from __future__ import annotations

from proxy.backends import Backend
from proxy.backends.control.api import Event, Loss, Lost, Stopping, Up
from proxy.health.evidence import Evidence
from proxy.health.health import Health

_LOST = {
    Loss.REFUSED: Evidence.CONTROL_REFUSED,
    Loss.SILENT: Evidence.CONTROL_LOST,
    Loss.DENIED: Evidence.CONTROL_UNUSABLE,
    Loss.PROTOCOL: Evidence.CONTROL_UNUSABLE,
}


class ControlWatch:
    def __init__(self, health: Health) -> None:
        self._health = health
        self._boots: dict[Backend, str] = {}

    def hear(self, backend: Backend, event: Event) -> None:
        evidence = self._evidence(backend, event)
        if evidence is not None:
            self._health.observe(backend, evidence)

    def _evidence(self, backend: Backend, event: Event) -> Evidence | None:
        match event:
            case Up():
                before = self._boots.get(backend, event.boot)
                self._boots[backend] = event.boot
                return Evidence.CONTROL_OK if before == event.boot else Evidence.CONTROL_RESTARTED
            case Stopping(hangs_up=True):
                return Evidence.CONTROL_STOPPING
            case Lost(loss=Loss.CLOSED | Loss.STOPPING, was_up=True):
                return Evidence.CONTROL_CUT
            case Lost(loss=loss):
                return _LOST.get(loss, Evidence.CONTROL_LOST)
            case _:
                return None
