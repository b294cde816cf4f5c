"""Hot standby: each call that is to have one is given a second leg on a backup, and keeps it.

    call stands -> INVITE to a backup with the caller's description -> same answer for the caller? -> media forked

All of it happens behind the caller's back: an exchange on the call is never met or held up for longer than media takes,
and what fails is tried again later and later. A backup whose answer the caller would have to be told of is no standby:
the call stays warm. When the survivor's description changes, the standby is offered it too (`in step`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from media.api import MediaError
from proxy.backends import Backend, Backends, Verdict
from proxy.calls import TALKING, Call, Calls, Leg, waiting
from proxy.calls import standby as standby_of
from proxy.calls.agreement import agrees
from proxy.calls.listening import listen_beside
from proxy.calls.standby import Standby
from proxy.conferences import Conferences
from proxy.config import CallRule
from proxy.failover.bring_up import QUIET_POLL_S, BringUp, Refused, Undisturbed, abandon, told
from proxy.failover.pace import Pace
from proxy.failover.survivor import Hopeless, check, reinvite_once
from proxy.sip.message import Field
from proxy.sip.uri import user_of

log = logging.getLogger(__name__)

RETRY_MIN_S = 1.0
RETRY_MAX_S = 60.0
STEADY_S = 60.0  # a standby that stood for so long was none of a row of failures


class Wanted:
    """A call that is to have a standby and has none, or only for a short time. The alarm says when to try again."""

    __slots__ = ("alarm", "delay_s")

    def __init__(self) -> None:
        self.alarm: asyncio.TimerHandle | None = None
        self.delay_s = RETRY_MIN_S


class Standbys:
    def __init__(
        self, calls: Calls, backends: Backends, conferences: Conferences, pace_of: Callable[[Backend], Pace],
        loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        self._calls = calls
        self._conferences = conferences
        self._backends = backends
        self._pace_of = pace_of
        self._loop = loop
        self._wanted: dict[str, Wanted] = {}  # by call id
        self._working: dict[str, asyncio.Task[None]] = {}  # by call id: brings a standby up, or in step
        calls.on_standby_lost = self.lost

    def __len__(self) -> int:
        return len(self._wanted.keys() | self._working.keys())

    # -- what happens to calls and backends

    def settled(self, call: Call) -> None:
        """A call stands, or descriptions have been exchanged on it, or it was carried over."""
        if call.id in self._working or call.state != TALKING:
            return  # what is being done looks here again when it is over
        standby = call.standby
        if standby is None:
            wanted = self._wanted.get(call.id)
            if (wanted is None or wanted.alarm is None) and self._side(call):
                self._want(call, 0.0)
        elif standby.offered != call.other(standby.replaces(call)).remote_sdp:
            self._work(call, self._keep_in_step(call, standby))

    def lost(self, call: Call, why: str) -> None:
        """A standby's backend does not know it any more, or has ended it: another one is brought up after a while."""
        standby = call.standby
        if standby is None:
            return
        log.info("call=%s backend=%s standby lost: %s", call.id, _name(standby.leg), why)
        if self._loop.time() - standby.since > STEADY_S:
            self._wanted.pop(call.id, None)
        standby_of.drop(self._calls, call, silently=standby.leg.dialog is None)
        self._calls.counts["standbys_lost"] += 1
        self.rest(call)
        self._retry(call)

    def renew(self, call: Call) -> None:
        """What a standby's backend was told of the call holds no more: it belongs to other calls now."""
        self.rest(call)
        if call.standby is not None:
            standby_of.drop(self._calls, call)
        if self._side(call):
            self._want(call, 0.0)

    def leave(self, backend: Backend, *, why: str) -> None:
        """No standby is to be on this backend any more."""
        for call in list(self._calls.live.values()):
            if call.standby is not None and call.standby.leg.backend is backend:
                self.lost(call, why)

    def backend_up(self) -> None:
        """Who waits for a backend need not wait for its alarm."""
        for call_id, wanted in list(self._wanted.items()):
            call = self._calls.live.get(call_id)
            if call is not None and wanted.alarm is not None:
                self._want(call, 0.0)

    def rest(self, call: Call) -> None:
        """Stop what is being done for the standby of this call: it is lost, or needed."""
        task = self._working.pop(call.id, None)
        if task is not None:
            task.cancel()

    def ended(self, call: Call) -> None:
        self.rest(call)
        wanted = self._wanted.pop(call.id, None)
        if wanted is not None and wanted.alarm is not None:
            wanted.alarm.cancel()

    async def close(self) -> None:
        for wanted in self._wanted.values():
            if wanted.alarm is not None:
                wanted.alarm.cancel()
        tasks = list(self._working.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- when

    def _side(self, call: Call) -> str:
        """The side of the call that is to have a standby; "" when it is to have none."""
        if call.state != TALKING or "fork" not in call.media.capabilities:
            return ""
        for side, leg in (("b", call.b), ("a", call.a)):
            if leg is not None and leg.backend is not None:
                settings = self._backends.pool_of(leg.backend).settings
                if settings.standby == "hot" and (
                    not settings.hot_for or any(_takes(r, call) for r in settings.hot_for)
                ):
                    return side
        return ""

    def _want(self, call: Call, after_s: float) -> None:
        wanted = self._wanted.setdefault(call.id, Wanted())
        if wanted.alarm is not None:
            wanted.alarm.cancel()
        wanted.alarm = self._loop.call_later(after_s, self._due, call)

    def _retry(self, call: Call, *, late: bool = False) -> None:
        wanted = self._wanted.setdefault(call.id, Wanted())
        after_s = RETRY_MAX_S if late else wanted.delay_s
        wanted.delay_s = min(RETRY_MAX_S, 2 * wanted.delay_s)
        self._want(call, after_s * self._calls.rng.uniform(0.75, 1.25))

    def _due(self, call: Call) -> None:
        self._wanted[call.id].alarm = None
        if call.id not in self._working and call.standby is None:
            side = self._side(call)
            if side:
                self._work(call, self._bring_up(call, side))
            else:
                self._wanted.pop(call.id)

    def _work(self, call: Call, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._working[call.id] = task

        def finished(task: asyncio.Task[None]) -> None:
            if self._working.get(call.id) is task:
                del self._working[call.id]
                if not task.cancelled():
                    self.settled(call)
            if not task.cancelled() and task.exception():
                log.error("call=%s standby failed", call.id, exc_info=task.exception())

        task.add_done_callback(finished)

    # -- what is done

    async def _bring_up(self, call: Call, side: str) -> None:
        calls = self._calls
        replaced = call.a if side == "a" else call.b
        assert replaced is not None and replaced.backend is not None
        # Nor where a mate is: the two would be connected, so that he would hear it and be hung up on with it.
        taken = [replaced.backend, *(call.bond.places((call.id,)) if call.bond else ())]
        backend = self._companion(call, taken) or self._backends.pool_of(replaced.backend).select(
            calls.now(), calls.rng, taken
        )
        if backend is None or backend.verdict is not Verdict.UP:
            self._retry(call)
            return
        survivor = call.other(replaced)
        fields = told(calls, self._conferences, call, replaced, "standby", "standby")
        attempt = BringUp(
            calls, call, survivor, backend, self._pace_of(backend), fields,
            quiet=lambda: call.quiet, undisturbed=lambda: _undisturbed(call),
            user=waiting.user(call, calls.backends.pool_of(backend).settings.recovery) if side == "b" else None,
        )  # fmt: skip
        try:
            leg, answer = await attempt.run()
        except (Refused, MediaError) as problem:
            log.info("call=%s no standby: %s", call.id, problem)
            self._retry(call)
            return
        except Hopeless:
            return
        try:
            await self._connect(call, survivor, leg, answer)
        except Incompatible:
            log.info("call=%s backend=%s no standby: the caller would have to be told of it", call.id, backend.name)
            self._give_up(leg)
            self._retry(call, late=True)
        except (Refused, MediaError) as problem:
            log.info("call=%s no standby: %s", call.id, problem)
            self._give_up(leg)
            self._retry(call)
        except BaseException as error:
            self._give_up(leg)
            if not isinstance(error, Hopeless):
                raise
        else:
            call.standby = Standby(leg, side, attempt.offered, calls.now())
            listen_beside(call, leg)
            calls.counts["standbys"] += 1
            log.info("call=%s backend=%s standby is up", call.id, backend.name)

    def _companion(self, call: Call, taken: list[Backend]) -> Backend | None:
        """Where a call has its standby that this one's backend has connected it to."""
        for mate in call.bond.mates(call) if call.bond else ():
            backend = mate.standby.leg.backend if mate.standby else None
            if backend is not None and backend not in taken and backend.usable(self._calls.now()):
                return backend
        return None

    async def _connect(self, call: Call, survivor: Leg, leg: Leg, answer: bytes) -> None:
        async with _undisturbed(call):
            if leg.dialog is None or (leg.backend is not None and leg.backend.fenced):
                raise Refused("it ended at once")
            if survivor not in call.legs():
                raise Refused("the call was carried over meanwhile")
            if not agrees(survivor.local_sdp, answer):
                raise Incompatible
            await call.media.fork(call.id, survivor.name, leg.name)

    def _give_up(self, leg: Leg) -> None:
        if leg.call is not None:
            abandon(self._calls, leg)

    async def _keep_in_step(self, call: Call, standby: Standby) -> None:
        """Offer the standby what the survivor has said since."""
        survivor = call.other(standby.replaces(call))
        try:
            answer = await self.in_step(
                call, standby, survivor, survivor.remote_sdp, undisturbed=lambda: _undisturbed(call)
            )
        except (Refused, MediaError) as problem:
            self.lost(call, str(problem))
        except Hopeless:
            return
        else:
            if standby.offered == survivor.remote_sdp and not agrees(survivor.local_sdp, answer):
                self.lost(call, "the caller would have to be told of its answer")

    async def in_step(
        self, call: Call, standby: Standby, survivor: Leg, offer: bytes, *,
        owed: bool = False, undisturbed: Undisturbed = nullcontext,
    ) -> bytes:  # fmt: skip
        """Offer the standby what `survivor` wants now; returns its description as the survivor would get it. `owed`:
        that will be an answer to the survivor. Raises Refused, MediaError, Hopeless."""
        leg = standby.leg
        if standby.offered != offer:
            standby.offered = b""
            try:
                async with asyncio.timeout(self._patience_s(leg)):
                    await self._reoffer(call, standby, survivor, offer, undisturbed)
            except TimeoutError as error:
                raise Refused("no answer to a re-INVITE") from error
        async with undisturbed():
            if leg.dialog is None or leg.call is None:
                raise Refused("it has ended")
            return await call.media.answer(call.id, leg.name, survivor.name, leg.remote_sdp, preview=not owed)

    async def _reoffer(
        self, call: Call, standby: Standby, survivor: Leg, offer: bytes, undisturbed: Undisturbed
    ) -> None:
        leg = standby.leg
        while True:
            async with undisturbed():
                body = await call.media.offer(call.id, survivor.name, leg.name, offer)
            while leg.offers_pending():
                await asyncio.sleep(QUIET_POLL_S)
                check(call)
            if leg.dialog is None or leg.call is None:
                raise Refused("it has ended")
            message = await reinvite_once(self._calls, leg, body)
            check(call)
            if message.status != 491:
                break
            await asyncio.sleep(leg.glare_delay_s(self._calls.rng))
        if message.status >= 300 or not message.sdp:
            raise Refused(f"{message.status} to a re-INVITE")
        leg.local_sdp, leg.remote_sdp, standby.offered = body, message.sdp, offer
        self._calls.on_changed(call)

    def _patience_s(self, leg: Leg) -> float:
        assert leg.backend
        return 2 * self._backends.pool_of(leg.backend).settings.recovery.answer_timeout_ms / 1000


class Incompatible(Exception):
    """The caller would have to be told of the standby's answer."""


@asynccontextmanager
async def _undisturbed(call: Call) -> AsyncIterator[None]:
    """Wait until no exchange is under way on the call; then its events wait while media is asked."""
    while not call.quiet:
        check(call)
        await asyncio.sleep(QUIET_POLL_S)
    call.hold_events()
    try:
        yield
    finally:
        call.release_events()


def _takes(rule: CallRule, call: Call) -> bool:
    if rule.user is not None and rule.user.search(user_of(call.uri).decode(errors="replace")) is None:
        return False
    fields = call.fields if rule.header else ()
    return all(
        (value := _value(fields, name.lower().encode())) is not None and pattern.search(value) is not None
        for name, pattern in rule.header.items()
    )


def _value(fields: tuple[Field, ...], key: bytes) -> str | None:
    for name, line in fields:
        if name == key:
            return line.partition(b":")[2].strip().decode(errors="replace")
    return None


def _name(leg: Leg) -> str:
    return leg.backend.name if leg.backend else "-"
