"""SIP endpoints of the simulation: phones that call, telephony servers that answer, each with an RTP port a call.

They are the user agent of `proxy.sip` on a simulated host; a call's RTP port is open in `Audio` while the agent
is in the call. Every call bears a number in `X-Call`, so that both ends of one call can be found again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from proxy.net.timers import Timers
from proxy.sip.message import Request
from proxy.sip.stack import Stack
from proxy.sip.times import Times
from proxy.sip.transport import UdpTransport
from proxy.sip.user_agent import CallFailed, Headers, Incoming, Session, UserAgent
from tests.sim.media import Audio
from tests.sim.network import SimHost

MIRROR = {b"sendrecv": b"sendrecv", b"sendonly": b"recvonly", b"recvonly": b"sendonly", b"inactive": b"inactive"}


def direction_of(sdp: bytes) -> bytes:
    return next((line[2:] for line in sdp.split(b"\r\n") if line[2:] in MIRROR and line[:2] == b"a="), b"sendrecv")


class Conversation:
    """One agent's end of a call: its RTP port and description, and, once it is answered, its session."""

    def __init__(self, agent: Agent, number: bytes) -> None:
        self.agent = agent
        self.number = number
        self.port = agent.next_rtp_port()
        self.version = 0
        self.direction = b"sendrecv"
        self.session: Session | None = None
        self.began = agent.host.network.loop.time()
        self.told = b""  # the peer's latest description: where to listen for its voice
        self._described = b""
        self.codecs = b"8"
        self.bond = b""  # name of the pair or conference that it is in
        self.moderator = self.muted = False  # in a conference

    def describe(self, direction: bytes = b"sendrecv") -> bytes:
        """Our description; the version counts what changed (RFC 3264 §8)."""
        host = self.agent.host.address.encode()
        rest = (
            b"s=-\r\nc=IN IP4 %b\r\nt=0 0\r\nm=audio %d RTP/AVP %b 101\r\na=rtpmap:101 telephone-event/8000\r\na=%b\r\n"
        )
        body = rest % (host, self.port, self.codecs, direction)
        if body != self._described:
            self._described = body
            self.version += 1
        self.direction = direction
        return b"v=0\r\no=- %d %d IN IP4 %b\r\n%b" % (self.port, self.version, host, body)

    def answer(self, offer: bytes) -> bytes:
        self.told = offer
        return self.describe(MIRROR[direction_of(offer)])

    def listen(self) -> None:
        self.agent.audio.open(self.agent.host, self.port)

    def talk(self, session: Session) -> None:
        """The call is answered."""
        self.session = session
        self.told = session.remote_sdp
        session.on_offer = self.answer
        session.on_answer = self._told_late
        self.agent.live[self] = None
        session.ended.add_done_callback(self.over)

    def _told_late(self, answer: bytes) -> None:
        self.told = answer

    def over(self, _: object = None) -> None:
        self.agent.live.pop(self, None)
        self.agent.audio.close((self.agent.host.address, self.port))
        self.agent.left(self)

    async def hold(self, direction: bytes = b"sendonly") -> None:
        """Re-INVITE with another direction; after a 491 again, within our band (RFC 3261 §14.1), with what we
        would say then: in the meantime we have answered the peer's offer. Raises CallFailed."""
        assert self.session is not None
        placed = self.session.dialog.call_id in self.agent.ua.placed
        while True:
            before = self.direction
            try:
                self.told = await self.session.reinvite(self.describe(direction), attempts=1)
                return
            except CallFailed as failure:
                self.direction = before
                if failure.status != 491 or self.ended:
                    raise
            await asyncio.sleep(self.agent.rng.uniform(2.1, 4.0) if placed else self.agent.rng.uniform(0, 2.0))

    @property
    def ended(self) -> bool:
        return self.session is not None and self.session.ended.done()

    def hears(self) -> tuple[str, int] | None:
        """Whose voice reaches us now."""
        return self.agent.audio.heard(self.agent.host.address, self.told) if self.told else None


class Agent:
    """A user agent on a host. Made in the host's process: its loop is the running one."""

    def __init__(self, host: SimHost, audio: Audio, rng: Random, name: str, port: int = 5060) -> None:
        self.host = host
        self.audio = audio
        self.rng = rng
        self.stack = Stack(Timers(host.loop), rng, Times())
        self.stack.transports.append(UdpTransport(host, (host.address, port), self.stack.receive))
        self.ua = UserAgent(self.stack, name)
        self.live: dict[Conversation, None] = {}  # in order of birth
        self._rtp_port = 4000

    def left(self, conversation: Conversation) -> None:
        """A call is over."""

    def next_rtp_port(self) -> int:
        self._rtp_port += 2
        return self._rtp_port

    async def call(
        self, uri: str, number: int, *, headers: Headers = (), timeout_s: float = 32.0, codecs: bytes = b"8"
    ) -> Conversation:
        """Place a call; returns when it is answered. Raises CallFailed."""
        conversation = Conversation(self, b"%d" % number)
        conversation.codecs = codecs
        conversation.bond = next((value for name, value in headers if name == b"X-Bond"), b"")
        conversation.listen()
        try:
            session = await self.ua.invite(
                uri,
                conversation.describe(),
                [(b"X-Call", conversation.number), *headers],
                timeout_s=timeout_s,
            )
        except BaseException:
            conversation.over()
            raise
        conversation.talk(session)
        return conversation


class Server(Agent):
    """A telephony server: answers every call after a while, in its process. Calls with the same `X-Bond` (a caller
    asks for it) or `X-Aqueduct-Pair` (the node does) are connected to each other, and of a pair end together. In a
    conference one is what `X-Role` and `X-Muted` say, or the node with its own headers."""

    def __init__(self, host: SimHost, audio: Audio, rng: Random, name: str) -> None:
        super().__init__(host, audio, rng, name)
        self.ring_s: tuple[float, float] = (0.0, 0.0)  # rings for a time from this range
        self.calls: dict[bytes, list[Conversation]] = {}  # by number
        self.locked: set[bytes] = set()  # names of conferences
        self.recorded: dict[bytes, str] = {}  # by conference
        self.tells = True  # of conferences in SIP
        self.follows = True  # what the node says of one that it had elsewhere
        self.on_joined: Callable[[Conversation], None] = lambda conversation: None
        self.on_left: Callable[[Conversation], None] = lambda conversation: None
        self.ua.on_invite = self._on_invite

    async def _on_invite(self, incoming: Incoming) -> None:
        number = incoming.request.get(b"x-call") or b"?"
        conversation = Conversation(self, number)
        self.calls.setdefault(number, []).append(conversation)
        delay = self.rng.uniform(*self.ring_s)
        if delay:
            incoming.ring()
            await asyncio.wait([incoming.cancelled], timeout=delay)
        if incoming.cancelled.done():
            return
        conversation.listen()
        kind, conversation.bond = self._bond(incoming.request)
        headers = [(b"X-Aqueduct-" + kind, conversation.bond)] if conversation.bond else []
        if kind == b"Conference" and conversation.bond:
            self._take_flags(incoming.request, conversation)
            if conversation.bond in self.locked and not conversation.moderator:
                incoming.reject(403)
                conversation.over()
                return
            headers += [
                (b"X-Aqueduct-Role", b"moderator" if conversation.moderator else b"participant"),
                (b"X-Aqueduct-Muted", b"yes" if conversation.muted else b"no"),
            ]
        told = headers if self.tells or kind == b"Pair" else []
        session = incoming.accept(conversation.answer(incoming.offer), told)
        if session is None:
            conversation.over()
        else:
            conversation.talk(session)
            if conversation.bond.startswith(b"conf"):
                self.on_joined(conversation)

    def _take_flags(self, request: Request, conversation: Conversation) -> None:
        if request.get(b"x-aqueduct-recovered-from") is None:
            conversation.moderator = request.get(b"x-role") == b"moderator"
            conversation.muted = request.get(b"x-muted") == b"yes"
        elif self.follows:
            conversation.moderator = request.get(b"x-aqueduct-role") == b"moderator"
            conversation.muted = request.get(b"x-aqueduct-muted") == b"yes"
            recording = request.get(b"x-aqueduct-recording")
            if recording:
                self.recorded.setdefault(conversation.bond, recording.decode())

    @staticmethod
    def _bond(request: Request) -> tuple[bytes, bytes]:
        """Kind and name of what a call is to be connected to. One that has only rung was connected to nobody as far as
        the node knows: its dialplan runs as for a new one."""
        wanted = request.get(b"x-bond") or b""
        kind = b"Conference" if wanted.startswith(b"conf") else b"Pair"
        moved = request.get(b"x-aqueduct-recovered-from") is not None
        if moved and request.get(b"x-aqueduct-state") != b"ringing":  # not by what its first INVITE asked for
            return kind, request.get(b"x-aqueduct-" + kind.lower()) or b""
        return kind, wanted

    def mates(self, conversation: Conversation) -> list[Conversation]:
        """The calls here that it is connected to."""
        if not conversation.bond:
            return []
        return [each for each in self.live if each.bond == conversation.bond and each is not conversation]

    def left(self, conversation: Conversation) -> None:
        if conversation.bond.startswith(b"conf"):
            self.on_left(conversation)
        mates = self.mates(conversation)
        if len(mates) == 1 and not conversation.bond.startswith(b"conf") and mates[0].session is not None:
            self._ending = asyncio.ensure_future(mates[0].session.bye())
