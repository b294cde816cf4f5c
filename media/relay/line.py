"""A line: the pair of streams for one media line of one leg, and to which other lines it is linked.

Link, bridge and fork are between lines; the streams find out what that means for their packets (`Stream.relink`). Lines
and streams point at each other; `close` unties them, for there is no garbage collector here.
"""

from __future__ import annotations

import socket

from media.relay.guard import Guard, renew
from media.relay.latch import Address, LatchPolicy
from media.relay.sinks import NOWHERE, Sink
from media.relay.stream import Stream
from media.rtp.formats import Formats, read


class Line:
    """The pair of sockets for one media line of one leg."""

    __slots__ = (
        "fenced", "formats", "guard", "input", "number", "opaque", "owner", "rtcp", "rtp", "sends", "source", "spoken",
        "standby",
    )  # fmt: skip

    def __init__(self, number: int, pair: tuple[socket.socket, socket.socket], owner: object) -> None:
        self.number = number
        self.owner: object | None = owner
        self.opaque = False  # not RTP (UDPTL, DTLS): any datagram may latch
        self.formats: Formats = read("")  # what its peer takes
        self.fenced = False
        self.guard: Guard | None = None  # its peer encrypts, with keys that are known
        self.spoken: Formats | None = None  # what its peer speaks, while it is bridged to another peer
        self.input: Sink = NOWHERE  # for what comes here while it is linked to nobody
        self.standby: Line | None = None  # which hears, too, what comes here
        self.source: Line | None = None  # whose standby this is
        self.sends = False  # SDP says that audio comes from its peer
        self.rtp = Stream(self, pair[0])
        self.rtcp = Stream(self, pair[1])

    @property
    def packets(self) -> int:
        return self.rtp.packets + self.rtcp.packets

    @property
    def late(self) -> int:
        """Packets that came too late to be put into what its peer hears."""
        return self.rtp.rewriter.continuity.dropped if self.rtp.rewriter is not None else 0

    @property
    def refused(self) -> int:
        """Packets with SRTP that cannot be taken, or sent."""
        return self.guard.refused if self.guard is not None else 0

    def set_remote(self, rtp: Address, rtcp: Address, opaque: bool, formats: Formats, policy: LatchPolicy) -> None:
        self.opaque = opaque
        self._set_formats(formats)
        self.rtp.set_remote(rtp, policy)
        self.rtcp.set_remote(rtcp, policy)

    def _set_formats(self, formats: Formats) -> None:
        if formats is self.formats:
            return
        self.formats = formats
        if self.rtp.rewriter is not None:
            if formats.text:
                self.rtp.rewriter.continuity.formats = formats
            else:
                self.rtp.rewriter = None
        for stream in (self.rtp, self.rtcp):
            stream.relink()

    def set_keys(self, suite: str, own: bytes, told: bytes) -> None:
        """As in SDES; no suite: its peer does not encrypt, or with keys that are not known. Raises ValueError."""
        guard = renew(self.guard, suite, own, told) if suite else None
        if guard is self.guard:
            return
        self.guard = guard
        if self.rtp.rewriter is not None:
            self.rtp.rewriter.put = self.rtp.outlet().send
        for stream in (self.rtp, self.rtcp):
            stream.relink()

    def follow(self, source: Address) -> None:
        """RTP came from another host than the signalled one: RTCP will too."""
        if self.rtcp.source is None:
            self.rtcp.known = source[0]

    def link(self, other: Line | None) -> None:
        self.fenced = False
        for line in (self, other):
            if line is not None:
                line.spoken = None
                line.input = NOWHERE
                if line.source is not None:
                    line.source.fork(None)
        self._link(other)

    def bridge(self, other: Line, spoken: Formats, other_spoken: Formats) -> None:
        """Link two lines whose peers have negotiated with others."""
        self.link(other)
        self.spoken, other.spoken = spoken, other_spoken
        self.rtp.relink()

    def take_in(self, sink: Sink) -> None:
        """What comes here, while this line is linked to nobody, goes to `sink`."""
        self.input = sink
        self.rtp.relink()

    def fork(self, standby: Line | None) -> None:
        """What comes here goes to `standby`, too, beside the line that this one is linked to."""
        if self.standby is not None:
            self.standby.source = None
        self.standby = standby
        if standby is not None:
            if standby.source is not None:
                standby.source.fork(None)
            standby.fenced = False
            standby.source = self
            standby.rtp.relink()
            standby.rtcp.relink()
        self.rtp.relink()

    def _link(self, other: Line | None) -> None:
        if other is not None:
            other.fenced = False
        self.rtp.link(other.rtp if other else None)
        self.rtcp.link(other.rtcp if other else None)
        if other is not None:
            other.rtp.link(self.rtp)
            other.rtcp.link(self.rtcp)

    def fence(self) -> None:
        self.link(None)
        self.fenced = True
        self.rtp.relink()
        self.rtcp.relink()

    def plausible(self, stream: Stream, data: bytearray, length: int) -> bool:
        """Whether a packet may be what the stream is for. RFC 3550 §5.1, §6.4: version 2, a whole header."""
        if self.opaque:
            return length > 0
        if data[0] >> 6 != 2:
            return False
        if stream is self.rtp:
            return length >= 12 or 192 <= data[1] <= 223  # RFC 5761 §4: RTCP on the same port
        return length >= 8 and 192 <= data[1] <= 223

    def close(self) -> None:
        self.input = NOWHERE
        self.fork(None)
        if self.source is not None:
            self.source.fork(None)
        for stream in (self.rtp, self.rtcp):
            stream.link(None)
            stream.line = stream.rewriter = None
            stream.sock.close()
