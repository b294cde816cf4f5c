"""Offer and answer within one dialog (RFC 3264, RFC 6337): which session description is what, and whose turn it is.

Feed it every message of the dialog that may carry one, both ways, and it says what the body is:

    INVITE with offer     1xx reliable or 2xx answers; an unreliable 1xx only shows what the answer will be
    INVITE without        1xx reliable offers, PRACK answers; or 2xx offers, ACK answers ("late offer")
    PRACK, UPDATE         the request offers, its 2xx answers (RFC 3262 §5, RFC 3311 §5)

A request that is refused gives its offer up and the session stays as it was (RFC 3261 §14.1). Ask `refusal` about a
request before taking it, and `may_send` before making one. Retransmissions do no harm: what is not due is nothing.
Each early dialog of a forked INVITE has a state of its own (`fork`).
"""

from __future__ import annotations

import random
from enum import Enum


class Side(Enum):
    LOCAL = "local"
    REMOTE = "remote"

    @property
    def other(self) -> Side:
        return Side.REMOTE if self is Side.LOCAL else Side.LOCAL


class Body(Enum):
    NOTHING = "nothing"  # no description, or one without a meaning here
    OFFER = "offer"
    ANSWER = "answer"
    PREVIEW = "preview"  # in an unreliable 1xx: the answer that the 2xx will bring (RFC 6337 §3.1.1)
    MISSING = "missing"  # a description was due here and did not come


# What an open offer came in.
_INVITE, _PROVISIONAL, _SUCCESS, _PRACK, _UPDATE = b"INVITE", b"1xx", b"2xx", b"PRACK", b"UPDATE"


class OfferAnswer:
    """`offer` is the side whose offer is still without an answer; `agreed` says that there has been an answer."""

    __slots__ = ("_carrier", "_inviting", "_offer_due", "_unacknowledged", "_updating", "agreed", "offer")

    def __init__(self) -> None:
        self.offer: Side | None = None
        self.agreed = False
        self._carrier = b""
        self._inviting: Side | None = None  # whose INVITE has no final response
        self._offer_due = False  # that INVITE came without an offer, and none has come since
        self._unacknowledged: Side | None = None  # whose INVITE has a 2xx and no ACK
        self._updating: Side | None = None  # whose UPDATE has no final response

    def fork(self) -> OfferAnswer:
        """The same state for another early dialog of the same INVITE."""
        twin = OfferAnswer()
        for name in self.__slots__:
            setattr(twin, name, getattr(self, name))
        return twin

    # Whose turn it is

    def refusal(self, method: bytes, body: bool) -> int:
        """0, or the status to refuse a request of the peer with: 491, or 500 with a Retry-After of 0 to 10 s
        (RFC 3261 §14.2, RFC 3311 §5.2). `body`: it carries a session description."""
        return self._conflict(Side.REMOTE, method, body)

    def may_send(self, method: bytes, body: bool) -> bool:
        """Whether we may send such a request now; if not, wait for what is in progress (RFC 3261 §14.1)."""
        if method == b"INVITE" and self._unacknowledged is not None:
            return False
        return not self._conflict(Side.LOCAL, method, body)

    def _conflict(self, sender: Side, method: bytes, body: bool) -> int:
        """491 when the sender runs into the other side's exchange, 500 when into one of his own."""
        blocker: Side | None = None
        if method == b"INVITE":
            blocker = self._inviting or self.offer
        elif method == b"UPDATE":
            blocker = sender if self._updating is sender else None
            if body and blocker is None:  # RFC 3311 §5.1: not before the INVITE's own exchange is over
                blocker = self.offer or (self._inviting if self._offer_due else None)
        elif method == b"PRACK" and body and not (self.offer is sender.other and self._carrier == _PROVISIONAL):
            blocker = self.offer
        if blocker is None:
            return 0
        return 500 if blocker is sender else 491

    # What a body is

    def request(self, sender: Side, method: bytes, body: bool) -> Body:
        """A request that is sent, or that is received and not refused."""
        if method == b"INVITE":
            self._inviting, self._offer_due = sender, not body
            return self._offered(sender, _INVITE) if body else Body.NOTHING
        if method == b"ACK":
            if self._unacknowledged is sender:
                self._unacknowledged = None
            if self.offer is sender.other and self._carrier == _SUCCESS:
                return self._answered(body)
        elif method == b"PRACK":
            if self.offer is sender.other and self._carrier == _PROVISIONAL:
                return self._answered(body)
            if body and self.offer is None:
                return self._offered(sender, _PRACK)
        elif method == b"UPDATE":
            self._updating = sender
            if body and self.offer is None:
                return self._offered(sender, _UPDATE)
        return Body.NOTHING

    def response(self, sender: Side, method: bytes, status: int, body: bool, *, reliable: bool = False) -> Body:
        """A response; `sender` is who responds. `reliable`: a 1xx that wants a PRACK. No response: status 408."""
        asker = sender.other
        if method == b"INVITE":
            return self._invited(asker, status, body, reliable) if self._inviting is asker else Body.NOTHING
        if status < 200:
            return Body.NOTHING
        if method == b"UPDATE" and self._updating is asker:
            self._updating = None
        if self.offer is asker and self._carrier == method and method in (_PRACK, _UPDATE):
            if status < 300:
                return self._answered(body)
            self.offer = None
        return Body.NOTHING

    def _invited(self, asker: Side, status: int, body: bool, reliable: bool) -> Body:
        answer_due = self.offer is asker and self._carrier == _INVITE
        if status < 200:
            if not body:
                return Body.NOTHING
            if answer_due:
                return self._answered(True) if reliable else Body.PREVIEW
            if self._offer_due and reliable and self.offer is None:
                return self._offered(asker.other, _PROVISIONAL)
            return Body.NOTHING
        offer_due = self._offer_due
        self._inviting, self._offer_due = None, False
        if status >= 300:
            if self._carrier in (_INVITE, _PROVISIONAL):
                self.offer = None
            return Body.NOTHING
        self._unacknowledged = asker
        if answer_due:
            return self._answered(body)
        if offer_due:
            return self._offered(asker.other, _SUCCESS) if body else Body.MISSING
        return Body.NOTHING

    def _offered(self, side: Side, carrier: bytes) -> Body:
        self.offer, self._carrier, self._offer_due = side, carrier, False
        return Body.OFFER

    def _answered(self, body: bool) -> Body:
        self.offer = None
        self.agreed = self.agreed or body
        return Body.ANSWER if body else Body.MISSING


def glare_delay_s(owns_call_id: bool, rng: random.Random) -> float:
    """How long to wait after a 491 before trying again (RFC 3261 §14.1): bands that cannot collide, in units of
    10 ms. The owner of the Call-ID is who made the dialog."""
    return (rng.randint(210, 400) if owns_call_id else rng.randint(0, 200)) / 100
