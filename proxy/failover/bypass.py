"""Bypass: people whom a dead backend had connected to each other talk on, connected in the relay.

    backend suspect  -> bridged; undone when it was a false alarm, when one of them hangs up, holds, …
    backend down     -> bridged; then the backup is brought in behind: each call gets its new leg, and when all have
                        theirs and the backup has had time to connect them, all are switched to it in one moment

A pair is bridged, more people are mixed. One on hold is left out. Calls of a planned move wait for each other in the
same way, without a bridge: their backend still connects them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from media.api import MediaError
from proxy.backends import Backend
from proxy.calls import TALKING, Call, Calls, Leg
from proxy.calls.pairs import PAIR, Bond
from proxy.conferences import Conferences
from proxy.config import RecoverySettings
from proxy.failover.survivor import reinvite_once

log = logging.getLogger(__name__)

CONVERT_S = 2.0  # a phone that has not answered the re-INVITE for another codec by then is not waited for
STAND_IN = "mate"  # the media leg that stands for the other one of the pair in such a re-INVITE


class Party(NamedTuple):
    call: Call
    person: Leg
    old: Leg  # at the backend


class Bypass:
    """`bridged_at` is a clock time; 0: they are not bridged. `final`: it is not undone any more."""

    def __init__(
        self, bond: Bond, parties: Iterable[Party], muted: Callable[[Call], bool], settle_s: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        self.bond = bond
        self._muted = muted
        self.parties = {party.call.id: party for party in parties}
        self.bridged_at = 0.0
        self.final = False
        self.converts: Call | None = None  # whose person has to be asked for another codec first
        self._settle_s = settle_s
        self._loop = loop
        self._arrived: dict[str, tuple[Leg, asyncio.Future[bool]]] = {}
        self._alarm: asyncio.TimerHandle | None = None

    # -- the bridge

    def bridge(self) -> None:
        """Connect them to each other. Raises MediaError."""
        first, *others = parties = list(self.parties.values())
        media = first.call.media
        muted = [(party.call.id, party.person.name) for party in parties if self._muted(party.call)]
        if len(parties) == 2 and not muted:
            future = media.bridge(first.call.id, first.person.name, others[0].call.id, others[0].person.name)
        else:
            future = media.mix([(party.call.id, party.person.name) for party in parties], muted)
        future.add_done_callback(self._bridged)
        if future.done():
            future.result()

    def _bridged(self, future: asyncio.Future[None]) -> None:
        if not future.cancelled() and future.exception() is None:
            self.bridged_at = self._loop.time()

    def undo(self) -> None:
        """As it was: each hears the backend again."""
        self.bridged_at = 0.0
        for party in self.parties.values():
            if party.call.state == TALKING and party.old in party.call.legs():
                switched = party.call.media.switch(party.call.id, party.person.name, party.old.name)
                switched.add_done_callback(asyncio.Future.exception)

    async def convert(self, calls: Calls) -> None:
        """The two speak different codecs: offer the second the first one's, once, and bridge them then."""
        self.converts = None
        if len(self.parties) != 2:
            return
        first, second = self.parties.values()
        media, call, person = second.call.media, second.call, second.person
        try:
            async with asyncio.timeout(CONVERT_S):
                sdp = await media.offer(call.id, STAND_IN, person.name, first.person.remote_sdp)
                message = await reinvite_once(calls, person, sdp)
                if message.status < 300 and message.sdp:
                    await media.answer(call.id, person.name, STAND_IN, message.sdp)
                    person.local_sdp, person.remote_sdp = sdp, message.sdp
                    self.bridge()
        except (TimeoutError, MediaError) as error:
            log.info("calls=%s,%s no bypass: %s", first.call.id, second.call.id, error or "no answer")
        finally:
            media.delete(call.id, STAND_IN)

    # -- behind it: all have their new legs

    async def arrive(self, call: Call, leg: Leg) -> bool:
        """The call has its new leg. Returns when all of them may be switched; False: the leg's backend died."""
        waiter: asyncio.Future[bool] = self._loop.create_future()
        self._arrived[call.id] = leg, waiter
        self._look()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._away(call.id)
            raise

    def leave(self, call: Call) -> None:
        """It ended, or is done."""
        if self.parties.pop(call.id, None) is not None:
            _, waiter = self._arrived.pop(call.id, (None, None))
            if waiter is not None and not waiter.done():
                waiter.set_result(True)
            self._look()

    def backend_down(self, backend: Backend) -> None:
        """Legs that wait on it are of no use any more."""
        for call_id, (leg, waiter) in list(self._arrived.items()):
            if leg.backend is backend:
                self._away(call_id)
                if not waiter.done():
                    waiter.set_result(False)

    def _away(self, call_id: str) -> None:
        self._arrived.pop(call_id, None)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _look(self) -> None:
        if self._alarm is None and self._arrived and self._arrived.keys() >= self.parties.keys():
            self._alarm = self._loop.call_later(self._settle_s if len(self.parties) > 1 else 0.0, self._go)

    def _go(self) -> None:
        for _, waiter in self._arrived.values():
            if not waiter.done():
                waiter.set_result(True)


class Bypasses:
    def __init__(self, calls: Calls, conferences: Conferences, loop: asyncio.AbstractEventLoop) -> None:
        self._calls = calls
        self._conferences = conferences
        self._loop = loop
        self._of: dict[str, Bypass] = {}  # by call id

    def __len__(self) -> int:
        return len(self._of)

    def of(self, call: Call) -> Bypass | None:
        return self._of.get(call.id)

    # -- suspect

    def suspect(self, backend: Backend) -> None:
        """The backend may be dead, or not hear us: bridge its pairs, so that it can be undone. Those with hot standbys
        too, for nobody knows how long that goes on."""
        if not self._recovery(backend).bypass:
            return
        for bypass in self._form(backend, lambda call: call.quiet):
            try:
                bypass.bridge()
            except MediaError:
                continue
            self._calls.counts["bypasses_suspect"] += 1
            self._keep(bypass)

    def cleared(self, backend: Backend) -> None:
        """It was a false alarm."""
        for bypass in self._all():
            if not bypass.final and any(party.old.backend is backend for party in bypass.parties.values()):
                self._undo(bypass)

    def settled(self, call: Call) -> None:
        """Descriptions have been exchanged: what was bridged speculatively may be on hold now, or speak otherwise."""
        bypass = self._of.get(call.id)
        if bypass is not None and not bypass.final:
            self._undo(bypass)

    def bonded(self, call: Call) -> None:
        """It is connected to others now, or to nobody: so says its backend, who may be heard although it is deaf."""
        for bypass in self._all():
            if not bypass.final and (call.id in bypass.parties or call.bond is bypass.bond):
                self._undo(bypass)

    def together(self, call: Call, leg: Leg) -> list[tuple[Call, Leg]]:
        """The call has lost that leg. Who is connected to it past the backend comes with it."""
        bypass = self._of.get(call.id)
        if bypass is None or bypass.parties[call.id].old is not leg:
            return [(call, leg)]
        return [(party.call, party.old) for party in bypass.parties.values()]

    # -- down, or to be moved

    def gather(self, backend: Backend, calls: set[str], *, bridge: bool) -> None:
        """Calls (by id) are about to be carried over: those that belong together go together; with `bridge` they talk
        past the backend meanwhile."""
        bridge = bridge and self._recovery(backend).bypass
        formed = self._formed(backend, calls)
        formed += self._form(backend, lambda call: call.id in calls)
        for bypass in formed:
            if _hot(bypass.parties.values()):  # their standbys take over at once, and a bridge ends with that
                if bypass.bridged_at and not bridge:
                    bypass.undo()
                self._forget(bypass)
                continue
            bypass.final = True
            self._keep(bypass)
            if bridge and not bypass.bridged_at:
                try:
                    bypass.bridge()
                except MediaError as problem:
                    log.info("%s cannot be bridged: %s", bypass.bond, problem)
                    if len(bypass.parties) == 2:
                        bypass.converts = list(bypass.parties.values())[1].call
            self._calls.counts["bypasses"] += bridge and not bypass.converts

    def _formed(self, backend: Backend, calls: set[str]) -> list[Bypass]:
        """Of the speculative ones. Where only some of the calls are carried over, it ends: they would wait for ever."""
        formed = []
        for bypass in self._all():
            if bypass.final or bypass.parties.keys().isdisjoint(calls):
                continue
            if bypass.parties.keys() <= calls and all(each.old.backend is backend for each in bypass.parties.values()):
                formed.append(bypass)
            else:
                self._undo(bypass)
        return formed

    def done(self, call: Call) -> None:
        """Its recovery is over."""
        bypass = self._of.pop(call.id, None)
        if bypass is not None:
            bypass.leave(call)

    def backend_down(self, backend: Backend) -> None:
        for bond in self._calls.pairs:
            if bond.meets_at is backend:
                bond.meets_at = None
        for bypass in self._all():
            bypass.backend_down(backend)

    def ended(self, call: Call) -> None:
        """One of them hung up: the bridge of a pair would end the other one's call too."""
        bypass = self._of.get(call.id)
        if bypass is None:
            return
        bridged = bypass.bridged_at
        self.done(call)
        if not bypass.final:
            self._undo(bypass)
        elif bridged and bypass.bond.kind == PAIR:
            for party in list(bypass.parties.values()):
                self._calls.end(party.call, "the other side of the pair hung up")

    # --

    def _all(self) -> list[Bypass]:
        return list({id(bypass): bypass for bypass in self._of.values()}.values())

    def _keep(self, bypass: Bypass) -> None:
        for call_id in bypass.parties:
            self._of[call_id] = bypass

    def _forget(self, bypass: Bypass) -> None:
        for call_id in bypass.parties:
            self._of.pop(call_id, None)

    def _undo(self, bypass: Bypass) -> None:
        self._forget(bypass)
        bypass.undo()

    def _form(self, backend: Backend, fit: Callable[[Call], bool]) -> Iterator[Bypass]:
        settle_s = self._recovery(backend).settle_ms / 1000
        for bond in list(self._calls.pairs):
            if bond.kind == PAIR and len(bond.calls) != 2:
                continue  # somebody is being transferred: who talks to whom is not known
            parties = [
                Party(call, call.other(old), old)
                for call in bond.calls.values()
                if (old := call.leg_on(backend)) is not None
                and call.id not in self._of
                and call.state == TALKING
                and not call.on_hold
                and fit(call)
            ]
            if len(parties) >= 2:
                yield Bypass(bond, parties, self._muted, settle_s, self._loop)

    def _muted(self, call: Call) -> bool:
        participant = self._conferences.participant(call)
        return participant is not None and participant.muted

    def _recovery(self, backend: Backend) -> RecoverySettings:
        return self._calls.backends.pool_of(backend).settings.recovery


def _hot(parties: Iterable[Party]) -> bool:
    """Their standbys are together on one backend, which has connected them already: no bypass is needed."""
    backends = {party.call.standby.leg.backend if party.call.standby else None for party in parties}
    return len(backends) == 1 and None not in backends
