"""The wire of the Asterisk Manager Interface: bytes in, messages out; actions in, bytes out. Pure.

A message is a block of `Key: Value` lines up to an empty one; the first says whether it is an event or the response to
an action. Events that nobody wants are not taken apart. Everything is bounded: a message, what waits to be read, how
often what comes may make no sense. The encoder refuses what would be read as more than one line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from proxy.backends.control.session import WireError

MESSAGE_BYTES_MAX = 65_536  # the longest that Asterisk makes are a few kB
MALFORMED_MAX = 10  # messages in a row
LINE_BYTES_MAX = 1000  # Asterisk takes 1,024 and cuts off what is longer
GREETING = b"Asterisk Call Manager/"
GREETING_BYTES_MAX = 128

_KEY = re.compile(r"[A-Za-z0-9_-]+")
_END = b"\r\n\r\n"


@dataclass(slots=True, frozen=True)
class Message:
    kind: str  # Event, Response
    name: str  # of the event; Success, Error, … of the response
    fields: dict[str, str]  # of a key that is there several times, the last value
    variables: dict[str, str]  # what `channelvars` of manager.conf adds to events of a channel
    output: tuple[str, ...] = ()  # of the action Command

    def get(self, key: str) -> str:
        return self.fields.get(key, "")

    @property
    def action_id(self) -> str:
        return self.fields.get("ActionID", "")


class AmiDecoder:
    """`wanted` are the names of the events to be given out; others are counted and dropped, unless they answer an
    action."""

    def __init__(self, wanted: Collection[str]) -> None:
        self.version = ""  # of the protocol, as the greeting says
        self.counters: Counter[str] = Counter()
        self.fault = ""  # the latest thing that made no sense
        self._wanted = frozenset(name.encode() for name in wanted)
        self._buffer = bytearray()
        self._taken = 0  # of the buffer
        self._offset = 0  # of the buffer's beginning in the stream
        self._sought = 0  # so far there is no end of a message
        self._in_a_row = 0

    @property
    def backlog(self) -> int:
        """Bytes that wait to be taken out."""
        return len(self._buffer) - self._taken

    def feed(self, data: bytes) -> None:
        self.counters["bytes"] += len(data)
        self._buffer += data

    def take(self) -> Message | None:
        """The next message; None: it is not all there yet. Raises WireError."""
        while True:
            if not self.version and not self._greeted():
                return None
            raw = self._cut()
            if raw is None:
                return None
            message = self._parse(raw)
            if message is not None:
                return message

    def skip(self) -> None:
        """Drop all messages that wait and are complete."""
        end = self._buffer.rfind(_END, self._taken)
        if end >= 0:
            self.counters["dropped"] += self._buffer.count(_END, self._taken)
            self._take_to(end + len(_END))

    def _greeted(self) -> bool:
        end = self._buffer.find(b"\r\n")
        line = bytes(self._buffer[: end if end >= 0 else GREETING_BYTES_MAX])
        if not line.startswith(GREETING[: len(line)]) or len(line) >= GREETING_BYTES_MAX:
            raise WireError(f"it greets with {line[:40]!r}, not with {GREETING.decode()!r}")
        if end < 0:
            return False
        self.version = line[len(GREETING) :].decode(errors="replace") or "?"
        self._take_to(end + 2)
        return True

    def _cut(self) -> bytes | None:
        buffer = self._buffer
        end = buffer.find(_END, max(self._taken, self._sought))
        if end < 0:
            if self.backlog > MESSAGE_BYTES_MAX:
                raise WireError(f"no end of a message in {self.backlog} bytes at byte {self._at}")
            self._sought = max(self._taken, len(buffer) - len(_END) + 1)
            return None
        if end - self._taken > MESSAGE_BYTES_MAX:
            raise WireError(f"a message of {end - self._taken} bytes at byte {self._at}")
        raw = bytes(buffer[self._taken : end])
        self._take_to(end + len(_END))
        return raw

    @property
    def _at(self) -> int:
        """Where in the stream the next message begins."""
        return self._offset + self._taken

    def _take_to(self, place: int) -> None:
        self._taken = self._sought = place
        # Moved to the front only now and then: each time would be quadratic in what waits.
        if place >= MESSAGE_BYTES_MAX or place == len(self._buffer):
            del self._buffer[:place]
            self._offset += place
            self._taken = self._sought = 0

    def _parse(self, raw: bytes) -> Message | None:
        counters = self.counters
        if raw.startswith(b"Event: "):
            counters["events"] += 1
            end = raw.find(b"\r\n")
            name = raw[7 : end if end >= 0 else len(raw)]
            # In what answers an action ActionID is the second line.
            if name not in self._wanted and not raw.startswith(b"ActionID: ", end + 2):
                counters["ignored"] += 1
                return None
        elif raw.startswith(b"Response: "):
            counters["responses"] += 1
        else:
            self._senseless(f"a message that begins with {raw[:40]!r}", raw)
            return None
        lines = raw.decode(errors="replace").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        try:
            fields: dict[str, str] = dict(pairs)
        except ValueError:
            pairs = list(self._pairs(lines))
            fields = dict(pairs)
        kind, name_text = pairs[0]
        variables: dict[str, str] = {}
        if "ChanVariable" in fields:
            for key, value in pairs:
                if key == "ChanVariable":
                    variable, _, value = value.partition("=")
                    variables[variable] = value
        output = tuple(value for key, value in pairs if key == "Output") if "Output" in fields else ()
        self._in_a_row = 0
        return Message(kind, name_text, fields, variables, output)

    def _pairs(self, lines: list[str]) -> Iterator[list[str]]:
        """Slowly: one of them has no blank after the colon, or no colon at all."""
        for line in lines:
            key, colon, value = line.partition(":")
            if colon and key:
                yield [key, value.removeprefix(" ")]
            else:
                self._note(f"a line without a key, {line[:40]!r}, in the message before byte {self._at}")

    def _senseless(self, what: str, raw: bytes) -> None:
        self._note(f"{what}, of {len(raw)} bytes, before byte {self._at}")
        self._in_a_row += 1
        if self._in_a_row >= MALFORMED_MAX:
            raise WireError(f"{self._in_a_row} messages in a row make no sense, the latest is {self.fault}")

    def _note(self, fault: str) -> None:
        self.counters["malformed"] += 1
        self.fault = fault


def encode(action: str, fields: Iterable[tuple[str, str]], action_id: str) -> bytes:
    """Raises ValueError for what would not be read as it is meant."""
    lines = []
    for key, value in (("Action", action), ("ActionID", action_id), *fields):
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key of an action")
        if "\r" in value or "\n" in value or "\0" in value:
            raise ValueError(f"the value of {key} is more than one line")
        line = f"{key}: {value}\r\n".encode()
        if len(line) > LINE_BYTES_MAX:
            raise ValueError(f"the value of {key} has more than {LINE_BYTES_MAX} bytes")
        lines.append(line)
    return b"".join(lines) + b"\r\n"
