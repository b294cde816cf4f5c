"""SIP messages (RFC 3261 §7): what is in them, and serialising. `proxy.sip.parser` reads them.

A message keeps its header fields as the lines that came, in their order; only what somebody asks for is taken
apart. So a header that nobody here knows crosses the proxy byte for byte. Keys are lower-case long names:
`b"call-id"`, also for `i:` and `CALL-ID:`. Bodies are opaque, but for where a session description lies in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from proxy.net.api import Address
from proxy.sip.flow import host_port
from proxy.sip.multipart import session_part

if TYPE_CHECKING:
    from proxy.sip.flow import Flow

Field = tuple[bytes, bytes]  # (key, whole line without CRLF)

SDP: Field = (b"content-type", b"Content-Type: application/sdp")

COMPACT = {
    b"a": b"accept-contact", b"b": b"referred-by", b"c": b"content-type", b"d": b"request-disposition",
    b"e": b"content-encoding", b"f": b"from", b"i": b"call-id", b"j": b"reject-contact", b"k": b"supported",
    b"l": b"content-length", b"m": b"contact", b"n": b"identity-info", b"o": b"event", b"r": b"refer-to",
    b"s": b"subject", b"t": b"to", b"u": b"allow-events", b"v": b"via", b"x": b"session-expires",
    b"y": b"identity",
}  # fmt: skip
_USUAL = (
    b"Via From To Call-ID CSeq Contact Max-Forwards Content-Type Content-Length Allow Supported Require "
    b"User-Agent Server Record-Route Route Expires Session-Expires Min-SE P-Asserted-Identity Accept Reason Date "
    b"Authorization Proxy-Authorization WWW-Authenticate Proxy-Authenticate RSeq RAck Subject Allow-Events Event "
    b"Refer-To Referred-By Replaces Diversion User-to-User Privacy Remote-Party-ID Warning Retry-After"
).split()
KEYS: dict[bytes, bytes] = {name: name.lower() for name in _USUAL} | dict(COMPACT)
TAG = re.compile(rb";\s*tag\s*=\s*([^\s;,]*)", re.IGNORECASE)
_LIST_VALUE = re.compile(rb'(?:[^,"<]+|"(?:[^"\\]|\\.)*"?|<[^>]*>?)+', re.DOTALL)
REQUIRED = frozenset((b"via", b"from", b"to", b"call-id", b"cseq"))

REASONS = {
    100: b"Trying", 180: b"Ringing", 181: b"Call Is Being Forwarded", 182: b"Queued", 183: b"Session Progress",
    200: b"OK", 202: b"Accepted", 300: b"Multiple Choices", 301: b"Moved Permanently", 302: b"Moved Temporarily",
    400: b"Bad Request", 401: b"Unauthorized", 403: b"Forbidden", 404: b"Not Found", 405: b"Method Not Allowed",
    407: b"Proxy Authentication Required", 408: b"Request Timeout", 415: b"Unsupported Media Type",
    416: b"Unsupported URI Scheme",
    420: b"Bad Extension", 422: b"Session Interval Too Small", 480: b"Temporarily Unavailable",
    481: b"Call/Transaction Does Not Exist", 482: b"Loop Detected", 483: b"Too Many Hops", 486: b"Busy Here",
    487: b"Request Terminated", 488: b"Not Acceptable Here", 491: b"Request Pending", 500: b"Server Internal Error",
    501: b"Not Implemented", 503: b"Service Unavailable", 504: b"Server Time-out", 505: b"Version Not Supported",
    513: b"Message Too Large", 603: b"Decline",
}  # fmt: skip


class Message:
    """What requests and responses share. `fields` is a plain list; `rewrite` changes a line of it."""

    __slots__ = (
        "_call_id",
        "_cseq",
        "_from_tag",
        "_lines",
        "_sdp",
        "_to_tag",
        "body",
        "branch",
        "fields",
        "flow",
        "sent_by",
    )

    # Of the first Via of a message that came; one that we made has them not.
    sent_by: bytes
    branch: bytes

    def __init__(self, fields: list[Field], body: bytes = b"") -> None:
        self.fields = fields
        self.body = body
        self.flow: Flow | None = None
        self._lines: dict[bytes, bytes] | None = None  # line by key, where every key stands once
        # Read many times on the way of a message, and never edited; most of it the parser fills in.
        self._call_id: bytes | None = None
        self._cseq: int | None = None
        self._from_tag: bytes | None = None
        self._to_tag: bytes | None = None
        self._sdp: bytes | None = None

    def line(self, key: bytes) -> bytes:
        """The first whole header line with that key; empty when there is none."""
        if self._lines is not None:
            return self._lines.get(key, b"")
        for name, line in self.fields:
            if name == key:
                return line
        return b""

    def get(self, key: bytes) -> bytes | None:
        """The value of the first header with that key, without surrounding blanks."""
        lines = self._lines
        if lines is not None:
            line = lines.get(key)
            return line[line.index(b":") + 1 :].strip() if line is not None else None
        for name, line in self.fields:
            if name == key:
                return line[line.index(b":") + 1 :].strip()
        return None

    def entries(self, key: bytes) -> list[Field]:
        """The lines with that key, as they stand in `fields`."""
        if self._lines is not None and key not in self._lines:
            return []
        return [entry for entry in self.fields if entry[0] == key]

    def all(self, key: bytes) -> list[bytes]:
        """The values of every header line with that key, in order; a line's comma list is not split."""
        if self._lines is not None:
            line = self._lines.get(key)
            return [line[line.index(b":") + 1 :].strip()] if line is not None else []
        return [line[line.index(b":") + 1 :].strip() for name, line in self.fields if name == key]

    def list(self, key: bytes) -> list[bytes]:
        """Every value of a comma-separated header, over all its lines (RFC 3261 §7.3.1)."""
        if self._lines is not None and key not in self._lines:
            return []
        return [value for line in self.all(key) for value in split_list(line)]

    def has_option(self, key: bytes, option: bytes) -> bool:
        return option in map(bytes.lower, self.list(key))

    def rewrite(self, index: int, line: bytes) -> None:
        """Put another line in the place of one with the same key."""
        key = self.fields[index][0]
        self.fields[index] = (key, line)
        if self._lines is not None:
            self._lines[key] = line

    # The five that every message has; `parse` has made sure of them.
    @property
    def call_id(self) -> bytes:
        value = self._call_id
        if value is None:
            value = self._call_id = self.get(b"call-id") or b""
        return value

    @property
    def from_(self) -> bytes:
        return self.get(b"from") or b""

    @property
    def to(self) -> bytes:
        return self.get(b"to") or b""

    @property
    def from_tag(self) -> bytes:
        value = self._from_tag
        if value is None:
            value = self._from_tag = tag_of(self.line(b"from"))
        return value

    @property
    def to_tag(self) -> bytes:
        value = self._to_tag
        if value is None:
            value = self._to_tag = tag_of(self.line(b"to"))
        return value

    @property
    def cseq(self) -> int:
        value = self._cseq
        if value is None:
            value = self._cseq = int((self.get(b"cseq") or b"0").split(None, 1)[0])
        return value

    @property
    def content_type(self) -> bytes:
        """Media type in lower case, without parameters; empty when there is none."""
        return (self.get(b"content-type") or b"").partition(b";")[0].strip().lower()

    @property
    def sdp(self) -> bytes:
        """The session description in the body: all of it, or one part of several. Empty when there is none."""
        value = self._sdp
        if value is None:
            value = self._sdp = self._session() if self.body else b""
        return value

    def _session(self) -> bytes:
        kind = self.content_type
        if kind == b"application/sdp":
            return self.body
        place = session_part(self.get(b"content-type") or b"", self.body) if kind[:10] == b"multipart/" else None
        return self.body[place[0] : place[1]] if place is not None else b""

    def with_sdp(self, sdp: bytes) -> bytes:
        """The body with `sdp` in the place of its description; what stands beside it is as it was."""
        if self.sdp is self.body:
            return sdp
        place = session_part(self.get(b"content-type") or b"", self.body)
        return self.body[: place[0]] + sdp + self.body[place[1] :] if place is not None else sdp

    def _encode(self, start: bytes) -> bytes:
        keys, lines = zip(*self.fields, strict=True) if self.fields else ((), ())
        if b"content-length" in keys:  # of a message that came
            lines = tuple(line for key, line in self.fields if key != b"content-length")
        return b"\r\n".join((start, *lines, b"Content-Length: %d\r\n\r\n" % len(self.body))) + self.body


class Request(Message):
    __slots__ = ("method", "uri")

    def __init__(self, method: bytes, uri: bytes, fields: list[Field], body: bytes = b"") -> None:
        self.method = method
        self.uri = uri
        Message.__init__(self, fields, body)

    def encode(self) -> bytes:
        return self._encode(b"%b %b SIP/2.0" % (self.method, self.uri))

    def __repr__(self) -> str:
        return f"<{self.method.decode()} {self.uri.decode(errors='replace')} {self.call_id.decode(errors='replace')}>"

    def outline(self) -> Request:
        """What a dialog with whoever answers this takes from it, and nothing else."""
        outline = Request(self.method, self.uri, [(b"from", self.line(b"from"))])
        outline._call_id, outline._cseq, outline._from_tag = self.call_id, self.cseq, self.from_tag
        return outline


@lru_cache(maxsize=64)
def emptied(method: bytes) -> Request:
    """What stands in the place of a request when nothing can be made of it any more."""
    return Request(method, b"", [])


class Response(Message):
    __slots__ = ("_method", "reason", "status")

    def __init__(self, status: int, reason: bytes, fields: list[Field], body: bytes = b"") -> None:
        self.status = status
        self.reason = reason
        self._method: bytes | None = None
        Message.__init__(self, fields, body)

    @property
    def method(self) -> bytes:
        """Method of the request that this answers."""
        value = self._method
        if value is None:
            value = self._method = (self.get(b"cseq") or b" ").split(None, 1)[-1]
        return value

    def encode(self) -> bytes:
        return self._encode(b"SIP/2.0 %d %b" % (self.status, self.reason))

    def __repr__(self) -> str:
        return f"<{self.status} {self.method.decode(errors='replace')} {self.call_id.decode(errors='replace')}>"


def key_of(name: bytes) -> bytes:
    """Lower-case long name of a header."""
    key = KEYS.get(name)
    if key is None:
        key = name.strip().lower()
        key = COMPACT.get(key, key)
    return key


def field(name: bytes, value: bytes) -> Field:
    return (KEYS.get(name) or key_of(name), b"%b: %b" % (name, value))


def contact(flow: Flow, user: bytes = b"") -> Field:
    """Our Contact (RFC 3261 §8.1.1.8): where the peer sends requests in the dialog."""
    return _contact(flow.transport, flow.local, user)


@lru_cache(maxsize=64)
def _contact(transport: bytes, local: Address, user: bytes) -> Field:
    name = user + b"@" if user else b""
    suffix = b"" if transport == b"UDP" else b";transport=" + transport.lower()
    return (b"contact", b"Contact: <sip:%b%b%b>" % (name, host_port(local), suffix))


def tag_of(value: bytes) -> bytes:
    """The tag parameter of a From or To value; empty when there is none."""
    start = value.rfind(b">") + 1
    at = value.find(b";tag=", start)
    if at >= 0:
        return value[at + 5 :].partition(b";")[0].strip()
    found = TAG.search(value, start)  # rare: blanks or capitals
    return found[1] if found else b""


def split_list(value: bytes) -> list[bytes]:
    """Split a comma list outside quotes and angle brackets."""
    if b"," not in value:
        return [value] if value else []
    plain = b'"' not in value and b"<" not in value
    parts = map(bytes.strip, value.split(b",") if plain else _LIST_VALUE.findall(value))
    return [part for part in parts if part]


def response(request: Request, status: int, to_tag: bytes = b"", extra: Iterable[Field] = (), body: bytes = b"",
             reason: bytes = b"") -> Response:  # fmt: skip
    """A response to `request` (RFC 3261 §8.2.6): its Vias, From, To (with `to_tag` when it has none), Call-ID, CSeq."""
    tag = b";tag=" + to_tag if to_tag and not request.to_tag else b""
    lines = request._lines
    if lines is not None:
        fields = [
            (b"via", lines[b"via"]),
            (b"from", lines[b"from"]),
            (b"to", lines[b"to"] + tag),
            (b"call-id", lines[b"call-id"]),
            (b"cseq", lines[b"cseq"]),
            *extra,
        ]
    else:
        fields = [entry for entry in request.fields if entry[0] in REQUIRED]
        if tag:
            fields = [(key, line + tag) if key == b"to" else (key, line) for key, line in fields]
        fields += extra
    return Response(status, reason or REASONS.get(status, b"Status"), fields, body)
