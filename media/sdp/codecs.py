"""Codecs of a media line, and whether a peer that was told one answer may be left with it when another comes.

After a failover another backend answers the caller's offer. The caller need not hear of it (no re-INVITE) as
long as everything it may send according to the old answer is welcome in the new one, payload types included
(RFC 3264 §6.1), and directions, transport and keys are the same. Where keys come of a DTLS handshake it must hear of it
in any case: the association ended with the old backend.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from media.sdp.description import Description, Media
from media.sdp.keys import handshakes

# RFC 3551 §6: payload types that need no a=rtpmap.
_STATIC = {
    b"0": b"PCMU/8000",
    b"3": b"GSM/8000",
    b"4": b"G723/8000",
    b"5": b"DVI4/8000",
    b"6": b"DVI4/16000",
    b"7": b"LPC/8000",
    b"8": b"PCMA/8000",
    b"9": b"G722/8000",
    b"10": b"L16/44100/2",
    b"11": b"L16/44100",
    b"12": b"QCELP/8000",
    b"13": b"CN/8000",
    b"14": b"MPA/90000",
    b"15": b"G728/8000",
    b"16": b"DVI4/11025",
    b"17": b"DVI4/22050",
    b"18": b"G729/8000",
    b"26": b"JPEG/90000",
    b"31": b"H261/90000",
    b"34": b"H263/90000",
}
_PLAIN = (b"RTP/AVP", b"RTP/AVPF")  # RFC 3551, 4585: neither encrypted nor authenticated
_SECURE = (b"RTP/SAVP", b"RTP/SAVPF")  # RFC 3711, 5124
_MEANT = (b"rtpm", b"ptim", b"rtcp")  # of attributes: the first four letters
_SHARED = (b"crypto", b"ptime", b"key-mgmt")


class Codec(NamedTuple):
    payload_type: bytes
    encoding: bytes  # as in a=rtpmap, upper case: b"PCMU/8000"; b"" when nothing says what it is
    parameters: bytes  # as in a=fmtp


def codecs(description: Description, media: Media) -> tuple[Codec, ...]:
    """In the order of the m= line. Formats of lines that are not RTP have neither encoding nor parameters."""
    return _codecs(media.formats, description.attributes(media, b"rtpmap"), description.attributes(media, b"fmtp"))


def _codecs(payload_types: bytes, rtpmaps: list[bytes], fmtps: list[bytes]) -> tuple[Codec, ...]:
    encodings = _by_payload_type(rtpmaps)
    parameters = _by_payload_type(fmtps)
    result = []
    for payload_type in payload_types.split():
        encoding = encodings.get(payload_type) or _STATIC.get(payload_type, b"")
        encoding = encoding.upper()
        if encoding.endswith(b"/1") and encoding.count(b"/") == 2:
            encoding = encoding[:-2]  # one channel is the default (RFC 8866 §6.6)
        result.append(Codec(payload_type, encoding, parameters.get(payload_type, b"")))
    return tuple(result)


def _by_payload_type(values: list[bytes]) -> dict[bytes, bytes]:
    result = {}
    for value in values:
        payload_type, _, rest = value.partition(b" ")
        result[payload_type] = rest.strip()
    return result


def formats(description: Description, media: Media) -> str:
    """What the peer takes on this line, as `media.rtp.formats` reads it. "": its packets must not be touched. Those of
    SDES must not, either, as long as not all keys are known (`sdes`)."""
    if media.proto not in _PLAIN and not (media.proto in _SECURE and description.attributes(media, b"crypto")):
        return ""
    lines = description.lines[media.start + 1 : media.stop]
    return _formats(media.formats, tuple([line for line in lines if line[2:6] in _MEANT]))


@lru_cache(maxsize=1024)
def _formats(payload_types: bytes, lines: tuple[bytes, ...]) -> str:
    values = [line[9:] for line in lines if line.startswith(b"a=rtpmap:")]
    words = [
        f"{codec.payload_type.decode()}={codec.encoding.decode('ascii', 'replace').replace('=', '')}"
        for codec in _codecs(payload_types, values, [])
        if codec.payload_type.isdigit() and codec.encoding.partition(b"/")[2].partition(b"/")[0].isdigit()
    ]
    for line in lines:
        if line.startswith(b"a=ptime:") and line[8:].strip().isdigit():
            words.append(f"ptime={int(line[8:])}")
    if b"a=rtcp-mux" in lines:
        words.append("mux")
    return " ".join(words)


def _sendable(description: Description, media: Media) -> set[Codec]:
    # Which telephone events a receiver knows (a=fmtp:101 0-16) changes nothing for who sends digits.
    return {
        Codec(codec.payload_type, codec.encoding, b"") if codec.encoding.startswith(b"TELEPHONE-EVENT/") else codec
        for codec in codecs(description, media)
    }


def agree(told: Description, new: Description) -> bool:
    """True when a peer that was told the answer `told` can go on as it is while `new` holds."""
    if len(told.media) != len(new.media):
        return False
    for old_line, new_line in zip(told.media, new.media, strict=True):
        if old_line.kind != new_line.kind or old_line.rejected != new_line.rejected:
            return False
        if old_line.rejected:
            continue
        if old_line.proto != new_line.proto or old_line.held != new_line.held:
            return False
        if told.direction(old_line) != new.direction(new_line):
            return False
        if told.has(old_line, b"rtcp-mux") != new.has(new_line, b"rtcp-mux"):
            return False
        if not _sendable(told, old_line) <= _sendable(new, new_line):
            return False
        if handshakes(told, old_line) or handshakes(new, new_line):
            return False
        if any(told.attributes(old_line, name) != new.attributes(new_line, name) for name in _SHARED):
            return False
    return True
