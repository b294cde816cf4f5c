"""One leg of a call: a dialog with one peer, the INVITE in flight on it in each direction, and the session
descriptions that were last exchanged on it.

A leg knows SIP mechanics and nothing of the other leg; what crosses between them is in `setup` and `midcall`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.backends import Backend
from proxy.calls import session_timer
from proxy.sip.client_transaction import ClientTransaction, InviteClientTransaction, OnResponse
from proxy.sip.dialog import Dialog
from proxy.sip.flow import Flow
from proxy.sip.message import Field, Request, Response, contact
from proxy.sip.server_transaction import InviteServerTransaction, ServerTransaction
from proxy.sip.stack import Stack
from proxy.sip.times import glare_delay_s

if TYPE_CHECKING:
    from proxy.calls.call import Call
    from proxy.calls.calls import Calls
    from proxy.calls.session_timer import LegTimer


class Leg:
    """`name` is the media leg's name too. `backend` is None for a caller; `tag` is our tag, known before the dialog.

    `inviting` and `invited`: the INVITE transaction that we, or the peer, have open. `local_sdp` and `remote_sdp`:
    the last description that we sent to, or had from, the peer.
    """

    __slots__ = (
        "asked", "backend", "call", "dialog", "flow", "invited", "inviting", "local_sdp", "lost", "name", "on_ack",
        "remote_sdp", "tag", "timer", "updated",
    )  # fmt: skip

    def __init__(self, call: Call, name: str, tag: bytes, flow: Flow, backend: Backend | None) -> None:
        self.call: Call | None = call
        self.name = name
        self.tag = tag
        self.flow = flow
        self.backend = backend
        self.dialog: Dialog | None = None
        self.asked: dict[ClientTransaction, Callable[[], None]] | None = None  # see `expect`
        self.inviting: InviteClientTransaction | None = None
        self.invited: InviteServerTransaction | None = None
        self.updated: ServerTransaction | None = None  # the peer's UPDATE with an offer, that has no answer yet
        self.on_ack: Callable[[Request], None] | None = None  # the ACK brings the answer to a late offer
        self.lost = False  # it is given up, whatever its peer says from now on: another one takes its place
        self.local_sdp = b""
        self.remote_sdp = b""
        self.timer: LegTimer | None = None

    def __repr__(self) -> str:
        peer = self.backend.name if self.backend else f"{self.flow.remote[0]}:{self.flow.remote[1]}"
        return f"<Leg {self.name} {peer}>"

    def request(
        self,
        stack: Stack,
        method: bytes,
        fields: list[Field],
        body: bytes,
        on_response: OnResponse,
        dialog: Dialog | None = None,
    ) -> ClientTransaction:
        """Send a request in the dialog (or in the early `dialog` given)."""
        dialog = dialog or self.dialog
        assert dialog
        if self.call is not None:
            self.call.calls.on_changed(self.call)
        way = stack.way(dialog, self.flow)
        return stack.request(dialog.request(method, [contact(way), *fields], body), way, on_response)

    def reinvite(self, calls: Calls, fields: list[Field], body: bytes, on_final: OnResponse) -> None:
        """Send a re-INVITE; it refreshes the session timer too (RFC 4028 §7.4), with a longer interval if the peer
        wants that (§7.3). `on_final` gets its final response. A 2xx is acknowledged by then, unless it offers."""
        accepted = offered = False

        def answered(message: Response) -> None:
            nonlocal accepted
            calls.note_answer(self, message)
            if message.status < 200 or accepted:  # a 2xx that comes again: its ACK waits for an answer
                return
            if message.status >= 300:
                self.inviting = None
                if message.status == 422 and self.dialog is not None and session_timer.too_small(self, message):
                    self.reinvite(calls, fields, body, on_final)
                else:
                    on_final(message)
                return
            accepted = True
            if self.dialog is not None and self.call is not None:
                self.dialog.refresh(message)
                session_timer.answered(calls, self, message)
            if offered or not message.sdp:
                self.acknowledge(calls.stack)
            on_final(message)

        fields_sent = [*fields, *session_timer.proposal(calls, self)]
        transaction = self.request(calls.stack, b"INVITE", fields_sent, body, answered)
        assert isinstance(transaction, InviteClientTransaction)
        self.inviting = transaction
        offered = transaction.request.sdp != b""

    def acknowledge(self, stack: Stack, sdp: bytes = b"") -> None:
        """ACK the 2xx of our INVITE, now and whenever it comes again; `sdp` answers what it offered."""
        transaction, dialog = self.inviting, self.dialog
        if transaction is None or dialog is None:
            return
        self.inviting = None
        transaction.acknowledge(dialog, stack.way(dialog, self.flow), sdp)

    def bye(self, stack: Stack, fields: list[Field], dialog: Dialog | None = None) -> None:
        """End the dialog; nobody waits for the answer. A 2xx whose ACK had to wait gets it first (§13.2.2.4)."""
        if self.owes_ack:
            self.acknowledge(stack)
        if dialog or self.dialog:
            self.request(stack, b"BYE", fields, b"", _ignore, dialog)

    @property
    def owes_ack(self) -> bool:
        """The peer has accepted our INVITE, and its ACK waits for something."""
        return self.inviting is not None and self.dialog is not None and self.inviting.owes_ack

    def expect(self, transaction: ClientTransaction, instead: Callable[[], None]) -> None:
        """Do that `instead`, should this leg be gone before the peer has answered."""
        if self.asked is None:
            self.asked = {}
        self.asked[transaction] = instead

    def heard(self, transaction: ClientTransaction) -> None:
        """The peer has answered."""
        if self.asked:
            self.asked.pop(transaction, None)

    def offers_pending(self) -> int:
        """0, or the status that an INVITE of the peer is refused with now (RFC 3261 §14.2)."""
        if self.inviting is not None or self._updating():
            return 491
        if self.updated is not None and not self.updated.answered:
            return 500
        if self.invited is not None and (self.on_ack is not None or not self.invited.answered):
            return 500
        return 0

    def _updating(self) -> bool:
        """An offer that we passed on in an UPDATE has no answer yet (RFC 3311 §5.2)."""
        return self.asked is not None and any(each.request.method == b"UPDATE" for each in self.asked)

    def let_go(self, stack: Stack) -> None:
        """The answer to our re-INVITE is not waited for any more. A 2xx that comes late still gets its ACK."""
        transaction, dialog, flow = self.inviting, self.dialog, self.flow
        self.inviting = None
        if transaction is None or dialog is None:
            return

        def late(message: Response) -> None:
            if 200 <= message.status < 300:
                transaction.acknowledge(dialog, stack.way(dialog, flow))

        transaction.on_response = late
        transaction.give_up()

    def glare_delay_s(self, rng: random.Random) -> float:
        """How long to wait after a 491 (RFC 3261 §14.1): who made the dialog waits longer."""
        call = self.call
        ours = self.dialog is not None and call is not None and self.dialog.call_id.startswith(call.id.encode())
        return glare_delay_s(ours, rng)

    def invited_again(self, transaction: InviteServerTransaction) -> None:
        """The peer asks anew. It has mostly had our last answer, and its ACK is lost: nothing may end for that. One
        that asks too early (RFC 3261 §14.1) still gets that answer repeated."""
        if self.invited is not None:
            self.invited.on_no_ack = None
        self.invited = transaction

    def stale_ack(self, request: Request) -> bool:
        """An ACK that does not belong to the INVITE that we answered."""
        return self.invited is None or request.cseq != self.invited.request.cseq

    def unlink(self) -> None:
        """Cut every reference that could form a cycle: the collector does not run (see `proxy.node`)."""
        if self.timer:
            self.timer.cancel()
            self.timer = None
        if self.invited is not None:
            self.invited.on_cancel = self.invited.on_no_ack = None
            if not self.invited.answered:
                self.invited.reply(487)  # a peer that is not dead after all would wait for its answer for ever
            self.invited = None
        self.inviting = None
        self.updated = None
        self.on_ack = None
        self.call = None
        asked, self.asked = self.asked, None
        for transaction, instead in (asked or {}).items():
            transaction.stop()
            instead()


def gone(message: Response) -> bool:
    """The peer does not know the dialog, or is not there (RFC 3261 §12.2.1.2)."""
    return message.status == 481 or (message.flow is None and message.status in (408, 503))


def _ignore(_: Response) -> None:
    return None
