"""All upkeep of a node: its parts, and the tasks in which they work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any

from proxy.alerts import Alerts
from proxy.backends import Backends
from proxy.backends.control.api import ControlSession
from proxy.calls import Calls
from proxy.failover import Failovers
from proxy.health import Health
from proxy.health.synthetic import Synthetic
from proxy.upkeep.cold import ColdStandbys
from proxy.upkeep.notices import Notices
from proxy.upkeep.parity import Parity
from proxy.upkeep.provision import Provision
from proxy.upkeep.rolling import Rolling
from proxy.upkeep.starts import Starts

log = logging.getLogger(__name__)


class Upkeep:
    def __init__(
        self, calls: Calls, backends: Backends, health: Health, synthetic: Synthetic,
        controls: Mapping[str, ControlSession], failovers: Failovers, alerts: Alerts, node: str,
        loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()
        Notices(backends, health, failovers, alerts)
        self.provision = Provision(calls, backends, node)
        self.starts = Starts(health, synthetic, controls, self.provision, alerts, loop)
        self.cold = ColdStandbys(backends, health, failovers, self.starts, loop, self._spawn)
        self.parity = Parity(backends, failovers, alerts, loop, self._spawn)
        self.rolling = Rolling(backends, health, failovers, self.starts, loop, self._spawn)

    def start(self) -> None:
        self._spawn(self.cold.watch())
        self.parity.start()

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for driver in self.starts.drivers.values():
            await driver.close()
        await self.parity.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            log.error("upkeep task failed", exc_info=task.exception())
