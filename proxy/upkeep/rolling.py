"""Rolling restart: every backend of a pool is restarted, one after the other, and no call is lost.

    room at the others? -> drain, its calls moved make-before-break -> no calls for a while -> restarted through its
    driver -> ready (`proxy.upkeep.starts`) -> up for some probes on end -> takes calls again -> the next one

Backups come first. The first sign of trouble ends it: a call that could not be moved or is silent afterwards, a backend
that does not come back, another one that is not well, any failover in the pool. A restart that has been ordered is
carried to its end all the same, because the pool needs that backend; what has not had its turn is not touched.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from typing import Any

from proxy.backends import Admin, Backend, Backends, Pool, Power, Verdict
from proxy.config import PowerSettings
from proxy.failover import Failovers, RefusedOrder, Report
from proxy.failover.report import LOST, MOVED, STAYED
from proxy.health import Health, VerdictChanged
from proxy.text import counted
from proxy.upkeep.rollout import Outcome, Part, Rollout, Step
from proxy.upkeep.starts import StartFailed, Starts

log = logging.getLogger(__name__)

POLL_S = 0.05
EMPTY_S = 1.0  # without calls: the BYEs have been answered, nothing that came late is in the way
PROBES_UP = 20  # on end, after it is ready


class RefusedRolling(Exception):
    """It is not begun; the text says why."""


class _Abort(Exception):
    pass


class Rolling:
    """The rolling restarts of a node, at most one of each pool at a time. The last one of each is kept."""

    def __init__(
        self, backends: Backends, health: Health, failovers: Failovers, starts: Starts,
        loop: asyncio.AbstractEventLoop, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:  # fmt: skip
        self._backends = backends
        self._failovers = failovers
        self._starts = starts
        self._loop = loop
        self._spawn = spawn
        self.rollouts: dict[str, Rollout] = {}  # by pool
        self._trouble: dict[str, str] = {}  # by pool: the first sign of it
        self._restarting: set[Backend] = set()  # their being down is what was ordered
        health.subscribe(self._verdict_changed)
        failovers.on_report.append(self._reported)

    # -- orders

    def begin(self, name: str, *, drain_s: float) -> Rollout:
        """Order: restart all of that pool. A backend that still has calls after `drain_s` ends it. Raises
        RefusedRolling."""
        pool = self._backends.pools.get(name)
        if pool is None:
            raise RefusedRolling(f"no pool {name!r}; known are {', '.join(sorted(self._backends.pools))}")
        if self._running(name):
            raise RefusedRolling(f"pool {name} is being restarted already")
        if not pool.settings.recover:
            raise RefusedRolling(f"pool {name} says recover: false, so its calls cannot be moved")
        ordered = sorted(pool.members, key=lambda member: member.role != "backup")
        parts = {member: Part(member.name) for member in ordered}
        for member, part in parts.items():
            if member.admin is not Admin.READY or member.power is not Power.ON:
                part.step = Step.SKIPPED
                part.told = f"left as it is: {member.admin if member.power is Power.ON else member.power}"
        served = [member for member, part in parts.items() if part.step is Step.WAITING]
        if len(served) < 2:
            raise RefusedRolling(f"pool {name} has {counted(len(served), 'backend')} in service; it needs two")
        for member in served:
            if member.name not in self._starts.drivers:
                raise RefusedRolling(f"{member.name} has no power in the configuration, so nobody can restart it")
            if member.verdict is not Verdict.UP or member.fenced:
                raise RefusedRolling(f"{member.name} is {'fenced' if member.fenced else member.verdict}, not up")
        if any(member in self._failovers.moving for member in pool.members):
            raise RefusedRolling(f"calls of pool {name} are being moved")
        rollout = self.rollouts[name] = Rollout(name, self._loop.time(), list(parts.values()))
        self._trouble.pop(name, None)
        log.warning("pool=%s rolling restart of %s", name, ", ".join(member.name for member in served))
        self._spawn(self._run(pool, rollout, [(m, part) for m, part in parts.items() if m in served], drain_s))
        return rollout

    def stop(self, name: str) -> Rollout:
        """Order: end it after the backend at hand, or before that is restarted. Raises RefusedRolling."""
        if not self._running(name):
            raise RefusedRolling(f"no rolling restart of pool {name} is running")
        self._suspect(name, "stopped by the operator")
        return self.rollouts[name]

    def _running(self, pool: str) -> bool:
        rollout = self.rollouts.get(pool)
        return rollout is not None and rollout.outcome is Outcome.RUNNING

    # -- signs of trouble

    def _verdict_changed(self, change: VerdictChanged) -> None:
        """A suspicion is none yet: it becomes one, or passes within milliseconds."""
        backend = change.backend
        in_service = backend.admin is not Admin.MAINT and backend.power is Power.ON and backend not in self._restarting
        if in_service and change.verdict not in (Verdict.UP, Verdict.SUSPECT) and self._running(backend.pool):
            why = ", ".join(str(part) for part in (change.diagnosis, change.reason) if part)
            self._suspect(backend.pool, f"{backend.name} is {change.verdict}: {why}")

    def _reported(self, report: Report) -> None:
        if not report.alive and not report.finished and self._running(report.pool):
            self._suspect(report.pool, f"failover {report.id} of {report.backend}: {report.cause}")

    def _suspect(self, pool: str, what: str) -> None:
        self._trouble.setdefault(pool, what)

    def _check(self, pool: Pool) -> None:
        if pool.name in self._trouble:
            raise _Abort(self._trouble[pool.name])

    # -- what is done

    async def _run(
        self, pool: Pool, rollout: Rollout, turns: list[tuple[Backend, Part]], drain_s: float
    ) -> None:  # fmt: skip
        try:
            for backend, part in turns:
                await self._turn(pool, rollout, backend, part, drain_s)
            self._check(pool)  # a sign that came while the last one was restarted
            rollout.outcome = Outcome.DONE
        except _Abort as abort:
            rollout.outcome, rollout.reason = Outcome.ABORTED, str(abort)
        except Exception as error:
            rollout.outcome, rollout.reason = Outcome.ABORTED, f"a fault of the node: {error!r}"
            raise
        finally:
            if rollout.outcome is Outcome.RUNNING:
                rollout.outcome, rollout.reason = Outcome.ABORTED, "the node stops"
            rollout.took_s = round(self._loop.time() - rollout.began_at, 2)
            how = rollout.outcome if rollout.outcome is Outcome.DONE else f"{rollout.outcome}: {rollout.reason}"
            self._note(rollout, f"{how}; {counted(rollout.moved, 'call')} moved")

    async def _turn(self, pool: Pool, rollout: Rollout, backend: Backend, part: Part, drain_s: float) -> None:
        self._check(pool)
        self._room(pool, backend)
        began = self._loop.time()
        self._enter(rollout, part, Step.DRAINING)
        try:
            await self._empty(pool, backend, part, began + drain_s)
            self._room(pool, backend)  # for what may come while it is away
            self._check(pool)
        except _Abort as abort:
            part.told = str(abort)
            self._failovers.ready(backend)
            self._enter(rollout, part, Step.GIVEN_BACK)
            raise
        part.drained_s = round(self._loop.time() - began, 2)
        settings = pool.settings.backends[backend.name].power
        assert settings is not None  # it has a driver
        self._restarting.add(backend)
        try:
            self._enter(rollout, part, Step.RESTARTING)
            part.told = str(await self._starts.start(backend, settings, "restart"))
            self._enter(rollout, part, Step.PROVING)
            await self._prove(pool, backend, settings)
        except (StartFailed, _Abort) as error:
            part.told = str(error).removeprefix(f"{backend.name}: ")
            self._enter(rollout, part, Step.FAILED)
            raise _Abort(str(error)) from error
        finally:
            self._restarting.discard(backend)
        self._failovers.ready(backend)
        part.ready_s = round(self._loop.time() - began, 2)
        self._enter(rollout, part, Step.RESTARTED)

    def _room(self, pool: Pool, backend: Backend) -> None:
        now = self._loop.time()
        others = [m for m in pool.members if m is not backend and m.usable(now) and m.verdict is not Verdict.SUSPECT]
        room = sum(math.inf if other.calls_max is None else other.calls_max - other.calls for other in others)
        if room < max(1, backend.calls):
            raise _Abort(f"the others have no room for the calls of {backend.name} ({backend.calls})")

    async def _empty(self, pool: Pool, backend: Backend, part: Part, deadline: float) -> None:
        """Until it has had no calls for a while. Calls that rang when it was drained are moved when they talk."""
        report: Report | None = None
        empty_since: float | None = None
        while True:
            self._check(pool)
            now = self._loop.time()
            if report is not None and report.finished:
                part.moved += report.count(MOVED)
                self._judge(backend, report)
                report = None
            if backend.calls or report is not None:
                empty_since = None
            elif empty_since is None:
                empty_since = now
            elif now - empty_since >= EMPTY_S:
                return
            if now >= deadline:
                raise _Abort(f"{backend.name} still has {counted(backend.calls, 'call')}")
            if report is None and (backend.admin is Admin.READY or self._failovers.talks(backend)):
                try:
                    report = self._failovers.drain(backend, move=True)
                except RefusedOrder as refused:
                    raise _Abort(str(refused)) from refused
            await asyncio.sleep(POLL_S)

    @staticmethod
    def _judge(backend: Backend, report: Report) -> None:
        for result, what in ((LOST, "lost"), (STAYED, "could not be moved")):
            calls = [each for each in report.results if each.result == result]
            if calls:
                raise _Abort(f"{counted(len(calls), 'call')} of {backend.name} {what}: {calls[0].error}")
        if report.unverified:
            calls = [each for each in report.results if each.result == MOVED and each.audio is False]
            there = calls[0].backend
            raise _Abort(f"{counted(len(calls), 'call')} of {backend.name} moved to {there} without audio from there")

    async def _prove(self, pool: Pool, backend: Backend, settings: PowerSettings) -> None:
        """Until it has been up for some probes on end."""
        now = self._loop.time()
        deadline = now + settings.ready_timeout_s
        wanted_s = PROBES_UP * pool.settings.health.interval_ms / 1000
        up_since = now
        while True:
            now = self._loop.time()
            if backend.verdict is not Verdict.UP:
                up_since = math.inf
            elif up_since == math.inf:
                up_since = now
            if now - up_since >= wanted_s:
                return
            if now >= deadline + wanted_s:
                what = f"not up for {PROBES_UP} probes on end within {settings.ready_timeout_s:g} s after it was ready"
                raise _Abort(f"{backend.name}: {what}; it is {backend.verdict}")
            await asyncio.sleep(POLL_S)

    def _enter(self, rollout: Rollout, part: Part, step: Step) -> None:
        part.step = step
        told = f": {part.told}" if part.told and step is not Step.PROVING else ""
        self._note(rollout, f"{part.backend} {step}{told}")

    def _note(self, rollout: Rollout, what: str) -> None:
        rollout.note(self._loop.time(), what)
        log.warning("pool=%s rolling restart: %s", rollout.pool, what)
