"""Offer and answer of one audio line, for a party that speaks G.711 (RFC 3264, RFC 4733): the SDP of demo and tests.

Holds what was agreed: where audio goes, as which payload type, and who may send. Both roles: it answers, offers (also
late, in a 2xx), and takes an answer. The o= line keeps its id and raises its version only when something changed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from media.rtp.g711 import PCMA, PCMU
from media.sdp import Description, Media, Origin, SdpError, codecs, parse
from proxy.net.api import Address

NOT_ACCEPTABLE_HERE = 488
EVENTS = 101  # our payload type of telephone-event, when we offer

_G711 = {b"PCMU/8000": PCMU, b"PCMA/8000": PCMA}
_EVENTS = b"TELEPHONE-EVENT/8000"
_MIRRORED = {b"sendrecv": b"sendrecv", b"sendonly": b"recvonly", b"recvonly": b"sendonly", b"inactive": b"inactive"}
_SENDS = (b"sendrecv", b"sendonly")


@dataclass(frozen=True, slots=True)
class Agreed:
    remote: Address
    codec: int  # PCMU or PCMA
    payload_type: int  # under which it travels
    events: int | None  # payload type of telephone-event
    direction: bytes  # ours

    @property
    def sends(self) -> bool:
        return self.direction in _SENDS


class AudioLine:
    def __init__(self, local: Address, rng: random.Random) -> None:
        family = b"IP6" if ":" in local[0] else b"IP4"
        self._where = b"IN %b %b" % (family, local[0].encode())
        self._port = local[1]
        self._origin = Origin(rng.getrandbits(31))
        self.agreed: Agreed | None = None

    def offer(self, direction: bytes = b"sendrecv") -> bytes:
        line = b"m=audio %d RTP/AVP %d %d %d\r\n" % (self._port, PCMU, PCMA, EVENTS)
        return self._describe([line + _maps({PCMU: b"PCMU/8000", PCMA: b"PCMA/8000"}, EVENTS) + _way(direction)])

    def answer(self, offer: bytes) -> bytes | int:
        """Our answer, or the status with which an offer that we cannot serve is refused."""
        try:
            description = parse(offer)
        except SdpError:
            return NOT_ACCEPTABLE_HERE
        lines: list[bytes] = []
        agreed: Agreed | None = None
        for media in description.media:
            chosen = _choose(description, media) if agreed is None else None
            if chosen is None:  # RFC 3264 §6: each line is answered, a refused one with port 0
                lines.append(b"m=%b 0 %b %b\r\n" % (media.kind, media.proto, media.formats))
                continue
            agreed, encoding = chosen
            formats = b" ".join(b"%d" % each for each in (agreed.payload_type, agreed.events) if each is not None)
            lines.append(
                b"m=audio %d %b %b\r\n" % (self._port, media.proto, formats)
                + _maps({agreed.payload_type: encoding}, agreed.events)
                + _way(agreed.direction)
            )
        if agreed is None:
            return NOT_ACCEPTABLE_HERE
        self.agreed = agreed
        return self._describe(lines)

    def accept(self, answer: bytes) -> bool:
        """Take the answer to our offer; False when it leaves nothing to talk with."""
        try:
            description = parse(answer)
        except SdpError:
            return False
        for media in description.media[:1]:
            chosen = _choose(description, media)
            if chosen is not None:
                self.agreed = chosen[0]
                return True
        return False

    def _describe(self, lines: list[bytes]) -> bytes:
        rest = b"s=-\r\nc=%b\r\nt=0 0\r\n%b" % (self._where, b"".join(lines))
        return self._origin.stamp(rest, self._where)


def _choose(description: Description, media: Media) -> tuple[Agreed, bytes] | None:
    if media.kind != b"audio" or media.rejected or media.opaque or b"SAVP" in media.proto:
        return None
    encoding, codec, payload_type, events = b"", PCMU, -1, None
    for each in codecs(description, media):
        if not each.payload_type.isdigit():
            continue
        if each.encoding in _G711 and payload_type < 0:
            encoding, codec, payload_type = each.encoding, _G711[each.encoding], int(each.payload_type)
        elif each.encoding == _EVENTS and events is None:
            events = int(each.payload_type)
    if payload_type < 0:
        return None
    direction = _MIRRORED[description.direction(media)]
    if media.held:  # RFC 3264 §8.4: nothing may be sent to 0.0.0.0
        direction = b"recvonly" if direction == b"sendrecv" else b"inactive"
    return Agreed((media.host, media.port), codec, payload_type, events, direction), encoding


def _maps(encodings: dict[int, bytes], events: int | None) -> bytes:
    text = b"".join(b"a=rtpmap:%d %b\r\n" % item for item in encodings.items())
    if events is not None:
        text += b"a=rtpmap:%d telephone-event/8000\r\na=fmtp:%d 0-15\r\n" % (events, events)
    return text


def _way(direction: bytes) -> bytes:
    return b"a=ptime:20\r\na=%b\r\n" % direction
