"""Calls whose media engine died: each is anchored on another one, and both its ends are told by re-INVITE.

    media.offer, media.answer out of what both ends said last -> the new node connects them
    -> both ends re-INVITEd at once, 491 tried again after its back-off
    -> once more, if one of them answered something new

An end that has been told already, by an exchange of its own that came in between, is left alone: what is sent is what
differs from what it knows. So it does no harm to do it all again, and that is what is done whenever something came in
between: a backend that died, another node.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from media.api import MediaError
from proxy.calls import ENDED, TALKING, Call, Calls, Leg
from proxy.calls.leg import gone
from proxy.failover.pace import Pace
from proxy.failover.plan import kind_of
from proxy.failover.report import ENDED as HUNG_UP
from proxy.failover.report import LOST, MOVED, CallResult
from proxy.failover.survivor import Hopeless, check, reinvite, reinvite_once
from proxy.sip.message import Response

log = logging.getLogger(__name__)

POLL_S = 0.02
AGAIN_S = 0.05


class _Disturbed(Exception):
    """Something else happens to the call, and comes first."""


class Reanchoring:
    """One call. `pace_of` gives the pace of re-INVITEs towards the peer of a leg."""

    def __init__(
        self, calls: Calls, call: Call, *, pace_of: Callable[[Leg], Pace], patience_s: float, since: float
    ) -> None:
        self.calls = calls
        self.call = call
        self.pace_of = pace_of
        self.patience_s = patience_s  # from when an engine is there
        self.since = since
        self.again = True  # there is (or may be) something to be told
        self.result = CallResult(call.id, kind_of(call).name.lower())

    async def run(self) -> CallResult:
        """Never raises: a call that cannot be anchored is ended properly, and the result says why."""
        call, result = self.call, self.result
        try:
            async with asyncio.timeout_at(self.since + self.patience_s) as self._timeout:
                while self.again:
                    self.again = False
                    await self._reanchor()
            result.result = MOVED
        except TimeoutError:
            result.result, result.error = LOST, f"deadline passed; {result.error}"
        except Hopeless as error:
            result.result, result.error = LOST, str(error)
        except Exception as error:  # the fault of one call stays with that call
            log.exception("call=%s could not be anchored", call.id)
            result.result, result.error = LOST, repr(error)
        result.done_ms = self._ms()
        if call.state == ENDED and result.result == LOST:
            result.result, result.error = HUNG_UP, ""
        elif result.result == LOST:
            self.calls.end(call, f"could not be anchored anew: {result.error}")
        return result

    def _ms(self) -> float:
        return round((self.calls.now() - self.since) * 1000, 1)

    async def _reanchor(self) -> None:
        call = self.call
        while call.setup is not None:  # it rings: who answers is told
            check(call)
            await asyncio.sleep(POLL_S)
        await self._quiet()
        turns: list[Pace] = []
        asked_at = self.calls.now()
        try:
            for leg in call.legs():
                turn = self.pace_of(leg)
                await turn.turn()
                turns.append(turn)
            await self._quiet()
            asked_at = self.calls.now()
            call.hold_events()
            try:
                await self._tell()
            finally:
                call.release_events()
        except MediaError as error:
            # Without an engine anywhere there is nothing to be late for: nobody hangs up but those who want to.
            self.result.error = str(error)
            self.again = True
            self._timeout.reschedule(self.calls.now() + self.patience_s)
        except _Disturbed:
            self.again = True
        finally:
            for turn in turns:
                turn.heard(self.calls.now() - asked_at)
        if self.again:
            await asyncio.sleep(AGAIN_S)

    async def _quiet(self) -> None:
        """What the call is at must be over first: its own exchanges, a recovery of one of its legs."""
        call = self.call
        while not (
            call.state == TALKING
            and call.held_events is None
            and call.reinvite is None
            and not any(leg.offers_pending() for leg in call.legs())
        ):
            check(call)
            await asyncio.sleep(POLL_S)

    # -- both ends

    async def _tell(self) -> None:
        call, media = self.call, self.call.media
        a, b = call.a, call.other(call.a)
        self.result.attempts += 1
        for_b = await media.offer(call.id, a.name, b.name, a.remote_sdp)
        for_a = await media.answer(call.id, b.name, a.name, b.remote_sdp)
        check(call)
        self.result.sent_ms = self.result.sent_ms or self._ms()
        told = await asyncio.gather(self._tell_one(a, for_a), self._tell_one(b, for_b), return_exceptions=True)
        for problem in told:
            if isinstance(problem, BaseException):
                raise problem
        self.result.answered_ms = self._ms()
        if any(told):
            self.again = True  # what an end answered is new: the node and the other end must know

    async def _tell_one(self, leg: Leg, sdp: bytes) -> bool:
        """True: its answer says something new."""
        if sdp == leg.local_sdp:
            return False
        message = await self._reinvite(leg, sdp)
        self.result.reinvited = True
        leg.local_sdp = sdp
        if not message.sdp or _body(message.sdp) == _body(leg.remote_sdp):
            return False
        leg.remote_sdp = message.sdp
        return True

    async def _reinvite(self, leg: Leg, sdp: bytes) -> Response:
        """Until it is accepted."""
        calls, call = self.calls, self.call

        async def once() -> Response:
            return await self._answer(leg, asyncio.ensure_future(reinvite_once(calls, leg, sdp)))

        message = await reinvite(calls, call, leg, sdp, once)
        if message.status < 300:
            return message
        if gone(message):
            if calls.carried_over(call, leg, message):
                raise _Disturbed
            calls.dialog_gone(call, leg, message)
            raise Hopeless(f"{message.status} from the {leg.name} side")
        raise Hopeless(f"the {leg.name} side refused the re-INVITE: {message.status}")

    async def _answer(self, leg: Leg, final: asyncio.Future[Response]) -> Response:
        """The final answer, unless the call ends or the peer's backend dies while we wait."""
        try:
            while not final.done():
                check(self.call)
                if leg.call is None or (leg.backend is not None and leg.backend.fenced):
                    raise _Disturbed
                await asyncio.wait((final,), timeout=POLL_S)
            return final.result()
        finally:
            final.cancel()


def _body(sdp: bytes) -> list[bytes]:
    return [line for line in sdp.splitlines() if not line.startswith(b"o=")]
