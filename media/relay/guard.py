"""SRTP that the relay terminates: what stands before a line whose peer encrypts, with the keys of both directions.

Mostly nothing has to be opened: two ends with each other's keys get each other's packets as they are (`Follower`, which
only counts). From a switch on the listener's stream is continued, or its key is not the speaker's: then a packet is
opened with the key of who sent it (`Opener`) and sealed with the one that its listener expects (`Sealer`).

A context that is made in the middle of a stream has to begin at the stream's index. libsrtp learns that from packets,
as it does everything: those of `_up_to` are never sent.

Needs pylibsrtp (the extra `srtp`). Without it `SUITES` is empty, and no line gets a guard.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from media.relay.sinks import Endpoint, Sink
from media.rtp.srtp import MASTER_OCTETS, TAG_OCTETS, Progress, is_rtcp

try:
    import pylibsrtp
except ImportError:
    SUITES: dict[str, int] = {}
    _Refused: tuple[type[Exception], ...] = (ValueError,)
else:
    SUITES = {
        "AES_CM_128_HMAC_SHA1_80": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
        "AES_CM_128_HMAC_SHA1_32": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    }
    _Refused = (pylibsrtp.Error, ValueError)  # ValueError: longer than it can take

if TYPE_CHECKING:
    from media.relay.stream import Stream

_STEP = 0x7000  # less than half of the sequence numbers: so the ROC is counted on
_REORDERED = 500  # packets before the last one that are still taken

_packet = struct.Struct("!BBHII").pack
_report = struct.Struct("!BBHI").pack


class Guard:
    """Of one line. `own` is the key of its peer, `told` the one with which it expects what it is sent."""

    __slots__ = ("_follows", "_opening", "_sealed", "_sealing", "own", "received", "refused", "sent", "suite", "told")

    def __init__(self, suite: str, own: bytes, told: bytes) -> None:
        """Raises ValueError."""
        if suite not in SUITES or not len(own) == len(told) == MASTER_OCTETS[suite]:
            raise ValueError(f"keys of {len(own)} and {len(told)} octets for {suite}")
        self.suite = suite
        self.own = own
        self.told = told
        self.received = Progress()
        self.sent = Progress()
        self.refused = 0  # packets that are not authentic, or came a second time
        self._follows = False
        self._opening: pylibsrtp.Session | None = None
        self._sealing: pylibsrtp.Session | None = None
        self._sealed: set[int] = set()  # SSRCs of which SRTCP goes on from the right index

    @property
    def tag_octets(self) -> int:
        return TAG_OCTETS[self.suite]

    def passes(self, source: Guard) -> bool:
        """Could its peer read what the peer of `source` sends?"""
        if self.suite != source.suite or self.told != source.own:
            return False
        return self.sent is source.received or not (self.sent.head or source.received.rolled_over)

    def follow(self, source: Guard) -> None:
        """Its peer is sent what that one sends, from now on."""
        self.sent = source.received
        self._follows = True

    def part(self) -> None:
        """Its peer is sent what is sealed here, from now on."""
        if self._follows:
            self._follows = False
            self.sent = self.sent.copy()
            self._sealing = None
            self._sealed.clear()

    def begin(self) -> None:
        """What its peer sends is opened from now on."""
        self._opening = None

    def open(self, packet: memoryview) -> bytes | None:
        try:
            if self._opening is None:
                self._opening = _session(self.suite, self.own, pylibsrtp.Policy.SSRC_ANY_INBOUND)
                sender = _session(self.suite, self.own, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
                for ssrc, index in self.received.indexes.items():
                    if index > 0xFFFF:
                        for each in _up_to(ssrc, index - _REORDERED):
                            self._opening.unprotect(sender.protect(each))
            if is_rtcp(packet):
                plain = self._opening.unprotect_rtcp(packet.tobytes())
                self.received.note_rtcp(packet)
            else:
                plain = self._opening.unprotect(packet.tobytes())
                self.received.note(packet)
        except _Refused:
            self.refused += 1
            return None
        return plain

    def seal(self, packet: memoryview | bytes) -> bytes | None:
        try:
            if self._sealing is None:
                self._sealing = _session(self.suite, self.told, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
                for ssrc, index in self.sent.indexes.items():
                    if index > 0xFFFF:
                        for each in _up_to(ssrc, index):
                            self._sealing.protect(each)
            if not is_rtcp(packet):
                sealed = self._sealing.protect(bytes(packet))
                self.sent.note(sealed)
            else:
                self._count_reports(self._sealing, int.from_bytes(packet[4:8], "big"))
                sealed = self._sealing.protect_rtcp(bytes(packet))
                self.sent.note_rtcp(sealed)
        except _Refused:
            self.refused += 1
            return None
        return sealed

    def _count_reports(self, session: pylibsrtp.Session, ssrc: int) -> None:
        """RFC 3711 §3.4: the index of SRTCP goes on from the last one, too, for a listener takes no older one."""
        if ssrc in self._sealed:
            return
        self._sealed.add(ssrc)
        for _ in range(self.sent.reports.get(ssrc, 0)):
            session.protect_rtcp(_report(0x80, 201, 1, ssrc))


def renew(former: Guard | None, suite: str, own: bytes, told: bytes) -> Guard:
    """The guard with these keys; of what has not changed the streams go on. Raises ValueError."""
    if former is not None and (former.suite, former.own, former.told) == (suite, own, told):
        return former
    guard = Guard(suite, own, told)
    if former is not None and former.suite == suite:
        if former.own == own:
            guard.received = former.received
        if former.told == told:
            guard.sent, guard._follows = former.sent, former._follows
        guard.refused = former.refused
    return guard


def _session(suite: str, key: bytes, streams: int) -> pylibsrtp.Session:
    return pylibsrtp.Session(pylibsrtp.Policy(key, streams, srtp_profile=SUITES[suite]))


def _up_to(ssrc: int, index: int) -> Iterator[bytes]:
    """Packets after which the next index is this one's successor."""
    for each in range(index % _STEP, index + 1, _STEP):
        yield _packet(0x80, 0, each & 0xFFFF, 0, ssrc)


class Opener:
    """From a peer that encrypts, to who must read it."""

    __slots__ = ("_guard", "_way")

    def __init__(self, guard: Guard, way: Sink) -> None:
        self._guard = guard
        self._way = way

    def send(self, packet: memoryview, /) -> None:
        plain = self._guard.open(packet)
        if plain is not None:
            length = len(plain)
            packet[:length] = plain
            self._way.send(packet[:length])


class Sealer:
    """To a peer that expects to be sent SRTP."""

    __slots__ = ("_guard", "_listener")

    def __init__(self, guard: Guard, listener: Stream) -> None:
        self._guard = guard
        self._listener = listener

    def send(self, packet: memoryview | bytes, /) -> None:
        sealed = self._guard.seal(packet)
        if sealed is not None:
            self._listener.send(sealed)


class Follower:
    """SRTP that passes as it is."""

    __slots__ = ("_listener", "_progress")

    def __init__(self, progress: Progress, listener: Sink | Endpoint) -> None:
        self._progress = progress
        self._listener = listener

    def send(self, packet: memoryview, /) -> None:
        self._progress.note(packet)
        self._listener.send(packet)


class ReportFollower:
    """SRTCP that passes as it is."""

    __slots__ = ("_listener", "_progress")

    def __init__(self, progress: Progress, listener: Sink | Endpoint) -> None:
        self._progress = progress
        self._listener = listener

    def send(self, packet: memoryview, /) -> None:
        self._progress.note_rtcp(packet)
        self._listener.send(packet)
