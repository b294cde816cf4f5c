"""Server transactions: INVITE (RFC 3261 §17.2.1 with RFC 6026) and everything else (§17.2.2).

    INVITE:  proceeding -2xx-> accepted -ACK-> accepted (Timer L)      other: trying -final-> completed (Timer J)
             proceeding -3xx..6xx-> completed (G, H) -ACK-> confirmed (Timer I)

An accepted INVITE repeats its 2xx until `acknowledged` is called (§13.3.1.4): the B2BUA and the user agent
both need that, so it lives here. A request that comes again gets the last response again, without the user. It
says 100 Trying by itself when its user is slow.

To absorb retransmissions a transaction outlives its exchange by 32 s, which at 1,000 calls a second is most of what
a node remembers: the request goes as soon as nothing can be made of it any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.sip.flow import Flow
from proxy.sip.message import Field, Request, Response, emptied, response

if TYPE_CHECKING:
    from proxy.net.timers import Timer
    from proxy.sip.stack import Stack

PROCEEDING, COMPLETED, CONFIRMED, ACCEPTED, TERMINATED = range(5)

TRYING_S = 0.2  # RFC 3261 §17.2.1: without a response of the user by then, 100 Trying goes out

Key = tuple[bytes, ...]
Merged = tuple[bytes, bytes, int]  # Call-ID, From tag, CSeq


class ServerTransaction:
    """Any method but INVITE and ACK."""

    __slots__ = ("deadline", "flow", "key", "last", "request", "stack", "state")

    def __init__(self, stack: Stack, request: Request, flow: Flow, key: Key) -> None:
        self.stack = stack
        self.request = request
        self.flow = flow
        self.key = key
        self.last = b""
        self.state = PROCEEDING
        self.deadline: Timer | None = None

    @property
    def answered(self) -> bool:
        """A final response has been given."""
        return self.state != PROCEEDING

    def reply(self, status: int, to_tag: bytes = b"", extra: tuple[Field, ...] = (), body: bytes = b"") -> None:
        """Shorthand for `respond` with a response that copies what it must from the request."""
        self.respond(response(self.request, status, to_tag or self.stack.to_tag(self.key), extra, body))

    def respond(self, message: Response) -> None:
        """Send a response; one that comes after the final one is dropped."""
        if self.state != PROCEEDING:
            return
        self.last = message.encode()
        self._send()
        if message.status >= 200:
            self.state = COMPLETED
            self.request = emptied(self.request.method)
            if self.flow.reliable:
                self.stop()
            else:
                self.deadline = self.stack.timers.start(self.stack.times.timeout, self._expire)  # Timer J

    def _send(self) -> None:
        if not self.flow.open:
            self.flow = self.stack.answer_anew(self.last, self.flow)
        self.flow.send(self.last)

    def receive_again(self) -> None:
        if self.last:
            self.stack.retransmissions_seen += 1
            self._send()

    def _expire(self, _: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self.state != TERMINATED:
            self.state = TERMINATED
            if self.deadline:
                self.deadline.cancel()
                self.deadline = None
            self.stack.forget_server(self)


class InviteServerTransaction(ServerTransaction):
    """`on_cancel()` and `on_no_ack()` are set by its user; both are told at most once."""

    __slots__ = ("interval", "merged", "on_cancel", "on_no_ack", "resend")

    def __init__(self, stack: Stack, request: Request, flow: Flow, key: Key) -> None:
        super().__init__(stack, request, flow, key)
        self.on_cancel: Callable[[], None] | None = None
        self.on_no_ack: Callable[[], None] | None = None
        self.merged: Merged | None = None  # what tells a merged request (§8.2.2.2), of an INVITE outside a dialog
        self.interval = 0.0
        self.resend: Timer | None = None
        self.deadline = stack.timers.start(TRYING_S, self._trying)

    def _trying(self, _: object) -> None:
        self.respond(response(self.request, 100))

    def respond(self, message: Response) -> None:
        if self.state != PROCEEDING:
            return
        if self.deadline:
            self.deadline.cancel()
            self.deadline = None
        self.last = message.encode()
        self._send()
        if message.status < 200:
            return
        stack = self.stack
        accepted = message.status < 300
        self.state = ACCEPTED if accepted else COMPLETED
        self.on_cancel = None
        if not accepted:
            self.request = emptied(self.request.method)
        self.interval = stack.times.t1
        if accepted or not self.flow.reliable:  # a 2xx is end to end: repeated on TCP too
            self.resend = stack.timers.start(self.interval, self._resend)  # Timer G
        self.deadline = stack.timers.start(stack.times.timeout, self._timed_out)  # Timer H, or L

    def _resend(self, _: object) -> None:
        self.stack.retransmissions += 1
        self._send()
        self.interval = min(2 * self.interval, self.stack.times.t2)
        self.resend = self.stack.timers.start(self.interval, self._resend)

    def _timed_out(self, _: object) -> None:
        tell = self.on_no_ack if self.resend else None
        self.stop()
        if tell:
            tell()

    def receive_again(self) -> None:
        if self.state in (PROCEEDING, COMPLETED):  # RFC 6026 §7.1: absorbed once accepted
            super().receive_again()

    def receive_ack(self) -> None:
        """The ACK of a refusal, which belongs to this transaction."""
        if self.state == COMPLETED:
            self.state = CONFIRMED
            self._silence()
            if self.deadline:
                self.deadline.cancel()
                self.deadline = None
            if self.flow.reliable:
                self.stop()
            else:
                self.deadline = self.stack.timers.start(self.stack.times.t4, self._expire)  # Timer I

    def acknowledged(self) -> None:
        """The ACK of our 2xx has come: stop repeating it."""
        self._silence()
        self.on_no_ack = None
        self.last = b""
        self.request = emptied(self.request.method)

    def cancel(self) -> None:
        """A CANCEL has come for this INVITE."""
        tell, self.on_cancel = self.on_cancel, None
        if tell and self.state == PROCEEDING:
            tell()

    def _silence(self) -> None:
        if self.resend:
            self.resend.cancel()
            self.resend = None

    def stop(self) -> None:
        self._silence()
        self.on_cancel = self.on_no_ack = None
        super().stop()
