"""The start of a backend: ordered from its driver, then waited for until it is really ready.

    provisioned -> ordered -> its SIP answers -> its control session is up -> a test call was heard -> ready

The first and the last two only where the configuration has them. Until it is ready it gets no call, whatever its SIP
says.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from media.probe.call import CallerFailed
from proxy.alerts import Alerts
from proxy.backends import Backend, Power
from proxy.backends.control.api import ControlSession
from proxy.backends.power import Driver, PowerError
from proxy.config import PowerSettings
from proxy.health import Health
from proxy.health.synthetic import Synthetic
from proxy.upkeep.notices import labels
from proxy.upkeep.provision import Provision
from proxy.upkeep.templates import TemplateError

log = logging.getLogger(__name__)

POLL_S = 0.02
CALL_AGAIN_S = 0.25

Order = Literal["start", "restart"]


class StartFailed(Exception):
    """It was not started, or is not ready in time; the text says why."""


@dataclass(slots=True, frozen=True)
class Started:
    """Seconds from the order to each step."""

    kind: str
    said: str  # by the driver
    ordered_s: float  # the driver says that it is done
    answers_s: float
    ready_s: float

    def __str__(self) -> str:
        return (
            f"started by us ({self.kind}), ready after {self.ready_s:.2f} s "
            f"(ordered {self.ordered_s:.2f} s, answers {self.answers_s:.2f} s)"
        )


class Starts:
    """`drivers`, by names of backends, are there before anything is started; `controls` too."""

    def __init__(
        self, health: Health, synthetic: Synthetic, controls: Mapping[str, ControlSession], provision: Provision,
        alerts: Alerts, loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        self.drivers: dict[str, Driver] = {}
        self._controls = controls
        self._health = health
        self._synthetic = synthetic
        self._provision = provision
        self._alerts = alerts
        self._loop = loop
        self._locks: defaultdict[Backend, asyncio.Lock] = defaultdict(asyncio.Lock)  # one order at a time

    async def start(self, backend: Backend, settings: PowerSettings, order: Order = "start") -> Started:
        """Raises StartFailed; its power is then what it was before."""
        async with self._locks[backend]:
            return await self._start(backend, settings, order)

    async def stop(self, backend: Backend) -> None:
        """Raises PowerError; then it runs on."""
        backend.power = Power.OFF
        try:
            async with self._locks[backend]:
                await self.drivers[backend.name].stop()
        except PowerError:
            backend.power = Power.ON
            raise

    async def _start(self, backend: Backend, settings: PowerSettings, order: Order) -> Started:
        driver = self.drivers[backend.name]
        began = self._loop.time()
        before, backend.power = backend.power, Power.STARTING
        log.info("backend=%s %s ordered (%s)", backend.name, order, driver.kind)
        try:
            async with asyncio.timeout(settings.ready_timeout_s):
                await self._provision.prepare(backend)
                said = await (driver.start() if order == "start" else driver.restart())
                ordered_s = self._loop.time() - began
                answers_s = await self.await_ready(backend, self._loop.time()) - began
        except TimeoutError:
            raise self._failed(backend, before, self._missing(backend, settings.ready_timeout_s)) from None
        except (PowerError, TemplateError) as error:
            raise self._failed(backend, before, str(error)) from error
        except BaseException:
            backend.power = before
            raise
        backend.power = Power.ON
        started = Started(driver.kind, said, ordered_s, answers_s, self._loop.time() - began)
        self._alerts.resolve("StartFailed", **labels(backend))
        log.warning("backend=%s %s", backend.name, started)
        return started

    async def await_ready(self, backend: Backend, since: float = 0.0) -> float:
        """Until it is; returns when its SIP answered. What it answered before `since` may have been the process that it
        was before."""
        self._health.forgive(backend)  # what we switch does not flap
        while not self._health.answers(backend, since):
            await asyncio.sleep(POLL_S)
        answers_at = self._loop.time()
        while not self._control_up(backend):
            self._controls[backend.name].hurry()
            await asyncio.sleep(POLL_S)
        while not await self._heard(backend):
            await asyncio.sleep(CALL_AGAIN_S)
        return answers_at

    def _control_up(self, backend: Backend) -> bool:
        session = self._controls.get(backend.name)
        return session is None or session.up

    async def _heard(self, backend: Backend) -> bool:
        try:
            outcome = await self._synthetic.call(backend)
        except CallerFailed as error:  # our own trouble is no reason to keep calls waiting
            log.warning("backend=%s test call could not be placed: %s", backend.name, error)
            return True
        return outcome is None or outcome.heard

    def _missing(self, backend: Backend, within_s: float) -> str:
        if not self._health.answers(backend):
            what = f"it is {backend.verdict}"
        elif not self._control_up(backend):
            what = "it answers SIP, and its control session is not up"
        else:
            what = "it answers SIP, and no test call was heard"
        return f"not ready within {within_s:g} s: {what}"

    def _failed(self, backend: Backend, before: Power, why: str) -> StartFailed:
        backend.power = before
        self._alerts.fire("StartFailed", f"{backend.name}: {why}", severity="critical", **labels(backend))
        log.warning("backend=%s start failed: %s", backend.name, why)
        return StartFailed(f"{backend.name}: {why}")
