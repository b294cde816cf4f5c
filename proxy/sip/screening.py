"""What a request must satisfy before a transaction or a dialog is made of it (RFC 3261 §8.2, §16.3 step 1).

The parser takes only apart what somebody asks for; so a fault in a header that will be copied, routed by or passed
on would be found late, or by the next hop. Requests outside a dialog are looked at once, here. Where RFC 4475 leaves
it open, what has one reasonable reading passes.
"""

from __future__ import annotations

import re

from proxy.sip.message import Request, split_list
from proxy.sip.uri import UriError, read_uri

_TOKEN = rb"[A-Za-z0-9\-.!%*_+`'~]++"
_QUOTED = rb'"(?:[^"\\]|\\.)*+"'
_PARAMS = rb"(?:\s*+;\s*+" + _TOKEN + rb"(?:\s*+=\s*+(?:" + _QUOTED + rb'|[^\s;,"<>]++))?+)*+\s*+'
# Unquoted names are tokens (§25.1); letters beyond ASCII are taken too. No blank before "<" is RFC 4475 §3.1.1.6.
_NAME = rb"(?:" + _QUOTED + rb"|(?:[A-Za-z0-9\-.!%*_+`'~\x80-\xff]|\s)*+)"
_NAME_ADDR = rb"\s*+" + _NAME + rb"\s*+<[A-Za-z][^<>\s]*+>" + _PARAMS
# Without brackets neither "?" nor "," nor ";" can be the URI's (§20).
_ADDRESS = re.compile(_NAME_ADDR + rb'|\s*+[A-Za-z][A-Za-z0-9+.\-]*+:[^\s<>"?;,]++' + _PARAMS, re.DOTALL)
_VIA = re.compile(
    rb"\s*+SIP\s*+/\s*+2\.0\s*+/\s*+" + _TOKEN + rb"\s++(?:\[[0-9A-Fa-f:.]++\]|[A-Za-z0-9.\-_]++)(?:\s*+:\s*+\d{1,5})?+"
    rb"(?:\s*+;\s*+" + _TOKEN + rb"(?:\s*+=\s*+(?:" + _QUOTED + rb'|[^\s;,"<>]*+))?+)*+\s*+',
    re.DOTALL | re.IGNORECASE,
)
_SCHEME = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*+):")

Refusal = tuple[int, str]  # status, and what is wrong


def screen(request: Request) -> Refusal | None:
    """None, or how to refuse a request outside a dialog."""
    return _request_uri(request.uri) or _addresses(request) or _vias(request)


def _request_uri(uri: bytes) -> Refusal | None:
    try:
        parsed = read_uri(uri)
    except UriError:
        scheme = _SCHEME.match(uri)
        if scheme is None:
            return 400, "Request-URI without a scheme"
        kind = scheme[1].lower()
        if kind == b"tel":
            return None
        if kind not in (b"sip", b"sips"):
            return 416, "Request-URI of an unknown scheme"  # §8.2.2.1
        return 400, "Request-URI cannot be read"
    # §19.1.1: headers have no place there, and must never become headers of what goes on (RFC 4475 §3.1.2.11).
    return (400, "Request-URI with headers") if parsed.headers else None


def _addresses(request: Request) -> Refusal | None:
    if not _ADDRESS.fullmatch(request.from_):
        return 400, "From cannot be read"
    if not _ADDRESS.fullmatch(request.to):
        return 400, "To cannot be read"
    for line in request.all(b"contact"):
        if line != b"*" and not all(map(_ADDRESS.fullmatch, split_list(line))):
            return 400, "Contact cannot be read"
    return None


def _vias(request: Request) -> Refusal | None:
    for line in request.all(b"via"):
        if not all(map(_VIA.fullmatch, line.split(b",") if b'"' not in line else split_list(line))):
            return 400, "Via cannot be read"
    return None
