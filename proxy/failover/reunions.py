"""Calls that belong together and are on two backends: those of the smaller part are moved to the larger one.

That happens when somebody is placed while the backend of the others cannot be had, or before anybody knows where he
will go (behind a menu that asks for the room), when a backup refuses some of them, when a backend forgets one, or when
a conference lives on while part of its network is cut off. The parts do not hear each other then, or only by way of a
standby that a backend takes for a call. The move is make-before-break, after all has been calm for a moment; what
fails is tried again with growing pauses.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from proxy.backends import Backend, Verdict
from proxy.backends.control.api import ControlError
from proxy.calls import TALKING, Call
from proxy.calls.pairs import CONFERENCE, Bond
from proxy.conferences import Conferences

log = logging.getLogger(__name__)

CALM_S = 1.0
RETRY_MAX_S = 60.0

Move = Callable[[Bond, Backend, Backend, list[Call]], Coroutine[Any, Any, None]]


class Reunions:
    def __init__(self, conferences: Conferences, move: Move, loop: asyncio.AbstractEventLoop) -> None:
        """`move` carries calls over from the first backend to the second one, where the others are."""
        self._conferences = conferences
        self._move = move
        self._loop = loop
        self._alarms: dict[Bond, asyncio.TimerHandle] = {}
        self._pauses: dict[Bond, float] = {}
        self._moving: dict[Bond, asyncio.Task[None]] = {}

    def look(self, call: Call) -> None:
        """It is connected to others, or was carried over."""
        if call.bond is not None:
            self._look(call.bond)

    def _look(self, bond: Bond) -> None:
        if bond in self._alarms or bond in self._moving:
            return  # it is looked at when that is over
        if len(self._parts(bond)) > 1:
            self._alarms[bond] = self._loop.call_later(self._pauses.get(bond, CALM_S), self._due, bond)
        else:
            self._pauses.pop(bond, None)

    @staticmethod
    def _parts(bond: Bond) -> dict[Backend, list[Call]]:
        """By backend; none where more than two are a pair, for nobody knows then who talks to whom."""
        parts: dict[Backend, list[Call]] = {}
        if bond.kind == CONFERENCE or len(bond.calls) == 2:
            for call in bond.calls.values():
                leg = bond.leg_of(call)
                if leg is not None and leg.backend is not None:
                    parts.setdefault(leg.backend, []).append(call)
        return parts

    def _due(self, bond: Bond) -> None:
        del self._alarms[bond]
        parts = {
            backend: talking
            for backend, calls in self._parts(bond).items()
            if backend.verdict is Verdict.UP and (talking := [call for call in calls if call.state == TALKING])
        }
        target = self._target(parts)
        if len(parts) < 2 or target is None or not self._conferences.moving.isdisjoint(bond.calls):
            self._look(bond)
            return
        source = min((each for each in reversed(parts) if each is not target), key=lambda each: len(parts[each]))
        log.warning("%s is split: %d on %s go to %s", bond, len(parts[source]), source.name, target.name)
        task = self._loop.create_task(self._bring(bond, source, target, parts[source]))
        self._moving[bond] = task
        task.add_done_callback(lambda done: self._brought(bond, done))

    def _target(self, parts: dict[Backend, list[Call]]) -> Backend | None:
        """Where most are; of several, where most of the others have a standby; else where the first one came."""
        now = self._loop.time()
        standbys = [call.standby.leg.backend for calls in parts.values() for call in calls if call.standby]
        fit = [backend for backend in parts if backend.usable(now)]
        return max(fit, key=lambda each: (len(parts[each]), standbys.count(each)), default=None)

    async def _bring(self, bond: Bond, source: Backend, target: Backend, calls: list[Call]) -> None:
        self._conferences.begin_move(calls, None)  # locked or not, what it was is what holds
        try:
            await self._unlock(bond, target)
            await self._move(bond, source, target, calls)
        finally:
            for call in calls:
                self._conferences.moving.discard(call.id)

    async def _unlock(self, bond: Bond, target: Backend) -> None:
        """A locked conference lets nobody in. It is locked again when all are there."""
        conference = next((self._conferences.of(call) for call in bond.calls.values()), None)
        session = self._conferences.sessions.get(target.name)
        if conference is not None and conference.locked and session is not None:
            try:
                await session.lock(conference.name, False)
            except ControlError as error:
                log.warning("conference=%s cannot be unlocked: %s", conference.name, error)

    def _brought(self, bond: Bond, task: asyncio.Task[None]) -> None:
        del self._moving[bond]
        self._pauses[bond] = min(RETRY_MAX_S, 2 * self._pauses.get(bond, CALM_S))  # what fails is tried later and later
        if not task.cancelled():
            if task.exception():
                log.error("%s cannot be brought together", bond, exc_info=task.exception())
            self._look(bond)

    async def close(self) -> None:
        for alarm in self._alarms.values():
            alarm.cancel()
        tasks = list(self._moving.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
