"""A stack on a hand-moved clock with a flow that keeps what is sent: what the tests of transactions share."""

from __future__ import annotations

import random
from typing import Any

from proxy.net.timers import Timers
from proxy.sip.client_transaction import ClientTransaction
from proxy.sip.flow import Flow
from proxy.sip.message import Request, Response, field, response
from proxy.sip.parser import parse
from proxy.sip.server_transaction import ServerTransaction
from proxy.sip.stack import Stack
from tests.unit.net.hand_loop import HandLoop

US, PEER = ("192.0.2.1", 5060), ("192.0.2.9", 5060)


class FakeFlow:
    """A flow whose peer is the test."""

    def __init__(self, remote: tuple[str, int] = PEER, reliable: bool = False) -> None:
        self.transport = b"TCP" if reliable else b"UDP"
        self.reliable = reliable
        self.local = self.bound = US
        self.remote = remote
        self.open = True
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.sent.append(data)


class FakeTransport:
    """Makes flows for the stack; the same one for an address each time."""

    name = b"UDP"
    bound = US

    def __init__(self) -> None:
        self.flows: dict[tuple[str, int], FakeFlow] = {}

    def flow(self, remote: tuple[str, int]) -> Flow:
        return self.flows.setdefault(remote, FakeFlow(remote))

    async def close(self) -> None:
        """Nothing to close."""


class Recorder:
    """A core that notes what it is given and answers nothing."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.transactions: list[ServerTransaction] = []
        self.acks: list[Request] = []
        self.strays: list[Response] = []

    def on_request(self, request: Request, transaction: ServerTransaction) -> None:
        self.requests.append(request)
        self.transactions.append(transaction)

    def on_ack(self, request: Request) -> None:
        self.acks.append(request)

    def on_stray(self, message: Response) -> None:
        self.strays.append(message)


class Bench:
    def __init__(self, reliable: bool = False) -> None:
        self.loop = HandLoop()
        self.stack = Stack(Timers(self.loop), random.Random(1))  # type: ignore[arg-type]
        self.core = Recorder()
        self.stack.core = self.core
        self.transport = FakeTransport()
        self.stack.transports.append(self.transport)
        self.flow = FakeFlow(reliable=reliable)
        self.transport.flows[PEER] = self.flow
        self._asked: dict[ClientTransaction, bytes] = {}
        self.heard: list[int] = []  # statuses that the user of a client transaction was told

    def advance(self, seconds: float) -> None:
        self.loop.advance(seconds)

    # -- as a client

    def request(self, method: bytes) -> Request:
        fields = [
            field(b"From", b"<sip:a@example.com>;tag=us"),
            field(b"To", b"<sip:b@example.com>"),
            field(b"Call-ID", b"call"),
            field(b"CSeq", b"1 " + method),
            field(b"Max-Forwards", b"70"),
        ]
        return Request(method, b"sip:b@192.0.2.9", fields)

    def ask(self, method: bytes) -> Any:
        """Send a request; an INVITE's transaction is an InviteClientTransaction."""
        placed = self.stack.request(self.request(method), self.flow, lambda message: self.heard.append(message.status))
        self._asked[placed] = placed.data  # as it went out: a transaction forgets what it needs no more
        return placed

    def answer(self, status: int, to_tag: bytes = b"them", sent: int = -1) -> None:
        """The peer answers what was sent."""
        asked = parse(self.flow.sent[sent])
        assert isinstance(asked, Request)
        self.stack.receive(response(asked, status, to_tag).encode(), self.flow)

    def answer_to(self, placed: ClientTransaction, status: int, to_tag: bytes = b"them") -> None:
        asked = parse(self._asked[placed])
        assert isinstance(asked, Request)
        self.stack.receive(response(asked, status, to_tag).encode(), self.flow)

    # -- as a server

    def receive(self, method: str, branch: str = "z9hG4bK1", via: str = "", to: str = "", cseq: int = 1) -> None:
        lines = [
            f"{method} sip:b@192.0.2.1 SIP/2.0",
            f"Via: SIP/2.0/UDP {via or '192.0.2.9:5060'};branch={branch}",
            "From: <sip:a@example.com>;tag=them",
            f"To: <sip:b@example.com>{to}",
            "Call-ID: call",
            f"CSeq: {cseq} {method}",
            "Max-Forwards: 70",
            "",
            "",
        ]
        self.stack.receive("\r\n".join(lines).encode(), self.flow)

    # -- what was sent

    @property
    def starts(self) -> list[str]:
        return [start(data) for data in self.flow.sent]

    @property
    def at_rest(self) -> bool:
        return not self.stack.clients and not self.stack.servers and not self.stack._merging


def start(data: bytes) -> str:
    """ "INVITE" or "200 INVITE"."""
    message = parse(data)
    if isinstance(message, Request):
        return message.method.decode()
    return f"{message.status} {message.method.decode()}"


def moments(bench: Bench, seconds: float, step: float = 0.01) -> list[float]:
    """When, in seconds from now, something is sent during that time; to a hundredth."""
    found, began = [], bench.loop.time()
    before = len(bench.flow.sent)
    for _ in range(round(seconds / step)):
        bench.advance(step)
        if len(bench.flow.sent) > before:
            found.append(round(bench.loop.time() - began, 2))
            before = len(bench.flow.sent)
    return found


def near(found: list[float], expected: list[float]) -> bool:
    """Each at its time or a slot of the timers later, which adds up when one timer starts the next."""
    late = [each - due for each, due in zip(found, expected, strict=False)]
    return len(found) == len(expected) and all(0 <= by < 0.025 + 0.01 * index for index, by in enumerate(late))
