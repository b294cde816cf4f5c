"""The standby of a hot call: a second leg, up on a backup, that hears the caller and is not heard.

It stands in for one side of the call (`side`) and is kept in step with the other: its INFO goes to both (`copy`), and a
new description of it is offered to both (`proxy.failover.standbys`). What the standby itself asks never crosses: nobody
talks to it yet. Whether a call has one, and when it takes its place, is decided in `proxy.failover`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.calls import session_timer
from proxy.calls.agreement import without_origin
from proxy.calls.headers import crossing
from proxy.calls.leg import Leg, gone
from proxy.sip.message import SDP, Field, Request, Response, contact
from proxy.sip.server_transaction import InviteServerTransaction, ServerTransaction

if TYPE_CHECKING:
    from proxy.calls.call import Call
    from proxy.calls.calls import Calls

HEARD_AND_KEPT = (b"INFO", b"NOTIFY", b"OPTIONS", b"MESSAGE", b"PRACK")  # the rest would change a call that it has not


class Standby:
    """`offered` is the survivor's description that the leg was last offered; b"": nobody knows."""

    __slots__ = ("leg", "offered", "side", "since")

    def __init__(self, leg: Leg, side: str, offered: bytes, since: float) -> None:
        self.leg = leg
        self.side = side  # "a" or "b": whose place it takes
        self.offered = offered
        self.since = since  # clock time

    def replaces(self, call: Call) -> Leg:
        leg = call.a if self.side == "a" else call.b
        assert leg
        return leg


class Copy:
    """A request that went to the standby too, and its answer there: should that leg come into place before the other
    one has answered, it is not asked a second time."""

    __slots__ = ("answer", "leg", "tell")

    def __init__(self, leg: Leg) -> None:
        self.leg = leg
        self.answer: Response | None = None
        self.tell: Callable[[Response], None] | None = None

    def answered(self, message: Response) -> None:
        if message.status >= 200:
            self.answer = message
            if self.tell is not None:
                self.tell(message)

    def then(self, tell: Callable[[Response], None]) -> None:
        if self.answer is not None:
            tell(self.answer)
        else:
            self.tell = tell


def copy(calls: Calls, call: Call, leg: Leg, request: Request) -> Copy | None:
    """Send to the standby what its side of the call is asked: INFO (digits). None: nothing was sent."""
    standby = call.standby
    if standby is None or request.method != b"INFO" or leg is standby.replaces(call):
        return None
    sent = Copy(standby.leg)

    def answered(message: Response) -> None:
        sent.answered(message)
        if gone(message) and call.standby is standby:
            calls.on_standby_lost(call, f"{message.status} from it")

    standby.leg.request(calls.stack, b"INFO", crossing(request), request.body, answered)
    return sent


def receive(calls: Calls, call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    """A request on a leg that is not in place: the standby, or one that is being brought up. A BYE takes its dialog
    away, and whoever brings it up sees that."""

    def lost(why: str) -> None:
        if call.standby is not None and call.standby.leg is leg:
            calls.on_standby_lost(call, why)

    method = request.method
    if leg.dialog is None:
        transaction.reply(481)
    elif not leg.dialog.accepts(request):
        transaction.reply(500, extra=((b"retry-after", b"Retry-After: 1"),))
    elif method == b"BYE":
        transaction.reply(200)
        leg.dialog = None
        lost("BYE from it")
    elif isinstance(transaction, InviteServerTransaction):
        if leg.offers_pending():
            transaction.reply(leg.offers_pending(), extra=((b"retry-after", b"Retry-After: 1"),))
            return
        if _accept(calls, leg, request, transaction):
            leg.invited_again(transaction)
            transaction.on_no_ack = lambda: lost("no ACK from it")
    elif method == b"UPDATE":
        _accept(calls, leg, request, transaction)
    else:
        transaction.reply(200 if method in HEARD_AND_KEPT else 603)


def _accept(calls: Calls, leg: Leg, request: Request, transaction: ServerTransaction) -> bool:
    """A session refresh is answered with the session as it stands. Another description is refused (RFC 3261 §14.2):
    the caller would have to be asked, and is not to notice."""
    assert leg.dialog
    if request.sdp and without_origin(request.sdp) != without_origin(leg.remote_sdp):
        transaction.reply(488)
        return False
    short = session_timer.refusal(calls, leg, request)
    if short is not None:
        transaction.reply(422, extra=tuple(short))
        return False
    leg.dialog.refresh(request)
    extra: list[Field] = [contact(transaction.flow), *session_timer.accept(calls, leg, request)]
    body = leg.local_sdp if request.sdp or request.method == b"INVITE" else b""
    if body:
        extra.append(SDP)
    transaction.reply(200, extra=tuple(extra), body=body)
    return True


def drop(calls: Calls, call: Call, *, silently: bool = False) -> None:
    """The call has no standby any more. `silently`: its peer does not know the dialog, or has ended it."""
    standby, call.standby = call.standby, None
    if standby is None:
        return
    leg = standby.leg
    if leg.backend is not None and leg.backend.fenced:
        calls.left_behind.leave(leg)
    elif leg.dialog is not None and not silently:
        leg.bye(calls.stack, [])
    calls.drop_leg(leg)
