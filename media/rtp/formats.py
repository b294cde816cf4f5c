"""The payload types of one media line: which encodings a listener takes, their clock rates, and how it wants them.

Written as one line of text that the plane derives from a description and the relay reads, for instance
`0=PCMU/8000 101=TELEPHONE-EVENT/8000 ptime=20`. The word `mux` says that RTCP comes on the port of RTP (RFC 5761).
No text at all stands for a line whose packets must not be touched: SRTP, UDPTL, DTLS. Thousands of lines have the
same few texts, so what is read is shared.
"""

from __future__ import annotations

from functools import lru_cache

TELEPHONE_EVENT = "TELEPHONE-EVENT"
COMFORT_NOISE = "CN"
G711 = ("PCMU", "PCMA")
CLOCK_HZ = 8000  # of what nobody has described
PTIME_MS = 20  # RFC 3551 §4.5: the default for audio


class Formats:
    __slots__ = ("clocks", "comfort_noise", "encodings", "events", "mux", "ptime_ms", "text")

    def __init__(self, text: str) -> None:
        """Raises ValueError."""
        self.text = text
        self.mux = False
        self.ptime_ms = PTIME_MS
        self.clocks: dict[int, int] = {}
        self.encodings: dict[int, str] = {}
        for word in text.split():
            name, _, value = word.partition("=")
            if word == "mux":
                self.mux = True
            elif name == "ptime":
                self.ptime_ms = int(value)
            else:
                encoding, _, clock = value.partition("/")
                self.encodings[int(name)] = encoding
                self.clocks[int(name)] = int(clock.partition("/")[0])
        self.events = frozenset(each for each, encoding in self.encodings.items() if encoding == TELEPHONE_EVENT)
        # RFC 3389 §2: comfort noise is for audio of its own clock rate; we make it for 8 kHz.
        self.comfort_noise = next(
            (
                each
                for each, encoding in self.encodings.items()
                if encoding == COMFORT_NOISE and self.clocks[each] == CLOCK_HZ
            ),
            None,
        )

    def clock(self, payload_type: int) -> int:
        return self.clocks.get(payload_type, CLOCK_HZ)

    def duration(self, payload_type: int, payload_size: int) -> int:
        """Of a packet, in units of its clock."""
        if self.encodings.get(payload_type) in G711:
            return payload_size
        return self.ptime_ms * self.clock(payload_type) // 1000


@lru_cache(maxsize=1024)
def read(text: str) -> Formats:
    """Raises ValueError for what is no such text."""
    return Formats(text)
