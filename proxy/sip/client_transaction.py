"""Client transactions: INVITE (RFC 3261 §17.1.1 with RFC 6026) and everything else (§17.1.2).

    INVITE:  calling -1xx-> proceeding -2xx-> accepted (Timer M)   other: trying -1xx-> proceeding
             calling/proceeding -3xx..6xx-> completed (Timer D)             -final-> completed (Timer K)

A transaction owns its retransmissions and tells its user responses only. When no answer comes, or the flow
breaks, it answers itself with a 408 or a 503 (§8.1.3.1) whose `flow` is None: its user has one path for all ends.
A 2xx that comes again gets its ACK again, without the user; a 2xx of another fork goes to the user.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.sip.dialog import Dialog
from proxy.sip.flow import Flow
from proxy.sip.message import SDP, Request, Response, emptied, field, response

if TYPE_CHECKING:
    from proxy.net.timers import Timer
    from proxy.sip.stack import Stack

OnResponse = Callable[[Response], None]

TRYING, PROCEEDING, COMPLETED, ACCEPTED, TERMINATED = range(5)


class ClientTransaction:
    """Any method but INVITE and ACK."""

    __slots__ = (
        "branch",
        "data",
        "deadline",
        "flow",
        "interval",
        "key",
        "on_response",
        "request",
        "stack",
        "state",
        "timer",
    )

    def __init__(
        self, stack: Stack, request: Request, flow: Flow, branch: bytes, data: bytes, on_response: OnResponse
    ) -> None:
        self.stack = stack
        self.request = request
        self.flow = flow
        self.branch = branch
        self.key = (branch, request.method)
        self.data = data
        self.on_response: OnResponse | None = on_response
        self.state = TRYING
        self.interval = stack.times.t1
        self.timer: Timer | None = None  # whichever runs
        self.deadline = 0.0

    def start(self) -> None:
        stack = self.stack
        timeout = stack.times.timeout
        self.deadline = stack.timers.now() + timeout  # Timer B or F
        if self.flow.reliable:
            self.timer = stack.timers.start(timeout, self._timed_out)
        else:
            self.timer = stack.timers.start(self.interval, self._resend)  # Timer A or E
        self.flow.send(self.data)

    def _resend(self, _: object) -> None:
        timers = self.stack.timers
        left = self.deadline - timers.now()
        if left <= 0:
            self.fail(408)
            return
        self.stack.retransmissions += 1
        self.flow.send(self.data)
        self.interval = self._next_interval()
        self.timer = timers.start(min(self.interval, left), self._resend)

    def _next_interval(self) -> float:
        t2 = self.stack.times.t2
        return t2 if self.state == PROCEEDING else min(2 * self.interval, t2)

    def _timed_out(self, _: object) -> None:
        self.fail(408)

    def fail(self, status: int) -> None:
        """End with an answer of our own: 408 when nobody answered, 503 when the flow broke."""
        if self.state < COMPLETED:
            tell = self.on_response
            self.stop()
            if tell:
                tell(response(self.request, status))

    def receive(self, message: Response) -> None:
        if self.state >= COMPLETED:
            return
        if message.status < 200:
            self.state = PROCEEDING
            if self.on_response:
                self.on_response(message)
            return
        self.state = COMPLETED
        tell = self.on_response
        self._quiet()
        self.request = emptied(self.request.method)
        if self.flow.reliable:
            self.stop()
        else:
            self.data = b""
            self.timer = self.stack.timers.start(self.stack.times.t4, self._expire)  # Timer K
        if tell:
            tell(message)

    def _expire(self, _: object) -> None:
        self.stop()

    def _stop_timer(self) -> None:
        if self.timer:
            self.timer.cancel()
            self.timer = None

    def _quiet(self) -> None:
        self._stop_timer()
        self.on_response = None

    def stop(self) -> None:
        """Forget the transaction now; nothing more is told or sent."""
        if self.state != TERMINATED:
            self._quiet()
            self.state = TERMINATED
            self.stack.forget_client(self)


class InviteClientTransaction(ClientTransaction):
    __slots__ = ("acks", "cancelled")

    def __init__(
        self, stack: Stack, request: Request, flow: Flow, branch: bytes, data: bytes, on_response: OnResponse
    ) -> None:
        super().__init__(stack, request, flow, branch, data, on_response)
        self.acks: tuple[tuple[Dialog, Flow, bytes], ...] = ()  # whose 2xx had an ACK, its way, and its body
        self.cancelled = False

    def _next_interval(self) -> float:
        return 2 * self.interval  # Timer A doubles without a bound (§17.1.1.2)

    def receive(self, message: Response) -> None:
        status = message.status
        if self.state == ACCEPTED:
            self._received_again(message)
        elif self.state == COMPLETED:
            if status >= 300:
                self.flow.send(self.data)  # the ACK, again
        elif self.state == TERMINATED:
            return
        elif status < 200:
            self._provisional(message)
        elif status < 300:
            self._accepted(message)
        else:
            self._refused(message)

    def _provisional(self, message: Response) -> None:
        if self.state == TRYING:
            self.state = PROCEEDING
            self._stop_timer()
            if self.cancelled:
                self._send_cancel()
        if self.on_response:
            self.on_response(message)

    def _accepted(self, message: Response) -> None:
        self.state = ACCEPTED
        self._stop_timer()
        self.data = b""
        self.request = self.request.outline()
        # RFC 6026 §7.2, Timer M: retransmissions and other forks' 2xx still belong to us.
        self.timer = self.stack.timers.start(self.stack.times.timeout, self._expire)
        if self.on_response:
            self.on_response(message)

    def _received_again(self, message: Response) -> None:
        if not 200 <= message.status < 300:
            return
        tag = message.to_tag
        for dialog, flow, sdp in self.acks:
            if dialog.remote_tag == tag:
                self._send_ack(dialog, flow, sdp)
                return
        if self.on_response:
            self.on_response(message)

    def _refused(self, message: Response) -> None:
        self.state = COMPLETED
        tell = self.on_response
        self._quiet()
        self.data = self._ack_refusal(message)
        self.request = emptied(self.request.method)
        self.flow.send(self.data)
        if self.flow.reliable:
            self.stop()
        else:
            self.timer = self.stack.timers.start(max(32.0, self.stack.times.timeout), self._expire)  # Timer D
        if tell:
            tell(message)

    def _ack_refusal(self, message: Response) -> bytes:
        """ACK of a final response that is not 2xx, within this transaction (§17.1.1.3)."""
        return self._same_branch(b"ACK", message.to).encode()

    def _same_branch(self, method: bytes, to: bytes) -> Request:
        request = self.request
        fields = [entry for entry in request.fields if entry[0] in (b"from", b"call-id", b"route", b"max-forwards")]
        fields.insert(0, self.stack.via(self.flow, self.branch))
        fields.append(field(b"To", to))
        fields.append(field(b"CSeq", b"%d %b" % (request.cseq, method)))
        return Request(method, request.uri, fields)

    @property
    def owes_ack(self) -> bool:
        """A 2xx has come and nobody has acknowledged it."""
        return self.state == ACCEPTED and not self.acks

    def acknowledges(self, remote_tag: bytes) -> bool:
        """The 2xx of that fork has had its ACK."""
        return any(dialog.remote_tag == remote_tag for dialog, _, _ in self.acks)

    def acknowledge(self, dialog: Dialog, flow: Flow, sdp: bytes = b"") -> None:
        """Send the ACK of the 2xx that made, or refreshed, `dialog`, and again whenever that 2xx comes again."""
        if not self.acknowledges(dialog.remote_tag):
            self.acks += ((dialog, flow, sdp),)
        self._send_ack(dialog, flow, sdp)

    def _send_ack(self, dialog: Dialog, flow: Flow, sdp: bytes) -> None:
        """It is made anew each time: kept, it would take more room than all that it is made of."""
        ack = dialog.request(b"ACK", [SDP] if sdp else [], sdp, cseq=self.request.cseq)
        flow.send(self.stack.ack(ack, flow))

    def cancel(self) -> None:
        """CANCEL (§9.1): at once, or with the first 1xx; no effect after a final response."""
        if self.cancelled or self.state > PROCEEDING:
            return
        self.cancelled = True
        if self.state == PROCEEDING:
            self._send_cancel()

    def give_up(self) -> None:
        """Count as unanswered (408) now and send nothing more. What comes late is still ours: a 1xx draws a CANCEL, a
        2xx goes to the user, who has to end it (§13.2.2.4)."""
        if self.state > PROCEEDING:
            return
        if self.state == TRYING:
            self.cancelled = True
            self._stop_timer()
            self.timer = self.stack.timers.start(self.stack.times.timeout, self._expire)
        else:
            self.cancel()
        if self.on_response:
            self.on_response(response(self.request, 408))

    def _send_cancel(self) -> None:
        request = self._same_branch(b"CANCEL", self.request.to)
        self.stack.start_client(ClientTransaction, request, self.flow, self.branch, _ignore)
        # §9.1: a UAS that never ends the INVITE must not hold us; 64·T1 after the CANCEL it counts as ended.
        self._stop_timer()
        self.timer = self.stack.timers.start(self.stack.times.timeout, self._timed_out)


def _ignore(_: Response) -> None:
    """A CANCEL's own answer changes nothing: the INVITE's answer does."""
