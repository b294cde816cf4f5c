"""Many SIP phones in one process: real calls over UDP with real RTP, and what each of them heard when.

One SIP socket for all, an RTP socket for each call. It knows just enough SIP for a caller: INVITE with retransmission,
re-INVITE for hold, BYE; it answers what comes in a call (OPTIONS, re-INVITE, UPDATE, BYE).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import socket
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.testbed import capture
from tests.testbed.audio import FRAME_S, FRAME_SAMPLES, SILENCE, tone
from tests.testbed.sip_ping import Address

T1_S = 0.5
DTMF_PAYLOAD_TYPE = 101
_RTP = struct.Struct("!BBHII")


class CallFailed(Exception):
    """The INVITE got another final response than a 2xx, or none (status 0)."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


@dataclass(frozen=True)
class Message:
    first: str
    headers: Mapping[str, str]  # lower-case names, first value of each
    vias: str
    body: str

    @classmethod
    def parse(cls, data: bytes) -> Message:
        head, _, body = data.decode(errors="replace").partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(name.strip().lower(), value.strip())
        vias = "".join(f"{line}\r\n" for line in lines if line.lower().startswith("via:"))
        return cls(first, headers, vias, body)

    @property
    def status(self) -> int:
        return int(self.first.split(" ", 2)[1]) if self.first.startswith("SIP/2.0") else 0

    @property
    def method(self) -> str:
        return self.headers["cseq"].split()[1]

    def media(self) -> tuple[Address, str]:
        """Where the other side takes audio, and its direction attribute."""
        host, port, direction = "", 0, "sendrecv"
        for line in self.body.split("\r\n"):
            if line.startswith("c=IN IP4 "):
                host = line.split()[2]
            elif line.startswith("m=audio "):
                port = int(line.split()[1])
            elif line[2:] in ("sendrecv", "sendonly", "recvonly", "inactive"):
                direction = line[2:]
        return (host, port), direction


@dataclass
class Heard:
    """RTP as it arrived at one call. Times are the event loop's."""

    arrivals: list[float] = field(default_factory=list)
    recent: deque[bytes] = field(default_factory=lambda: deque(maxlen=25))
    ssrcs: set[int] = field(default_factory=set)
    backward: int = 0  # packets whose sequence number did not move on
    last_sequence: int | None = None
    recorded: list[capture.Received] | None = None  # all that came, once somebody wants it

    def take(self, packet: bytes, now: float) -> None:
        if len(packet) < 12 or packet[0] >> 6 != 2 or packet[1] & 0x7F == DTMF_PAYLOAD_TYPE:
            return
        _, _, sequence, _, ssrc = _RTP.unpack_from(packet)
        if self.last_sequence is not None and not 0 < (sequence - self.last_sequence) & 0xFFFF < 0x8000:
            self.backward += 1
        self.last_sequence = sequence
        self.ssrcs.add(ssrc)
        self.arrivals.append(now)
        self.recent.append(packet[12:])

    def longest_gap_s(self, since: float, until: float) -> float:
        """The longest time without a packet between two moments."""
        times = [since, *(at for at in self.arrivals if since < at < until), until]
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    def last_half_second(self) -> bytes:
        return b"".join(self.recent)


class Call:
    """One dialog of a phone and its RTP."""

    def __init__(self, phones: Phones, number: int, user: str, to: Address) -> None:
        self._phones = phones
        self._loop = asyncio.get_running_loop()
        self._to = to
        self.dialled = user  # or what was dialled to reach this phone
        self.heard = Heard()
        self.sent = 0  # RTP packets
        self.ended: asyncio.Future[str] = self._loop.create_future()  # how it ended: "bye" (ours) or "hung up"
        self.requests: list[str] = []  # methods that came from the other side
        self.offers: list[str] = []  # descriptions in them
        self.call_id = f"{random.getrandbits(64):x}@{phones.host}"
        self._uri = f"sip:{user}@{to[0]}:{to[1]}"
        self._from = f'"Phone {number}" <sip:phone{number}@{phones.host}>;tag={random.getrandbits(48):x}'
        self._peer = f"<{self._uri}>"
        self._target = self._uri
        self._cseq = 0
        self._version = 0
        self._answers: dict[tuple[int, str], asyncio.Queue[Message]] = {}
        self._direction = "sendrecv"
        self._sent: list[bytes] = tone(440)
        self._remote: Address | None = None
        self._sequence = random.getrandbits(15)
        self._timestamp = random.getrandbits(31)
        self._ssrc = random.getrandbits(32)
        self._digit: deque[bytes] = deque()
        self._digit_began: int | None = None
        self._rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._rtp.bind((phones.host, 0))
        self._rtcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._loop.add_reader(self._rtp, self._hear)

    # --- SIP

    def _sdp(self) -> str:
        host, port = self._phones.host, self._rtp.getsockname()[1]
        return (
            f"v=0\r\no=- {self._ssrc} {self._version} IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
            f"m=audio {port} RTP/AVP 0 {DTMF_PAYLOAD_TYPE}\r\na=rtpmap:0 PCMU/8000\r\n"
            f"a=rtpmap:{DTMF_PAYLOAD_TYPE} telephone-event/8000\r\na=fmtp:{DTMF_PAYLOAD_TYPE} 0-15\r\n"
            f"a=ptime:20\r\na={self._direction}\r\n"
        )

    def _request(self, method: str, cseq: int, branch: str, body: str = "", extra: Iterable[str] = ()) -> bytes:
        lines = [
            f"{method} {self._target} SIP/2.0",
            f"Via: SIP/2.0/UDP {self._phones.host}:{self._phones.port};rport;branch={branch}",
            "Max-Forwards: 70",
            f"From: {self._from}",
            f"To: {self._peer}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {cseq} {method}",
            f"Contact: <sip:phone@{self._phones.host}:{self._phones.port}>",
            *extra,
            *(["Content-Type: application/sdp"] if body else []),
            f"Content-Length: {len(body)}",
        ]
        return ("\r\n".join(lines) + f"\r\n\r\n{body}").encode()

    async def _transact(
        self, method: str, body: str = "", extra: Iterable[str] = (), timeout_s: float = 32.0
    ) -> Message:
        """Send until a final response is there (RFC 3261 §17.1), acknowledge it, give it back."""
        self._cseq += 1
        key, branch = (self._cseq, method), _branch()
        request = self._request(method, self._cseq, branch, body, extra)
        answers = self._answers[key] = asyncio.Queue()
        end, interval = self._loop.time() + timeout_s, T1_S
        provisional = False
        self._phones.send(request, self._to)
        while (left := end - self._loop.time()) > 0:
            try:
                answer = await asyncio.wait_for(answers.get(), left if provisional else min(interval, left))
            except TimeoutError:
                interval = interval * 2 if method == "INVITE" else min(interval * 2, 4.0)
                if not provisional:
                    self._phones.send(request, self._to)
                continue
            if answer.status < 200:
                provisional = method == "INVITE"
                continue
            if method == "INVITE":
                self._acknowledge(answer, branch)
            return answer
        raise TimeoutError(f"no final response to {method} of {self.call_id}")

    def _acknowledge(self, answer: Message, branch: str) -> None:
        self._peer = answer.headers["to"]
        cseq = int(answer.headers["cseq"].split()[0])
        if answer.status < 300:
            contact = answer.headers["contact"]
            self._target = contact[contact.find("<") + 1 : contact.find(">")] if "<" in contact else contact
            branch = _branch()
        self._phones.send(self._request("ACK", cseq, branch), self._to)

    def take(self, message: Message) -> None:
        """A message of this call from the network."""
        if message.status:
            cseq = int(message.headers["cseq"].split()[0])
            answers = self._answers.get((cseq, message.method))
            if answers is not None:
                answers.put_nowait(message)
            return
        if message.method == "ACK":
            return
        self.requests.append(message.method)
        body = ""
        if message.method in ("INVITE", "UPDATE") and message.body:
            self.offers.append(message.body)
            self._remote, _ = message.media()
            self._version += 1
            body = self._sdp()
        self._phones.respond(message, body, "" if "tag=" in message.headers["to"] else self._from)
        if message.method == "BYE":
            self._end("hung up")

    async def establish(self, headers: Mapping[str, str], timeout_s: float) -> None:
        extra = [f"{name}: {value}" for name, value in headers.items()]
        answer = await self._transact("INVITE", self._sdp(), extra, timeout_s)
        if answer.status >= 300:
            self._end("refused")
            raise CallFailed(answer.status, answer.first)
        self._remote, _ = answer.media()

    def answer(self, invite: Message) -> None:
        """Take a call that came: the roles of From and To are the other way round from now on (RFC 3261 §12.1.1)."""
        head = invite.headers
        self.dialled = invite.first.partition("sip:")[2].partition("@")[0]
        self.call_id = head["call-id"]
        self._from = f"{head['to']};tag={random.getrandbits(48):x}"
        self._peer = head["from"]
        contact = head["contact"]
        self._target = contact[contact.find("<") + 1 : contact.find(">")] if "<" in contact else contact
        self._remote, _ = invite.media()
        self._phones.respond(invite, self._sdp(), self._from)

    async def reinvite(self, direction: str) -> str:
        """Offer another direction; the direction that was answered."""
        self._direction, self._version = direction, self._version + 1
        answer = await self._transact("INVITE", self._sdp())
        if answer.status >= 300:
            raise CallFailed(answer.status, answer.first)
        self._remote, answered = answer.media()
        return answered

    async def bye(self) -> int:
        """Hang up; the status of the answer."""
        answer = await self._transact("BYE", timeout_s=10.0)
        self._end("bye")
        return answer.status

    def _end(self, how: str) -> None:
        if not self.ended.done():
            self.ended.set_result(how)
        self.close()

    # --- RTP

    @property
    def said(self) -> list[bytes]:
        """The frames that it says, one a tick."""
        return self._sent

    def say(self, frames: list[bytes]) -> None:
        """Frames to send from now on, over and over."""
        self._sent = frames

    def press(self, digit: int) -> None:
        """A key press as telephone events (RFC 4733 §2.5): 120 ms of it, its end sent three times."""
        for place in range(9):
            end, duration = (0x80, 6 * FRAME_SAMPLES) if place >= 6 else (0, (place + 1) * FRAME_SAMPLES)
            self._digit.append(struct.pack("!BBH", digit, end | 10, duration))

    def speak(self, tick: int) -> None:
        """Send the frame of this 20 ms tick."""
        if self._remote is None or self.ended.done():
            return
        self._timestamp = (self._timestamp + FRAME_SAMPLES) & 0xFFFFFFFF
        if self._digit:
            # RFC 4733 §2.5.1.2: all packets of an event carry the timestamp of its beginning.
            if self._digit_began is None:
                self._digit_began = self._timestamp
            payload, kind, stamp = self._digit.popleft(), DTMF_PAYLOAD_TYPE, self._digit_began
            if not self._digit:
                self._digit_began = None
        else:
            payload, kind, stamp = self._sent[tick % len(self._sent)], 0, self._timestamp
        if self._direction in ("sendonly", "sendrecv"):
            self._sequence = (self._sequence + 1) & 0xFFFF
            with contextlib.suppress(OSError):  # a full buffer, or a refusal heard of by ICMP: lost, as on a wire
                self._rtp.sendto(_RTP.pack(0x80, kind, self._sequence, stamp, self._ssrc) + payload, self._remote)
                self.sent += 1

    def _hear(self) -> None:
        for packet in _received(self._rtp):
            self.heard.take(packet, self._loop.time())
            if self.heard.recorded is not None:
                self.heard.recorded.append(capture.Received(self._loop.time(), packet))

    def record(self) -> list[capture.Received]:
        """What comes from now on, RTCP with it: that is listened for on the port above RTP (RFC 3550 §11)."""
        self._rtcp.bind((self._phones.host, self._rtp.getsockname()[1] + 1))
        self._loop.add_reader(self._rtcp, self._hear_reports)
        self.heard.recorded = []
        return self.heard.recorded

    def _hear_reports(self) -> None:
        for packet in _received(self._rtcp):
            if self.heard.recorded is not None:
                self.heard.recorded.append(capture.Received(self._loop.time(), packet, capture.RTCP_PORT))

    def close(self) -> None:
        for sock in (self._rtp, self._rtcp):
            if sock.fileno() >= 0:
                self._loop.remove_reader(sock)
                sock.close()


class Phones:
    """All phones on one address. `async with Phones(host) as phones: call = await phones.call("600", proxy)`."""

    def __init__(self, host: str, port: int = 0, answers: list[bytes] | None = None) -> None:
        """`answers`: what a phone says that takes a call; None: nobody takes one."""
        self.host = host
        self.port = port
        self.answers = answers
        self.calls: list[Call] = []
        self.unclaimed = 0  # messages that belong to no call
        self.tick = 0  # the next one that is spoken in, 20 ms each
        self._by_id: dict[str, Call] = {}

    async def __aenter__(self) -> Phones:
        self._loop = asyncio.get_running_loop()
        self._sip = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._sip.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._sip.bind((self.host, self.port))
        self.port = self._sip.getsockname()[1]
        self._loop.add_reader(self._sip, self._receive)
        self.speak()
        return self

    def speak(self) -> None:
        """Everybody speaks, again."""
        self._pacer = asyncio.create_task(self._pace())

    def hush(self) -> None:
        """Nobody speaks any more."""
        self._pacer.cancel()

    async def __aexit__(self, *_: object) -> None:
        self.hush()
        for call in self.calls:
            call.close()
        self._loop.remove_reader(self._sip)
        self._sip.close()

    async def call(
        self,
        user: str,
        to: Address,
        *,
        headers: Mapping[str, str] | None = None,
        say: list[bytes] | None = None,
        timeout_s: float = 10.0,
    ) -> Call:
        """An answered call, or CallFailed, or TimeoutError."""
        call = Call(self, len(self.calls) + 1, user, to)
        self.calls.append(call)
        self._by_id[call.call_id] = call
        call.say(say or [SILENCE])
        await call.establish(headers or {}, timeout_s)
        return call

    def send(self, data: bytes, to: Address) -> None:
        with contextlib.suppress(OSError):  # lost, as on a wire; retransmission is there for it
            self._sip.sendto(data, to)

    def respond(self, request: Message, body: str = "", to: str = "") -> None:
        head = request.headers
        text = (
            f"SIP/2.0 200 OK\r\n{request.vias}From: {head['from']}\r\nTo: {to or head['to']}\r\n"
            f"Call-ID: {head['call-id']}\r\nCSeq: {head['cseq']}\r\n"
            f"Contact: <sip:phone@{self.host}:{self.port}>\r\n"
            + ("Content-Type: application/sdp\r\n" if body else "")
            + f"Content-Length: {len(body)}\r\n\r\n{body}"
        )
        self.send(text.encode(), self._source)

    def _receive(self) -> None:
        while True:
            try:
                data, self._source = self._sip.recvfrom(65535)
            except BlockingIOError:
                return
            except OSError:
                continue
            message = Message.parse(data)
            call = self._by_id.get(message.headers.get("call-id", ""))
            if call is None and message.first.startswith("INVITE ") and self.answers is not None:
                call = Call(self, len(self.calls) + 1, "", self._source)
                call.say(self.answers)
                call.answer(message)
                self.calls.append(call)
                self._by_id[call.call_id] = call
            elif call is None and message.first.startswith("OPTIONS "):
                self.respond(message)
            elif call is None:
                self.unclaimed += 1
            else:
                call.take(message)

    async def _pace(self) -> None:
        """Every 20 ms a frame from every phone; late ticks are made up for, so that the rate is kept."""
        next_at = self._loop.time()
        while True:
            for call in self.calls:
                call.speak(self.tick)
            self.tick, next_at = self.tick + 1, next_at + FRAME_S
            await asyncio.sleep(max(0.0, next_at - self._loop.time()))


def _received(sock: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            yield sock.recv(2048)
        except BlockingIOError:
            return
        except OSError:  # an ICMP error of an earlier packet
            continue


def _branch() -> str:
    return f"z9hG4bK{random.getrandbits(64):x}"
