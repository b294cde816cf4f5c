"""Streams: what the relay knows of one socket, and where what arrives there goes.

A stream is what arrives on one socket. As long as its source is not known it listens on an unconnected socket
and `latch` judges each packet; then the socket is connected, and when the other side is too, `out` is set: the
relay's loop needs nothing else to forward a packet. Everything that is not that case goes through `receive`.
`way` is where packets go in either case: the peer, or a sink before it (`sinks`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import sys
from typing import TYPE_CHECKING

from media.relay.guard import Follower, Opener, ReportFollower, Sealer
from media.relay.latch import PROBATION, Address, LatchPolicy, Verdict, judge
from media.relay.sinks import NOWHERE, Converter, Endpoint, Fork, Rewriter, Sink, Translator
from media.rtp.continuity import HEAD_SIZE, Continuity
from media.rtp.conversion import Conversion
from media.rtp.formats import PTIME_MS
from media.rtp.packet import HEADER_SIZE

if TYPE_CHECKING:
    from media.relay.keeping import Keep
    from media.relay.line import Line

BUFFER_SIZE = 65536
_SHARED_VIEWS = 2048

_libc = ctypes.CDLL(None, use_errno=True)
_NOBODY = ctypes.create_string_buffer(socket.AF_UNSPEC.to_bytes(2, sys.byteorder) + bytes(14), 16)


def _disconnect(sock: socket.socket) -> None:
    # connect(2): AF_UNSPEC dissolves the association. Python's socket module has no way to say it.
    if _libc.connect(sock.fileno(), _NOBODY, 16) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Buffer:
    """The one packet that is in the relay at a time. `views[n]` is its first n bytes, made once."""

    __slots__ = ("data", "errors", "views")

    def __init__(self) -> None:
        self.data = bytearray(BUFFER_SIZE)
        whole = memoryview(self.data)
        self.views = [whole[:length] for length in range(_SHARED_VIEWS)]
        self.errors = 0  # packets that the kernel did not take, and ICMP errors of peers

    def view(self, length: int) -> memoryview:
        return self.views[length] if length < _SHARED_VIEWS else memoryview(self.data)[:length]


class Stream:
    __slots__ = (
        "candidate",
        "first",
        "head",
        "keep",
        "known",
        "last",
        "line",
        "lost",
        "octets",
        "out",
        "packets",
        "peer",
        "remote",
        "rewriter",
        "sock",
        "source",
        "way",
    )

    def __init__(self, line: Line, sock: socket.socket) -> None:
        self.line: Line | None = line
        self.sock = sock
        self.out: Sink | None = None  # set while both ends are latched: the fast path
        self.way: Sink = NOWHERE  # to the peer
        self.peer: Stream | None = None
        self.remote: Address | None = None  # as signalled
        self.source: Address | None = None  # latched; the socket is connected to it
        self.known: str | None = None  # host of the last source, once SDP has changed
        self.candidate: tuple[Address, int] | None = None  # on probation, packets so far
        self.packets = 0
        self.octets = 0
        self.first = 0.0
        self.last = 0.0
        self.lost = 0
        self.head = b""  # of the last RTP packet that was sent on to the peer
        self.rewriter: Rewriter | None = None  # of what is sent here, once it had another source
        self.keep: Keep | None = None  # of what comes here

    def set_remote(self, remote: Address, policy: LatchPolicy) -> None:
        """New SDP. The latch is kept when the address is the same as before."""
        if remote == self.remote:
            return
        self.remote = remote
        if remote == self.source:
            self.source = remote
            return
        self.candidate = None
        if self.source is not None:
            self.known = self.source[0]
            self.source = None
            _disconnect(self.sock)
        if policy is LatchPolicy.STRICT and remote[0] not in ("0.0.0.0", "::"):
            self.sock.connect(remote)
            self.source = remote
        self.relink()

    def link(self, peer: Stream | None) -> None:
        if self.peer is not peer:
            if self.peer is not None:
                former, self.peer = self.peer, None
                self._leave(former)
                former.link(None)
            self.head = b""
        self.peer = peer
        self.relink()

    def _leave(self, source: Stream) -> None:
        """What was heard here last came from `source`; what comes next has to go on from there."""
        rewriter = self.continue_from(source)
        if rewriter is not None:
            rewriter.continuity.leave()

    def continue_from(self, source: Stream) -> Rewriter | None:
        """From now on what is sent here goes on from what was heard of `source`; an event that it did not end is ended.
        None when nothing was heard, and where packets must stay as they are."""
        line = self.line
        if line is None or self is not line.rtp or not line.formats.text:
            return None
        if self.rewriter is None:
            head, octets, guard = source.head, source.octets, line.guard
            if guard is not None:  # what follows the header is encrypted
                head, octets = guard.sent.head, octets - guard.tag_octets * source.packets
            continuity = Continuity.after(head, source.last, source.packets, octets, line.formats)
            if continuity is None:
                return None
            if guard is not None:
                guard.part()
            self.rewriter = Rewriter(self.outlet(), continuity)
            self.relink()
            line.rtcp.relink()
        for packet in self.rewriter.continuity.end_event():
            with contextlib.suppress(OSError):  # lost, as on a wire
                self.rewriter.put(packet)
        return self.rewriter

    def interval(self) -> float:
        """Between two packets, in seconds, as far as it can be told from their size."""
        line = self.line
        listener = self.peer.line if self.peer is not None else None
        if line is None or listener is None or not self.head:
            return PTIME_MS / 1000
        formats, payload_type = listener.formats, self.head[1] & 0x7F
        samples = formats.duration(payload_type, self.octets // self.packets - HEADER_SIZE)
        return min(max(round(samples / formats.clock(payload_type), 2), 0.01), 0.1)

    def set_keep(self, keep: Keep | None) -> None:
        self.keep = keep
        self.relink()

    def relink(self) -> None:
        """Find out anew how packets of this stream, and of its peer, go, and whether they can take the fast path."""
        peer = self.peer
        if peer is None:
            line = self.line
            self.way = self._input(line) if line is not None and self is line.rtp else NOWHERE
            self.out = self._fast(self.way) if self.source is not None and self.packets and not self._fenced() else None
            return
        latched = self.source is not None and peer.source is not None
        for source, listener in ((self, peer), (peer, self)):
            source.way = way = source._way(listener)
            ready = latched and source.packets and not source._fenced()
            source.out = source._fast(listener.sock if way is listener else way) if ready else None

    def _fast(self, sink: Sink) -> Sink:
        keep = self._kept()
        return keep.before(sink) if keep is not None else sink

    def _kept(self) -> Keep | None:
        """What is encrypted would be noise to who reads it."""
        line = self.line
        return self.keep if line is not None and line.guard is None and line.formats.text else None

    def _input(self, line: Line) -> Sink:
        if line.guard is None:
            return line.input
        if line.input is NOWHERE:
            return Follower(line.guard.received, NOWHERE)
        line.guard.begin()
        return Opener(line.guard, line.input)

    def _way(self, listener: Stream) -> Sink:
        here, there = self.line, listener.line
        if here is None or there is None:
            return listener
        if here.guard is not None or there.guard is not None:
            return self._guarded_way(here, there, listener)
        if self is here.rtp and there.rtp.rewriter is None and there.formats.mux:
            # RFC 5761: the last packet before a switch may be RTCP here, so what was heard is noted from the start.
            there.rtp.rewriter = Rewriter(there.rtp, Continuity(there.formats))
        way = self._plain_way(here, there, listener)
        if here.standby is not None and self is here.rtp:
            way = Fork(way, here.standby.rtp.rewriter or here.standby.rtp)
        return way

    def _plain_way(self, here: Line, there: Line, listener: Stream) -> Sink:
        rewriter = there.rtp.rewriter
        heard = rewriter.continuity if rewriter is not None else None
        told = here.rtp.rewriter.continuity if here.rtp.rewriter is not None else None
        outlet = listener.outlet()
        way: Sink = outlet
        if self is not here.rtp:
            return Translator(outlet, heard, told) if heard is not None or told is not None else way
        if rewriter is not None:
            rewriter.rtcp = Translator(outlet, heard, told)
            way = rewriter
        if here.spoken is not None:
            conversion = Conversion(here.spoken, there.formats)
            if conversion.needed:
                way = Converter(conversion, way)
        return way

    def _guarded_way(self, here: Line, there: Line, listener: Stream) -> Sink:
        """Where one of both peers encrypts, or both do."""
        if not here.formats.text or not there.formats.text:
            return listener  # with keys that are not known
        if self is not here.rtp:
            if here.guard is not None and _passes(here, there) and here.rtp.rewriter is None:
                return ReportFollower(here.guard.received, listener)
            way = self._plain_way(here, there, listener)
            return Opener(here.guard, way) if here.guard is not None else way
        standby = here.standby
        listeners = [listener] if standby is None or not standby.formats.text else [listener, standby.rtp]
        sealed: list[Sink] = []  # SRTP as it came
        opened: list[Sink] = []
        for each in listeners:
            line = each.line
            assert line is not None
            if here.guard is not None and line.guard is not None and _passes(here, line):
                line.guard.follow(here.guard)
                sealed.append(each)
            else:
                if line.guard is not None:
                    line.guard.part()
                    self._rename(here, line)
                opened.append(self._plain_way(here, line, each))
        if here.guard is None:
            return _both(opened)
        if not opened:
            return Follower(here.guard.received, _both(sealed))
        here.guard.begin()
        opener = Opener(here.guard, _both(opened))
        return Fork(_both(sealed), opener) if sealed else opener

    def _rename(self, here: Line, there: Line) -> None:
        """One who has heard nothing yet counts from ROC 0, and the peer of `here` is further. Under the same key the
        same index must not come twice (RFC 3711 §9.1), but may under another SSRC. It follows from the ROC: so it is
        never used for two streams that began at different times."""
        if here.guard is None or there.rtp.rewriter is not None or there.guard is None or there.guard.sent.head:
            return
        progress = here.guard.received
        if there.guard.told == here.guard.own and progress.rolled_over:
            ssrc, index = progress.last()
            continuity = Continuity.renamed(progress.head, ssrc + (index >> 16) & 0xFFFFFFFF, there.formats)
            there.rtp.rewriter = Rewriter(there.rtp.outlet(), continuity)

    def outlet(self) -> Endpoint:
        """Takes what is to be heard here."""
        guard = self.line.guard if self.line is not None else None
        return self if guard is None else Sealer(guard, self)

    def _fenced(self) -> bool:
        return self.line is None or self.line.fenced

    def receive(self, buffer: Buffer, now: float, policy: LatchPolicy) -> None:
        """A packet waits, and the fast path is not open."""
        if self.source is not None:
            self._take(buffer, self.sock.recv_into(buffer.data), now)
            return
        length, source = self.sock.recvfrom_into(buffer.data)
        source = source[:2]
        if self._fenced() or not self._latch(buffer, length, source, policy):
            self.lost += 1
            return
        self._take(buffer, length, now)
        while True:  # what others had sent before the socket was connected is still queued
            try:
                length, other = self.sock.recvfrom_into(buffer.data)
            except BlockingIOError:
                return
            if other[:2] == source:
                self._take(buffer, length, now)
            else:
                self.lost += 1

    def _take(self, buffer: Buffer, length: int, now: float) -> None:
        if self._fenced():
            self.lost += 1
            return
        self.packets += 1
        self.octets += length
        self.last = now
        if self.packets == 1:
            self.first = now
            self.relink()
        if length >= HEADER_SIZE:
            self.head = buffer.views[HEAD_SIZE].tobytes()
        keep = self._kept() if self.keep is not None else None
        if keep is not None:
            keep.add(buffer.view(length))
        self.way.send(buffer.view(length))

    def send(self, packet: memoryview | bytes) -> None:
        """To the endpoint, as far as it is known where that is."""
        if self.source is not None:
            self.sock.send(packet)
        elif self.remote is not None and self.remote[0] not in ("0.0.0.0", "::"):
            self.sock.sendto(packet, self.remote)

    def _latch(self, buffer: Buffer, length: int, source: Address, policy: LatchPolicy) -> bool:
        line = self.line
        if line is None or not line.plausible(self, buffer.data, length):
            return False
        verdict = judge(policy, self.remote, source, self.known)
        if verdict is Verdict.REFUSE:
            return False
        if verdict is Verdict.PROBATION:
            seen = self.candidate[1] + 1 if self.candidate and self.candidate[0] == source else 1
            self.candidate = (source, seen)
            if seen < PROBATION:
                return False
        self.candidate = None
        self.sock.connect(source)
        self.source = self.remote if source == self.remote else source
        if self is line.rtp and self.remote is not None and source[0] != self.remote[0]:
            line.follow(source)
        self.relink()
        return True


def _passes(here: Line, there: Line) -> bool:
    """SRTP of the peer of `here` can be passed to that of `there` as it is."""
    if here.guard is None or there.guard is None or there.rtp.rewriter is not None:
        return False
    if here.spoken is not None and Conversion(here.spoken, there.formats).needed:
        return False
    return there.guard.passes(here.guard)


def _both(sinks: list[Sink]) -> Sink:
    return sinks[0] if len(sinks) == 1 else Fork(*sinks)
