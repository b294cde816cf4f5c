"""A session description as its lines, with an index of the few that matter to a media plane.

Nothing is turned into a model and back: `lines` are the bytes that came, in their order, and `serialise` gives
them back unchanged. Only o=, c=, m= and the attributes that speak of transport addresses are looked at while
parsing; direction, codecs and the like are read on demand. One pass, because it is on the way of every call.
RFC 8866 (SDP), RFC 3264 (port 0, hold), RFC 3605 (a=rtcp), RFC 5761 (rtcp-mux).
"""

from __future__ import annotations

import re
import socket
from functools import lru_cache

# Attributes about transport addresses that are not ours: candidates and credentials of ICE (RFC 8839), the RTCP
# port (RFC 3605) and BUNDLE (RFC 9143), which would put all media on one port. Keyed by the first four letters.
_TRANSPORT = {
    b"rtcp": (b"a=rtcp:",),
    b"cand": (b"a=candidate:",),
    b"ice-": (b"a=ice-",),
    b"end-": (b"a=end-of-candidates",),
    b"remo": (b"a=remote-candidates:",),
    b"grou": (b"a=group:BUNDLE",),
    b"bund": (b"a=bundle-only",),
}
_OTHERS = rb"(?:[abd-ln-z]=[^\r\n]*+\r\n)*+"
# A description of the usual shape, one c= line for all media lines; group 1 is what follows o=, group 2 that c= line.
_USUAL = re.compile(
    rb"v=0\r\no=[^\r\n]*+\r\n(" + _OTHERS + rb"(c=IN IP[46] [^ \r\n]++)\r\n" + _OTHERS
    + rb"(?:m=[^ \r\n]++ [1-5]?\d{1,4} [^ \r\n]++ [^\r\n]++\r\n" + _OTHERS + rb")*+)"
)  # fmt: skip
_DIRECTIONS = frozenset((b"a=sendrecv", b"a=sendonly", b"a=recvonly", b"a=inactive"))
_UNSPECIFIED = frozenset(("0.0.0.0", "::"))


class SdpError(ValueError):
    """A session description that cannot be used; the text says what is wrong and in which line."""


def is_unspecified(host: str) -> bool:
    """c=0.0.0.0 is how RFC 2543 put a call on hold, and RFC 3264 §8.4 still wants it understood."""
    return host in _UNSPECIFIED


class Media:
    """One media line: `lines[start:stop]` of its description belong to it."""

    __slots__ = ("connection", "formats", "host", "kind", "port", "proto", "rtcp", "start", "stop")

    def __init__(self, start: int, kind: bytes, port: int, proto: bytes, formats: bytes) -> None:
        self.start = start
        self.stop = 0
        self.kind = kind
        self.port = port
        self.proto = proto
        self.formats = formats
        self.connection = -1  # index of its own c= line
        self.host = ""
        self.rtcp: bytes | None = None  # the value of a=rtcp

    @property
    def rejected(self) -> bool:
        return self.port == 0

    @property
    def relayed(self) -> bool:
        """Media over TCP (MSRP, BFCP) cannot go through a relay of datagrams; it passes between the endpoints."""
        return self.proto[:3] != b"TCP"

    @property
    def opaque(self) -> bool:
        """Not recognisable as RTP: UDPTL (T.38), DTLS, data channels."""
        return b"RTP/" not in self.proto or b"TLS" in self.proto

    @property
    def held(self) -> bool:
        return self.host in _UNSPECIFIED

    def rtcp_address(self) -> tuple[str, int]:
        """Where the peer wants RTCP: RFC 3605's attribute, or the port above RTP (RFC 3550 §11)."""
        if self.rtcp is not None:
            port, _, rest = self.rtcp.partition(b" ")
            if port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536:
                try:
                    return (_address(b"c=" + rest) if rest else self.host), int(port)
                except SdpError:
                    pass
        return self.host, self.port + 1 if self.port < 65535 else self.port


class Description:
    __slots__ = ("connection", "foreign", "host", "lines", "media")

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines
        self.connection = -1  # index of the c= line of the session
        self.host = ""
        self.media: list[Media] = []
        self.foreign: list[int] = []  # indexes of lines about transport addresses of the peer

    def serialise(self) -> bytes:
        return b"\r\n".join(self.lines) + b"\r\n"

    def attributes(self, media: Media, name: bytes) -> list[bytes]:
        """Values of `a=name:value` of one media line."""
        prefix = b"a=" + name + b":"
        return [line[len(prefix) :] for line in self.lines[media.start : media.stop] if line.startswith(prefix)]

    def has(self, media: Media, name: bytes) -> bool:
        """Whether the flag `a=name` is there."""
        return b"a=" + name in self.lines[media.start : media.stop]

    def direction(self, media: Media) -> bytes:
        """RFC 3264 §5.1: of the media line, else of the session, else sendrecv."""
        first = self.media[0].start
        for scope in (self.lines[media.start : media.stop], self.lines[:first]):
            for line in scope:
                if line in _DIRECTIONS:
                    return line[2:]
        return b"sendrecv"


@lru_cache(maxsize=4096)
def _address(line: bytes) -> str:
    """The address of a c= line, in the form in which the kernel reports sources."""
    parts = line[2:].split()
    if len(parts) == 3 and parts[0] == b"IN":
        family = {b"IP4": socket.AF_INET, b"IP6": socket.AF_INET6}.get(parts[1])
        if family is not None:
            try:
                return socket.inet_ntop(family, socket.inet_pton(family, parts[2].decode("ascii")))
            except (OSError, ValueError):
                pass
    raise SdpError(f"not a unicast IP address: {_shown(line)}")


def _shown(line: bytes) -> str:
    return repr(line[:80].decode("utf-8", "replace"))


def _media(index: int, line: bytes) -> Media:
    parts = line.split(b" ", 3)
    if len(parts) == 4:
        port = parts[1].partition(b"/")[0]
        if port.isdigit() and len(port) <= 5 and (number := int(port)) < 65536:
            return Media(index, parts[0][2:], number, parts[2], parts[3])
    raise SdpError(f"line {index + 1}: bad media line {_shown(line)}")


def after_origin(body: bytes) -> bytes:
    """What follows the o= line of a description. Raises SdpError just as `parse` does, but need not index the lines."""
    usual = _USUAL.fullmatch(body)
    if usual is not None:
        _address(usual[2])
        return usual[1]
    return parse(body).serialise().split(b"\r\n", 2)[2]


def parse(body: bytes) -> Description:
    """Read a description. Raises SdpError where the media plane could not work with it."""
    if body.count(b"\n") != body.count(b"\r\n"):
        # Deviation: RFC 8866 §5 lets a parser accept a bare newline; what leaves us has CRLF.
        body = body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    lines = body.split(b"\r\n")
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) < 2 or lines[0] != b"v=0" or lines[1][:2] != b"o=":
        raise SdpError(f"not a session description: it starts with {_shown(body[:40])}")
    description = Description(lines)
    all_media = description.media
    foreign = description.foreign
    media: Media | None = None
    index = 1
    for line in lines[2:]:
        index += 1
        kind = line[:2]
        if kind == b"a=":
            prefixes = _TRANSPORT.get(line[2:6])
            if prefixes is not None and line.startswith(prefixes):
                foreign.append(index)
                if media is not None and prefixes[0] == b"a=rtcp:":
                    media.rtcp = line[7:]
        elif kind == b"m=":
            if media is not None:
                media.stop = index
            media = _media(index, line)
            all_media.append(media)
        elif kind == b"c=":
            if media is None:
                description.connection = index
                description.host = _address(line)
            elif media.connection < 0:
                media.connection = index
                media.host = _address(line)
            else:
                foreign.append(index)  # RFC 8866 §5.7: more than one is for layers sent by multicast
    if media is None:
        return description
    media.stop = len(lines)
    host = description.host
    for number, media in enumerate(all_media):
        if media.connection < 0:
            if not host and media.port:
                raise SdpError(f"line {media.start + 1}: media line {number} ({_shown(media.kind)}) has no c= line")
            media.host = host
    return description
