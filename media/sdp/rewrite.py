"""Put the relay's address and ports into a description, and leave all the rest as it is.

Lines keep their order and their bytes. What goes is what would lead media around the relay: ICE candidates,
a=rtcp, BUNDLE. Kept on purpose: port 0 (a rejected line, RFC 3264 §6), the address 0.0.0.0 (hold as in
RFC 2543), rtcp-mux, directions, codecs, keys.
"""

from __future__ import annotations

from collections.abc import Sequence

from media.sdp.description import Description, is_unspecified


def rewrite(description: Description, connection: bytes, ports: Sequence[int]) -> bytes:
    """What follows the o= line, with `connection` ("c=IN IP4 192.0.2.1") and one of `ports` per media line."""
    lines = description.lines.copy()
    if description.connection > 0 and not is_unspecified(description.host):
        lines[description.connection] = connection
    around = -1
    for number, media in enumerate(description.media):
        if not media.relayed:
            around = number
            continue
        if media.connection > 0 and not is_unspecified(media.host):
            lines[media.connection] = connection
        if media.port:
            lines[media.start] = b"m=%b %d %b %b" % (media.kind, ports[number], media.proto, media.formats)
    if around >= 0:
        _keep_addresses(description, lines)
    for index in reversed(description.foreign):
        del lines[index]
    lines.append(b"")
    return b"\r\n".join(lines[2:])


def _keep_addresses(description: Description, lines: list[bytes]) -> None:
    """A line that does not pass the relay keeps the address that it inherited from the session."""
    if description.connection < 0:
        return
    inherited = description.lines[description.connection]
    for media in description.media:
        if not media.relayed and media.connection < 0 and media.port:
            # Joined to the line before, so that indexes stay; RFC 8866 §5: c= follows i=.
            at = media.start
            if at + 1 < media.stop and lines[at + 1][:2] == b"i=":
                at += 1
            lines[at] = lines[at] + b"\r\n" + inherited
