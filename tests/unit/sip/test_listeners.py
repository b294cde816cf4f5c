"""Several listeners, and connections that end: what comes in by one leaves by the same (RFC 3261 §18.2.2)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import Random

from proxy.net.api import Address
from proxy.net.timers import Timers
from proxy.sip.message import Request, field
from proxy.sip.parser import parse
from proxy.sip.stack import Stack
from proxy.sip.transport import TcpTransport, UdpTransport
from tests.sim.loop import VirtualLoop
from tests.sim.network import SimNetwork
from tests.unit.sip.hand_stack import Bench, FakeFlow, Recorder
from tests.unit.sip.test_way import dialog_to

OUR, PEER = "10.0.0.1", "10.0.1.1"
FIRST, SECOND = (OUR, 5060), (OUR, 5070)


class Yard:
    """A stack that listens twice, and a peer of words."""

    def __init__(self, loop: VirtualLoop) -> None:
        network = SimNetwork(loop, Random(1))
        self.ours, self.peer = network.host(OUR, loop), network.host(PEER, loop)
        self.stack = Stack(Timers(loop), Random(1))
        self.core = self.stack.core = Recorder()

    async def open(self) -> None:
        for bind in (FIRST, SECOND):
            self.stack.transports.append(UdpTransport(self.ours, bind, self.stack.receive))
            tcp = TcpTransport(self.ours, self.stack.timers, bind, self.stack.receive, self.stack.flow_closed)
            await tcp.listen()
            self.stack.transports.append(tcp)

    async def answer(self) -> None:
        await asyncio.sleep(0.1)
        self.core.transactions[-1].reply(200)
        await asyncio.sleep(0.1)


def play(script: Callable[[Yard], Awaitable[None]]) -> None:
    loop = VirtualLoop()

    async def main() -> None:
        yard = Yard(loop)
        await yard.open()
        await script(yard)
        await yard.stack.close()

    loop.run(main())


def options(transport: str, sent_by: str) -> bytes:
    lines = [
        f"OPTIONS sip:x@{OUR} SIP/2.0",
        f"Via: SIP/2.0/{transport} {sent_by};branch=z9hG4bK1",
        "From: <sip:a@example.com>;tag=them",
        "To: <sip:b@example.com>",
        "Call-ID: call",
        "CSeq: 1 OPTIONS",
        "Content-Length: 0",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def test_an_answer_leaves_from_the_listener_that_the_request_came_to() -> None:
    async def script(yard: Yard) -> None:
        heard: list[Address] = []
        yard.peer.udp((PEER, 5082), lambda data, source: heard.append(source))
        sender = yard.peer.udp((PEER, 5080), lambda data, source: heard.append(source))
        sender.send(options("UDP", f"{PEER}:5082"), SECOND)  # no rport: it is answered at the port of the Via
        await yard.answer()
        assert heard == [SECOND]

    play(script)


def test_a_request_in_a_dialog_leaves_from_the_listener_that_the_dialog_lives_on() -> None:
    async def script(yard: Yard) -> None:
        stack = yard.stack
        came_by = stack.flow("udp", (PEER, 5060), SECOND)
        way = stack.way(dialog_to(b"sip:them@10.0.1.1:5090"), came_by)
        assert (way.remote, way.bound) == ((PEER, 5090), SECOND)
        assert b"10.0.0.1:5070" in stack.via(way, b"z9hG4bK2")[1]
        over = stack.way(dialog_to(b"sip:them@10.0.1.1:5090;transport=tcp"), came_by)
        assert (over.transport, over.bound) == (b"TCP", SECOND)

    play(script)


def test_what_is_bound_to_no_listener_leaves_from_the_first_that_can() -> None:
    async def script(yard: Yard) -> None:
        assert yard.stack.flow("udp", (PEER, 5060)).bound == FIRST
        assert yard.stack.flow("tcp", (PEER, 5060), ("10.0.0.9", 5060)).bound == FIRST

    play(script)


def test_the_answer_to_a_connection_that_has_ended_goes_to_its_host_on_a_new_one() -> None:
    async def script(yard: Yard) -> None:
        heard: list[bytes] = []

        def accept(stream: object) -> None:
            stream.on_data, stream.on_close = heard.append, lambda error: None  # type: ignore[attr-defined]

        await yard.peer.listen_tcp((PEER, 5085), accept)
        stream = await yard.peer.connect_tcp(FIRST)
        stream.on_data, stream.on_close = heard.append, lambda error: None
        stream.write(options("TCP", "phone.example.com:5085"))
        await asyncio.sleep(0.1)
        stream.close()
        await yard.answer()
        (answer,) = heard
        assert answer.startswith(b"SIP/2.0 200")
        assert b";received=10.0.1.1" in (parse(answer).get(b"via") or b"")  # §18.2.1

    play(script)


def test_the_end_of_many_connections_does_not_look_at_every_transaction() -> None:
    bench = Bench()
    flows = [FakeFlow(("192.0.2.9", port), reliable=True) for port in range(5000)]
    told: list[int] = []
    for number, flow in enumerate([*flows, *(bench.flow for _ in range(20_000))]):
        request = Request(b"INFO", b"sip:b@192.0.2.9", [field(b"CSeq", b"%d INFO" % number)])
        bench.stack.request(request, flow, lambda message: told.append(message.status))
    began = time.process_time()
    for flow in flows:
        bench.stack.flow_closed(flow)
    spent_s = time.process_time() - began
    assert told == [503] * len(flows) and len(bench.stack.clients) == 20_000
    assert spent_s < 0.4  # over a second when each end looks at each transaction
