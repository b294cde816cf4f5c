"""The client's side of RFC 6455: handshake, frames, and what they carry. Pure.

Bytes in, messages out: first what became of the handshake, then texts and control frames. Extensions are not offered.
Masks and keys are made from chance that the caller brings.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha1

from proxy.backends.control.session import WireError

HEAD_BYTES_MAX = 16_384
MESSAGE_BYTES_MAX = 64 << 20
BACKLOG_BYTES_MAX = 4 << 20  # what may wait behind the message that is being received

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3


class Kind(IntEnum):
    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA
    UPGRADED = 0x100  # not on the wire: the handshake succeeded
    REFUSED = 0x101  # it did not


@dataclass(slots=True, frozen=True)
class Message:
    kind: Kind
    data: bytes = b""
    status: int = 0  # of HTTP when refused; why it was closed (RFC 6455 §7.4)


def handshake(host: str, target: str, key: bytes, headers: Mapping[str, str]) -> bytes:
    """RFC 6455 §4.1. `key` are 16 bytes."""
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {b64encode(key).decode()}",
        "Sec-WebSocket-Version: 13",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def frame(kind: Kind, data: bytes, mask: bytes) -> bytes:
    """One whole message, masked (RFC 6455 §5.3)."""
    length = len(data)
    if length < 126:
        head = bytes((0x80 | kind, 0x80 | length))
    elif length < 65_536:
        head = bytes((0x80 | kind, 0xFE)) + length.to_bytes(2, "big")
    else:
        head = bytes((0x80 | kind, 0xFF)) + length.to_bytes(8, "big")
    stretched = (mask * (length // 4 + 1))[:length]
    masked = int.from_bytes(data, "big") ^ int.from_bytes(stretched, "big")
    return head + mask + masked.to_bytes(length, "big")


class WebSocketDecoder:
    """Implements `proxy.backends.control.session.Decoder`."""

    def __init__(self, key: bytes) -> None:
        self._accept = b64encode(sha1(b64encode(key) + _GUID.encode()).digest()).decode()
        self._buffer = bytearray()
        self._before = 0  # bytes of the stream before the buffer: errors say where
        self._upgraded = False
        self._need = 0  # bytes of the frame that has begun
        self._parts: list[bytes] = []  # of a message in several frames
        self._kind = Kind.TEXT
        self._held = 0  # bytes in the parts

    def feed(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > self._need + BACKLOG_BYTES_MAX:
            raise self._error(f"{len(self._buffer)} bytes wait to be taken, more than {BACKLOG_BYTES_MAX}")

    def take(self) -> Message | None:
        if not self._upgraded:
            return self._take_answer()
        while (whole := self._take_frame()) is not None:
            final, kind, data = whole
            if kind >= Kind.CLOSE:
                if not final or len(data) > 125:  # RFC 6455 §5.5
                    raise self._error("a control frame in parts")
                status = int.from_bytes(data[:2], "big") if kind is Kind.CLOSE else 0
                return Message(kind, data[2:] if kind is Kind.CLOSE else data, status)
            if (kind is Kind.CONTINUATION) != bool(self._parts):
                raise self._error("a message within a message" if self._parts else "the rest of no message")
            if kind is not Kind.CONTINUATION:
                self._kind = kind
            if final and not self._parts:
                return Message(kind, data)
            self._parts.append(data)
            self._held += len(data)
            if self._held > MESSAGE_BYTES_MAX:
                raise self._error(f"a message of more than {MESSAGE_BYTES_MAX} bytes")
            if final:
                data = b"".join(self._parts)
                self._parts.clear()
                self._held = 0
                return Message(self._kind, data)
        return None

    def _take_answer(self) -> Message | None:
        """RFC 6455 §4.1, what a client must check."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                raise self._error(f"an answer to the handshake of more than {HEAD_BYTES_MAX} bytes")
            return None
        line, *rest = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        version, _, tail = line.partition(" ")
        if not version.startswith("HTTP/1.") or not (tail[:3].isascii() and tail[:3].isdigit()):
            raise self._error(f"no answer to a handshake: {line[:60]!r}")
        status = int(tail[:3])
        if status != 101:
            return Message(Kind.REFUSED, tail.encode(), status)
        fields = {name.strip().lower(): value.strip() for name, _, value in (each.partition(":") for each in rest)}
        if fields.get("upgrade", "").lower() != "websocket" or fields.get("sec-websocket-accept") != self._accept:
            raise self._error("a handshake that answers another one")
        if "sec-websocket-extensions" in fields:
            raise self._error("an extension that was not offered")
        self._drop(end + 4)
        self._upgraded = True
        return Message(Kind.UPGRADED)

    def _take_frame(self) -> tuple[bool, Kind, bytes] | None:
        """RFC 6455 §5.2."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        if first & 0x70:
            raise self._error("a reserved bit is set")
        if second & 0x80:
            raise self._error("a server masks nothing")
        try:
            kind = Kind(first & 0x0F)
        except ValueError:
            raise self._error(f"opcode {first & 0x0F}") from None
        length, start = second & 0x7F, 2
        if length == 126:
            length, start = int.from_bytes(buffer[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(buffer[2:10], "big"), 10
        if len(buffer) < start:
            return None
        if length > MESSAGE_BYTES_MAX:
            raise self._error(f"a frame of {length} bytes, more than {MESSAGE_BYTES_MAX}")
        if len(buffer) < start + length:
            self._need = start + length
            return None
        data = bytes(buffer[start : start + length])
        self._drop(start + length)
        self._need = 0
        return bool(first & 0x80), kind, data

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._before += count

    def _error(self, what: str) -> WireError:
        return WireError(f"websocket, byte {self._before}: {what}")
