"""SIP messages (RFC 3261 §7): a lazy parser, and serialising.

A message keeps its header fields as the lines that came, in their order; only what somebody asks for is taken
apart. So a header that nobody here knows crosses the proxy byte for byte, and a message costs one split and one
dictionary look-up a line. Keys are lower-case long names: `b"call-id"`, also for `i:` and `CALL-ID:`.

Bodies are opaque. Folded lines are unfolded (§7.3.1 calls both forms equal).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

try:
    from proxy.sip._scan import scan
except ImportError:  # there was no compiler
    scan = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from proxy.sip.flow import Flow

Field = tuple[bytes, bytes]  # (key, whole line without CRLF)

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
_KEYS: dict[bytes, bytes] = {name: name.lower() for name in _USUAL} | dict(COMPACT)
_TOKEN = re.compile(rb"[A-Za-z0-9\-.!%*_+`'~]+")
_STATUS = re.compile(rb"SIP/2\.0 ([1-6]\d\d)(?: (.*))?", re.DOTALL)
_FOLD = re.compile(rb"\r\n[ \t]+")
TAG = re.compile(rb";\s*tag\s*=\s*([^\s;,]*)", re.IGNORECASE)
_VIA = re.compile(rb"\s*SIP\s*/\s*\d+\.\d+\s*/\s*[A-Za-z0-9\-.!%*_+`'~]+\s+[^\s;,]", re.IGNORECASE)
_BRANCH = re.compile(rb";\s*branch\s*=\s*([^;\s]*)", re.IGNORECASE)
_LIST_VALUE = re.compile(rb'(?:[^,"<]+|"(?:[^"\\]|\\.)*"?|<[^>]*>?)+', re.DOTALL)
_REQUIRED = frozenset((b"via", b"from", b"to", b"call-id", b"cseq"))
_METHODS = frozenset(b"INVITE ACK BYE CANCEL OPTIONS UPDATE PRACK INFO REFER NOTIFY MESSAGE SUBSCRIBE".split())
_SINGLE = (b"from", b"to", b"call-id", b"cseq", b"content-length", b"max-forwards")

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


class SipError(ValueError):
    """A message that cannot be read. `where` names the line or header; `partial` holds what could be read of a
    request, so that it can be answered with `status` (RFC 3261 §16.3 step 1)."""

    def __init__(self, problem: str, where: str, partial: Request | None = None, status: int = 400) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.partial = partial
        self.status = status


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
        # Read many times on the way of a message, and never edited.
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
        """The body, when it is a session description; else empty."""
        value = self._sdp
        if value is None:
            value = self._sdp = self.body if self.body and self.content_type == b"application/sdp" else b""
        return value

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
    key = _KEYS.get(name)
    if key is None:
        key = name.strip().lower()
        key = COMPACT.get(key, key)
    return key


def field(name: bytes, value: bytes) -> Field:
    return (_KEYS.get(name) or key_of(name), b"%b: %b" % (name, value))


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


def parse(data: bytes) -> Request | Response:
    """Read one whole message, as it came in a datagram or as framing cut it out of a stream. Raises SipError."""
    found = scan(data, _KEYS) if scan is not None else None
    if found is None:
        return parse_any(data)
    first, second, fields, lines, body, cseq, method, call_id, from_tag, to_tag, sent_by, branch = found
    message: Request | Response
    if type(first) is int:
        message = Response(first, second, fields, body)
        message._method = method
    else:
        message = Request(first, second, fields, body)
    message._lines = lines
    message._cseq = cseq
    message._call_id = call_id
    message._from_tag = from_tag
    message._to_tag = to_tag
    message.sent_by = sent_by
    message.branch = branch
    return message


def parse_any(data: bytes) -> Request | Response:
    """What `parse` does, without `scan`, which reads plain messages only."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end or not head:
        raise SipError("no empty line ends the headers", "end")
    lines = head.splitlines()
    if len(lines) != head.count(b"\r\n") + 1:  # some peers end lines there: a way to smuggle headers past us
        raise _unreadable(lines, "CR or LF on its own", b"end")
    fields: list[Field] = []
    keys = _KEYS
    last: dict[bytes, bytes] = {}  # line by key
    for line in lines[1:]:
        name, colon, _ = line.partition(b":")
        key = keys.get(name)
        if key is None or not colon:
            key = (_unusual(name) if len(name) < 64 else _unusual.__wrapped__(name)) if colon else b""
            if not key:  # folded lines end up here as well; they are rare
                unfolded = _FOLD.sub(b" ", head)
                if unfolded != head:
                    return parse_any(unfolded + data[len(head) :])
                raise _unreadable(lines, "not a header field", line)
        fields.append((key, line))
        last[key] = line
    stated = last.get(b"content-length")
    if stated is not None:
        digits = stated.partition(b":")[2].strip()
        length = int(digits) if len(digits) < 10 and digits.isdigit() else -1
        if not 0 <= length <= len(body):
            raise _unreadable(lines, f"Content-Length {digits[:40]!r} but {len(body)} bytes came", stated)
        if length < len(body):
            body = body[:length]
    if not last.keys() >= _REQUIRED:
        raise _unreadable(lines, "missing header", min(_REQUIRED - last.keys()))
    if len(last) != len(fields):
        keys_seen = [key for key, _ in fields]
        for key in _SINGLE:
            if keys_seen.count(key) > 1:
                raise _unreadable(lines, "more than one", key)
    message = _start(lines, fields, body)
    if len(last) == len(fields):
        message._lines = last
    via = fields[0][1] if fields[0][0] == b"via" else b":" + (message.get(b"via") or b"")  # mostly it comes first
    if not _VIA.match(via, via.index(b":") + 1):
        raise _unreadable(lines, "not a Via", b"via")
    _set_via(message, via)
    cseq = last[b"cseq"].partition(b":")[2].split()
    if len(cseq) != 2 or not cseq[0].isdigit() or len(cseq[0]) > 20 or int(cseq[0]) > 0x7FFFFFFF:
        raise _unreadable(lines, "CSeq is not a number below 2**31 and a method", b"cseq")
    if type(message) is Request and cseq[1] != message.method:
        raise _unreadable(lines, "CSeq names another method than the request", b"cseq")
    message._cseq = int(cseq[0])
    if type(message) is Response:
        message._method = cseq[1]
    return message


def _set_via(message: Message, line: bytes) -> None:
    top = line.partition(b",")[0]
    message.sent_by = top.partition(b";")[0].rsplit(None, 1)[-1]
    branch = _BRANCH.search(top)
    message.branch = branch[1] if branch else b""


@lru_cache(maxsize=1024)
def _unusual(name: bytes) -> bytes:
    """The key of a header that is not in the table; empty when it is no name of a header."""
    return key_of(name) if _TOKEN.fullmatch(name.rstrip()) else b""


@lru_cache(maxsize=256)
def _status(line: bytes) -> tuple[int, bytes] | None:
    found = _STATUS.fullmatch(line)
    return (int(found[1]), found[2] or b"") if found else None


def _start(lines: list[bytes], fields: list[Field], body: bytes) -> Request | Response:
    line = lines[0]
    if line.startswith(b"SIP/2.0 "):
        status = _status(line) if len(line) < 64 else _status.__wrapped__(line)
        if status is None:
            raise SipError("not a status line", repr(line[:80]))
        return Response(status[0], status[1], fields, body)
    parts = line.split(b" ")
    if len(parts) != 3 or parts[2].upper() != b"SIP/2.0" or not parts[1]:
        raise _unreadable(lines, "not a request line", line)
    if parts[0] not in _METHODS and not _TOKEN.fullmatch(parts[0]):
        raise _unreadable(lines, "not a request line", line)
    if parts[1][:1] == b"<":
        raise _unreadable(lines, "Request-URI in angle brackets", line)
    return Request(parts[0], parts[1], fields, body)


def _unreadable(lines: list[bytes], problem: str, where: bytes) -> SipError:
    """The error, with what is left of a request when an answer could still find its way back."""
    parts = lines[0].split()
    if len(parts) < 3 or parts[-1][:4].upper() != b"SIP/" or not _TOKEN.fullmatch(parts[0]):
        return SipError(problem, where[:80].decode(errors="replace"))
    partial = Request(parts[0], b" ".join(parts[1:-1]), [])
    for line in lines[1:]:
        name, colon, _ = line.partition(b":")
        key = key_of(name)
        if colon and key in _REQUIRED and (key == b"via" or partial.get(key) is None):
            partial.fields.append((key, line))
    via = partial.get(b"via") or b""
    answerable = partial.get(b"cseq") and _VIA.match(via)
    if answerable:
        _set_via(partial, via)
    status = 400 if parts[-1].upper() == b"SIP/2.0" else 505
    return SipError(problem, where[:80].decode(errors="replace"), partial if answerable else None, status)


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
        fields = [entry for entry in request.fields if entry[0] in _REQUIRED]
        if tag:
            fields = [(key, line + tag) if key == b"to" else (key, line) for key, line in fields]
        fields += extra
    return Response(status, reason or REASONS.get(status, b"Status"), fields, body)
