"""Cold standbys: a backup that does not run is started when the others of its pool cannot take the calls.

A backend is lost, or may be (`start_on: suspect`) -> is there room for its calls at those that are well? -> start one
after the other until there is. The recoveries of the calls wait for a backend all the while, and go on by themselves.
One that dies is off again, and may be started again, its own calls waiting. One that somebody else has started is used
as soon as it is ready. What we have started and nobody needs any more is stopped again after `cold_after_s`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from proxy.backends import Admin, Backend, Backends, Pool, Power, Verdict
from proxy.backends.power import PowerError
from proxy.config import PowerSettings
from proxy.failover import Failovers
from proxy.failover.report import Report
from proxy.health import Health, VerdictChanged
from proxy.upkeep.starts import StartFailed, Starts

log = logging.getLogger(__name__)

AGAIN_MIN_S = 2.0
AGAIN_MAX_S = 60.0
LOOK_APART_S = 1.0


@dataclass(slots=True)
class _Trials:
    """One that cannot be started, or dies soon after it was ready, is left alone for 2 s, 4 s, … 60 s. What has run for
    so long, or was not wanted, begins anew."""

    not_before: float = -math.inf
    ready_at: float = -math.inf
    _again_s: float = AGAIN_MIN_S

    def begin(self, now: float) -> None:
        if now - self.not_before > AGAIN_MAX_S:
            self._again_s = AGAIN_MIN_S

    def failed(self, now: float) -> None:
        self.not_before = now + self._again_s
        self._again_s = min(AGAIN_MAX_S, 2 * self._again_s)

    def died(self, now: float) -> None:
        if now - self.ready_at < AGAIN_MAX_S:
            self.failed(now)
        else:
            self._again_s = AGAIN_MIN_S


class ColdStandbys:
    def __init__(
        self, backends: Backends, health: Health, failovers: Failovers, starts: Starts,
        loop: asyncio.AbstractEventLoop, spawn: Callable[..., asyncio.Task[None]],
    ) -> None:  # fmt: skip
        self._backends = backends
        self._failovers = failovers
        self._health = health
        self._starts = starts
        self._loop = loop
        self._spawn = spawn
        self._pools = [pool for pool in backends.pools.values() if any(_is_cold(pool, m) for m in pool.members)]
        self._bringing: dict[Pool, asyncio.Task[None]] = {}
        self._ours: dict[Backend, float] = {}  # started by us; since when nobody has needed it
        self._trials: defaultdict[Backend, _Trials] = defaultdict(_Trials)
        if self._pools:
            health.subscribe(self._verdict_changed)
            failovers.on_report.append(self._reported)

    # -- causes

    def _verdict_changed(self, change: VerdictChanged) -> None:
        backend = change.backend
        pool = self._backends.pool_of(backend)
        if pool not in self._pools:
            return
        if backend.power is Power.OFF:
            self._look_for(pool, backend)
        elif change.verdict in (Verdict.DOWN, pool.settings.start_on):
            self._look(pool)

    def _reported(self, report: Report) -> None:
        pool = self._backends.pools.get(report.pool)
        if pool in self._pools and not report.finished:
            if pool in self._bringing:
                report.note(self._loop.time(), "a cold standby is being started already")
            self._loop.call_soon(self._look, pool)  # when all is known: the order is being carried out

    def _look(self, pool: Pool) -> None:
        if pool not in self._bringing and self.short(pool) and self._candidates(pool):
            task = self._bringing[pool] = self._spawn(self._bring(pool))
            task.add_done_callback(lambda _: self._bringing.pop(pool))

    def short(self, pool: Pool, without: Backend | None = None) -> bool:
        """Can those that are well not take the calls of those that are not?"""
        now = self._loop.time()
        well = [m for m in pool.members if m is not without and m.usable(now) and m.verdict is not Verdict.SUSPECT]
        lost = [m for m in pool.members if m.verdict in (Verdict.SUSPECT, Verdict.DOWN) or m in self._failovers.moving]
        room = sum(math.inf if m.calls_max is None else m.calls_max - m.calls for m in well if m not in lost)
        return room <= 0 or room < sum(m.calls for m in lost)

    def _candidates(self, pool: Pool) -> list[Backend]:
        return [m for m in pool.members if m.power is Power.OFF and m.admin is Admin.READY and _is_cold(pool, m)]

    # -- what is done

    async def _bring(self, pool: Pool) -> None:
        """Start one after the other, again and again, as long as there are too few."""
        while self.short(pool) and (candidates := self._candidates(pool)):
            first = min(candidates, key=lambda backend: self._trials[backend].not_before)
            wait_s = self._trials[first].not_before - self._loop.time()
            if wait_s <= 0:
                await self._start(pool, first)
            else:  # what there is may have changed before it is its turn
                await asyncio.sleep(min(wait_s, LOOK_APART_S))

    async def _start(self, pool: Pool, backend: Backend) -> None:
        trials = self._trials[backend]
        trials.begin(self._loop.time())
        self._note(pool, f"cold standby {backend.name} is being started")
        try:
            started = await self._starts.start(backend, _power_of(pool, backend))
        except StartFailed as error:
            trials.failed(self._loop.time())
            self._note(pool, f"cold standby {error}")
            return
        trials.ready_at = self._loop.time()
        self._ours[backend] = math.inf
        self._note(pool, f"cold standby {backend.name} {started}")
        for report in self._open_reports(pool):
            report.started[backend.name] = round((self._loop.time() - report.detected_at) * 1000, 1)

    def _look_for(self, pool: Pool, backend: Backend) -> None:
        """Somebody else has started it, or it ran when we began."""
        if self._health.answers(backend):
            backend.power = Power.STARTING
            self._spawn(self._take_up(backend, _power_of(pool, backend).ready_timeout_s))

    async def _take_up(self, backend: Backend, within_s: float) -> None:
        ready = False
        try:
            async with asyncio.timeout(within_s):
                await self._starts.await_ready(backend)
            ready = True
            self._trials[backend].ready_at = self._loop.time()
            log.info("backend=%s runs, though it is a cold standby: it is used as a warm one", backend.name)
        except TimeoutError:
            log.info("backend=%s runs, though it is a cold standby, and is not ready", backend.name)
        finally:
            backend.power = Power.ON if ready else Power.OFF

    async def watch(self) -> None:
        """Stop what we have started and nobody needs any more; look after those that are off again."""
        while self._pools:
            await asyncio.sleep(LOOK_APART_S)
            for pool in self._pools:
                for backend in pool.members:
                    if _is_cold(pool, backend):
                        self._look_after(pool, backend)

    def _look_after(self, pool: Pool, backend: Backend) -> None:
        if backend.power is Power.OFF:
            self._look_for(pool, backend)
        elif backend.power is Power.ON and backend.verdict is Verdict.DOWN:
            self._ours.pop(backend, None)
            self._trials[backend].died(self._loop.time())
            backend.power = Power.OFF  # it can be started again
            log.info("backend=%s is off", backend.name)
            self._look(pool)
        elif backend.power is Power.ON and backend in self._ours and pool.settings.cold_after_s is not None:
            now = self._loop.time()
            if backend.calls or self._needed(pool, backend):
                self._ours[backend] = math.inf
            elif self._ours[backend] == math.inf:
                self._ours[backend] = now
            elif now - self._ours[backend] >= pool.settings.cold_after_s:
                del self._ours[backend]
                self._spawn(self._stop(backend))

    def _needed(self, pool: Pool, backend: Backend) -> bool:
        primaries = [m for m in pool.members if m.role == "primary" and m.admin is Admin.READY]
        return self.short(pool, without=backend) or any(m.verdict is not Verdict.UP for m in primaries)

    async def _stop(self, backend: Backend) -> None:
        try:
            await self._starts.stop(backend)
        except PowerError as error:
            self._ours[backend] = math.inf  # later, once more
            log.warning("backend=%s cannot be stopped: %s", backend.name, error)
        else:
            log.info("backend=%s stopped: nobody needs it any more", backend.name)

    def _note(self, pool: Pool, what: str) -> None:
        for report in self._open_reports(pool):
            report.note(self._loop.time(), what)
        log.warning("pool=%s %s", pool.name, what)

    def _open_reports(self, pool: Pool) -> list[Report]:
        return [report for report in self._failovers.reports if report.pool == pool.name and not report.finished]


def _is_cold(pool: Pool, backend: Backend) -> bool:
    return pool.settings.backends[backend.name].standby == "cold"


def _power_of(pool: Pool, backend: Backend) -> PowerSettings:
    settings = pool.settings.backends[backend.name].power
    assert settings is not None  # `proxy.config.checks`: what is cold can be started
    return settings
