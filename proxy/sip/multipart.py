"""The session description in a multipart body (RFC 2046 §5.1, RFC 5621): beside it may stand ISUP, a location, more.

Only where it lies is found out. So another description can be put in its place, and every other byte crosses as it
came.
"""

from __future__ import annotations

import re

_BOUNDARY = re.compile(rb';\s*boundary\s*=\s*(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_TYPE = re.compile(rb"^(?:content-type|c)[ \t]*:[ \t]*application/sdp[ \t]*(?:;|$)", re.IGNORECASE)
_DISPOSITION = re.compile(rb"^content-disposition[ \t]*:[ \t]*([^\s;]*)", re.IGNORECASE)


def session_part(content_type: bytes, body: bytes) -> tuple[int, int] | None:
    """Where in `body` its session description begins and ends; None when there is none."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        return None
    delimiter = b"\r\n--" + (found[1] or found[2])
    at = 0 if body.startswith(delimiter[2:]) else body.find(delimiter)
    if at < 0:
        return None
    at += len(delimiter) - (2 if at == 0 else 0)
    while body[at : at + 2] != b"--":  # that would be the last delimiter
        end = body.find(delimiter, at)
        start = body.find(b"\r\n\r\n", at)
        if end < 0 or start < 0:
            return None
        if start + 4 <= end and _describes_session(body[at:start]):
            return start + 4, end
        at = end + len(delimiter)
    return None


def _describes_session(head: bytes) -> bool:
    described = False
    for line in re.sub(rb"\r\n[ \t]+", b" ", head).split(b"\r\n"):
        disposition = _DISPOSITION.match(line)
        if disposition is not None and disposition[1].lower() != b"session":
            return False  # early-session (RFC 3959), say
        described = described or _TYPE.match(line) is not None
    return described
