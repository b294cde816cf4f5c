"""Pairs whose two calls are on different backends: one of them is moved to where the other one is.

That happens when one was placed while the other's backend could not be had, when a backup refuses one of the two, or
when a backend forgets one. Neither hears the other then, or only by way of a standby that a backend takes for a call.
The move is make-before-break, after all has been calm for a moment; what fails is tried again with growing pauses.
What `Splits` does for conferences is this for two.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from proxy.backends import Backend, Verdict
from proxy.calls import TALKING, Call, Leg
from proxy.calls.pairs import PAIR, Bond
from proxy.conferences import Conferences

log = logging.getLogger(__name__)

CALM_S = 1.0
RETRY_MAX_S = 60.0

Side = tuple[Call, Leg, Backend]


class Reunions:
    def __init__(
        self, conferences: Conferences, move: Callable[[Call, Leg, Backend], Coroutine[Any, Any, None]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        """`move` carries one call over from that backend to where its mate is."""
        self._conferences = conferences
        self._move = move
        self._loop = loop
        self._alarms: dict[Bond, asyncio.TimerHandle] = {}
        self._pauses: dict[Bond, float] = {}
        self._moving: dict[Bond, asyncio.Task[None]] = {}

    def look(self, call: Call) -> None:
        """It is paired, or was carried over."""
        if call.bond is not None:
            self._look(call.bond)

    def _look(self, bond: Bond) -> None:
        if not self._apart(bond):
            self._pauses.pop(bond, None)
        elif bond not in self._alarms and bond not in self._moving:
            self._alarms[bond] = self._loop.call_later(self._pauses.get(bond, CALM_S), self._due, bond)

    def _apart(self, bond: Bond) -> list[Side]:
        """Its two sides, when they are on two backends; of more calls nobody knows who talks to whom."""
        if bond.kind != PAIR or len(bond.calls) != 2:
            return []
        found = ((call, bond.leg_of(call)) for call in bond.calls.values())
        sides = [(call, leg, leg.backend) for call, leg in found if leg is not None and leg.backend is not None]
        return sides if len({backend for _, _, backend in sides}) == 2 else []

    def _due(self, bond: Bond) -> None:
        del self._alarms[bond]
        sides = self._apart(bond)
        calm = all(
            call.state == TALKING and call.id not in self._conferences.moving and backend.verdict is Verdict.UP
            for call, _, backend in sides
        )
        mover = self._mover(sides) if sides and calm else None
        if mover is None:
            self._look(bond)
            return
        log.warning("%s is split: call=%s on %s goes to its mate", bond, mover[0].id, mover[2].name)
        task = self._loop.create_task(self._move(*mover))
        self._moving[bond] = task
        task.add_done_callback(lambda done: self._moved(bond, done))

    def _mover(self, sides: list[Side]) -> Side | None:
        """Who has a standby beside the other goes there; else who came last."""
        now = self._loop.time()
        one, other = sides
        fit = [(side, target) for side, (_, _, target) in ((other, one), (one, other)) if target.usable(now)]
        hot = [side for side, target in fit if (standby := side[0].standby) and standby.leg.backend is target]
        return next(iter([*hot, *(side for side, _ in fit)]), None)

    def _moved(self, bond: Bond, task: asyncio.Task[None]) -> None:
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
