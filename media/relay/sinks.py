"""Where the packets of a stream go, when that is not simply a socket: the relay's loop calls `send` and knows no more.

A `Rewriter` stands before the socket of a listener who has heard another source before, so that it hears one stream
(`media.rtp.continuity`); a `Translator` does the same for RTCP. Both are made at a switch, not before: a call that was
never moved sends from socket to socket.
"""

from __future__ import annotations

from time import monotonic
from typing import Protocol

from media.rtp.continuity import Continuity
from media.rtp.translate import translate


class Sink(Protocol):
    """`packet` lies in the relay's one buffer, and may be changed there."""

    def send(self, packet: memoryview, /) -> object: ...


class Endpoint(Protocol):
    def send(self, packet: memoryview | bytes, /) -> object: ...


class Translator:
    """RTCP from a source to a listener."""

    __slots__ = ("_heard", "_listener", "_told")

    def __init__(self, listener: Endpoint, heard: Continuity | None, told: Continuity | None) -> None:
        self._listener = listener
        self._heard = heard
        self._told = told

    def send(self, packet: memoryview, /) -> None:
        translated = translate(bytes(packet), self._heard, self._told)
        if translated is not None:
            self._listener.send(translated)


class Rewriter:
    """RTP to one listener. `rtcp` is for what comes on the same port (RFC 5761)."""

    __slots__ = ("_fit", "_send", "continuity", "rtcp")

    def __init__(self, listener: Endpoint, continuity: Continuity) -> None:
        self._send = listener.send
        self._fit = continuity.fit
        self.continuity = continuity
        self.rtcp: Translator | None = None

    def send(self, packet: memoryview, /) -> None:
        length = len(packet)
        if length > 1 and 192 <= packet[1] <= 223:
            if self.rtcp is not None:
                self.rtcp.send(packet)
        elif self._fit(packet, length, monotonic()):
            self._send(packet)
