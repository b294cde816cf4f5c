"""Where a request goes (RFC 3263 §4): from a URI to addresses and transports, in the order to try them.

A numeric host needs no DNS; a host with a port, only addresses; a bare domain, NAPTR and SRV. The rules are a
plain function over cached answers: where one is missing it is fetched and the function runs again. So `known`
gives the same result at once whenever everything is in the cache, and SRV weights are drawn anew each time.

Answers live for their TTL within bounds; an answer that has expired is still used when no name server can be
reached (RFC 8767): a DNS that fails must not take calls down.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter

from proxy.net.api import Address
from proxy.sip.lookup import Answer, Lookup, LookupFailed, Srv
from proxy.sip.uri import Uri

TTL_MIN_S = 5.0
TTL_MAX_S = 3600.0
NEGATIVE_TTL_S = 30.0
FAILED_TTL_S = 5.0  # how long a failed look-up, or an expired answer in its place, stands
ANSWERS_MAX = 10_000  # names come from messages, so strangers choose them
SRV_MAX = 16

_SERVICES = {"SIP+D2U": "udp", "SIP+D2T": "tcp", "SIPS+D2T": "tls"}  # RFC 3263 §4.1
_PREFIXES = {"udp": "_sip._udp.", "tcp": "_sip._tcp.", "tls": "_sips._tcp."}
Key = tuple[str, str]


class ResolveError(Exception):
    """No way to that URI; the text says which name and why."""


@dataclass(slots=True, frozen=True)
class Target:
    address: Address
    transport: str  # "udp", "tcp", "tls"


class _Missing(Exception):
    def __init__(self, keys: list[Key]) -> None:
        self.keys = keys


class Resolver:
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        lookup: Lookup,
        *,
        transports: Collection[str] = ("udp", "tcp"),
        ipv6: bool = True,
        hosts: Mapping[str, tuple[str, ...]] | None = None,
        timeout_s: float = 3.0,
    ) -> None:
        """`transports` are those we can send over, in the order of our preference."""
        self._loop = loop
        self._rng = rng
        self._lookup = lookup
        self._transports = transports
        self._kinds = ("A", "AAAA") if ipv6 else ("A",)
        self._hosts = hosts or {}
        self._timeout_s = timeout_s
        self._answers: dict[Key, tuple[float, Answer]] = {}  # until when each stands
        self._fetching: dict[Key, asyncio.Task[None]] = {}

    def known(self, uri: Uri) -> list[Target] | None:
        """The targets, when they can be told without asking anybody. Raises ResolveError."""
        try:
            return self._targets(uri)
        except _Missing:
            return None

    async def resolve(self, uri: Uri) -> list[Target]:
        """The targets, at least one. Raises ResolveError."""
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    try:
                        return self._targets(uri)
                    except _Missing as missing:
                        await asyncio.gather(*map(self._fetch, missing.keys))
        except TimeoutError:
            raise ResolveError(f"{uri.host}: DNS gave no answer within {self._timeout_s:g} s") from None

    # The rules

    def _targets(self, uri: Uri) -> list[Target]:
        host = (uri.param(b"maddr") or b"").decode("ascii", "replace").strip("[]") or uri.host
        host = host.rstrip(".").lower()
        asked = self._asked_transport(uri)
        if _is_numeric(host) or uri.port:
            transport = asked or ("tls" if uri.scheme == b"sips" else "udp")
            self._check(transport, uri)
            hosts = [(host, uri.port or (5061 if transport == "tls" else 5060), transport)]
        else:
            hosts = self._by_service(host, asked, uri.scheme == b"sips")
            if not hosts:  # §4.2: without SRV records, the address records of the domain itself
                transport = asked or ("tls" if uri.scheme == b"sips" else "udp")
                self._check(transport, uri)
                hosts = [(host, 5061 if transport == "tls" else 5060, transport)]
        return self._addresses(hosts)

    def _asked_transport(self, uri: Uri) -> str:
        asked = uri.transport
        if uri.scheme == b"sips":
            if asked not in ("", "tcp", "tls"):
                raise ResolveError(f"{uri.host}: sips cannot go over {asked}")
            return "tls" if asked else ""
        return asked

    def _check(self, transport: str, uri: Uri) -> None:
        if transport not in self._transports:
            raise ResolveError(f"{uri.host}: no transport {transport} here")

    def _by_service(self, domain: str, asked: str, secure: bool) -> list[tuple[str, int, str]]:
        """Host, port and transport of every SRV record, in the order to try them."""
        usable = [name for name in self._transports if name == (asked or ("tls" if secure else name))]
        if not usable:
            raise ResolveError(f"{domain}: no transport {asked or 'tls'} here")
        names = [(_PREFIXES[name] + domain, name) for name in usable if name in _PREFIXES]
        if not asked:
            pointers = self._answer((domain, "NAPTR")).pointers
            known = [
                (pointer.name, _SERVICES[pointer.service])
                for pointer in sorted(pointers, key=attrgetter("order", "preference"))
                if _SERVICES.get(pointer.service) in usable
            ]
            names = known or names
        self._need([(name, "SRV") for name, _ in names])
        hosts = []
        refused = False
        for name, transport in names:
            for service in by_priority(self._answer((name, "SRV")).services, self._rng):
                refused = refused or not service.host
                if service.host:
                    hosts.append((service.host, service.port, transport))
        if refused and not hosts:
            raise ResolveError(f"{domain}: does not offer SIP (SRV target is the root)")
        return hosts[:SRV_MAX]

    def _addresses(self, hosts: list[tuple[str, int, str]]) -> list[Target]:
        names = [host for host, _, _ in hosts if not _is_numeric(host)]
        self._need([(name, kind) for name in names for kind in self._kinds])
        targets: list[Target] = []
        problem = ""
        for host, port, transport in hosts:
            addresses: list[str] = [host] if _is_numeric(host) else []
            if not addresses:
                answers = [self._answer((host, kind)) for kind in self._kinds]
                addresses = [address for answer in answers for address in answer.addresses]
                problem = problem or f"{host}: {answers[0].problem}"
            targets += [Target((address, port), transport) for address in addresses]
        if not targets:
            raise ResolveError(problem)
        return list(dict.fromkeys(targets))

    # The cache

    def _need(self, keys: list[Key]) -> None:
        """Raise _Missing for all of them together, so that they are asked for at the same time."""
        now = self._loop.time()
        missing = [key for key in keys if not self._standing(key, now)]
        if missing:
            raise _Missing(list(dict.fromkeys(missing)))

    def _standing(self, key: Key, now: float) -> Answer | None:
        name, kind = key
        if name in self._hosts and kind in ("A", "AAAA"):
            here = tuple(a for a in self._hosts[name] if (":" in a) == (kind == "AAAA"))
            return Answer(here, problem="" if here else "no such address in the hosts file")
        until, answer = self._answers.get(key, (0.0, None))
        return answer if now < until else None

    def _answer(self, key: Key) -> Answer:
        answer = self._standing(key, self._loop.time())
        if answer is None:
            raise _Missing([key])
        return answer

    async def _fetch(self, key: Key) -> None:
        """One question at a time for each name, however many calls wait for it."""
        task = self._fetching.get(key)
        if task is None:
            task = self._fetching[key] = self._loop.create_task(self._ask(key))
            task.add_done_callback(lambda _: self._fetching.pop(key, None))
        await asyncio.shield(task)

    async def _ask(self, key: Key) -> None:
        old = self._answers.pop(key, (0.0, None))[1]
        try:
            answer = await self._lookup.query(*key)
            ttl_s = NEGATIVE_TTL_S if answer.problem else min(max(answer.ttl_s, TTL_MIN_S), TTL_MAX_S)
        except LookupFailed as error:
            answer = old if old is not None else Answer(problem=str(error))
            ttl_s = FAILED_TTL_S
        if len(self._answers) >= ANSWERS_MAX:
            del self._answers[next(iter(self._answers))]  # the one that was fetched longest ago
        self._answers[key] = (self._loop.time() + ttl_s, answer)


def by_priority(services: Collection[Srv], rng: random.Random) -> list[Srv]:
    """RFC 2782: lowest priority first, and drawn by weight within one priority."""
    ordered: list[Srv] = []
    for priority in sorted({service.priority for service in services}):
        rest = sorted((s for s in services if s.priority == priority), key=attrgetter("weight"))
        while rest:
            draw = rng.randint(0, sum(service.weight for service in rest))
            for service in rest:  # weight 0 comes first, so it has its small chance too
                draw -= service.weight
                if draw <= 0:
                    break
            ordered.append(service)
            rest.remove(service)
    return ordered


@lru_cache(maxsize=4096)
def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
