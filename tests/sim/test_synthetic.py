"""Synthetic calls in virtual time: the schedule, the built-in caller with its RTP, and what health makes of it.

The node's side (`Health`, `Synthetic`, `BuiltInCaller`) runs in a process of its own, so that it can stand still.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from media.probe.call import CallerFailed, Outcome, SyntheticCall
from media.rtp.g711 import PCMU, encode
from media.rtp.packet import pack, parse
from media.rtp.sound import tone
from proxy.backends import Admin, Backend, Backends, Verdict
from proxy.config import PortRange
from proxy.config import parse as parse_settings
from proxy.health import Diagnosis, Evidence, Health
from proxy.health.caller import BuiltInCaller
from proxy.health.selfcheck import SelfCheck
from proxy.health.synthetic import Synthetic
from proxy.net.api import Address, UdpPort
from proxy.net.timers import Timers
from proxy.sip.stack import Stack
from proxy.sip.transport import UdpTransport
from proxy.sip.user_agent import Incoming, Session, UserAgent
from tests.sim.loop import VirtualLoop
from tests.sim.network import SimHost, SimNetwork

NODE, FIRST, SECOND = "10.0.0.1", "10.0.2.1", "10.0.2.2"
INTERVAL_S = 10.0


class Extension:
    """A backend whose every number is the test extension, in one of several states of health."""

    def __init__(self, host: SimHost) -> None:
        self.host = host
        self.mode = "echo"  # or mute, other (a tone that nobody asked for), hang (never answers), or a status
        self.silent = False  # drops what it should echo at this moment
        self.asked = 0
        self.sessions: list[Session] = []
        stack = Stack(Timers(host.loop), Random(host.address))
        stack.transports.append(UdpTransport(host, (host.address, 5060), stack.receive))
        self._agent = UserAgent(stack, "pbx")
        self._agent.on_invite = self._invited

    async def _invited(self, incoming: Incoming) -> None:
        self.asked += 1
        if self.mode.isdigit():
            incoming.reject(int(self.mode))
            return
        if self.mode == "hang":
            await incoming.cancelled
            return
        if self.mode == "slow":
            await asyncio.sleep(5.0)
        port = self.host.udp((self.host.address, 0), lambda data, source: self._heard(port, data, source))
        sdp = (
            f"v=0\r\no=- 1 1 IN IP4 {self.host.address}\r\ns=-\r\nc=IN IP4 {self.host.address}\r\nt=0 0\r\n"
            f"m=audio {port.local[1]} RTP/AVP 0\r\n"
        )
        session = incoming.accept(sdp.encode())
        if session is not None:
            self.sessions.append(session)
            await session.ended
        port.close()

    def _heard(self, port: UdpPort, data: bytes, source: Address) -> None:
        if self.silent or self.mode == "mute":
            return
        if self.mode == "other":
            packet = parse(data)
            data = pack(PCMU, packet.sequence, packet.timestamp, 1, encode(tone(400, 160), PCMU))
        port.send(data, source)


class Site:
    """Two such backends, and what watches them."""

    def __init__(self, loop: VirtualLoop, synthetic: str) -> None:
        self.loop = loop
        self.network = SimNetwork(loop, Random(1))
        self.extensions = [Extension(self.network.host(address, loop)) for address in (FIRST, SECOND)]
        self.host = self.network.host(NODE)
        settings = parse_settings(
            f"""
            pools:
              pbx:
                health: {{synthetic: {{extension: "600", caller: builtin, {synthetic}}}}}
                backends: {{as1: {{address: "{FIRST}"}}, as2: {{address: "{SECOND}"}}}}
            routes: [{{pool: pbx}}]
            """
        )
        self.backends = Backends(settings)
        self.first, self.second = self.backends
        self.health: Health
        self.synthetic: Synthetic
        self.caller: BuiltInCaller

    async def start(self) -> None:
        loop, rng = self.host.loop, Random(2)
        self.health = Health(self.backends, self.host, loop, rng, NODE)
        self.synthetic = Synthetic(self.backends, self.health, loop, rng)
        self.caller = BuiltInCaller(self.host, loop, rng, (NODE,), NODE, PortRange(20000, 20019), "aqueduct")
        self.synthetic.callers["builtin"] = self.caller
        self.health.start()
        self.synthetic.start()

    async def call(self, hears_hz: int = 850) -> Outcome:
        order = SyntheticCall(f"sip:600@{FIRST}:5060;transport=udp", hears_hz, 2.0, 2.0, 1.0)
        outcome: Outcome = await self.host.process.spawn(self.caller.place(order))
        return outcome

    def of(self, backend: Backend) -> dict[str, object]:
        explained = self.synthetic.explain(backend)
        assert explained is not None
        return explained


def play(script: Callable[[Site], Awaitable[None]], synthetic: str = f"interval_s: {INTERVAL_S}") -> None:
    loop = VirtualLoop()
    site = Site(loop, synthetic)

    async def run() -> None:
        await site.host.process.spawn(site.start())
        await script(site)
        await site.host.process.spawn(site.synthetic.stop())
        site.health.stop()

    loop.run(run())


# -- one call


def test_an_echo_is_heard_and_measured_and_the_call_is_ended() -> None:
    async def script(site: Site) -> None:
        outcome = await site.call()
        assert outcome.heard and outcome.setup_s < 0.1
        assert outcome.silence_s is not None and outcome.silence_s < 0.1
        assert outcome.gap_s < 0.02 and outcome.packets >= 50
        await asyncio.sleep(1.0)
        assert [session.ended.result() for session in site.extensions[0].sessions] == ["bye received"]

    play(script, "interval_s: 3600")


def test_a_hole_in_the_audio_is_measured() -> None:
    async def script(site: Site) -> None:
        calling = asyncio.ensure_future(site.call())
        await asyncio.sleep(0.5)
        site.extensions[0].silent = True
        await asyncio.sleep(0.3)
        site.extensions[0].silent = False
        assert 0.28 <= (await calling).gap_s <= 0.32

    play(script, "interval_s: 3600")


def test_nothing_at_all_is_told_from_a_backend_that_does_not_hear_us() -> None:
    async def script(site: Site) -> None:
        site.extensions[0].mode = "mute"
        assert "not one packet came" in str(await site.call())
        site.extensions[0].mode = "other"
        one_way = await site.call()
        assert one_way.packets > 50 and "without the tone" in str(one_way)
        assert (await site.call(hears_hz=400)).heard  # it is what this call was told to listen for

    play(script, "interval_s: 3600")


def test_an_answer_that_comes_too_late_is_ended() -> None:
    async def script(site: Site) -> None:
        site.extensions[0].mode = "slow"
        outcome = await site.call()
        assert (outcome.status, outcome.heard) == (408, False)
        await asyncio.sleep(10.0)
        assert [session.ended.done() for session in site.extensions[0].sessions] in ([], [True])

    play(script, "interval_s: 3600")


def test_without_a_free_port_the_backend_is_not_blamed() -> None:
    async def script(site: Site) -> None:
        taken = [site.host.udp((NODE, number), lambda data, source: None) for number in range(20000, 20020)]
        try:
            await site.call()
        except CallerFailed as error:
            assert "no RTP port" in str(error)
        else:
            raise AssertionError("it was placed")
        for port in taken:
            port.close()

    play(script, "interval_s: 3600")


def test_a_backend_of_a_family_that_we_have_no_address_of_is_not_blamed() -> None:
    async def script(site: Site) -> None:
        order = SyntheticCall("sip:600@[2001:db8::1]:5060;transport=udp", 850, 1.0, 1.0, 1.0)
        with pytest.raises(CallerFailed, match="no IPv6 listener"):
            await site.host.process.spawn(site.caller.place(order))

    play(script, "interval_s: 3600")


# -- the schedule, and what comes of it


def test_every_backend_is_called_at_its_interval() -> None:
    async def script(site: Site) -> None:
        await asyncio.sleep(20 * INTERVAL_S)
        for extension, backend in zip(site.extensions, site.backends, strict=True):
            assert 18 <= extension.asked <= 20
            assert site.of(backend)["heard"] == extension.asked
            assert site.health.explain(backend)["evidence"][Evidence.SYNTHETIC_OK] == extension.asked
        assert site.first.verdict is site.second.verdict is Verdict.UP

    play(script)


def test_media_that_dies_behind_a_living_sip_stack_is_found_and_its_return_too() -> None:
    async def script(site: Site) -> None:
        await asyncio.sleep(2 * INTERVAL_S)
        site.extensions[0].mode = "mute"
        await asyncio.sleep(2 * INTERVAL_S)
        explained = site.health.explain(site.first)
        assert (site.first.verdict, explained["diagnosis"]) == (Verdict.DEGRADED, Diagnosis.MEDIA_DEAD)
        assert explained["evidence"].get(Evidence.OPTIONS_TIMEOUT, 0) == 0
        assert site.second.verdict is Verdict.UP
        site.extensions[0].mode = "echo"
        await asyncio.sleep(2 * INTERVAL_S)
        assert site.first.verdict is Verdict.UP

    play(script)


def test_one_failure_is_not_believed_but_tried_again_soon() -> None:
    async def script(site: Site) -> None:
        await asyncio.sleep(2 * INTERVAL_S)
        asked = site.extensions[0].asked
        site.extensions[0].mode = "mute"
        while site.of(site.first)["failed"] == 0:
            await asyncio.sleep(0.05)
        site.extensions[0].mode = "echo"
        began = site.loop.time()
        while site.extensions[0].asked < asked + 2:
            await asyncio.sleep(0.05)
        assert site.loop.time() - began < 1.0
        await asyncio.sleep(INTERVAL_S)
        assert Evidence.SYNTHETIC_FAILED not in site.health.explain(site.first)["evidence"]
        assert site.first.verdict is Verdict.UP

    play(script)


def test_a_call_that_is_not_answered_is_a_failure() -> None:
    async def script(site: Site) -> None:
        site.extensions[0].mode = "hang"
        await asyncio.sleep(3 * INTERVAL_S)
        assert site.of(site.first)["last"] == "not answered"
        assert site.first.verdict is Verdict.DEGRADED

    play(script)


def test_a_refusal_is_a_matter_of_configuration() -> None:
    async def script(site: Site) -> None:
        site.extensions[0].mode = "404"
        await asyncio.sleep(5 * INTERVAL_S)
        explained = site.of(site.first)
        assert (explained["last"], explained["failed"]) == ("refused with 404", 0)
        assert explained["refused"] == explained["placed"] == site.extensions[0].asked
        assert site.first.verdict is Verdict.UP

    play(script)


def test_a_backend_that_is_down_or_in_maintenance_is_left_alone() -> None:
    async def script(site: Site) -> None:
        await asyncio.sleep(2 * INTERVAL_S)
        site.second.admin = Admin.MAINT
        site.network.cut(NODE, FIRST)
        await asyncio.sleep(2 * INTERVAL_S)  # the last one may have been under way
        asked = [extension.asked for extension in site.extensions]
        failed = site.of(site.first)["failed"]
        await asyncio.sleep(5 * INTERVAL_S)
        assert site.first.verdict is Verdict.DOWN
        assert [extension.asked for extension in site.extensions] == asked
        assert site.of(site.first)["failed"] == failed

    play(script)


async def the_node_stands_still_in_six_calls(site: Site) -> None:
    site.extensions[0].silent = True
    asked = 0
    for _ in range(6):
        while site.extensions[0].asked == asked:
            await asyncio.sleep(0.01)
        asked = site.extensions[0].asked
        await asyncio.sleep(0.1)  # it is answered: all that would be heard falls into our absence
        site.network.freeze(NODE)
        await asyncio.sleep(3.0)
        site.network.thaw(NODE)
    await asyncio.sleep(0.1)
    assert site.of(site.first)["failed"] == 0


def test_what_was_not_heard_while_we_stood_still_is_not_held_against_the_backend() -> None:
    play(the_node_stands_still_in_six_calls)


def test_who_does_not_know_that_he_stood_still_blames_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    class Oblivious(SelfCheck):
        def awake(self, now: float) -> float:
            awake = super().awake(now)
            self.stalls = 0
            return awake

    monkeypatch.setattr(Health, "selfcheck_type", Oblivious)
    with pytest.raises(AssertionError):
        play(the_node_stands_still_in_six_calls)
