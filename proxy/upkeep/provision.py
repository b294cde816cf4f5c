"""What a backend is given before it is started: its files, out of templates, and the calls that live at that moment.

Nothing of it runs on the event loop but the gathering of the calls, a slice at a time.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from proxy.aside import Aside, aside
from proxy.backends import Backend, Backends
from proxy.calls import TALKING, Call, Calls
from proxy.config import ProvisionSettings
from proxy.text import counted
from proxy.upkeep.templates import write, write_all

log = logging.getLogger(__name__)

CALLS_A_SLICE = 100


class Provision:
    def __init__(self, calls: Calls, backends: Backends, node: str, aside: Aside = aside) -> None:
        self.aside = aside
        self._calls = calls
        self._backends = backends
        self._node = node

    async def prepare(self, backend: Backend) -> None:
        """Raises TemplateError."""
        settings = self._backends.pool_of(backend).settings.backends[backend.name].provision
        if settings is not None:
            if settings.templates:
                await self._write_files(backend, settings)
            if settings.status_file is not None:
                path, text = settings.status_file, json.dumps(await self._status(backend), indent=1)
                await self.aside(lambda: write(path, text))

    async def _write_files(self, backend: Backend, settings: ProvisionSettings) -> None:
        values = {name: value.get_secret_value() for name, value in settings.values.items()}
        changed = await self.aside(lambda: write_all(settings.templates, values))
        log.info("backend=%s provisioned: %s changed", backend.name, counted(changed, "file"))

    async def _status(self, backend: Backend) -> dict[str, Any]:
        """The calls of its pool, as they stand."""
        calls = []
        for number, call in enumerate(list(self._calls.live.values())):
            if number % CALLS_A_SLICE == CALLS_A_SLICE - 1:
                await asyncio.sleep(0)
            on = [leg.backend for leg in call.legs() if leg.backend is not None and leg.backend.pool == backend.pool]
            if on:
                calls.append(self._row(call, on[0]))
        return {"v": 1, "node": self._node, "backend": backend.name, "pool": backend.pool, "calls": calls}

    def _row(self, call: Call, backend: Backend) -> dict[str, Any]:
        now = self._calls.now()
        return {
            "id": call.id,
            "from": call.from_value.decode(errors="replace"),
            "to": call.to_value.decode(errors="replace"),
            "backend": backend.name,
            "state": ("held" if call.on_hold else "talking") if call.state == TALKING else "ringing",
            "talked_s": round(now - call.answered_at, 1) if call.answered_at else 0.0,
            "bond": {"kind": call.bond.kind, "name": call.bond.name.decode(errors="replace")} if call.bond else None,
        }
