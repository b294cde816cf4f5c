"""What is tried in a synthetic call, and what came of it: the two messages between the probe and who gives it orders.

Times are in seconds. Both are plain values, and travel as msgpack maps that carry an order's number besides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

SAYS_HZ = 850  # a whole number of periods in 20 ms, so that every packet is the same; and nobody's signalling tone


class CallerFailed(Exception):
    """The caller itself could not do what was asked. It says nothing of the backend."""


@dataclass(slots=True, frozen=True)
class SyntheticCall:
    uri: str  # sip:600@192.0.2.10:5060;transport=udp
    hears_hz: int  # SAYS_HZ: its own echo
    answer_s: float  # it must be answered within this,
    hear_s: float  # must then hear the tone within this,
    listen_s: float  # and listens on for this long


@dataclass(slots=True, frozen=True)
class Outcome:
    status: int  # of the final response; 408: there was none, 503: the way to it broke
    setup_s: float = 0.0  # from the INVITE to the final response
    packets: int = 0  # of RTP that came
    silence_s: float | None = None  # from the 200 to the first of the tone; None: it was never heard
    gap_s: float = 0.0  # the longest time without the tone, from then on
    ended: bool = False  # the backend hung up before we did

    @property
    def answered(self) -> bool:
        return 200 <= self.status < 300

    @property
    def heard(self) -> bool:
        return self.silence_s is not None

    def __str__(self) -> str:
        if not self.answered:
            return f"refused with {self.status}" if self.status != 408 else "not answered"
        if not self.heard:
            hung_up = ", and it hung up" if self.ended else ""
            if self.packets:  # one way: it speaks, but does not hear us, or speaks of something else
                return f"answered, {self.packets} packets came without the tone{hung_up}"
            return f"answered, and not one packet came{hung_up}"
        assert self.silence_s is not None
        return (
            f"answered after {self.setup_s * 1000:.0f} ms, heard after {self.silence_s * 1000:.0f} ms, "
            f"longest gap {self.gap_s * 1000:.0f} ms"
        )


class Caller(Protocol):
    """Places one call and waits for its outcome; several at once are welcome. Raises CallerFailed."""

    async def place(self, call: SyntheticCall) -> Outcome: ...

    async def close(self) -> None: ...
