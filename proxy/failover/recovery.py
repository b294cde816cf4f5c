"""The recovery of one call: its dead leg is replaced by a new one on another backend.

    choose a backend -> INVITE with the surviving side's current description -> media switched
    -> the survivor re-INVITEd where it must be -> audio verified

A call with a hot standby has its new leg already: the first two steps are over before there is anything to recover.

Meanwhile events of the call wait (`Call.hold_events`), but a BYE does not. A planned move is the same with the old leg
still alive: it is ended last (make before break).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from media.api import MediaError
from proxy.backends import Backend
from proxy.calls import ENDED, Call, Calls, Leg, waiting
from proxy.calls.listening import listen
from proxy.calls.pairs import PAIR
from proxy.conferences import Conferences
from proxy.failover.bring_up import BringUp, Refused, abandon, told
from proxy.failover.bypass import Bypass
from proxy.failover.destination import Destination
from proxy.failover.pace import Pace
from proxy.failover.plan import Kind, Step
from proxy.failover.report import ENDED as HUNG_UP
from proxy.failover.report import LOST, MOVED, STAYED, CallResult
from proxy.failover.standbys import Standbys
from proxy.failover.survivor import Hopeless, Unwelcome, check, offer_of, tell
from proxy.sip.message import Field, Response

log = logging.getLogger(__name__)

WAIT_FOR_BACKUP_S = 0.05
AUDIO_POLL_S = 0.02
APART_NO_MORE = "those whom it was to join are nowhere else, or cannot be joined"


class Recovery:
    def __init__(
        self, calls: Calls, step: Step, *, why: str, alive: bool, pace_of: Callable[[Backend], Pace], deadline: float,
        since: float, standbys: Standbys, bypass: Bypass | None, conferences: Conferences,
        on_refused: Callable[[str], None],
    ) -> None:  # fmt: skip
        """`alive`: the old backend still works, so this is a planned move. `deadline` and `since` are clock times."""
        self.calls = calls
        self.call: Call = step.call
        self.dead: Leg = step.leg
        self.step = step
        self.why = why
        self.planned = alive
        self.pace_of = pace_of
        self.deadline = deadline
        self.since = since
        self.standbys = standbys
        self.conferences = conferences
        self.on_refused = on_refused
        self.bypass = bypass  # with the calls that this one belongs to
        self.result = CallResult(step.call.id, step.kind.name.lower())
        self.old_backend = step.leg.backend
        self.destination = Destination(calls, conferences, step.call, self._old(), planned=alive, joins=step.joins)
        self.holding = False  # events of the call wait for us
        self.silent_since = 0.0
        self.connected_at = 0.0  # clock time: the survivor has heard the new leg since
        self.settings = calls.backends.pool_of(self._old()).settings.recovery

    def _old(self) -> Backend:
        assert self.old_backend
        return self.old_backend

    @property
    def alive(self) -> bool:
        """The old leg still works: a planned move, and its backend has not died meanwhile."""
        return self.planned and not self._old().fenced

    async def run(self) -> CallResult:
        """Never raises: a call that cannot be recovered is ended properly, and the result says why."""
        call, result = self.call, self.result
        try:
            async with asyncio.timeout_at(self.deadline):
                leg = await self._recover()
            result.result = MOVED
        except TimeoutError:
            result.result, result.error = LOST, f"deadline passed; {result.error or 'no backup answered'}"
        except (Hopeless, MediaError, KeyError) as error:
            result.result, result.error = LOST, str(error)
        except Exception as error:  # the fault of one call stays with that call
            log.exception("call=%s recovery failed", call.id)
            result.result, result.error = LOST, repr(error)
        if call.state == ENDED and result.result != MOVED:
            result.result, result.error = HUNG_UP, ""
        result.done_ms = self._ms()
        if result.result == LOST and self.planned:
            await self._back()
            if self.alive:
                result.result = STAYED
        elif result.result == LOST:
            self.calls.end(call, f"could not be recovered: {result.error}", fields=[_reason(result.error)])
        if self.holding:
            call.release_events()
        if result.result == MOVED and leg is not None:
            await self._verify(leg)
        return result

    async def _back(self) -> None:
        """A planned move failed. If the old leg still works it must be heard again; if not, it is the next to go."""
        call = self.call
        if call.media.anchors and self.alive:
            try:
                await call.media.switch(call.id, call.other(self.dead).name, self.dead.name)
            except MediaError as error:
                log.warning("call=%s cannot go back to %s: %s", call.id, self.dead.name, error)

    def _ms(self, at: float | None = None) -> float:
        return round(((self.calls.now() if at is None else at) - self.since) * 1000, 1)

    async def _recover(self) -> Leg | None:
        """The leg that took the place of the dead one; None when the call only rings there."""
        call = self.call
        if call.setup is not None and self.dead is call.b and await self._replace_ringing():
            return None
        if call.setup is not None:
            await self._until_answered()  # dialled out by the dead backend, and still ringing at the carrier
        self.dead.lost = not self.alive
        await self._quiet()
        call.hold_events()
        self.holding = True
        if call.reinvite is not None and call.reinvite.leg is self.dead:
            call.reinvite = None  # its answer would go to the dead; `Reinvite` ACKs it and keeps the description
            survivor = call.other(self.dead)
            if survivor.inviting:
                survivor.inviting.cancel()  # who asks his user first need not any more
        if self.bypass is not None and self.bypass.converts is call:
            await self.bypass.convert(self.calls)
        return await self._replace()

    async def _replace(self) -> Leg:
        """Until a new leg is in place. What media objects to now (it may be restarting) need not hold for ever; what
        the survivor objects to, not for the next backend."""
        while True:
            leg, answer = await self._replacement()
            try:
                if self.destination.joining and leg.backend not in self.destination.others():
                    raise Hopeless(APART_NO_MORE)
                await self._connect(leg, answer)
                return leg
            except MediaError as problem:
                abandon(self.calls, leg)
                self.result.error = str(problem)
                self.destination.tried.clear()
                await asyncio.sleep(10 * WAIT_FOR_BACKUP_S)
            except Unwelcome as problem:
                abandon(self.calls, leg)
                if self.destination.untried() is None:
                    raise Hopeless(str(problem)) from problem
            except BaseException:
                abandon(self.calls, leg)
                raise
            await asyncio.sleep(WAIT_FOR_BACKUP_S)
            check(self.call)

    async def _connect(self, leg: Leg, answer: bytes) -> None:
        call, survivor = self.call, self.call.other(self.dead)
        self.connected_at = self.calls.now()
        if call.media.anchors:
            await call.media.switch(call.id, survivor.name, leg.name)
        self.result.reinvited = await tell(self.calls, call, survivor, leg, answer)
        self.silent_since = await self._last_heard()
        if self.bypass is not None and self.bypass.bridged_at:
            self.result.bypassed_ms = self._ms(self.bypass.bridged_at)
        self._put_in_place(leg)

    async def _quiet(self) -> None:
        """What the call was at must be over first: media that was asked, the answer that the survivor's ACK brings (a
        late offer), and before a planned move a re-INVITE too."""
        call = self.call
        while call.state != ENDED and (
            call.held_events is not None
            or (self.dead in call.legs() and call.b is not None and call.other(self.dead).on_ack is not None)
            or (self.alive and call.reinvite is not None)
        ):
            await asyncio.sleep(AUDIO_POLL_S)
        check(self.call)

    # -- still ringing

    async def _replace_ringing(self) -> bool:
        """Place the INVITE elsewhere. False: a late 200 of the dead backend was taken first, so the call talks."""
        call = self.call
        backend = await self._choose()
        pace = self.pace_of(backend)
        await pace.turn()

        def heard(message: Response | None) -> None:
            refused = message is not None and (message.status == 503 or message.flow is None)
            pace.heard(self.calls.now() - sent_at, refused=refused)

        placed, sent_at = False, self.calls.now()
        try:
            await self._quiet()
            if call.b is not self.dead:  # placed elsewhere meanwhile
                self.result.backend = call.b.backend.name if call.b and call.b.backend else ""
                return True
            if call.setup is None:
                return False
            self.result.attempts += 1
            self.result.backend = backend.name
            self.result.sent_ms = self._ms()
            placed, sent_at = True, self.calls.now()
            call.setup.replace(backend, self._told("ringing"), heard)
            return True
        finally:
            if not placed:
                pace.give_back()

    async def _until_answered(self) -> None:
        while self.call.setup is not None:
            if self.call.state == ENDED:
                raise Hopeless("the other side did not answer")
            await asyncio.sleep(WAIT_FOR_BACKUP_S)

    # -- the new leg

    async def _choose(self) -> Backend:
        """A usable backend that has not been tried; when all have been, wait and begin anew."""
        while True:
            check(self.call)
            backend = self.destination.untried()
            if backend is not None:
                self.destination.meet_at(backend)
                return backend
            if self.destination.joining:
                raise Hopeless(APART_NO_MORE)
            await asyncio.sleep(10 * WAIT_FOR_BACKUP_S if self.destination.tried else WAIT_FOR_BACKUP_S)
            self.destination.tried.clear()

    async def _replacement(self) -> tuple[Leg, bytes]:
        """The leg that is to be switched to now. Of calls that belong together, all have theirs by then: until then
        people talk past the dead backend, or the old one connects them (a planned move)."""
        while True:
            leg, answer = await self._adopt() or await self._bring_up()
            bypass = self.bypass
            if bypass is None or not (self.alive or bypass.bridged_at):
                return leg, answer
            try:
                usable = await bypass.arrive(self.call, leg)
                check(self.call)
            except BaseException:
                abandon(self.calls, leg)
                raise
            if usable and leg.dialog is not None:
                return leg, answer
            self.result.error = f"{leg.backend.name if leg.backend else ''}: died, or ended the call at once"
            self.calls.left_behind.leave(leg)
            self.calls.drop_leg(leg)

    async def _adopt(self) -> tuple[Leg, bytes] | None:
        """The standby of a hot call and its description as the survivor would get it, if it can still be had."""
        call, standby = self.call, self.call.standby
        self.standbys.rest(call)
        if standby is None or standby.replaces(call) is not self.dead:
            return None
        call.standby = None
        survivor = call.other(self.dead)
        if self.destination.meeting_place() not in (None, standby.leg.backend):
            abandon(self.calls, standby.leg)  # the others are placed elsewhere
            return None
        try:
            offer = offer_of(call, survivor)
            owed = survivor.owes_ack or (call.reinvite is not None and call.reinvite.leg is survivor)
            answer = await self.standbys.in_step(call, standby, survivor, offer, owed=owed)
        except (Refused, MediaError) as problem:
            self.result.error = f"standby: {problem}"
            abandon(self.calls, standby.leg)
            return None
        except BaseException:
            abandon(self.calls, standby.leg)
            raise
        self.result.standby = True
        self.result.backend = standby.leg.backend.name if standby.leg.backend else ""
        return standby.leg, answer

    async def _bring_up(self) -> tuple[Leg, bytes]:
        """Try backends until one answers. Returns its leg, in a confirmed dialog, and its description as the survivor
        would get it."""
        result = self.result
        if self.dead is self.call.a:
            user = self.settings.outbound_user.encode() if self.settings.outbound_user else None
        else:
            user = waiting.user(self.call, self.settings)
        while True:
            backend = await self._choose()
            self.destination.tried.append(backend)
            result.attempts += 1
            state = "held" if self.step.kind is Kind.HELD else "talking"
            attempt = BringUp(
                self.calls, self.call, self.call.other(self.dead), backend, self.pace_of(backend), self._told(state),
                user=user,
            )  # fmt: skip
            try:
                leg, answer = await attempt.run()
            except Refused as refusal:
                result.error = str(refusal)
                if not refusal.again:
                    self.on_refused(result.error)
                if refusal.again:
                    self.destination.tried.remove(backend)  # once more, with the longer interval that it wants
            except MediaError as problem:  # no ports, or the relay is down: that is no fault of the backend
                result.error = str(problem)
                self.destination.tried.remove(backend)
                await asyncio.sleep(10 * WAIT_FOR_BACKUP_S)
            else:
                result.backend = backend.name
                result.sent_ms, result.answered_ms = self._ms(attempt.sent_at), self._ms(attempt.answered_at)
                return leg, answer

    def _told(self, state: str) -> tuple[Field, ...]:
        return told(self.calls, self.conferences, self.call, self.dead, state, self.why)

    # -- afterwards

    def _put_in_place(self, leg: Leg) -> None:
        call, dead, calls = self.call, self.dead, self.calls
        check(self.call)
        if dead is call.a:
            call.a = leg
        else:
            call.b = leg
        # A planned move, or it came back while we were at it.
        if not self._old().fenced and not self._joined_meanwhile(leg):
            dead.bye(calls.stack, [])
        else:
            calls.left_behind.leave(dead)
        calls.drop_leg(dead)
        listen(calls, call)

    def _joined_meanwhile(self, leg: Leg) -> bool:
        """A mate was placed on the old backend since it came back: he would be hung up on with the old leg, unless the
        new one is there too and keeps him company."""
        bond = self.call.bond if leg.backend is not self._old() else None
        mates = bond.mates(self.call) if bond is not None and bond.kind == PAIR else ()
        return any(mate.created_at > self.since and mate.leg_on(self._old()) is not None for mate in mates)

    async def _last_heard(self) -> float:
        """When the old leg's last packet came, on the media plane's clock; 0 when that is not known."""
        if not self.call.media.anchors or not self.step.kind.talks:
            return 0.0
        try:
            stats = await self.call.media.query(self.call.id)
        except MediaError:  # it is for the report only
            return 0.0
        return max((stream.last_packet_at for stream in stats.streams if stream.leg == self.dead.name), default=0.0)

    async def _verify(self, leg: Leg) -> None:
        """Audio must come from the new leg. One that never had any is not waited for."""
        if self.silent_since:
            try:
                await self._await_audio(leg)
            except MediaError as error:
                log.info("call=%s audio not verified: %s", self.call.id, error)

    async def _await_audio(self, leg: Leg) -> None:
        call, result = self.call, self.result
        until = self.calls.now() + self.settings.verify_audio_ms / 1000
        result.audio = False
        assert leg.backend
        while self.calls.now() < until and call.state != ENDED and not leg.backend.fenced:
            stats = await call.media.query(call.id)
            heard = [each for each in stats.streams if each.leg == leg.name and each.last_packet_at > self.connected_at]
            if heard:
                result.audio = True
                first = min(stream.first_packet_at for stream in heard)
                if self.bypass is not None and self.bypass.bridged_at:
                    began = self.bypass.bridged_at
                else:
                    began = max(self.connected_at, first)
                if first:  # rtpengine does not tell
                    result.gap_ms = round(max(0.0, began - self.silent_since) * 1000, 1)
                return
            await asyncio.sleep(AUDIO_POLL_S)


def _reason(text: str) -> Field:
    """RFC 3326: why we hung up."""
    clean = text.replace('"', "'").encode(errors="replace")[:120]
    return (b"reason", b'Reason: SIP;cause=503;text="%b"' % clean)
