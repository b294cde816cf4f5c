"""The history of a simulation: every datagram with its fate, every fault, and one hash over all of it.

Two runs of one seed must give the same hash. The tail, one line a message, is what a failing test shows.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque

Address = tuple[str, int]

_IDENTITY = re.compile(rb"^(Call-ID|i|CSeq)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


def is_probe(data: bytes) -> bool:
    """Probes are most of what is sent and least of what is worth reading."""
    if data.endswith((b"7:command4:pinge", b"6:result4:ponge")):
        return True
    return data.startswith(b"OPTIONS ") or (data.startswith(b"SIP/2.0 200") and b" OPTIONS\r\n" in data)


def summary(data: bytes) -> str:
    """The first line of a SIP message, its CSeq and Call-ID; of other data the length and the first bytes."""
    first, _, rest = data.partition(b"\r\n")
    if b"SIP/2.0" not in first:
        return f"{len(data)} bytes {data[:16]!r}"
    fields = {name.lower(): value for name, value in _IDENTITY.findall(rest.partition(b"\r\n\r\n")[0])}
    identity = [fields.get(b"cseq", b"?"), fields.get(b"call-id") or fields.get(b"i", b"?")]
    return b" | ".join([first, *identity]).decode("utf-8", "replace")


class Trace:
    def __init__(self, tail: int = 2000) -> None:
        self._tail: deque[tuple[float, Address | None, Address | None, str, bytes]] = deque(maxlen=tail)
        self._hash = hashlib.blake2b(digest_size=8)
        self.datagrams = 0

    def message(self, now: float, source: Address, target: Address, fate: str, data: bytes) -> None:
        self.datagrams += 1
        if not is_probe(data):
            self._tail.append((now, source, target, fate, data))
        self._hash.update(b"%r %r %r %a\n" % (now, source, target, fate))
        self._hash.update(data)

    def event(self, now: float, text: str) -> None:
        """A fault, or whatever else belongs into the history."""
        self._tail.append((now, None, None, text, b""))
        self._hash.update(b"%r %a\n" % (now, text))

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def tail(self, lines: int | None = None) -> str:
        entries = list(self._tail)[-lines if lines else 0 :]
        return "\n".join(self._line(*entry) for entry in entries)

    @staticmethod
    def _line(now: float, source: Address | None, target: Address | None, fate: str, data: bytes) -> str:
        if source is None or target is None:
            return f"{now:12.6f} ---- {fate}"
        return f"{now:12.6f} {source[0]}:{source[1]} > {target[0]}:{target[1]} {fate:>8} {summary(data)}"
