"""A SIP peer that says word for word what the test tells it: what a proper user agent would never send, and what it
would answer too soon. It has one dialog, no transactions and no timers; what it hears waits until it is expected.
"""

from __future__ import annotations

import asyncio

from proxy.net.api import Address
from proxy.sip.message import Field, Request, Response, response
from proxy.sip.parser import parse
from tests.sim.world import NODE, World

Message = Request | Response
SDP = b"Content-Type: application/sdp"


def sdp(address: str, port: int = 4000, version: int = 1, lines: bytes = b"", connection: bool = True) -> bytes:
    """A description with one audio line; `lines` are put at its end."""
    where = b"c=IN IP4 %b\r\n" % address.encode() if connection else b""
    head = b"v=0\r\no=- 1 %d IN IP4 %b\r\ns=-\r\n%bt=0 0\r\n" % (version, address.encode(), where)
    return head + b"m=audio %d RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\n%b" % (port, lines)


class RawPeer:
    def __init__(self, world: World, address: str = "10.0.1.77", call_id: bytes = b"raw") -> None:
        self.world = world
        self.host = world.network.host(address, world.loop)
        self.port = self.host.udp((address, 5060), self._datagram)
        self.address = address
        self.call_id = call_id
        self.tag = b"raw-tag"
        self.their_tag = b""
        self.target = b"sip:100@" + NODE.encode()
        self.contact = b"Contact: <sip:raw@%b>" % address.encode()
        self.routes: list[bytes] = []
        self.heard: list[tuple[float, Message]] = []  # all, with the time
        self._unread: list[Message] = []
        self._news = asyncio.Event()
        self.sent = 0

    def talk(self, port: int = 4000) -> None:
        """Send RTP from now on."""
        self.world.audio.open(self.host, port)

    def hang_up_audio(self, port: int = 4000) -> None:
        self.world.audio.close((self.address, port))

    # -- out

    def request(
        self, method: bytes, cseq: int, *extra: bytes, body: bytes = b"", branch: bytes = b"", via: bytes = b"",
        content: bytes = SDP,
    ) -> bytes:  # fmt: skip
        """Send a request, in the dialog once there is one. Returns its branch."""
        self.sent += 1
        branch = branch or b"z9hG4bKraw%d" % self.sent
        host = self.address.encode()
        lines = [
            b"%b %b SIP/2.0" % (method, self.target),
            via or b"Via: SIP/2.0/UDP %b:5060;rport;branch=%b" % (host, branch),
            *self.routes,
            b"From: <sip:raw@%b>;tag=%b" % (host, self.tag),
            b"To: <sip:100@%b>%b" % (NODE.encode(), b";tag=" + self.their_tag if self.their_tag else b""),
            b"Call-ID: " + self.call_id,
            b"CSeq: %d %b" % (cseq, method),
            b"Max-Forwards: 70",
            self.contact,
            *extra,
            *([content] if body else []),
            b"Content-Length: %d" % len(body),
        ]
        self.send(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        return branch

    def reply(self, request: Request, status: int, *extra: bytes, body: bytes = b"", content: bytes = SDP) -> None:
        fields: list[Field] = [(b"contact", self.contact), *((b"x-any", line) for line in extra)]
        if body:
            fields.append((b"content-type", content))
        self.send(response(request, status, self.tag, fields, body).encode())

    def send(self, data: bytes, to: Address = (NODE, 5060)) -> None:
        self.port.send(data, to)

    # -- in

    def _datagram(self, data: bytes, source: Address) -> None:
        message = parse(data)
        self.heard.append((self.world.loop.time(), message))
        self._unread.append(message)
        self._news.set()

    async def expect(self, what: str, within_s: float = 5.0) -> Message:
        """The next message of that kind ("INVITE", "200 BYE"), heard already or yet to come; others are passed over."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    while self._unread:
                        message = self._unread.pop(0)
                        if kind(message) == what:
                            return message
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"no {what} within {within_s} s; heard {[kind(m) for _, m in self.heard]}") from None

    async def expect_request(self, method: str, within_s: float = 5.0) -> Request:
        message = await self.expect(method, within_s)
        assert isinstance(message, Request)
        return message

    def count(self, what: str) -> int:
        return sum(kind(message) == what for _, message in self.heard)

    # -- together

    async def call(self, *extra: bytes, body: bytes | None = None) -> Response:
        """INVITE, its 200, and ACK. The 200 is returned."""
        body = sdp(self.address) if body is None else body
        self.request(b"INVITE", 1, *extra, body=body)
        message = await self.expect("200 INVITE")
        assert isinstance(message, Response)
        self.stand(message)
        self.request(b"ACK", 1)
        return message

    def stand(self, message: Response) -> None:
        """The dialog that a 2xx to our INVITE makes."""
        self.their_tag = message.to_tag
        contact = message.get(b"contact") or b""
        self.target = contact.partition(b"<")[2].partition(b">")[0]

    async def bye(self, cseq: int) -> None:
        self.request(b"BYE", cseq)
        await self.expect("200 BYE")
        self.hang_up_audio()


def kind(message: Message) -> str:
    if isinstance(message, Request):
        return message.method.decode()
    return f"{message.status} {message.method.decode()}"
