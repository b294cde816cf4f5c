"""Transports on the simulated network: flows, connections that say nothing, break or are not read; limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from proxy.net.api import TcpStream
from proxy.net.timers import Timers
from proxy.sip.flow import Flow
from proxy.sip.parser import parse
from proxy.sip.transport import (
    BACKLOG_BYTES_MAX,
    CONNECT_TIMEOUT_S,
    FLOWS_REMEMBERED,
    WHOLE_MESSAGE_WITHIN_S,
    TcpTransport,
    UdpTransport,
)
from tests.sim.loop import VirtualLoop
from tests.sim.network import SimHost, SimNetwork

OUR, PEER = "10.0.0.1", "10.0.1.1"
OPTIONS = b"OPTIONS sip:x SIP/2.0\r\nContent-Length: 0\r\n\r\n"


class Yard:
    """A TCP transport that listens, and a host that connects to it or is connected to."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.network = SimNetwork(loop, Random(1))
        self.ours: SimHost = self.network.host(OUR, loop)
        self.peer: SimHost = self.network.host(PEER, loop)
        self.heard: list[tuple[bytes, Flow]] = []
        self.closed: list[Flow] = []
        self.timers = Timers(loop)
        self.tcp: TcpTransport

    def open(self, connections_max: int = 100, message_bytes_max: int = 2048) -> None:
        self.tcp = TcpTransport(
            self.ours,
            self.timers,
            (OUR, 5060),
            lambda data, flow: self.heard.append((data, flow)),
            self.closed.append,
            connections_max=connections_max,
            message_bytes_max=message_bytes_max,
        )

    async def connect(self) -> tuple[TcpStream, list[bytes], list[OSError | None]]:
        stream = await self.peer.connect_tcp((OUR, 5060))
        got: list[bytes] = []
        ended: list[OSError | None] = []
        stream.on_data, stream.on_close = got.append, ended.append
        return stream, got, ended


def play(script: Callable[[Yard], Awaitable[None]], **options: int) -> None:
    loop = VirtualLoop()

    async def main() -> None:
        yard = Yard(loop)
        yard.open(**options)
        await yard.tcp.listen()
        await script(yard)
        await yard.tcp.close()
        await asyncio.sleep(1.0)
        assert not yard.tcp.flows

    loop.run(main())


def test_messages_come_whole_and_with_the_flow_to_answer_on() -> None:
    async def script(yard: Yard) -> None:
        stream, got, _ = await yard.connect()
        stream.write(OPTIONS + OPTIONS[:10])
        await asyncio.sleep(0.1)
        stream.write(OPTIONS[10:])
        await asyncio.sleep(0.1)
        assert [data for data, _ in yard.heard] == [OPTIONS] * 2
        yard.heard[0][1].send(b"the answer")
        await asyncio.sleep(0.1)
        assert b"".join(got) == b"the answer"

    play(script)


def test_a_connection_that_says_nothing_is_closed() -> None:
    async def script(yard: Yard) -> None:
        _, _, ended = await yard.connect()
        await asyncio.sleep(WHOLE_MESSAGE_WITHIN_S - 0.1)
        assert not ended
        await asyncio.sleep(0.3)
        assert ended == [None] and yard.tcp.refused == 1 and not yard.tcp.flows

    play(script)


def test_a_connection_that_says_half_of_something_is_closed() -> None:
    async def script(yard: Yard) -> None:
        stream, _, ended = await yard.connect()
        stream.write(OPTIONS)
        await asyncio.sleep(60.0)
        assert not ended  # one that has spoken may be silent for long
        stream.write(OPTIONS[:10])
        await asyncio.sleep(WHOLE_MESSAGE_WITHIN_S + 0.2)
        assert ended and yard.tcp.refused == 1

    play(script)


def test_more_connections_than_allowed_are_closed_at_once() -> None:
    async def script(yard: Yard) -> None:
        allowed = [await yard.connect() for _ in range(3)]
        _, _, ended = await yard.connect()
        await asyncio.sleep(0.1)
        assert ended and yard.tcp.refused == 1 and len(yard.tcp.flows) == 3
        allowed[0][0].close()
        await asyncio.sleep(0.1)
        _, _, ended = await yard.connect()
        await asyncio.sleep(0.1)
        assert not ended

    play(script, connections_max=3)


def test_what_cannot_be_framed_closes_the_connection_and_is_told() -> None:
    async def script(yard: Yard) -> None:
        stream, _, ended = await yard.connect()
        stream.write(OPTIONS + b"OPTIONS sip:x SIP/2.0\r\nContent-Length: many\r\n\r\n")
        await asyncio.sleep(0.1)
        assert ended and len(yard.heard) == 1
        assert yard.tcp.framing_errors == 1 and PEER in yard.tcp.last_framing_error

    play(script)


def test_a_keep_alive_is_answered() -> None:
    async def script(yard: Yard) -> None:
        stream, got, _ = await yard.connect()
        stream.write(b"\r\n\r\n")
        await asyncio.sleep(0.1)
        assert b"".join(got) == b"\r\n"

    play(script)


def test_what_is_sent_while_a_connection_is_made_goes_out_in_order() -> None:
    async def script(yard: Yard) -> None:
        got: list[bytes] = []

        def accepted(stream: TcpStream) -> None:
            stream.on_data = got.append
            stream.on_close = lambda _: None

        await yard.peer.listen_tcp((PEER, 5060), accepted)
        flow = yard.tcp.flow((PEER, 5060))
        assert yard.tcp.flow((PEER, 5060)) is flow
        flow.send(b"one,")
        flow.send(b"two,")
        await asyncio.sleep(0.1)
        flow.send(b"three")
        await asyncio.sleep(0.1)
        assert b"".join(got) == b"one,two,three"

    play(script)


def test_a_connection_that_is_refused_closes_its_flow_once() -> None:
    async def script(yard: Yard) -> None:
        flow = yard.tcp.flow((PEER, 5060))
        flow.send(OPTIONS)
        await asyncio.sleep(0.1)
        assert yard.closed == [flow] and not flow.open
        assert yard.tcp.flow((PEER, 5060)) is not flow  # the next one tries again

    play(script)


def test_a_connection_that_nobody_answers_is_given_up() -> None:
    async def script(yard: Yard) -> None:
        yard.network.cut(OUR, PEER)
        flow = yard.tcp.flow((PEER, 5060))
        await asyncio.sleep(CONNECT_TIMEOUT_S - 0.1)
        assert flow.open
        await asyncio.sleep(0.2)
        assert yard.closed == [flow]

    play(script)


def test_a_peer_that_closes_closes_the_flow() -> None:
    async def script(yard: Yard) -> None:
        stream, _, _ = await yard.connect()
        stream.write(OPTIONS)
        await asyncio.sleep(0.1)
        stream.close()
        await asyncio.sleep(0.1)
        (flow,) = yard.closed
        assert flow is yard.heard[0][1] and not flow.open
        flow.send(b"goes nowhere")

    play(script)


def test_a_peer_that_does_not_read_is_cut_off() -> None:
    async def script(yard: Yard) -> None:
        stream, _, _ = await yard.connect()
        stream.write(OPTIONS)
        await asyncio.sleep(0.1)
        flow = yard.heard[0][1]
        yard.network.cut(OUR, PEER)
        for _ in range(BACKLOG_BYTES_MAX // 1000 + 500):
            flow.send(bytes(1000))
        assert not flow.open and yard.closed == [flow]
        yard.network.join(OUR, PEER)

    play(script)


def test_udp_keeps_one_flow_for_each_peer_and_bears_many() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        network = SimNetwork(loop, Random(1))
        heard: list[tuple[bytes, Flow]] = []
        udp = UdpTransport(network.host(OUR, loop), (OUR, 5060), lambda data, flow: heard.append((data, flow)))
        port = network.host(PEER, loop).udp((PEER, 5060), lambda data, source: None)
        for data in (OPTIONS, b"\r\n\r\n", b"\0", OPTIONS):
            port.send(data, (OUR, 5060))
        await asyncio.sleep(0.1)
        assert [data for data, _ in heard] == [OPTIONS, OPTIONS]  # keep-alives are no messages
        assert heard[0][1] is heard[1][1] is udp.flow((PEER, 5060))
        for number in range(FLOWS_REMEMBERED + 10):
            udp.flow((PEER, 10_000 + number))
        assert len(udp._flows) <= FLOWS_REMEMBERED
        await udp.close()

    loop.run(main())


def test_what_is_advertised_is_shown_and_what_is_bound_is_used() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        network = SimNetwork(loop, Random(1))
        udp = UdpTransport(network.host(OUR, loop), (OUR, 5060), lambda data, flow: None, advertise="192.0.2.1")
        assert (udp.bound, udp.local) == ((OUR, 5060), ("192.0.2.1", 5060))
        await udp.close()

    loop.run(main())


def request_line(length: bytes) -> bytes:
    return (
        b"OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/TCP 10.0.1.1:5060;branch=z9hG4bK1\r\nFrom: <sip:a@x>;\r\n tag=1\r\n"
        b"To: <sip:b@x>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n" + length + b"\r\n"
    )


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request_line(b"Content-Length: 5000\r\n"), b"513"),
        (request_line(b"Content-Length: many\r\n"), b"400"),
        (request_line(b"Content-Length: 1\r\nl: 2\r\n"), b"400"),
        (request_line(b""), b"400"),
        (request_line(b"").replace(b"OPTIONS", b"ACK"), b""),  # an ACK has no answer
        (request_line(b"").replace(b"OPTIONS sip:x SIP/2.0", b"SIP/2.0 200 OK"), b""),
        (b"nonsense\r\n\r\n", b""),
    ],
)
def test_a_request_whose_end_will_never_be_found_is_refused_before_its_connection_ends(
    data: bytes, status: bytes
) -> None:
    async def script(yard: Yard) -> None:
        stream, got, ended = await yard.connect()
        stream.write(data)
        await asyncio.sleep(0.1)
        answer = b"".join(got)
        assert answer[8:11] == status and ended
        if status:
            told = parse(answer)
            assert (told.call_id, told.cseq, told.branch, told.from_tag) == (b"1", 1, b"z9hG4bK1", b"1") and told.to_tag

    play(script)


def test_what_went_wrong_is_told_by_name() -> None:
    async def script(yard: Yard) -> None:
        stream, _, _ = await yard.connect()
        await yard.connect()
        stream.write(request_line(b""))
        await asyncio.sleep(0.1)
        figures = yard.tcp.figures()
        assert (figures["connections"], figures["refused"], figures["framing_errors"]) == (1, 0, 1)
        assert "no Content-Length" in str(figures["last_framing_error"])
        udp = UdpTransport(yard.ours, (OUR, 5061), lambda data, flow: None)
        assert udp.figures() == {"lost": 0}

    play(script)
