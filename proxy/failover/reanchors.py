"""Hears which media engines died, and has their calls anchored on others: who talks first, at a pace, with a report
like that of any failover. The same for calls whose ports the embedded relay could not have again after a restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from media.api import MediaEvent, MediaPlane, MediaRestarted, NodeLost
from proxy.backends import Backends
from proxy.calls import Call, Calls, Leg
from proxy.config import RecoverySettings
from proxy.failover.pace import Pace
from proxy.failover.plan import kind_of
from proxy.failover.reanchor import Reanchoring
from proxy.failover.report import CallResult, Report

log = logging.getLogger(__name__)

CAUSE = "media node lost"
RELAY = "relay"  # the embedded one has no name

OpenReport = Callable[[str, str, str, str, int], Report]


class Reanchors:
    """`open_report` makes a report that operators see: (cause, what died, pool, reason, calls)."""

    def __init__(
        self, calls: Calls, backends: Backends, open_report: OpenReport, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._calls = calls
        self._backends = backends
        self._open_report = open_report
        self._loop = loop
        self.running: dict[str, Reanchoring] = {}  # by call
        self._paces: dict[str, Pace] = {}  # by the host of the peer
        self._tasks: dict[asyncio.Task[None], str] = {}  # -> the node that died

    @property
    def moving(self) -> set[str]:
        """The nodes whose calls are being anchored elsewhere."""
        return set(self._tasks.values())

    def watch(self, media: MediaPlane) -> None:
        media.subscribe(self._event)

    def _event(self, event: MediaEvent) -> None:
        if isinstance(event, NodeLost):
            node, sessions = event.node, event.sessions
        elif isinstance(event, MediaRestarted):
            node, sessions = RELAY, event.lost
        else:
            return
        self._calls.counts["media_lost"] += len(sessions)
        calls = []
        for name in sessions:
            running = self.running.get(name)
            if running is not None:
                running.again = True
            elif (call := self._calls.live.get(name)) is not None:
                calls.append(call)
                if call.standby is not None:
                    self._calls.on_standby_lost(call, "its media is gone")
        if not calls:
            return
        calls.sort(key=lambda call: (kind_of(call), call.answered_at or call.created_at, call.id))
        report = self._open_report(CAUSE, node, "", f"{len(sessions)} sessions gone", len(calls))
        work = [self._begin(report, call) for call in calls]
        task = self._loop.create_task(self._move(report, work))
        self._tasks[task] = node
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not self._tasks:
            self._paces.clear()
        if not task.cancelled() and task.exception():
            log.error("anchoring anew failed", exc_info=task.exception())

    def _begin(self, report: Report, call: Call) -> Reanchoring:
        patience_s = self._settings(call).deadline_s
        work = Reanchoring(self._calls, call, pace_of=self._pace, patience_s=patience_s, since=report.detected_at)
        self.running[call.id] = work
        return work

    async def _move(self, report: Report, work: list[Reanchoring]) -> None:
        running = [asyncio.create_task(self._one(each)) for each in work]
        for task in running:
            report.results.append(await task)
        report.finished = True
        report.note(self._loop.time(), f"{report.count('moved')} moved, {report.count('lost')} lost")
        log.warning(
            "media=%s failover=%d moved=%d lost=%d ended=%d all_moved_ms=%s",
            report.backend, report.id, report.count("moved"), report.count("lost"), report.count("ended"),
            report.all_moved_ms,
        )  # fmt: skip

    async def _one(self, work: Reanchoring) -> CallResult:
        try:
            return await work.run()
        finally:
            del self.running[work.call.id]

    def _settings(self, call: Call) -> RecoverySettings:
        for leg in call.legs():
            if leg.backend is not None:
                return self._backends.pool_of(leg.backend).settings.recovery
        return RecoverySettings()

    def _pace(self, leg: Leg) -> Pace:
        host = leg.flow.remote[0]
        pace = self._paces.get(host)
        if pace is None:
            settings = self._settings(leg.call) if leg.call is not None else RecoverySettings()
            pace = self._paces[host] = Pace(self._loop, settings.pace_per_s, settings.unanswered_max)
        return pace

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
