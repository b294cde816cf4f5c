"""Parity: is a backup what its primary is, and has it all that it needs? Looked at while there is still time.

Every backend with `parity` is looked at, at its own interval. The first primary of the pool that has it is what the
others are compared with: as it was last seen, so that its death does not blind us. A fault is named, logged once, and
alerted for as long as it is there; and a failover that begins meanwhile says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from proxy.alerts import Alerts
from proxy.aside import Aside, aside
from proxy.backends import Backend, Backends, Pool
from proxy.config import ParitySettings
from proxy.failover import Failovers, Report
from proxy.net.http import HttpClient
from proxy.upkeep.checksums import Look, differences, look
from proxy.upkeep.notices import labels

log = logging.getLogger(__name__)


class Parity:
    """`http` is there before `start`."""

    def __init__(
        self, backends: Backends, failovers: Failovers, alerts: Alerts, loop: asyncio.AbstractEventLoop,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]], aside: Aside = aside,
    ) -> None:  # fmt: skip
        self.http: HttpClient | None = None
        self.aside = aside
        self.faults: dict[str, list[str]] = {}  # by backend; one that has none is not there
        self._backends = backends
        self._alerts = alerts
        self._loop = loop
        self._spawn = spawn
        self._looks: dict[Backend, Look] = {}
        self._reference: dict[Pool, dict[str, str]] = {}  # as last seen
        failovers.on_report.append(self._reported)

    def start(self) -> None:
        for backend in self._backends:
            settings = self._settings(backend)
            if settings is not None:
                self._spawn(self._watch(backend, settings))

    async def close(self) -> None:
        if self.http is not None:
            await self.http.close()

    def _settings(self, backend: Backend) -> ParitySettings | None:
        return self._backends.pool_of(backend).settings.backends[backend.name].parity

    def _primary(self, pool: Pool) -> Backend | None:
        return next((m for m in pool.members if m.role == "primary" and self._settings(m) is not None), None)

    async def _watch(self, backend: Backend, settings: ParitySettings) -> None:
        while True:
            await self.look(backend)
            await asyncio.sleep(settings.interval_s)

    async def look(self, backend: Backend) -> list[str]:
        """Look at it now; its faults."""
        settings = self._settings(backend)
        if settings is None:
            return []
        seen = await look(settings, self.http, self.aside)
        pool = self._backends.pool_of(backend)
        self._looks[backend] = seen
        if self._primary(pool) is not backend:
            self._judge(pool, backend)
            return self.faults.get(backend.name, [])
        if seen.complete:
            self._reference[pool] = seen.sums
        for member in pool.members:
            self._judge(pool, member)
        return self.faults.get(backend.name, [])

    def _judge(self, pool: Pool, backend: Backend) -> None:
        seen, primary = self._looks.get(backend), self._primary(pool)
        if seen is None:
            return
        faults = list(seen.complaints)
        sums = self._reference.get(pool)
        if primary is not None and primary is not backend and sums is not None:
            faults += differences(sums, seen, primary.name)
        before = self.faults.pop(backend.name, [])
        if faults:
            self.faults[backend.name] = faults
        for fault in faults:
            if fault not in before:
                log.warning("backend=%s parity: %s", backend.name, fault)
        if faults:
            self._alerts.fire("Parity", f"{backend.name}: parity: {'; '.join(faults)}", **labels(backend))
        elif before:
            log.info("backend=%s parity: as it should be again", backend.name)
            self._alerts.resolve("Parity", **labels(backend))

    def _reported(self, report: Report) -> None:
        """Calls are about to go to who is not what it should be."""
        pool = self._backends.pools.get(report.pool)
        for member in pool.members if pool is not None and not report.finished else ():
            if member.name != report.backend:
                for fault in self.faults.get(member.name, ()):
                    report.note(self._loop.time(), f"{member.name}: parity: {fault}")
