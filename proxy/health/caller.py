"""The built-in caller of synthetic calls: this project's own SIP, and one RTP stream of G.711 on the node's event loop.

It stands beside the node's SIP stack, with a socket of its own, as the probes do. It answers the question "does this
backend hear and speak?" with what is always there; pjsua2 (`media.probe`) asks as a phone of another make.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

from media.probe.call import SAYS_HZ, CallerFailed, Outcome, SyntheticCall
from media.probe.ear import FRAME_S, Ear
from media.rtp.g711 import PACKET_SAMPLES, PCMA, PCMU, decode, encode
from media.rtp.packet import pack, parse
from media.rtp.sound import tone
from media.sdp import SdpError, codecs
from media.sdp import parse as parse_sdp
from proxy.config import PortRange
from proxy.net.api import Address, Network, UdpPort
from proxy.net.timers import Timers
from proxy.sip.flow import NoTransport
from proxy.sip.stack import Stack
from proxy.sip.transport import TcpTransport, UdpTransport
from proxy.sip.user_agent import CallFailed, Session, UserAgent

_G711 = {b"PCMU/8000": PCMU, b"PCMA/8000": PCMA}
GIVE_UP_S = 32.0  # Timer B: later than anything else
_VOLUME = 8000
_FRAMES = {codec: encode(tone(SAYS_HZ, PACKET_SAMPLES, _VOLUME), codec) for codec in (PCMU, PCMA)}


class BuiltInCaller:
    def __init__(
        self, network: Network, loop: asyncio.AbstractEventLoop, rng: Random, sip_hosts: Sequence[str],
        media_host: str, ports: PortRange, agent: str,
    ) -> None:  # fmt: skip
        """`sip_hosts`: an address for each family. RTP ports are taken from the upper end of `ports`, for the relay
        begins at the lower one. Raises OSError."""
        self._network = network
        self._loop = loop
        self._rng = rng
        self._media_host = media_host
        self._ports = ports
        timers = Timers(loop)
        stack = Stack(timers, rng)
        for host in sip_hosts:
            stack.transports.append(UdpTransport(network, (host, 0), stack.receive))
            # Nobody connects to us: what a TCP backend says comes on the connection that we have opened.
            tcp = TcpTransport(network, timers, (host, 0), stack.receive, stack.flow_closed)
            stack.transports.append(tcp)
        self._agent = UserAgent(stack, agent)

    async def place(self, call: SyntheticCall) -> Outcome:
        listening = _Listening(self._loop, Ear(call.hears_hz))
        port = self._open(listening)
        began = self._loop.time()
        try:
            offer = _offer(port.local, self._rng.getrandbits(31))
            async with asyncio.timeout(call.answer_s):  # an answer that comes later is ended by the user agent
                session = await self._agent.invite(call.uri, offer, timeout_s=call.answer_s + GIVE_UP_S)
            return await self._talk(call, session, port, listening, self._loop.time() - began)
        except TimeoutError:
            return Outcome(408, self._loop.time() - began)
        except NoTransport as error:
            raise CallerFailed(str(error)) from None
        except CallFailed as error:
            return Outcome(error.status, self._loop.time() - began)
        finally:
            port.close()

    async def _talk(
        self, call: SyntheticCall, session: Session, port: UdpPort, listening: _Listening, setup_s: float
    ) -> Outcome:
        loop, ear = self._loop, listening.ear
        answered_at = loop.time()
        try:
            await self._listen(call, session, port, listening)
            ended = session.ended.done()
        finally:  # also when the node stops in the middle
            self._hang_up(session)
        return Outcome(
            200,
            setup_s,
            listening.packets,
            None if ear.first_at is None else max(0.0, ear.first_at - answered_at),
            ear.longest_gap_s(loop.time()),
            ended,
        )

    async def _listen(self, call: SyntheticCall, session: Session, port: UdpPort, listening: _Listening) -> None:
        """Say the tone until enough was heard, or not in time."""
        agreed = _agreed(session.remote_sdp)
        if agreed is None:
            return
        remote, payload_type, codec = agreed
        listening.codec, listening.payload_type = codec, payload_type
        loop, ear = self._loop, listening.ear
        sequence, stamp, ssrc = (self._rng.getrandbits(bits) for bits in (16, 32, 32))
        began = due = loop.time()
        while not session.ended.done():
            port.send(pack(payload_type, sequence, stamp, ssrc, _FRAMES[codec]), remote)
            sequence, stamp, due = sequence + 1, stamp + PACKET_SAMPLES, due + FRAME_S
            if loop.time() >= (began + call.hear_s if ear.first_at is None else ear.first_at + call.listen_s):
                return
            await asyncio.sleep(due - loop.time())

    def _hang_up(self, session: Session) -> None:
        if not session.ended.done():
            session.end("heard enough")
            bye = session.dialog.request(b"BYE", [])
            self._agent.stack.request(bye, self._agent.way(session), lambda _: None)  # the answer says nothing new

    def _open(self, listening: _Listening) -> UdpPort:
        first, last = self._ports
        for number in range(last - 1 if last % 2 else last, first - 1, -2):  # RTP on even ports (RFC 3550 §11)
            try:
                return self._network.udp((self._media_host, number), listening.take)
            except OSError:
                continue
        raise CallerFailed(f"no RTP port is free on {self._media_host}")

    async def close(self) -> None:
        await self._agent.close()


class _Listening:
    """What comes to one call's RTP port."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ear: Ear) -> None:
        self._loop = loop
        self.ear = ear
        self.packets = 0
        self.codec = PCMU
        self.payload_type = PCMU

    def take(self, data: bytes, source: Address) -> None:
        try:
            packet = parse(data)
        except ValueError:
            return
        self.packets += 1
        if packet.payload_type == self.payload_type and packet.payload:
            self.ear.take(decode(packet.payload, self.codec), self._loop.time())


def _offer(local: Address, number: int) -> bytes:
    family = "IP6" if ":" in local[0] else "IP4"
    return (
        f"v=0\r\no=- {number} 1 IN {family} {local[0]}\r\ns=-\r\nc=IN {family} {local[0]}\r\nt=0 0\r\n"
        f"m=audio {local[1]} RTP/AVP {PCMU} {PCMA}\r\na=rtpmap:{PCMU} PCMU/8000\r\na=rtpmap:{PCMA} PCMA/8000\r\n"
        "a=ptime:20\r\n"
    ).encode()


def _agreed(answer: bytes) -> tuple[Address, int, int] | None:
    """Where the backend wants audio, as which payload type, in which codec; None: it wants none that we have."""
    try:
        description = parse_sdp(answer)
    except SdpError:
        return None
    for media in description.media[:1]:
        if media.rejected or media.opaque:
            return None
        for codec in codecs(description, media):
            if codec.encoding in _G711:
                return (media.host, media.port), int(codec.payload_type), _G711[codec.encoding]
    return None
