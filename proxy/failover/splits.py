"""Conferences that have parts on two backends: who is in the smaller part is moved to the larger one.

That happens when a backup refuses some of a conference, when callers were placed before anybody knew where they would
go (behind a menu that asks for the room), or when a conference lived on while part of its network was cut off. A part
is moved make-before-break, after all has been calm for a moment, and what fails is tried again with growing pauses.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from proxy.backends import Backend, Verdict
from proxy.backends.control.api import ControlError
from proxy.calls import TALKING, Call
from proxy.conferences import Conference, Conferences

log = logging.getLogger(__name__)

CALM_S = 1.0
RETRY_MAX_S = 60.0

Move = Callable[[Conference, Backend, Iterable[Call]], Awaitable[None]]


class Splits:
    def __init__(self, conferences: Conferences, move: Move, loop: asyncio.AbstractEventLoop) -> None:
        """`move` carries calls of one backend over to where their conference goes."""
        self._conferences = conferences
        self._move = move
        self._loop = loop
        self._alarms: dict[Conference, asyncio.TimerHandle] = {}
        self._pauses: dict[Conference, float] = {}
        self._joining: dict[Conference, asyncio.Task[None]] = {}

    def look(self, conference: Conference) -> None:
        """Somebody has come in, or was carried over."""
        if len(self._conferences.parts(conference)) < 2:
            self._pauses.pop(conference, None)
        elif conference not in self._alarms and conference not in self._joining:
            self._alarms[conference] = self._loop.call_later(
                self._pauses.get(conference, CALM_S), self._due, conference
            )

    def _due(self, conference: Conference) -> None:
        del self._alarms[conference]
        parts = self._conferences.parts(conference)
        now = self._loop.time()
        fit = [each for each in parts if each.usable(now) and each.verdict is Verdict.UP]
        if self._conferences.is_moving(conference) or len(fit) < 2:
            self.look(conference)
            return
        target, source = fit[0], fit[-1]
        for backend in fit:
            target = backend if parts[backend] > parts[target] else target
            source = backend if parts[backend] <= parts[source] and backend is not target else source
        log.warning(
            "conference=%s is split: %d on %s go to %s", conference.name, parts[source], source.name, target.name
        )
        task = self._loop.create_task(self._join(conference, source, target))
        self._joining[conference] = task
        task.add_done_callback(lambda done: self._joined(conference, done))

    async def _join(self, conference: Conference, source: Backend, target: Backend) -> None:
        conferences = self._conferences
        calls = [call for call in conferences.calls_of(conference) if call.state == TALKING and call.leg_on(source)]
        conferences.begin_move(calls, None)
        try:
            session = conferences.sessions.get(target.name)
            if conference.locked and session is not None:  # else it lets nobody in; locked again when all are there
                try:
                    await session.lock(conference.name, False)
                except ControlError as error:
                    log.warning("conference=%s cannot be unlocked: %s", conference.name, error)
            await self._move(conference, source, calls)
        finally:
            for call in calls:
                conferences.moving.discard(call.id)

    def _joined(self, conference: Conference, task: asyncio.Task[None]) -> None:
        del self._joining[conference]
        # What fails is tried later and later.
        self._pauses[conference] = min(RETRY_MAX_S, 2 * self._pauses.get(conference, CALM_S))
        if not task.cancelled():
            if task.exception():
                log.error("%s cannot be joined", conference, exc_info=task.exception())
            self.look(conference)

    async def close(self) -> None:
        for alarm in self._alarms.values():
            alarm.cancel()
        tasks = list(self._joining.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
