"""A re-INVITE on its way from one leg to the other and back (RFC 3261 §14).

Its offer passes through media and goes on as a re-INVITE of our own; the answer comes back the same way. One without
an offer asks the other side for one (a late offer), whose answer comes in the ACK. What is refused leaves the session
as it was. A recovery may answer it in the place of a leg that has died.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.calls import agreement, session_timer
from proxy.calls.call import ENDED, Call
from proxy.calls.headers import OUR_OPTIONS_IN_REINVITE, crossing
from proxy.calls.leg import Leg, gone
from proxy.sip.message import SDP, Request, Response, contact, response
from proxy.sip.server_transaction import InviteServerTransaction

if TYPE_CHECKING:
    from proxy.calls.calls import Calls


def call_off(calls: Calls, leg: Leg, other: Leg, before: bytes) -> None:
    """The peer of `other` has accepted what `leg` offered, but it cannot be done: offer it what held `before`."""

    def offer(sdp: bytes) -> None:
        if other.dialog is not None and not other.offers_pending():
            other.local_sdp = sdp
            other.reinvite(calls, [SDP], sdp, answered)

    def answered(message: Response) -> None:
        if message.status < 300 and message.sdp and leg.call is not None and other.call is not None:
            agreement.keep_answer(calls, other, leg, message.sdp)

    call = leg.call
    other.local_sdp = before
    if call is not None and other.call is call and leg.remote_sdp:
        asked = call.media.offer(call.id, leg.name, other.name, leg.remote_sdp)
        call.then(asked, offer, lambda problem: calls.media_refused(call, problem))


class Reinvite:
    __slots__ = ("before", "call", "calls", "leg", "other", "request", "transaction")

    def __init__(
        self, calls: Calls, call: Call, leg: Leg, request: Request, transaction: InviteServerTransaction
    ) -> None:
        self.calls = calls
        self.call = call
        self.leg = leg
        self.other = call.other(leg)
        self.request = request
        self.transaction = transaction
        self.before = self.other.local_sdp
        transaction.on_cancel = self._cancel

    @property
    def offer(self) -> bytes:
        return self.request.sdp

    def start(self) -> None:
        if not self.offer:
            self._send(b"")
            return
        self.call.then(
            self.call.media.offer(self.call.id, self.leg.name, self.other.name, self.offer),
            self._send,
            self._unoffered,
        )

    def _unoffered(self, problem: str) -> None:
        self.calls.media_refused(self.call, problem)
        self._finish(488)

    def _send(self, sdp: bytes) -> None:
        body = self.request.body
        if self.offer:
            self.other.local_sdp = sdp
            body = self.request.with_sdp(sdp)
        fields = crossing(self.request, OUR_OPTIONS_IN_REINVITE)
        self.other.reinvite(self.calls, fields, body, self._answered)

    def _answered(self, message: Response) -> None:
        call = self.call
        if call.reinvite is not self:
            self._too_late(message)
            return
        if call.held_events is not None:
            call.held_events.append(lambda: self._answered(message))
            return
        if message.status >= 300:
            if self.offer:
                call.withdraw_offer(self.leg, self.other, self.before)
            if gone(message) and self.calls.carried_over(call, self.other, message):
                return  # who takes its place answers
            self._finish(message.status, message)
            if gone(message) and call.state != ENDED:
                self.calls.dialog_gone(call, self.other, message)
            return
        other = self.other
        self.calls.pairs.hear(call, other, message)
        if not message.sdp:
            self._reply(message, b"")
            return
        other.remote_sdp = message.sdp
        if self.offer:
            future = call.media.answer(call.id, other.name, self.leg.name, message.sdp)
        else:
            self.calls.await_late_answer(call, self.leg, other)
            future = call.media.offer(call.id, other.name, self.leg.name, message.sdp)
        call.then(
            future,
            lambda sdp: self._reply(message, sdp),
            self._unusable,
        )

    def _unusable(self, problem: str) -> None:
        """What the other side accepted or offered is of no use: both sides are to keep the session that they had."""
        self.calls.media_refused(self.call, problem)
        if self.offer:
            call_off(self.calls, self.leg, self.other, self.before)
        else:
            self.leg.on_ack = None
            self.other.acknowledge(self.calls.stack, self.other.local_sdp)
        self._finish(488)

    def _too_late(self, message: Response) -> None:
        """Whoever asked is gone, or was answered otherwise: the transaction ends, and what the peer wants is kept."""
        if message.status < 300:
            if message.sdp and self.offer:
                self.other.remote_sdp = message.sdp
            self.other.acknowledge(self.calls.stack)
        else:
            self.other.local_sdp = self.before
        self.other.inviting = None

    def _reply(self, message: Response, sdp: bytes) -> None:
        leg, calls, call = self.leg, self.calls, self.call
        body = message.body
        if sdp:
            body = message.with_sdp(sdp)
            leg.local_sdp = sdp
            leg.remote_sdp = self.offer or leg.remote_sdp
        call.reinvite = None
        self.transaction.on_no_ack = lambda: calls.end(call, f"no ACK from the {leg.name} side")
        extra = [contact(self.transaction.flow), *crossing(message), *session_timer.accept(calls, leg, self.request)]
        self.transaction.respond(response(self.request, message.status, leg.tag, extra, body, message.reason))
        calls.settled(call)

    def answer_from(self, body: bytes) -> None:
        """The other leg was replaced while it owed the answer: `body` is the new leg's."""
        leg, calls, call = self.leg, self.calls, self.call
        leg.local_sdp = body
        leg.remote_sdp = self.offer
        call.reinvite = None
        self.transaction.on_no_ack = lambda: calls.end(call, f"no ACK from the {leg.name} side")
        extra = [contact(self.transaction.flow), SDP]
        extra += session_timer.accept(calls, leg, self.request)
        self.transaction.respond(response(self.request, 200, leg.tag, extra, body))

    def abandon(self, status: int) -> None:
        """Give up: the peer that asked is refused and keeps the session as it was (RFC 6141 §3)."""
        self.other.let_go(self.calls.stack)
        self._finish(status)

    def _finish(self, status: int, message: Response | None = None) -> None:
        if self.call.reinvite is self:
            self.call.reinvite = None
        extra = crossing(message) if message else []
        reason = message.reason if message else b""
        self.transaction.respond(response(self.request, status, self.leg.tag, extra, b"", reason))

    def _cancel(self) -> None:
        if self.other.inviting:
            self.other.inviting.cancel()
