"""Peers of the relay that encrypt, with the contexts of a library that knows nothing of the relay."""

from __future__ import annotations

import base64
import hashlib

import pylibsrtp

from media.rtp import packet, rtcp
from tests.unit.media.relay_bed import Bed, Peer

SUITE = b"AES_CM_128_HMAC_SHA1_80"
PROFILES = {
    SUITE: pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    b"AES_CM_128_HMAC_SHA1_32": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
}


def key(name: str) -> bytes:
    return hashlib.sha512(name.encode()).digest()[:30]


def crypto(name: str, tag: int = 1, suite: bytes = SUITE) -> bytes:
    return b"a=crypto:%d %b inline:%b" % (tag, suite, base64.b64encode(key(name)))


class SecurePeer(Peer):
    """`name` is that of its own key."""

    def __init__(self, host: str, name: str) -> None:
        super().__init__(host)
        self.name = name
        self.suite = SUITE
        self.sending = self._context(name, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        self.receiving: pylibsrtp.Session

    def _context(self, name: str, streams: int) -> pylibsrtp.Session:
        return pylibsrtp.Session(pylibsrtp.Policy(key(name), streams, srtp_profile=PROFILES[self.suite]))

    def told(self, name: str, suite: bytes = SUITE) -> None:
        """It expects that key from now on."""
        if suite != self.suite:
            self.suite = suite
            self.sending = self._context(self.name, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        self.receiving = self._context(name, pylibsrtp.Policy.SSRC_ANY_INBOUND)

    def describe(self, *more: bytes, formats: bytes = b"0", lines: tuple[bytes, ...] | None = None) -> bytes:
        encrypted = lines if lines is not None else (crypto(self.name),)
        return self.sdp(*encrypted, *more, formats=formats).replace(b"RTP/AVP", b"RTP/SAVP")

    def say(self, to: tuple[str, int], words: bytes) -> None:
        self.sequence += 1
        plain = packet.pack(0, self.sequence & 0xFFFF, self.sequence * 160, self.ssrc, words)
        self.rtp.sendto(self.sending.protect(plain), to)

    def hear_packet(self) -> packet.RtpPacket:
        return packet.parse(self.receiving.unprotect(self.rtp.recv(2048)))

    def report(self, to: tuple[str, int], name: bytes) -> None:
        plain = rtcp.receiver_report(self.ssrc, name)
        self.rtcp.sendto(self.sending.protect_rtcp(plain), (to[0], to[1] + 1))

    def hear_report(self) -> bytes:
        return self.receiving.unprotect_rtcp(self.rtcp.recv(2048))


def secure(bed: Bed, host: str, name: str) -> SecurePeer:
    peer = SecurePeer(host, name)
    bed.peers.append(peer)
    return peer
