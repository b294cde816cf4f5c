"""The INVITE of a call, from the A-leg to the B-leg and its answer back, until both dialogs stand or the call is over.

Forks: each To tag that the B side answers with is an early dialog of its own, and is shown to the A side as one
(RFC 3261 §13.2.2.4); the first 2xx wins, later ones get ACK and BYE. A backend that does not answer, or answers
503, is passed over for the next one. Reliable 1xx (RFC 3262) and their PRACKs cross end to end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from media.api import MediaFull
from proxy.backends import Backend
from proxy.calls import session_timer
from proxy.calls.call import ENDED, TALKING, Call
from proxy.calls.headers import crossing
from proxy.calls.leg import Leg
from proxy.sip.client_transaction import InviteClientTransaction
from proxy.sip.dialog import CONFIRMED, Dialog
from proxy.sip.flow import Flow, NoTransport
from proxy.sip.message import Field, Request, Response, contact, response
from proxy.sip.server_transaction import InviteServerTransaction
from proxy.sip.uri import UriError, addr_spec, parse_uri

if TYPE_CHECKING:
    from proxy.calls.calls import Calls

log = logging.getLogger(__name__)

Heard = Callable[[Response | None], None]


class Fork:
    """An early dialog of the B side, and the one of the A side that shows it."""

    __slots__ = ("a", "answered_sdp", "b")

    def __init__(self, a: Dialog, b: Dialog) -> None:
        self.a = a
        self.b = b
        self.answered_sdp = False


class Answered:
    """Takes what else comes to an INVITE whose dialog stands: 2xx of other forks, or the same one again while its ACK
    waits for the A side. The transaction lives on for 32 s, and must not keep the whole Setup as long."""

    __slots__ = ("calls", "flow", "placed", "tag")

    def __init__(self, calls: Calls, flow: Flow, placed: InviteClientTransaction, tag: bytes) -> None:
        self.calls = calls
        self.flow = flow
        self.placed = placed
        self.tag = tag

    def __call__(self, message: Response) -> None:
        if message.to_tag != self.tag:
            self.calls.refuse_answer(self.flow, self.placed, message)


class Setup:
    __slots__ = ("call", "calls", "finished", "forks", "offer", "request", "transaction", "tried")

    def __init__(self, calls: Calls, call: Call, request: Request, transaction: InviteServerTransaction) -> None:
        self.calls = calls
        self.call = call
        self.request = request
        self.transaction = transaction
        self.offer = request.sdp
        self.forks: list[Fork] = []
        self.tried: list[Backend] = []
        self.finished = False
        transaction.on_cancel = self.cancelled

    # -- towards the B side

    def place(self, backend: Backend, extra: tuple[Field, ...] = (), heard: Heard | None = None) -> None:
        """Send the INVITE to `backend`, on a new B-leg. `heard` is told once: its first answer, or that none comes."""
        calls, call = self.calls, self.call
        self.tried.append(backend)
        try:
            leg = calls.new_leg(call, backend)
        except NoTransport as error:
            log.error("call=%s backend=%s cannot be reached: %s", call.id, backend.name, error)
            call.b = None
            if heard is not None:
                heard(None)
            if not self._next_backend(backend):
                self.finish(503)
            return
        call.b = leg
        if not self.offer:
            self._send(leg, b"", extra, heard)
            return
        offered = call.media.offer(call.id, "a", leg.name, self.offer)

        def refuse(problem: str) -> None:
            if heard is not None:
                heard(None)
            full = isinstance(offered.exception(), MediaFull)
            self.refuse(503 if full else 488, problem)

        call.then(offered, lambda sdp: self._send(leg, sdp, extra, heard), refuse)

    def _send(self, leg: Leg, sdp: bytes, extra: tuple[Field, ...], heard: Heard | None) -> None:
        call = self.call
        body = self.request.body
        if self.offer:
            leg.local_sdp = sdp
            body = self.request.with_sdp(sdp)

        def answered(message: Response) -> None:
            nonlocal heard
            if heard is not None:
                tell, heard = heard, None
                tell(message)
            self._answered(leg, transaction, message)

        transaction = self.calls.place_invite(call, leg, body, extra, answered)

    # -- back to the A side

    def _answered(self, leg: Leg, placed: InviteClientTransaction, message: Response) -> None:
        try:
            self._take(leg, placed, message)
        except Exception:  # a fault of ours: the caller must not wait for ever, nor half a call stay
            if leg.call is not None:
                self.finish(500)
                self.calls.end(self.call, "a fault of ours", failed=True)
            raise

    def _take(self, leg: Leg, placed: InviteClientTransaction, message: Response) -> None:
        call = self.call
        self.calls.note_answer(leg, message)
        if call.held_events is not None:
            call.held_events.append(lambda: self._answered(leg, placed, message))
        elif self.finished or leg.call is None:
            again = leg.dialog is not None and leg.dialog.remote_tag == message.to_tag  # its ACK waits, or is lost
            if 200 <= message.status < 300 and not again:
                self.calls.refuse_answer(leg.flow, placed, message)
        elif message.status < 200:
            if message.status > 100:
                self._provisional(leg, placed, message)
        elif message.status < 300:
            self._accepted(leg, placed, message)
        else:
            self._refused(leg, message)

    def _fork(self, leg: Leg, placed: InviteClientTransaction, message: Response) -> Fork:
        tag = message.to_tag
        for fork in self.forks:
            if fork.b.remote_tag == tag and fork.b.local_tag == leg.tag:
                return fork
        first = not self.forks
        a_tag = self.call.a.tag if first else self.calls.stack.new_tag()
        fork = Fork(Dialog.uas(self.request, a_tag), Dialog.uac(placed.request, message))
        self.forks.append(fork)
        self.calls.index[a_tag] = self.call.a
        return fork

    def _provisional(self, leg: Leg, placed: InviteClientTransaction, message: Response) -> None:
        if not message.to_tag:
            return
        fork = self._fork(leg, placed, message)
        if not message.sdp:
            self._respond(fork, message, b"")
            return
        if self.offer:
            leg.remote_sdp = message.sdp
            fork.answered_sdp = True
            future = self.call.media.answer(self.call.id, leg.name, "a", message.sdp)
        else:  # a reliable 1xx that bears the offer of a late-offer INVITE (RFC 3262 §5)
            leg.remote_sdp = message.sdp
            future = self.call.media.offer(self.call.id, leg.name, "a", message.sdp)
        self.call.then(future, lambda sdp: self._respond(fork, message, sdp), self._media_failed)

    def _accepted(self, leg: Leg, placed: InviteClientTransaction, message: Response) -> None:
        fork = self._fork(leg, placed, message)
        fork.b.confirm(message)
        leg.dialog = fork.b
        self.calls.pairs.hear(self.call, leg, message)
        if not message.sdp:
            self._stand(leg, fork, placed, message, b"")
            return
        leg.remote_sdp = message.sdp
        media = self.call.media
        answered = self.offer or leg.local_sdp
        ask = media.answer if answered else media.offer
        self.call.then(
            ask(self.call.id, leg.name, "a", message.sdp),
            lambda sdp: self._stand(leg, fork, placed, message, sdp),
            lambda problem: self._unanswerable(leg, placed, message, problem),
        )

    def _stand(self, leg: Leg, fork: Fork, placed: InviteClientTransaction, message: Response, sdp: bytes) -> None:
        """Both dialogs stand: answer the A side; ACK the B side now, or with the A side's answer to a late offer."""
        calls, call = self.calls, self.call
        call.state = TALKING
        call.answered_at = calls.now()
        call.setup = None
        self.finished = True
        placed.on_response = Answered(calls, leg.flow, placed, fork.b.remote_tag)
        call.pack_fields()
        _keep_once(call, fork)
        a = call.a
        a.dialog = fork.a
        a.dialog.state = CONFIRMED
        a.tag = fork.a.local_tag
        a.remote_sdp = a.remote_sdp or self.offer  # an UPDATE may have changed it
        for other in self.forks:
            if other is not fork:
                calls.index.pop(other.a.local_tag, None)
        calls.index[a.tag] = a
        a.invited = self.transaction
        self.transaction.on_no_ack = lambda: calls.end(call, "no ACK from the A side")
        if self.offer or not message.sdp:
            leg.acknowledge(calls.stack)
        else:
            calls.await_late_answer(call, a, leg)
        session_timer.answered(calls, leg, message)
        self._respond(fork, message, sdp)
        calls.answered(call)

    def _respond(self, fork: Fork, message: Response, sdp: bytes) -> None:
        body = message.body
        if sdp:
            self.call.a.local_sdp = sdp
            body = message.with_sdp(sdp)
        extra = [contact(self.transaction.flow), *crossing(message)]
        if message.status >= 200:
            extra += session_timer.accept(self.calls, self.call.a, self.request)
        routes = self.request.entries(b"record-route")
        reply = response(self.request, message.status, fork.a.local_tag, routes + extra, body, message.reason)
        self.transaction.respond(reply)

    def _refused(self, leg: Leg, message: Response) -> None:
        calls = self.calls
        status = message.status
        if status == 422 and session_timer.too_small(leg, message):
            assert leg.backend
            backend = leg.backend
            calls.drop_leg(leg)
            self.place(backend)
            return
        if status == 503 or message.flow is None:
            calls.note_unavailable(leg, message)
            assert leg.backend
            if self._next_backend(leg.backend, leg):
                return
        if 300 <= status < 400 and calls.settings.sip.follow_redirects and self._follow(leg, message):
            return
        self.finish(message.status, message)

    def _follow(self, leg: Leg, message: Response) -> bool:
        """Follow a redirect (RFC 3261 §8.1.3.4): only to a backend of the same pool, by its address."""
        assert leg.backend
        calls = self.calls
        for value in message.list(b"contact"):
            try:
                uri = parse_uri(addr_spec(value))
            except UriError:
                continue
            for backend in calls.backends.pool_of(leg.backend).members:
                here = backend.address == (uri.host, uri.port or 5060)
                if here and backend not in self.tried and backend.usable(calls.now()):
                    self.call.uri = bytes(uri)
                    calls.drop_leg(leg)
                    self.place(backend)
                    return True
        return False

    def _next_backend(self, refused: Backend, leg: Leg | None = None) -> bool:
        """Try another backend of the pool, in place of `leg`; False when there is none that has not been tried."""
        pool = self.calls.backends.pool_of(refused)
        backend = pool.select(self.calls.now(), self.calls.rng, self.tried)
        if backend is None:
            return False
        if leg is not None:
            self.calls.drop_leg(leg)
        self.place(backend)
        return True

    def replace(self, backend: Backend, extra: tuple[Field, ...], heard: Heard) -> None:
        """The backend that was ringing is dead: place the INVITE on another one. The A side goes on ringing, and
        sees the new answer as that of another fork."""
        leg = self.call.b
        if leg:
            inviting = leg.inviting
            self.calls.drop_leg(leg)
            if inviting:
                inviting.give_up()  # a late 200 is ended by `_answered`
        self.place(backend, extra, heard)

    def finish(self, status: int, message: Response | None = None) -> None:
        """The call did not come about: refuse the A side."""
        if self.finished:
            return
        self.finished = True
        extra = crossing(message) if message else []
        if message and 300 <= message.status < 400:
            extra += [entry for entry in message.fields if entry[0] == b"contact"]
        reason = message.reason if message else b""
        body = message.body if message else b""
        self.transaction.respond(response(self.request, status, self.call.a.tag, extra, body, reason))
        self.calls.end(self.call, f"refused {status}", failed=True)

    def refuse(self, status: int, problem: str) -> None:
        self.calls.media_refused(self.call, problem, full=status == 503)
        if self.call.b and self.call.b.inviting:
            self.call.b.inviting.cancel()
        self.finish(status)

    def _media_failed(self, problem: str) -> None:
        self.refuse(488, problem)

    def _unanswerable(self, leg: Leg, placed: InviteClientTransaction, message: Response, problem: str) -> None:
        """The B side accepted with a description that cannot be used: end it properly."""
        self.calls.refuse_answer(leg.flow, placed, message)
        leg.dialog = None
        self.refuse(500, problem)

    def cancelled(self) -> None:
        """The A side gave up. A 200 that crosses our CANCEL is ended by `_answered`."""
        call = self.call
        if self.finished or call.state == ENDED:
            return
        self.finished = True
        self.transaction.respond(response(self.request, 487, call.a.tag))
        if call.b and call.b.inviting:
            call.b.inviting.cancel()
        self.calls.end(call, "cancelled by the A side", failed=True)


def _keep_once(call: Call, fork: Fork) -> None:
    """From and To came in several messages; a live call keeps the same bytes once."""
    if fork.a.remote == fork.b.local == call.from_value:
        fork.a.remote = fork.b.local = call.from_value
    if fork.a.local == fork.b.remote == call.to_value:
        fork.a.local = fork.b.remote = call.to_value
