"""What crosses between the legs once dialogs stand: re-INVITE, UPDATE, PRACK, INFO, REFER, NOTIFY, MESSAGE, OPTIONS,
methods that nobody here knows, and BYE (RFC 3261 §14, 3311, 3262, 3515, 6086).

Each request goes on in the other leg's dialog and its answer comes back; session descriptions pass through media on
the way. Glare is decided per leg (§14.1, §14.2): an INVITE that meets ours gets 491, a second one of the same peer 500.
A 481 or a missing answer to a request in the dialog means that the other dialog is gone (§12.2.1.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.calls import session_timer, standby
from proxy.calls.call import ENDED, Call
from proxy.calls.headers import crossing
from proxy.calls.leg import Leg, gone
from proxy.calls.reinvite import Reinvite, call_off
from proxy.calls.replaces import crossing_named
from proxy.sip.client_transaction import ClientTransaction
from proxy.sip.dialog import Dialog
from proxy.sip.message import Field, Request, Response, contact, response
from proxy.sip.server_transaction import InviteServerTransaction, ServerTransaction

if TYPE_CHECKING:
    from proxy.calls.calls import Calls

RETRY_AFTER = (b"retry-after", b"Retry-After: 1")


def receive(calls: Calls, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    """A request in a dialog of `leg`; events of the call are in order, and it has not ended."""
    call = leg.call
    assert call
    method = request.method
    dialogs = _dialogs(call, leg, request)
    if dialogs is None:
        transaction.reply(481)
        return
    own, other = dialogs
    if not own.accepts(request):
        transaction.reply(500, extra=(RETRY_AFTER,))
        return
    if request.flow:
        leg.flow = request.flow
    bonded = calls.pairs.hear(call, leg, request)
    if method == b"BYE":
        transaction.reply(200)
        calls.end(call, f"BYE from the {leg.name} side", fields=crossing(request), skip=leg)
    elif isinstance(transaction, InviteServerTransaction):
        own.refresh(request)
        _reinvited(calls, call, leg, request, transaction)
    elif method == b"UPDATE":
        own.refresh(request)
        _updated(calls, call, leg, request, transaction, other)
    elif bonded and method == b"INFO" and not request.body:
        transaction.reply(200)  # it was for us alone
    elif method == b"PRACK":
        _pracked(calls, call, leg, request, transaction, other)
    elif method == b"REFER":
        _forward(calls, call, leg, request, transaction, other, crossing_named(calls, request))
    else:
        _forward(calls, call, leg, request, transaction, other)


def _dialogs(call: Call, leg: Leg, request: Request) -> tuple[Dialog, Dialog] | None:
    """The dialog that a request came in, and the one that it goes on in: confirmed, or a pair of early ones."""
    if leg.dialog is not None:
        other = call.other(leg).dialog
        return (leg.dialog, other) if other else None
    if call.setup:
        for fork in call.setup.forks:
            if leg is call.a and fork.a.local_tag == request.to_tag:
                return fork.a, fork.b
            if leg is call.b and fork.b.remote_tag == request.from_tag:
                return fork.b, fork.a
    return None


def _forward(
    calls: Calls, call: Call, leg: Leg, request: Request, transaction: ServerTransaction, dialog: Dialog,
    fields: list[Field] | None = None, body: bytes | None = None, *, offered: bool = False,
) -> None:  # fmt: skip
    """Send the request on in the other dialog, and its answer back. Should the other leg be replaced before it has
    answered, or have forgotten the dialog, the leg that takes its place is asked. `offered`: its answer brings one."""
    other = call.other(leg)
    copy = standby.copy(calls, call, leg, request)

    def reply(message: Response, body: bytes | None = None) -> None:
        extra = [contact(transaction.flow), *crossing(message)]
        body = message.body if body is None else body
        transaction.respond(response(request, message.status, leg.tag, extra, body, message.reason))

    def agree(message: Response) -> None:
        def send(sdp: bytes) -> None:
            leg.local_sdp, other.remote_sdp = sdp, message.sdp
            reply(message, message.with_sdp(sdp))

        asked = call.media.answer(call.id, other.name, leg.name, message.sdp)
        call.then(asked, send, lambda problem: transaction.reply(488), transaction)

    def answered(message: Response) -> None:
        calls.note_answer(other, message)
        if message.status == 100 or (gone(message) and calls.carried_over(call, other, message)):
            return
        if message.status >= 200:
            other.heard(asked)
        if offered and message.status < 300 and message.sdp and call.state != ENDED:
            agree(message)
            return
        reply(message)
        if gone(message):
            calls.dialog_gone(call, other, message)

    def again() -> None:
        successor = call.other(leg)
        if call.state == ENDED:
            transaction.reply(481)
        elif successor is other or successor.dialog is None:
            transaction.reply(500, extra=(RETRY_AFTER,))
        elif copy is not None and copy.leg is successor:
            copy.then(reply)
        else:
            _forward(calls, call, leg, request, transaction, successor.dialog, fields, body, offered=offered)

    own_fields = crossing(request) if fields is None else fields
    own_body = request.body if body is None else body
    asked = other.request(calls.stack, request.method, own_fields, own_body, answered, dialog)
    other.expect(asked, again)


def _pracked(
    calls: Calls, call: Call, leg: Leg, request: Request, transaction: ServerTransaction, dialog: Dialog
) -> None:
    """PRACK names the INVITE by its CSeq, which is another one on the other leg (RFC 3262 §7.2)."""
    sequence, _, _ = (request.get(b"rack") or b"").partition(b" ")
    rack = (b"rack", b"RAck: %b %d INVITE" % (sequence, calls.invite_cseq(call.other(leg))))
    fields = [*crossing(request), rack]
    other = call.other(leg)
    if not request.sdp:
        _forward(calls, call, leg, request, transaction, dialog, fields)
        return
    leg.remote_sdp = request.sdp
    late_offer = call.setup is not None and not call.setup.offer and leg.local_sdp != b""
    ask = call.media.answer if late_offer else call.media.offer

    def send(sdp: bytes) -> None:
        other.local_sdp = sdp
        body = request.with_sdp(sdp)
        _forward(calls, call, leg, request, transaction, dialog, fields, body, offered=not late_offer)

    call.then(
        ask(call.id, leg.name, other.name, request.sdp),
        send,
        lambda problem: transaction.reply(488),
        transaction,
    )


def _updated(
    calls: Calls, call: Call, leg: Leg, request: Request, transaction: ServerTransaction, dialog: Dialog
) -> None:
    """UPDATE with an offer crosses (RFC 3311); without one it is a session refresh, which is each leg's own."""
    other = call.other(leg)
    if not request.sdp:
        _session_refreshed(calls, leg, request, transaction)
        return
    if leg.dialog is not None and (leg.offers_pending() or other.offers_pending()):
        refuse_offer(leg, transaction)
        return
    before = other.local_sdp
    leg.updated = transaction

    def send(sdp: bytes) -> None:
        other.local_sdp = sdp
        fields, body = crossing(request), request.with_sdp(sdp)
        if other.dialog is not None:
            fields += session_timer.proposal(calls, other)
        asked = other.request(calls.stack, b"UPDATE", fields, body, lambda answer: answered(asked, answer), dialog)
        other.expect(asked, later)

    def later() -> None:
        transaction.reply(500, extra=(RETRY_AFTER,))  # to be asked again of who takes its place

    def answered(asked: ClientTransaction, message: Response) -> None:
        calls.note_answer(other, message)
        if message.status < 200:
            return
        other.heard(asked)
        if message.status >= 300 or not message.sdp or call.state == ENDED:
            call.withdraw_offer(leg, other, before)
            if gone(message) and calls.carried_over(call, other, message):
                later()
                return
            extra = crossing(message)
            transaction.respond(response(request, message.status, leg.tag, extra, b"", message.reason))
            if gone(message):
                calls.dialog_gone(call, other, message)
            return
        dialog.refresh(message)
        if other.dialog is not None:
            session_timer.answered(calls, other, message)
        other.remote_sdp = message.sdp
        call.then(
            call.media.answer(call.id, other.name, leg.name, message.sdp),
            lambda sdp: reply(message, sdp),
            unusable,
            transaction,
        )

    def unusable(problem: str) -> None:
        calls.media_refused(call, problem)
        call_off(calls, leg, other, before)
        transaction.reply(488)

    def reply(message: Response, sdp: bytes) -> None:
        leg.local_sdp, leg.remote_sdp = sdp, request.sdp
        extra = [contact(transaction.flow), *crossing(message), *session_timer.accept(calls, leg, request)]
        body = message.with_sdp(sdp)
        transaction.respond(response(request, message.status, leg.tag, extra, body, message.reason))
        calls.settled(call)

    call.then(
        call.media.offer(call.id, leg.name, other.name, request.sdp),
        send,
        lambda problem: transaction.reply(488),
        transaction,
    )


def _session_refreshed(calls: Calls, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    short = session_timer.refusal(calls, leg, request)
    if short is not None:
        transaction.reply(422, extra=tuple(short))
        return
    extra = (contact(transaction.flow), *session_timer.accept(calls, leg, request))
    transaction.reply(200, extra=extra)


def refuse_offer(leg: Leg, transaction: ServerTransaction) -> None:
    """RFC 3261 §14.2, RFC 3311 §5.2: it meets an offer of ours, or another one of its own."""
    refusal = leg.offers_pending() or 491
    transaction.reply(refusal, extra=(RETRY_AFTER,) if refusal == 500 else ())


def _reinvited(calls: Calls, call: Call, leg: Leg, request: Request, transaction: InviteServerTransaction) -> None:
    if call.setup is not None or leg.offers_pending() or call.other(leg).offers_pending():
        refuse_offer(leg, transaction)
        return
    short = session_timer.refusal(calls, leg, request)
    if short is not None:
        transaction.reply(422, extra=tuple(short))
        return
    leg.invited_again(transaction)
    call.reinvite = Reinvite(calls, call, leg, request, transaction)
    call.reinvite.start()
