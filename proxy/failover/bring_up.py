"""A new leg of a call on a backend: INVITE with what the surviving side wants now, until it stands or is given up.

    offer of the survivor -> INVITE -> answer, as the survivor would get it -> ACK

Whose place the leg takes, and when media follows, is the business of who asked for it: a recovery, a planned move or a
standby. Until then nobody hears of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from media.api import MediaError
from media.sdp import begin_handshake
from proxy.backends import Backend
from proxy.calls import ENDED, TALKING, Call, Calls, Leg, session_timer, waiting
from proxy.calls.headers import own
from proxy.calls.pairs import PAIR
from proxy.conferences import Conferences
from proxy.conferences.headers import printable
from proxy.failover.pace import Pace
from proxy.failover.survivor import Hopeless, check, offer_of
from proxy.sip.client_transaction import InviteClientTransaction
from proxy.sip.dialog import CONFIRMED, Dialog
from proxy.sip.flow import NoTransport
from proxy.sip.message import Field, Response, response

QUIET_POLL_S = 0.05
TRYING_TIMES = 4  # answer time-outs that a backend may take after 100 Trying; once it rings it is waited for

Undisturbed = Callable[[], AbstractAsyncContextManager[None]]  # while media is asked, events of the call wait


class Refused(Exception):
    """The backend did not take the call, or not so that media could follow. `again`: it would, if asked once more."""

    def __init__(self, problem: str, *, again: bool = False) -> None:
        super().__init__(problem)
        self.again = again


class BringUp:
    """One attempt at one backend. `sent_at` and `answered_at` are clock times, 0 before."""

    def __init__(
        self, calls: Calls, call: Call, survivor: Leg, backend: Backend, pace: Pace, fields: tuple[Field, ...], *,
        user: bytes | None = None, quiet: Callable[[], bool] = lambda: True, undisturbed: Undisturbed = nullcontext,
    ) -> None:  # fmt: skip
        """`survivor` is the leg that the new one will be connected to; `user` replaces the user part of the R-URI.
        Nothing is sent while the call is not `quiet`."""
        self.calls = calls
        self.call = call
        self.survivor = survivor
        self.backend = backend
        self.pace = pace
        self.fields = fields
        self.user = user
        self.quiet = quiet
        self.undisturbed = undisturbed
        self.offered = b""  # the survivor's description that the backend is asked with
        self.sent_at = 0.0
        self.answered_at = 0.0

    async def run(self) -> tuple[Leg, bytes]:
        """The leg, in a confirmed dialog, and its description as the survivor would get it. Raises Refused; Hopeless
        when the call has ended."""
        await self._turn()
        leg = await self._prepare()
        try:
            return leg, await self._place(leg)
        except MediaError as error:
            abandon(self.calls, leg)
            check(self.call)
            raise Refused(f"{self.backend.name}: {error}") from error
        except BaseException:
            abandon(self.calls, leg)
            raise

    async def _turn(self) -> None:
        """None is kept while the call is busy: others wait for it, the recovery of this very call among them."""
        while True:
            while not self.quiet():
                check(self.call)
                await asyncio.sleep(QUIET_POLL_S)
            await self.pace.turn()
            if self.quiet():
                return
            self.pace.give_back()

    async def _prepare(self) -> Leg:
        """A leg with the offer that it will be sent."""
        call = self.call
        leg = None
        try:
            async with self.undisturbed():
                check(call)
                leg = self._new_leg()
                self.offered = offer_of(call, self.survivor)
                offer = begin_handshake(self.offered)
                leg.local_sdp = await call.media.offer(call.id, self.survivor.name, leg.name, offer)
            return leg
        except BaseException:
            self.pace.give_back()
            if leg is not None:
                abandon(self.calls, leg)
            raise

    def _new_leg(self) -> Leg:
        try:
            return self.calls.new_leg(self.call, self.backend)
        except NoTransport as error:
            raise Refused(f"{self.backend.name}: {error}") from error

    async def _place(self, leg: Leg) -> bytes:
        calls, call, survivor = self.calls, self.call, self.survivor
        self.sent_at = calls.now()
        message, placed = await self._invite(leg)
        if message.status >= 300:
            again = message.status == 422 and session_timer.too_small(leg, message)
            if message.status == 503 or message.flow is None:
                calls.note_unavailable(leg, message)
            reason = message.reason.decode(errors="replace")
            raise Refused(f"{self.backend.name}: {message.status} {reason}", again=again)
        if call.state == ENDED or not message.sdp:
            calls.refuse_answer(leg.flow, placed, message)
            leg.inviting = None
            check(call)
            raise Refused(f"{self.backend.name}: answered without a session description")
        session_timer.answered(calls, leg, message)
        self.answered_at = calls.now()
        leg.dialog = Dialog.uac(placed.request, message)
        leg.dialog.confirm(message)
        leg.dialog.state = CONFIRMED
        leg.remote_sdp = message.sdp
        leg.inviting = placed
        leg.acknowledge(calls.stack)
        async with self.undisturbed():
            check(call)
            owed = survivor.owes_ack or (call.reinvite is not None and call.reinvite.leg is survivor)
            return await call.media.answer(call.id, leg.name, survivor.name, message.sdp, preview=not owed)

    async def _invite(self, leg: Leg) -> tuple[Response, InviteClientTransaction]:
        """INVITE and its final answer. Silence and hanging count as 408; ringing is waited for."""
        calls, loop = self.calls, asyncio.get_running_loop()
        final: asyncio.Future[Response] = loop.create_future()
        heard = False

        def answered(message: Response) -> None:
            nonlocal heard
            calls.note_answer(leg, message)
            if not heard:
                heard = True
                refused = message.status == 503 or message.flow is None
                self.pace.heard(calls.now() - self.sent_at, refused=refused)
                silence.cancel()
            if message.status > 100:
                hanging.cancel()
            if message.status < 200:
                return
            if not final.done():
                final.set_result(message)
            elif message.status < 300 and (final.cancelled() or final.result().to_tag != message.to_tag):
                calls.refuse_answer(leg.flow, placed, message)  # too late, or another fork; not just the same 2xx again

        def hung() -> None:
            """It has said 100 Trying and then nothing: its SIP lives, what would answer calls does not."""
            if not final.done():
                placed.cancel()
                final.set_result(response(placed.request, 408))

        placed = calls.place_invite(self.call, leg, leg.local_sdp, self.fields, answered, self.user)
        # No answer at all, not even 100: pass on to the next backend long before Timer B's 32 s.
        timeout_s = calls.backends.pool_of(self.backend).settings.recovery.answer_timeout_ms / 1000
        silence = loop.call_later(timeout_s, placed.give_up)
        hanging = loop.call_later(TRYING_TIMES * timeout_s, hung)
        ended = loop.create_future()
        previous, self.call.on_ended = self.call.on_ended, lambda: None if ended.done() else ended.set_result(None)
        try:
            await asyncio.wait((final, ended), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if not final.done():
                placed.cancel()
                final.cancel()
            elif final.result().status < 300:  # it came in the same moment
                calls.refuse_answer(leg.flow, placed, final.result())
            raise
        finally:
            self.call.on_ended = previous
            silence.cancel()
            hanging.cancel()
        if not final.done():
            placed.cancel()
            final.cancel()
            raise Hopeless("it ended meanwhile")
        return final.result(), placed


def told(
    calls: Calls, conferences: Conferences, call: Call, old: Leg, state: str, why: str
) -> tuple[Field, ...]:  # fmt: skip
    """What a backend is told of a session that another one had, on its leg `old` (docs/failover.md)."""
    assert old.backend
    talked = int(calls.now() - call.answered_at) if call.state == TALKING else 0
    bond = call.bond
    mates: tuple[Field, ...] = ()
    if bond is not None:
        name = printable(bond.name.decode(errors="replace"))
        mates = (own("Pair", name),) if bond.kind == PAIR else (own("Conference", name), *conferences.told(call))
    waited: tuple[Field, ...] = ()
    if old is not call.a and state != "ringing":
        waited = waiting.told(call, calls.backends.pool_of(old.backend).settings.recovery)
    return (
        *mates,
        *waited,
        *calls.recorded(call),
        own("State", state),
        own("Recovered-From", old.backend.name),
        own("Reason", why),
        own("Talked", talked),
        own("Direction", "outbound" if old is call.a else "inbound"),
    )


def abandon(calls: Calls, leg: Leg) -> None:
    """End a leg that is not in place."""
    if leg.dialog is not None and leg.call is not None:
        leg.bye(calls.stack, [])
    calls.drop_leg(leg)
