"""The SIP parser (RFC 3261 §7, §25): from the bytes of one whole message to a `Request` or a `Response`.

A message costs one split and one dictionary look-up a line; no value is taken apart but those that every message is
matched by. Folded lines are unfolded (§7.3.1 calls both forms equal).
"""

from __future__ import annotations

import re
from functools import lru_cache

from proxy.sip.message import KEYS, REQUIRED, Field, Message, Request, Response, key_of

_TOKEN = re.compile(rb"[A-Za-z0-9\-.!%*_+`'~]+")
_STATUS = re.compile(rb"SIP/2\.0 ([1-6]\d\d)(?: (.*))?", re.DOTALL)
_FOLD = re.compile(rb"\r\n[ \t]+")
_VIA = re.compile(rb"\s*SIP\s*/\s*\d+\.\d+\s*/\s*[A-Za-z0-9\-.!%*_+`'~]+\s+[^\s;,]", re.IGNORECASE)
_BRANCH = re.compile(rb";\s*branch\s*=\s*([^;\s]*)", re.IGNORECASE)
_METHODS = frozenset(b"INVITE ACK BYE CANCEL OPTIONS UPDATE PRACK INFO REFER NOTIFY MESSAGE SUBSCRIBE".split())
_SINGLE = (b"from", b"to", b"call-id", b"cseq", b"content-length", b"max-forwards")


class SipError(ValueError):
    """A message that cannot be read. `where` names the line or header; `partial` holds what could be read of a
    request, so that it can be answered with `status` (RFC 3261 §16.3 step 1)."""

    def __init__(self, problem: str, where: str, partial: Request | None = None, status: int = 400) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.partial = partial
        self.status = status


def parse(data: bytes) -> Request | Response:
    """Read one whole message, as it came in a datagram or as framing cut it out of a stream. Raises SipError."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end or not head:
        raise SipError("no empty line ends the headers", "end")
    lines = head.splitlines()
    if len(lines) != head.count(b"\r\n") + 1:  # some peers end lines there: a way to smuggle headers past us
        raise _unreadable(lines, "CR or LF on its own", b"end")
    fields: list[Field] = []
    keys = KEYS
    last: dict[bytes, bytes] = {}  # line by key
    for line in lines[1:]:
        name, colon, _ = line.partition(b":")
        key = keys.get(name)
        if key is None or not colon:
            key = (_unusual(name) if len(name) < 64 else _unusual.__wrapped__(name)) if colon else b""
            if not key:  # folded lines end up here as well; they are rare
                unfolded = _FOLD.sub(b" ", head)
                if unfolded != head:
                    return parse(unfolded + data[len(head) :])
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
    if not last.keys() >= REQUIRED:
        raise _unreadable(lines, "missing header", min(key for key in REQUIRED if key not in last))
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


def answerable(head: bytes) -> Request | None:
    """What can be read of a request that as a whole cannot: enough for an answer to find its way back. `head` is the
    start line and headers."""
    return _partial(_FOLD.sub(b" ", head.partition(b"\r\n\r\n")[0]).split(b"\r\n"))


def _unreadable(lines: list[bytes], problem: str, where: bytes) -> SipError:
    """The error, with what is left of a request when an answer could still find its way back."""
    partial = _partial(lines)
    status = 400 if partial is None or lines[0].split()[-1].upper() == b"SIP/2.0" else 505
    return SipError(problem, where[:80].decode(errors="replace"), partial, status)


def _partial(lines: list[bytes]) -> Request | None:
    parts = lines[0].split()
    if len(parts) < 3 or parts[-1][:4].upper() != b"SIP/" or not _TOKEN.fullmatch(parts[0]):
        return None
    partial = Request(parts[0], b" ".join(parts[1:-1]), [])
    for line in lines[1:]:
        name, colon, _ = line.partition(b":")
        key = key_of(name)
        if colon and key in REQUIRED and (key == b"via" or partial.get(key) is None):
            partial.fields.append((key, line))
    via = partial.get(b"via") or b""
    if not partial.get(b"cseq") or not _VIA.match(via):
        return None
    _set_via(partial, via)
    return partial
