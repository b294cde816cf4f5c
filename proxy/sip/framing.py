"""Cutting whole SIP messages out of a byte stream (RFC 3261 §18.3), with limits.

A stream has no edges but Content-Length: once that is missing, ambiguous or beyond the limit, nothing that follows
can be trusted, and the connection must be closed. Between messages a double CRLF is a keep-alive that wants a CRLF
back (RFC 5626 §4.4.1). Every byte is looked at once, however small the pieces are in which it comes.

No clock: `half_open` lets a timer of the transport tell a stream that rests from one that never ends the message it
has begun.
"""

from __future__ import annotations

import re

HEADERS_BYTES_MAX = 32768

# A value may stand on a folded line (§7.3.1); "l" is the compact form (§20.14).
_CONTENT_LENGTH = re.compile(rb"\r\n(?:content-length|l)[ \t]*:((?:[^\r]|\r(?!\n)|\r\n(?=[ \t]))*)", re.IGNORECASE)
_CRLF = b"\r\n"


class FramingError(ValueError):
    """The stream cannot go on. `messages` came whole before the fault; `head` is the start line and headers of the
    message at fault, when they are known: enough to refuse a request by, with `status`, before closing."""

    def __init__(self, problem: str, messages: list[bytes], head: bytes = b"", status: int = 400) -> None:
        super().__init__(problem)
        self.messages = messages
        self.head = head
        self.status = status


class StreamFramer:
    """What comes in on one connection. `pong_due` says that the last chunk completed a keep-alive, which wants a CRLF
    back."""

    __slots__ = (
        "_blank_lines",
        "_buffer",
        "_end",
        "_failed",
        "_headers_max",
        "_message_max",
        "_scanned",
        "pong_due",
    )

    def __init__(self, message_bytes_max: int, headers_bytes_max: int = HEADERS_BYTES_MAX) -> None:
        self._message_max = message_bytes_max
        self._headers_max = min(headers_bytes_max, message_bytes_max)
        self._buffer = bytearray()  # starts with the message that is coming in, or is empty
        self._scanned = 0  # no empty line begins before here
        self._end = 0  # where the message ends, once its headers are complete
        self._blank_lines = 0  # since the last message or ping
        self._failed = False
        self.pong_due = False

    @property
    def half_open(self) -> bool:
        """A message has begun and is not complete."""
        return bool(self._buffer)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The messages that `chunk` completes. Raises FramingError, from then on at every call."""
        messages: list[bytes] = []
        self.pong_due = False
        if self._failed:
            raise FramingError("the stream has failed before", messages)
        buffer = self._buffer
        buffer += chunk
        start = 0  # of the message that is being cut out
        try:
            while True:
                if not self._end:
                    if not self._scanned:
                        start = self._skip_blank_lines(start)
                        if len(buffer) - start < 2 and bytes(buffer[start:]) in (b"", b"\r"):
                            break
                    if not self._find_end(start, messages):
                        break
                if len(buffer) - start < self._end:
                    break
                with memoryview(buffer) as view:
                    messages.append(bytes(view[start : start + self._end]))
                start += self._end
                self._end = self._scanned = self._blank_lines = 0
        except FramingError:
            self._failed = True
            buffer.clear()
            raise
        del buffer[:start]
        return messages

    def _skip_blank_lines(self, at: int) -> int:
        """§7.5: a CRLF before the start line is ignored; RFC 5626 §4.4.1: two of them are a ping."""
        while self._buffer.startswith(_CRLF, at):
            at += 2
            self._blank_lines += 1
            if self._blank_lines == 2:
                self._blank_lines = 0
                self.pong_due = True
        return at

    def _find_end(self, start: int, messages: list[bytes]) -> bool:
        """Look for the empty line; when it is there, take the message's length from its headers."""
        buffer = self._buffer
        found = buffer.find(b"\r\n\r\n", start + self._scanned, start + self._headers_max)
        if found < 0:
            if len(buffer) - start >= self._headers_max:
                raise FramingError(f"headers longer than {self._headers_max} bytes", messages)
            self._scanned = max(len(buffer) - start - 3, 1)
            return False
        head = bytes(buffer[start : found + 4])
        values = {value.strip() for value in _CONTENT_LENGTH.findall(head)}
        if len(values) != 1:
            problem = "contradicting Content-Length" if values else "no Content-Length"
            raise FramingError(f"{problem} on a stream", messages, head)
        value = values.pop()
        if not value.isdigit() or len(value) > 10:
            raise FramingError(f"Content-Length is not a number: {value[:40]!r}", messages, head)
        length = len(head) + int(value)
        if length > self._message_max:
            problem = f"message of {length} bytes, {self._message_max} are allowed"
            raise FramingError(problem, messages, head, 513)
        self._end = length
        return True
