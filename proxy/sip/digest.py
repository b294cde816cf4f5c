"""Digest authentication as a client (RFC 7616, RFC 8760, RFC 3261 §22): what to answer to a 401 or 407.

A `DigestClient` holds one account and the challenges it has met, one for each realm and header, with the count of
uses of each nonce. It owns no request and no retry: it says which headers the next attempt must carry, or none
when nothing of the challenge can be answered or the account was refused. Passing a challenge through to the other
leg needs nothing of this.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from proxy.sip.message import Field, Request, Response, field

_PARAM = re.compile(
    rb'\s*(?:(?P<scheme>[^\s,="]+)[ \t\r\n]+)?(?P<name>[^\s,="]+)\s*=\s*'
    rb'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]*))\s*(?:,|$)',
    re.DOTALL,
)
_HEADERS = {401: (b"www-authenticate", b"Authorization"), 407: (b"proxy-authenticate", b"Proxy-Authorization")}


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).hexdigest().encode()


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def _sha512_256(data: bytes) -> bytes:
    return hashlib.new("sha512_256", data).hexdigest().encode()


_HASHES: dict[bytes, Callable[[bytes], bytes]] = {b"MD5": _md5, b"SHA-256": _sha256}
if "sha512_256" in hashlib.algorithms_available:  # a matter of the OpenSSL that Python was built with
    _HASHES[b"SHA-512-256"] = _sha512_256


@dataclass(slots=True, frozen=True)
class Challenge:
    """The values as they came, without the quotes around them; empty means absent."""

    realm: bytes
    nonce: bytes
    algorithm: bytes = b""
    qops: tuple[bytes, ...] = ()
    opaque: bytes | None = None
    stale: bool = False

    @property
    def hash(self) -> Callable[[bytes], bytes] | None:
        """The hash function, or None when we do not know the algorithm. No algorithm means MD5 (RFC 7616 §3.3)."""
        return _HASHES.get((self.algorithm or b"MD5").upper().removesuffix(b"-SESS"))

    @property
    def session(self) -> bool:
        return self.algorithm.upper().endswith(b"-SESS")

    @property
    def qop(self) -> bytes | None:
        """The quality to use: empty for RFC 2069, None when only ones are offered that we do not know."""
        if not self.qops:
            return b""
        return next((qop for qop in (b"auth", b"auth-int") if qop in self.qops), None)

    @property
    def answerable(self) -> bool:
        return self.hash is not None and self.qop is not None


def parse_challenges(values: Iterable[bytes]) -> list[Challenge]:
    """Every Digest challenge in the header values, in their order; other schemes and broken ones are left out."""
    challenges = []
    for value in values:
        found: list[tuple[bytes, dict[bytes, bytes]]] = []
        at = 0
        while at < len(value):
            part = _PARAM.match(value, at)
            if part is None:
                break
            at = part.end()
            if part["scheme"]:
                found.append((part["scheme"].lower(), {}))
            if found:
                text = part["plain"] if part["quoted"] is None else part["quoted"]
                found[-1][1].setdefault(part["name"].lower(), text)
        challenges += [
            Challenge(
                realm=params[b"realm"],
                nonce=params[b"nonce"],
                algorithm=params.get(b"algorithm", b""),
                qops=tuple(qop.strip().lower() for qop in params.get(b"qop", b"").split(b",") if qop.strip()),
                opaque=params.get(b"opaque"),
                stale=params.get(b"stale", b"").lower() == b"true",
            )
            for scheme, params in found
            if scheme == b"digest" and b"realm" in params and b"nonce" in params
        ]
    return challenges


def authorization(
    challenge: Challenge,
    username: bytes,
    password: bytes,
    method: bytes,
    uri: bytes,
    body: bytes,
    cnonce: bytes,
    count: int,
) -> bytes:
    """The value of an Authorization header (RFC 7616 §3.4) for an answerable challenge."""
    digest, qop = challenge.hash, challenge.qop
    assert digest is not None and qop is not None
    nonce_count = b"%08x" % count
    key = digest(b"%b:%b:%b" % (username, challenge.realm, password))
    if challenge.session:
        key = digest(b"%b:%b:%b" % (key, challenge.nonce, cnonce))
    action = b"%b:%b" % (method, uri)
    if qop == b"auth-int":
        action += b":" + digest(body)
    middle = b":".join((challenge.nonce, nonce_count, cnonce, qop)) if qop else challenge.nonce
    result = digest(b"%b:%b:%b" % (key, middle, digest(action)))
    text = b'Digest username="%b", realm="%b", nonce="%b", uri="%b", response="%b"' % (
        username.replace(b"\\", b"\\\\").replace(b'"', b'\\"'),
        challenge.realm,
        challenge.nonce,
        uri,
        result,
    )
    if challenge.algorithm:
        text += b", algorithm=" + challenge.algorithm
    if qop:
        text += b', qop=%b, nc=%b, cnonce="%b"' % (qop, nonce_count, cnonce)
    elif challenge.session:
        text += b', cnonce="%b"' % cnonce
    if challenge.opaque is not None:
        text += b', opaque="%b"' % challenge.opaque
    return text


@dataclass(slots=True)
class _Met:
    """A challenge that we answer to, and what counts its uses."""

    challenge: Challenge
    cnonce: bytes  # one for all uses: a -sess algorithm makes its key with the first one (RFC 7616 §3.4.2)
    count: int = 0


class DigestClient:
    def __init__(self, username: bytes, password: bytes, rng: random.Random) -> None:
        self._username = username
        self._password = password
        self._rng = rng
        self._met: dict[tuple[bytes, bytes], _Met] = {}  # by the header that answers, and the realm

    def answer(self, request: Request, response: Response) -> list[Field]:
        """Headers for sending `request` again after it got `response`; none when that would be in vain."""
        header, name = _HEADERS.get(response.status, (b"", b""))
        best: dict[bytes, Challenge] = {}
        for challenge in parse_challenges(response.all(header)):
            if challenge.answerable:
                best.setdefault(challenge.realm, challenge)  # RFC 8760 §2.4: the topmost that we support
        if not best:
            return []
        refused = {challenge.realm for challenge in parse_challenges(request.all(name.lower()))}
        for realm, challenge in best.items():
            if realm in refused and not challenge.stale:
                self._met.pop((name, realm), None)
                return []  # RFC 3261 §22.2: credentials that were just rejected are not tried again
            cnonce = b"%016x" % self._rng.getrandbits(64)
            self._met[name, realm] = _Met(challenge, cnonce)
        return self.fields(request.method, request.uri, request.body)

    def fields(self, method: bytes, uri: bytes, body: bytes = b"") -> list[Field]:
        """Headers for a new request to a peer whose challenges were met before: no round trip is lost on it."""
        fields = []
        for (name, _), met in self._met.items():
            met.count += 1
            value = authorization(
                met.challenge, self._username, self._password, method, uri, body, met.cnonce, met.count
            )
            fields.append(field(name, value))
        return fields
