"""A dialog (RFC 3261 §12): who talks to whom under which Call-ID, tags and CSeqs, and over which route.

Local and remote are *roles in the dialog*, never the direction of the call: a request that we send carries the
local URI and tag in From, whoever placed the call.
"""

from __future__ import annotations

from proxy.sip.message import TAG, Field, Request, Response, field, tag_of
from proxy.sip.uri import Uri, UriError, addr_spec, parse_uri

EARLY, CONFIRMED, ENDED = range(3)


def without_tag(value: bytes) -> bytes:
    """A From or To value without its tag."""
    return _untagged(value, tag_of(value))


def _untagged(value: bytes, tag: bytes) -> bytes:
    if not tag:
        return value
    parameter = b";tag=" + tag
    if value.endswith(parameter):  # mostly
        return value[: -len(parameter)]
    start = value.rfind(b">") + 1  # a URI may bear a tag too
    at = value.find(parameter, start)
    if at >= 0:
        return value[:at] + value[at + len(parameter) :]
    return value[:start] + TAG.sub(b"", value[start:], count=1)  # rare: blanks or capitals


class Dialog:
    """`local` and `remote` are From/To values without tags; `target` is the peer's Contact URI."""

    __slots__ = (
        "call_id", "local", "local_cseq", "local_tag", "remote", "remote_cseq", "remote_tag", "routes",
        "state", "target",
    )  # fmt: skip

    def __init__(self, call_id: bytes, local: bytes, local_tag: bytes, remote: bytes, remote_tag: bytes) -> None:
        self.call_id = call_id
        self.local = local
        self.local_tag = local_tag
        self.remote = remote
        self.remote_tag = remote_tag
        self.local_cseq = 0
        self.remote_cseq = -1
        self.routes: tuple[bytes, ...] = ()
        self.target = b""
        self.state = EARLY

    @classmethod
    def uas(cls, request: Request, local_tag: bytes) -> Dialog:
        """The dialog that answering `request` with `local_tag` creates (§12.1.1)."""
        local, remote = request.to, request.from_
        tag = request.from_tag
        dialog = cls(request.call_id, _untagged(local, request.to_tag), local_tag, _untagged(remote, tag), tag)
        dialog.remote_cseq = request.cseq
        dialog.routes = tuple(request.list(b"record-route"))
        dialog.target = _contact(request)
        return dialog

    @classmethod
    def uac(cls, request: Request, message: Response) -> Dialog:
        """The dialog that a response to our `request` creates (§12.1.2)."""
        local, remote = request.from_, message.to
        local_tag, tag = request.from_tag, message.to_tag
        dialog = cls(request.call_id, _untagged(local, local_tag), local_tag, _untagged(remote, tag), tag)
        dialog.local_cseq = request.cseq
        dialog.routes = tuple(reversed(message.list(b"record-route")))
        dialog.target = _contact(message) or request.uri
        return dialog

    def confirm(self, message: Response) -> None:
        """A 2xx has come: the route set is computed anew from it (§13.2.2.4)."""
        self.state = CONFIRMED
        self.routes = tuple(reversed(message.list(b"record-route")))
        self.target = _contact(message) or self.target

    def request(self, method: bytes, extra: list[Field], body: bytes = b"", cseq: int = 0) -> Request:
        """A request within the dialog (§12.2.1.1), CSeq raised unless `cseq` is given (ACK: its INVITE's)."""
        if not cseq:
            self.local_cseq += 1
            cseq = self.local_cseq
        uri, routes = self.target, self.routes
        if routes and not _loose(routes[0]):  # a strict router of RFC 2543 (§12.2.1.1)
            uri, routes = addr_spec(routes[0]), (*routes[1:], b"<" + self.target + b">")
        fields = [
            (b"from", b"From: %b;tag=%b" % (self.local, self.local_tag)),
            (
                b"to",
                b"To: %b;tag=%b" % (self.remote, self.remote_tag) if self.remote_tag else b"To: " + self.remote,
            ),
            (b"call-id", b"Call-ID: " + self.call_id),
            (b"cseq", b"CSeq: %d %b" % (cseq, method)),
            (b"max-forwards", b"Max-Forwards: 70"),
        ]
        fields += [field(b"Route", route) for route in routes]
        fields += extra
        return Request(method, uri, fields, body)

    def next_hop(self) -> Uri:
        """The URI that a request goes to (§8.1.2): the first route, or the target. Raises UriError."""
        return parse_uri(addr_spec(self.routes[0]) if self.routes else self.target)

    def accepts(self, request: Request) -> bool:
        """False for a request that is older than one already seen: answer 500 (§12.2.2). ACK never counts."""
        cseq = request.cseq
        if cseq <= self.remote_cseq:
            return False
        self.remote_cseq = cseq
        return True

    def refresh(self, message: Request | Response) -> None:
        """A target refresh request or its 2xx changes where the peer is reached (§12.2)."""
        self.target = _contact(message) or self.target

    def snapshot(self) -> list[object]:
        names = (self.call_id, self.local, self.local_tag, self.remote, self.remote_tag)
        return [*names, self.local_cseq, self.remote_cseq, list(self.routes), self.target, self.state]

    @classmethod
    def restore(cls, state: list[object]) -> Dialog:
        call_id, local, local_tag, remote, remote_tag, local_cseq, remote_cseq, routes, target, phase = state
        dialog = cls(call_id, local, local_tag, remote, remote_tag)  # type: ignore[arg-type]
        dialog.local_cseq, dialog.remote_cseq = local_cseq, remote_cseq  # type: ignore[assignment]
        dialog.routes, dialog.target, dialog.state = tuple(routes), target, phase  # type: ignore
        return dialog


def _loose(route: bytes) -> bool:
    return b";lr" in route.lower()


def _contact(message: Request | Response) -> bytes:
    contact = message.get(b"contact")
    if not contact:
        return b""
    try:
        return addr_spec(contact)
    except UriError:
        return b""
