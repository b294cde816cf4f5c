"""Where the packets of a stream go, when that is not simply a socket: the relay's loop calls `send` and knows no more.

A `Rewriter` stands before the socket of a listener who has heard another source before, so that it hears one stream
(`media.rtp.continuity`); a `Translator` does the same for RTCP. Both are made at a switch, not before: a call that was
never moved sends from socket to socket. `Fork` and `Converter` stand before these.
"""

from __future__ import annotations

from time import monotonic
from typing import Protocol

from media.rtp.continuity import Continuity
from media.rtp.conversion import Conversion
from media.rtp.packet import HEADER_SIZE
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

    __slots__ = ("_fit", "continuity", "put", "rtcp")

    def __init__(self, listener: Endpoint, continuity: Continuity) -> None:
        self.put = listener.send  # what is part of the stream already
        self._fit = continuity.fit
        self.continuity = continuity
        self.rtcp: Translator | None = None

    def send(self, packet: memoryview, /) -> None:
        length = len(packet)
        if length > 1 and 192 <= packet[1] <= 223:
            if self.rtcp is not None:
                self.rtcp.send(packet)
        elif self._fit(packet, length, monotonic()):
            self.put(packet)


class Fork:
    """To the connected leg, and to the one that stands by."""

    __slots__ = ("_live", "_standby")

    def __init__(self, live: Sink, standby: Sink) -> None:
        self._live = live
        self._standby = standby

    def send(self, packet: memoryview, /) -> None:
        head = packet[:HEADER_SIZE].tobytes()
        try:
            self._live.send(packet)
        finally:  # although the live one may just have refused it (ICMP): that is what the other is there for
            packet[:HEADER_SIZE] = head
            self._standby.send(packet)


class Converter:
    """To a peer that takes other payload types than the source speaks."""

    __slots__ = ("_listener", "conversion")

    def __init__(self, conversion: Conversion, listener: Sink) -> None:
        self.conversion = conversion
        self._listener = listener

    def send(self, packet: memoryview, /) -> None:
        if self.conversion.apply(packet, len(packet)):
            self._listener.send(packet)


class _Nowhere:
    """What is received is counted, and nobody is to hear it."""

    def send(self, packet: memoryview, /) -> None:
        pass


NOWHERE = _Nowhere()
