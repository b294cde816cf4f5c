"""The TCP connection that carries probes: opened again at a pace when it is lost, cut into answers (RFC 3261 §18.3)."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from proxy.health import Evidence
from proxy.health.flow import ANSWER_BYTES_MAX, TcpFlow, trouble
from proxy.net.api import TcpStream
from tests.sim.loop import VirtualLoop
from tests.sim.network import SimNetwork

OUR, PEER = "10.0.0.1", "10.0.2.1"
ANSWER = b"SIP/2.0 200 OK\r\nContent-Length: 4\r\n\r\nbody"


class Yard:
    def __init__(self, loop: VirtualLoop) -> None:
        network = SimNetwork(loop, Random(1))
        self.loop = loop
        self.ours, self.peer = network.host(OUR, loop), network.host(PEER, loop)
        self.answers: list[bytes] = []
        self.evidence: list[tuple[float, Evidence]] = []
        self.streams: list[TcpStream] = []
        self.ended: list[OSError | None] = []

    async def listen(self, on_accept: Callable[[TcpStream], None] = lambda stream: None) -> None:
        def accept(stream: TcpStream) -> None:
            self.streams.append(stream)
            stream.on_data, stream.on_close = lambda data: None, self.ended.append
            on_accept(stream)

        await self.peer.listen_tcp((PEER, 5060), accept)

    def open(self) -> TcpFlow:
        return TcpFlow(
            self.ours,
            OUR,
            (PEER, 5060),
            self.answers.append,
            lambda what: self.evidence.append((self.loop.time(), what)),
        )


def play(script: Callable[[Yard], Awaitable[None]]) -> None:
    loop = VirtualLoop()

    async def main() -> None:
        await script(Yard(loop))

    loop.run(main())


async def probe(flow: TcpFlow, seconds: float, every_s: float = 0.005) -> None:
    for _ in range(round(seconds / every_s)):
        flow.send(b"OPTIONS sip:x SIP/2.0\r\n\r\n")
        await asyncio.sleep(every_s)


def test_a_peer_that_takes_every_connection_and_closes_it_is_not_asked_in_a_tight_loop() -> None:
    async def script(yard: Yard) -> None:
        await yard.listen(lambda stream: stream.close())
        flow = yard.open()
        await probe(flow, 10.0)
        assert 10 <= len(yard.streams) <= 20
        flow.close()

    play(script)


@pytest.mark.parametrize(
    ("error", "evidence"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), Evidence.ICMP_REFUSED),
        (ConnectionResetError(errno.ECONNRESET, "reset"), None),  # somebody listens there, who had enough of us
        (OSError(errno.EHOSTUNREACH, "no route"), Evidence.ICMP_UNREACHABLE),
        (OSError(errno.EMFILE, "too many open files"), None),
    ],
)
def test_only_a_refusal_is_a_refusal(error: OSError, evidence: Evidence | None) -> None:
    assert trouble(error) is evidence


def test_a_dead_process_refuses_twice_within_a_moment_and_then_at_a_pace() -> None:
    async def script(yard: Yard) -> None:
        flow = yard.open()
        await probe(flow, 2.0)
        assert {what for _, what in yard.evidence} == {Evidence.ICMP_REFUSED}
        first, second = (at for at, _ in yard.evidence[:2])
        assert 0.01 <= second - first <= 0.03
        assert len(yard.evidence) <= 100
        flow.close()

    play(script)


def test_a_connection_that_answered_is_opened_again_at_once() -> None:
    async def script(yard: Yard) -> None:
        await yard.listen(lambda stream: stream.write(ANSWER))
        flow = yard.open()
        await asyncio.sleep(1.0)
        yard.streams[0].close()
        await asyncio.sleep(0.01)
        assert len(yard.streams) == 2
        flow.close()

    play(script)


def test_answers_are_cut_out_whole_however_they_come() -> None:
    async def script(yard: Yard) -> None:
        await yard.listen()
        flow = yard.open()
        await asyncio.sleep(0.1)
        stream = yard.streams[0]
        stream.write(b"\r\n" + ANSWER + ANSWER[:20])
        await asyncio.sleep(0.1)
        assert yard.answers == [ANSWER]
        stream.write(ANSWER[20:])
        await asyncio.sleep(0.1)
        assert yard.answers == [ANSWER, ANSWER]
        flow.close()

    play(script)


def test_an_answer_without_an_end_costs_its_peer_the_connection() -> None:
    async def script(yard: Yard) -> None:
        await yard.listen()
        flow = yard.open()
        await asyncio.sleep(0.1)
        yard.streams[0].write(ANSWER + b"SIP/2.0 200 OK\r\nContent-Length: %d\r\n\r\n" % ANSWER_BYTES_MAX)
        await asyncio.sleep(0.1)
        assert yard.answers == [ANSWER] and yard.ended == [None]
        flow.close()

    play(script)
