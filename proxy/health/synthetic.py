"""Synthetic calls: every backend of a pool that wants them is called at an interval, and must be heard to hear.

A test call that was answered and heard its tone is evidence that media works; `fall` in a row that did not are
evidence that it does not, though OPTIONS are answered. A refusal is a matter of configuration or load, and a call that
could not be placed is our own trouble: neither is held against the backend. Health judges; nothing is judged here.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from random import Random
from typing import Any

from media.probe.call import SAYS_HZ, Caller, CallerFailed, Outcome, SyntheticCall
from proxy.backends import Admin, Backend, Backends, Verdict
from proxy.config import SyntheticSettings
from proxy.health.evidence import Evidence
from proxy.health.health import Health
from proxy.net.address import host_port

RETRY_S = 0.5  # after a failure that does not count yet

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Record:
    """What came of the calls to one backend."""

    placed: int = 0
    heard: int = 0
    failed: int = 0  # not answered, or answered and nothing heard
    refused: int = 0
    unplaced: int = 0  # our own caller could not
    in_a_row: int = 0  # failures
    last: Outcome | None = None
    trouble: str = ""  # what was last complained of, so that it is said once


class Synthetic:
    """`callers`, by the names that settings give them, are there before `start`."""

    def __init__(self, backends: Backends, health: Health, loop: asyncio.AbstractEventLoop, rng: Random) -> None:
        self.callers: dict[str, Caller] = {}
        self._health = health
        self._loop = loop
        self._rng = rng
        self._wanted = {
            backend: settings
            for backend in backends
            if (settings := backends.pool_of(backend).settings.health.synthetic).extension is not None
        }
        self._records = {backend: Record() for backend in self._wanted}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        for backend, settings in self._wanted.items():
            self._tasks.append(self._loop.create_task(self._watch(backend, settings)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for caller in set(self.callers.values()):
            await caller.close()

    def explain(self, backend: Backend) -> dict[str, Any] | None:
        """For people; None: this backend gets no test calls."""
        record = self._records.get(backend)
        if record is None:
            return None
        last = record.last
        return {
            "placed": record.placed,
            "heard": record.heard,
            "failed": record.failed,
            "refused": record.refused,
            "unplaced": record.unplaced,
            "last": last and str(last),
            "setup_ms": _ms(last.setup_s if last and last.answered else None),
            "silence_ms": _ms(last.silence_s if last else None),
            "gap_ms": _ms(last.gap_s if last and last.heard else None),
        }

    async def call(self, backend: Backend) -> Outcome | None:
        """One test call, now; None: this backend gets none. Raises CallerFailed. A failure is held against nobody."""
        settings = self._wanted.get(backend)
        if settings is None:
            return None
        outcome = await self.callers[settings.caller].place(_call(backend, settings))
        if outcome.heard:
            self._health.observe(backend, Evidence.SYNTHETIC_OK)
        return outcome

    async def _watch(self, backend: Backend, settings: SyntheticSettings) -> None:
        await asyncio.sleep(self._rng.random() * settings.interval_s)  # not all backends at once
        while True:
            soon = False
            if backend.admin is not Admin.MAINT and backend.verdict is not Verdict.DOWN and not backend.fenced:
                soon = await self._try(backend, settings)
            await asyncio.sleep(min(RETRY_S, settings.interval_s) if soon else settings.interval_s)

    async def _try(self, backend: Backend, settings: SyntheticSettings) -> bool:
        """One call. True: it failed, and another one should say soon whether that was chance."""
        record = self._records[backend]
        stalls = self._stalls()
        try:
            outcome = await self.callers[settings.caller].place(_call(backend, settings))
        except CallerFailed as error:
            record.unplaced += 1
            self._complain(backend, record, f"could not be placed: {error}")
            return False
        record.placed += 1
        record.last = outcome
        if outcome.heard:
            record.heard += 1
            record.in_a_row = 0
            record.trouble = ""
            self._health.observe(backend, Evidence.SYNTHETIC_OK)
            return False
        if not outcome.answered and outcome.status != 408:
            record.refused += 1
            self._complain(backend, record, str(outcome))
            return False
        if backend.verdict is Verdict.DOWN or self._stalls() != stalls:
            return False  # it died meanwhile, or we stood still: what was not heard then is not held against it
        record.failed += 1
        record.in_a_row += 1
        if record.in_a_row < settings.fall:
            return True
        self._complain(backend, record, str(outcome))
        self._health.observe(backend, Evidence.SYNTHETIC_FAILED)
        return False

    def _stalls(self) -> int:
        """How often this process has stood still until now."""
        selfcheck = self._health.selfcheck
        selfcheck.awake(self._loop.time())
        return selfcheck.stalls

    def _complain(self, backend: Backend, record: Record, trouble: str) -> None:
        kind = trouble.split(",")[0]  # not the figures
        if kind != record.trouble:
            record.trouble = kind
            log.warning("backend=%s pool=%s test call: %s", backend.name, backend.pool, trouble)


def _call(backend: Backend, settings: SyntheticSettings) -> SyntheticCall:
    return SyntheticCall(
        uri=f"sip:{settings.extension}@{host_port(backend.address)};transport={backend.transport}",
        hears_hz=settings.tone_hz or SAYS_HZ,
        answer_s=settings.deadline_ms / 1000,
        hear_s=settings.deadline_ms / 1000,
        listen_s=settings.listen_ms / 1000,
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
