"""SIP URIs and name-addr values (RFC 3261 §19.1, §20.10), taken apart only as far as routing needs.

Everything is bytes; what is not understood stays as it came.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from proxy.net.address import bracketed

_URI = re.compile(
    rb"(sips?):(?:([^@;?\s<>\"]*|[^@\s<>\"]*)@)?"  # scheme, user
    rb"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_.\-]+)(?::(\d{1,5}))?"  # host, port
    rb"((?:;[^;?\s<>]*)*)(\?[^\s<>]*)?",  # parameters, headers
    re.IGNORECASE,
)

_QUOTED = re.compile(rb'\s*"(?:[^"\\]|\\.)*"', re.DOTALL)


class UriError(ValueError):
    """Not a SIP URI."""


class Uri(NamedTuple):
    """`host` without brackets; `port` 0 when it is not given; `params` and `headers` as they came, with `;` and `?`."""

    scheme: bytes
    user: bytes
    host: str
    port: int
    params: bytes = b""
    headers: bytes = b""

    def param(self, name: bytes) -> bytes | None:
        """Value of a parameter (empty when it is a flag), or None."""
        return param(self.params, name)

    @property
    def transport(self) -> str:
        """`udp`, `tcp`, …: what the URI asks for, empty when it leaves it open."""
        return (self.param(b"transport") or b"").decode("ascii", "replace").lower() if self.params else ""

    def __bytes__(self) -> bytes:
        port = f":{self.port}" if self.port else ""
        user = self.user + b"@" if self.user else b""
        return self.scheme + b":" + user + (bracketed(self.host) + port).encode() + self.params + self.headers


def parse_uri(text: bytes) -> Uri:
    """Raises UriError. What was read before is remembered: for URIs that come again, as next hops do."""
    return _remembered(text) if len(text) < 256 else read_uri(text)


def read_uri(text: bytes) -> Uri:
    """The same, for a URI that will not come again. Raises UriError."""
    found = _URI.fullmatch(text.strip())
    if not found:
        raise UriError(f"not a SIP URI: {text[:120]!r}")
    scheme, user, name, digits, params, headers = found.groups()
    port = int(digits or 0)
    if port > 65535:
        raise UriError(f"port out of range: {text[:120]!r}")
    host = name.decode().strip("[]").lower().replace(":::", "::")  # RFC 5118 §4.10: a bug of RFC 3261's ABNF
    return Uri(scheme.lower(), user or b"", host, port, params or b"", headers or b"")


_remembered = lru_cache(maxsize=4096)(read_uri)


def user_of(uri: bytes) -> bytes:
    """The user part, cheaply; empty when there is none (a `tel:` URI's number counts as its user)."""
    scheme, _, rest = uri.partition(b":")
    user, at, _ = rest.partition(b"@")
    if at:
        return user.partition(b":")[0]
    return rest.partition(b";")[0] if scheme.lower() == b"tel" else b""


def addr_spec(value: bytes) -> bytes:
    """The URI inside a name-addr or addr-spec value: of `"Bob" <sip:b@x;y>;tag=1` it is `sip:b@x;y`."""
    start = value.find(b"<")
    if start == 0 and (end := value.find(b">")) > 0:
        return value[1:end].strip()
    if start < 0:
        return value.partition(b";")[0].strip()  # without brackets the parameters are the header's (§20)
    name = _QUOTED.match(value) if b'"' in value[:start] else None
    if name:  # brackets inside the quotes are part of the name
        start = value.find(b"<", name.end())
    end = value.find(b">", start)
    if start < 0 or end < 0:
        raise UriError(f"no closing bracket: {value[:120]!r}")
    return value[start + 1 : end].strip()


def param(params: bytes, name: bytes) -> bytes | None:
    """Value of `;name=value` in a parameter string; names compare without case."""
    for part in params.split(b";"):
        key, _, value = part.partition(b"=")
        if key.strip().lower() == name:
            return value.strip()
    return None
