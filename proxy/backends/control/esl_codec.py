"""The event socket of FreeSWITCH: bytes to frames, frames to events, commands to bytes. Pure.

A frame is a block of `Name: value` lines, an empty line, and `Content-Length` bytes of body if that header is there.
An event is the body of a frame of type text/event-plain (again such a block, values percent-encoded, with a body of
its own if it says Content-Length) or text/event-json (one object, the event's body under `_body`).

Source: FreeSWITCH 1.10, src/mod/event_handlers/mod_event_socket/mod_event_socket.c (`read_packet` sends events and log
lines, `api_exec` answers `api` and makes the events of `bgapi`, `listener_run` greets and answers commands,
`send_disconnect`), src/switch_event.c (`switch_event_serialize`, `switch_event_serialize_json`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from proxy.backends.control.session import WireError

HEAD_BYTES_MAX = 65_536
BODY_BYTES_MAX = 64 << 20  # a list of 30,000 channels
BACKLOG_BYTES_MAX = 4 << 20  # what may wait behind the frame that is being received

AUTH_REQUEST = "auth/request"
COMMAND_REPLY = "command/reply"
API_RESPONSE = "api/response"
EVENT_PLAIN = "text/event-plain"
EVENT_JSON = "text/event-json"
DISCONNECT_NOTICE = "text/disconnect-notice"
REJECTIONS = frozenset({"text/rude-rejection", "rude/rejection"})  # the second before 2010
LOG_DATA = "log/data"

BODY = "_body"  # switch_event_serialize_json_obj


@dataclass(slots=True, frozen=True)
class Frame:
    kind: str  # its Content-Type
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def reply(self) -> str:
        """What a command/reply or an api/response says."""
        if self.kind == API_RESPONSE:
            return self.body.decode("utf-8", "replace").rstrip("\r\n")
        return self.headers.get("reply-text", "")


class EslDecoder:
    """Implements `proxy.backends.control.session.Decoder`."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._before = 0  # bytes of the stream before the buffer: errors say where
        self._searched = 0  # there is no end of the head before this
        self._head: dict[str, str] | None = None
        self._need = 0  # bytes of the frame's body
        self.malformed = 0  # lines of heads that are no headers

    def feed(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > self._need + BACKLOG_BYTES_MAX:
            raise self._error(f"{len(self._buffer)} bytes wait to be taken, more than {BACKLOG_BYTES_MAX}")

    def take(self) -> Frame | None:
        if self._head is None and not self._take_head():
            return None
        assert self._head is not None
        if len(self._buffer) < self._need:
            return None
        head, body = self._head, bytes(self._buffer[: self._need])
        self._drop(self._need)
        self._head, self._need = None, 0
        return Frame(head.get("content-type", "").lower(), head, body)

    def _take_head(self) -> bool:
        buffer = self._buffer
        while buffer and buffer[0] in b"\r\n":  # the answer of `bgapi` ends in an empty line too many
            self._drop(1)
        end = buffer.find(b"\n\n", self._searched)
        if end < 0 and b"\n\r\n" in buffer[self._searched : HEAD_BYTES_MAX]:  # a relay that writes CRLF
            end = buffer.find(b"\n\r\n", self._searched)
            length = end + 3
        else:
            length = end + 2
        if end < 0:
            if len(buffer) > HEAD_BYTES_MAX:
                raise self._error(f"a head of more than {HEAD_BYTES_MAX} bytes")
            self._searched = max(0, len(buffer) - 2)
            return False
        head = self._fields(bytes(buffer[:end]))
        self._need = self._content_length(head)
        self._head = head
        self._drop(length)
        return True

    def _fields(self, head: bytes) -> dict[str, str]:
        fields: dict[str, str] = {}
        for line in head.decode("utf-8", "replace").split("\n"):
            name, colon, value = line.partition(":")
            if colon and name and name.isascii():
                fields.setdefault(name.strip().lower(), value.strip())
            elif line.strip():
                self.malformed += 1
        if not fields:
            raise self._error(f"no header in {head[:60]!r}")
        return fields

    def _content_length(self, head: Mapping[str, str]) -> int:
        text = head.get("content-length", "0")
        if not (text.isascii() and text.isdigit()) or len(text) > 9:
            raise self._error(f"Content-Length {text[:40]!r}")
        if (length := int(text)) > BODY_BYTES_MAX:
            raise self._error(f"a body of {length} bytes, more than {BODY_BYTES_MAX}")
        return length

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._before += count
        self._searched = 0

    def _error(self, what: str) -> WireError:
        return WireError(f"event socket, byte {self._before}: {what}")


def event(frame: Frame) -> dict[str, str]:
    """The headers of an event, its body under `_body`. Raises WireError."""
    text = frame.body.decode("utf-8", "replace")  # a caller's name may be in any charset
    return _json_event(text) if frame.kind == EVENT_JSON else _plain_event(text)


def _json_event(text: str) -> dict[str, str]:
    try:
        fields = json.loads(text, strict=False)
    except (ValueError, RecursionError) as error:
        raise WireError(f"event in JSON: {error}") from error
    if not isinstance(fields, dict):
        raise WireError(f"event in JSON: {type(fields).__name__}, not an object")
    return {name: value if type(value) is str else _one(value) for name, value in fields.items()}


def _one(value: object) -> str:
    """A header that was added more than once is an array: the first is the channel's own."""
    if isinstance(value, list):
        return _one(value[0]) if value else ""
    return "" if value is None else str(value)


def _plain_event(text: str) -> dict[str, str]:
    head, _, body = text.partition("\n\n")
    fields: dict[str, str] = {}
    for number, line in enumerate(head.split("\n"), 1):
        name, colon, value = line.partition(":")
        if not colon:
            if line.strip():
                raise WireError(f"event, line {number}: no header in {line[:60]!r}")
            continue
        fields.setdefault(name, unquote(value.strip()))
    if not fields:
        raise WireError("event without headers")
    length = fields.pop("Content-Length", None)
    if length is not None:
        if not (length.isascii() and length.isdigit()):
            raise WireError(f"event: Content-Length {length[:40]!r}")
        fields[BODY] = body.encode()[: int(length)].decode("utf-8", "replace")
    return fields


def command(line: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Raises ValueError for what would be more than one command."""
    lines = [line, *(f"{name}: {value}" for name, value in (headers or {}).items())]
    for each in lines:
        if any(ord(char) < 32 or ord(char) == 127 for char in each):
            raise ValueError("a control character in a command")  # which may hold the secret: not shown
    return ("\n".join(lines) + "\n\n").encode()
