"""The reference backend on real sockets, called by the demo's own callers in the same process."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from media.sdp import parse
from proxy.demo.audio_line import AudioLine
from proxy.demo.backend import Backend
from proxy.demo.callers import Caller
from proxy.demo.conference import PARTIES_MAX
from proxy.demo.endpoint import Endpoint
from proxy.demo.rtp import RtpPorts
from proxy.demo.tones import Ear
from proxy.sip.client_transaction import InviteClientTransaction
from proxy.sip.dialog import Dialog
from proxy.sip.message import Response, field
from proxy.sip.user_agent import CallFailed
from tests.testbed.hosts import host

ADDRESS = (host(31), 5060)
PORTS = range(30000, 31000)
SAYS = 450


class Bed:
    """A backend that plays 1000 Hz, and callers."""

    def __init__(self) -> None:
        self.backend = Backend(ADDRESS, PORTS, 1000, calls_max=PARTIES_MAX + 1)
        self.endpoint = Endpoint((host(32), 5060), PORTS, "caller", self._tick)
        self._ear = Ear((SAYS, 600, 700, 850, 1000))
        self._callers: list[Caller] = []

    def _tick(self) -> None:
        for caller in self._callers:
            caller.tick()

    async def call(self, number: str, says: int = SAYS, expects: tuple[int, ...] = (SAYS, 1000)) -> Caller:
        caller = Caller(self.endpoint, self._ear, number, says, list(expects))
        self._callers.append(caller)
        await caller.place(ADDRESS)
        return caller

    async def close(self) -> None:
        await self.endpoint.close()
        await self.backend.close()


def run(scenario: Callable[[Bed], Awaitable[None]]) -> None:
    async def main() -> None:
        bed = Bed()
        try:
            async with asyncio.timeout(10):
                await scenario(bed)
        finally:
            await bed.close()

    asyncio.run(main())


async def hears(caller: Caller, *tones: int) -> None:
    """Wait until the caller hears exactly these tones; the scenario's deadline ends it otherwise."""
    while True:
        heard = caller.hearing
        if heard.hears(time.monotonic()) and heard.tones[-1] == frozenset(tones):
            return
        await asyncio.sleep(0.01)


async def is_silent(caller: Caller) -> None:
    packets = -1
    while caller.hearing.packets != packets:
        packets = caller.hearing.packets
        await asyncio.sleep(0.1)


def test_a_caller_hears_the_tone_or_its_own_echo_and_hangs_up() -> None:
    async def scenario(bed: Bed) -> None:
        for number, tone in (("tone", 1000), ("echo", SAYS)):
            caller = await bed.call(number)
            await hears(caller, tone)
            await caller.hang_up()
            assert caller.bye == 200
            await is_silent(caller)

    run(scenario)


def test_conference_parties_hear_each_other_and_not_those_of_another_room() -> None:
    async def scenario(bed: Bed) -> None:
        one = await bed.call("conf-a", 600, (700, 850))
        two = await bed.call("conf-a", 700, (600, 850))
        other = await bed.call("conf-b", 850, (600, 700))
        await hears(one, 700)
        await hears(two, 600)
        third = await bed.call("conf-a", 850, (600, 700))
        await hears(third, 600, 700)
        await hears(one, 700, 850)
        assert not other.hearing.arrivals
        await third.hang_up()
        await hears(one, 700)

    run(scenario)


def test_two_of_a_pair_hear_each_other_and_end_together_and_the_proxy_is_told() -> None:
    async def scenario(bed: Bed) -> None:
        one = await bed.call("pair-x", 600, (700,))
        two = await bed.call("pair-x", 700, (600,))
        await hears(one, 700)
        await hears(two, 600)
        assert (await bed.call("pair-x")).failed.startswith("486")
        await one.hang_up()
        while two.talking:
            await asyncio.sleep(0.01)

    run(scenario)


def test_who_comes_from_a_dead_backend_joins_those_it_had_been_connected_to() -> None:
    async def scenario(bed: Bed) -> None:
        one = await bed.call("pair-x", 600, (700,))
        line = AudioLine(bed.endpoint.rtp.open().address, random.Random(1))
        told = [(b"X-Aqueduct-Pair", b"x")]
        session = await bed.endpoint.agent.invite(f"sip:other@{ADDRESS[0]}:{ADDRESS[1]}", line.offer(), told)
        await one.hang_up()
        assert await session.ended == "bye received"

    run(scenario)


@pytest.mark.parametrize(("number", "status"), [("busy", 486), ("nobody", 404), ("", 404)])
def test_what_is_not_served_is_refused(number: str, status: int) -> None:
    async def scenario(bed: Bed) -> None:
        with pytest.raises(CallFailed) as refused:
            await bed.endpoint.agent.invite(f"sip:{number}@{ADDRESS[0]}:{ADDRESS[1]}".replace(":@", ":"), b"")
        assert refused.value.status == status

    run(scenario)


def test_an_offer_without_g711_is_refused() -> None:
    async def scenario(bed: Bed) -> None:
        offer = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 9\r\n"
        with pytest.raises(CallFailed) as refused:
            await bed.endpoint.agent.invite(f"sip:echo@{ADDRESS[0]}:{ADDRESS[1]}", offer)
        assert refused.value.status == 488

    run(scenario)


def test_a_full_conference_and_a_full_backend_refuse() -> None:
    async def scenario(bed: Bed) -> None:
        parties = [await bed.call("conf-a") for _ in range(PARTIES_MAX)]
        assert all(party.talking for party in parties)
        assert (await bed.call("conf-a")).failed.startswith("486")
        last = await bed.call("echo")
        assert last.talking
        assert (await bed.call("echo")).failed.startswith("503")
        await last.hang_up()
        await is_silent(last)
        assert (await bed.call("echo")).talking

    run(scenario)


def test_a_caller_on_hold_gets_no_audio_until_it_resumes() -> None:
    async def scenario(bed: Bed) -> None:
        caller = await bed.call("tone")
        await hears(caller, 1000)
        assert caller.session is not None
        answer = parse(await caller.session.reinvite(caller.audio.offer(b"sendonly")))
        assert answer.direction(answer.media[0]) == b"recvonly"
        await is_silent(caller)
        answer = parse(await caller.session.update(caller.audio.offer()))
        assert answer.direction(answer.media[0]) == b"sendrecv"
        await hears(caller, 1000)

    run(scenario)


def test_an_invite_without_an_offer_gets_one_and_its_ack_brings_the_answer() -> None:
    async def scenario(bed: Bed) -> None:
        agent, done = bed.endpoint.agent, asyncio.get_running_loop().create_future()
        heard: list[bytes] = []
        ports = RtpPorts(host(32), range(32000, 32100), bed.endpoint.rng)
        port = ports.open()
        port.on_packet = lambda payload_type, payload, at: heard.append(payload)
        flow = agent.stack.flow("udp", ADDRESS)
        uri = b"sip:tone@%b:%d" % (ADDRESS[0].encode(), ADDRESS[1])
        seed = Dialog(b"late@test", b"<sip:caller@test>", b"tag", b"<" + uri + b">", b"")
        seed.target = uri
        invite = seed.request(b"INVITE", [agent.contact(flow)])

        def answered(message: Response) -> None:
            if message.status >= 200:
                done.set_result(message)

        transaction = agent.stack.request(invite, flow, answered)
        assert isinstance(transaction, InviteClientTransaction)
        message: Response = await done
        line = AudioLine(port.address, bed.endpoint.rng)
        answer = line.answer(message.sdp)
        assert isinstance(answer, bytes)
        assert not heard
        dialog = Dialog.uac(invite, message)
        transaction.acknowledge(dialog, flow, answer)
        while not heard:
            await asyncio.sleep(0.01)
        ports.close()

    run(scenario)


def test_options_are_answered() -> None:
    async def scenario(bed: Bed) -> None:
        stack, done = bed.endpoint.agent.stack, asyncio.get_running_loop().create_future()
        flow = stack.flow("udp", ADDRESS)
        seed = Dialog(b"ping@test", b"<sip:ping@test>", b"tag", b"<sip:test>", b"")
        seed.target = b"sip:%b:%d" % (ADDRESS[0].encode(), ADDRESS[1])
        stack.request(seed.request(b"OPTIONS", []), flow, done.set_result)
        message: Any = await done
        assert message.status == 200
        assert field(b"Allow", b"")[0] in dict(message.fields)

    run(scenario)


def test_rtp_ports_are_even_and_bounded() -> None:
    async def main() -> None:
        ports = RtpPorts(host(33), range(30001, 30006), random.Random(1))
        opened = [ports.open(), ports.open()]
        assert sorted(port.address[1] for port in opened) == [30002, 30004]
        with pytest.raises(OSError, match="no RTP port is free"):
            ports.open()
        ports.release(opened[0])
        assert ports.open().address[1] == 30002
        assert len(ports) == 2
        ports.close()
        assert len(ports) == 0

    asyncio.run(main())
