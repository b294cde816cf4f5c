"""DNS records for the resolver: from real name servers (dnspython) and from a hosts file.

`proxy.sip.resolver` knows what to ask and what the answers mean; here is only how they are fetched. Tests and
the simulation bring a Lookup of their own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import dns.asyncresolver
import dns.exception
import dns.resolver
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA
from dns.rdtypes.IN.NAPTR import NAPTR
from dns.rdtypes.IN.SRV import SRV


@dataclass(slots=True, frozen=True)
class Srv:
    """RFC 2782. `host` is empty when the service is decidedly not offered (target ".")."""

    priority: int
    weight: int
    port: int
    host: str


@dataclass(slots=True, frozen=True)
class Naptr:
    """RFC 3403, of the terminal "s" kind that RFC 3263 uses: `name` is where SRV records are."""

    order: int
    preference: int
    service: str
    name: str


@dataclass(slots=True, frozen=True)
class Answer:
    """What is there under one name; all empty, with the `problem`, when nothing is."""

    addresses: tuple[str, ...] = ()
    services: tuple[Srv, ...] = ()
    pointers: tuple[Naptr, ...] = ()
    ttl_s: float = 0.0
    problem: str = ""


class LookupFailed(Exception):
    """No name server could say whether there is such a record."""


class Lookup(Protocol):
    async def query(self, name: str, kind: str) -> Answer:
        """Records of `kind` "A", "AAAA", "SRV" or "NAPTR". Raises LookupFailed."""
        ...


class DnsLookup:
    """Asks the system's name servers, or those given, over UDP and over TCP when an answer is truncated."""

    def __init__(
        self, nameservers: Sequence[str] = (), port: int = 53, timeout_s: float = 2.0, attempt_s: float = 0.7
    ) -> None:
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        if not nameservers:
            with contextlib.suppress(dns.resolver.NoResolverConfiguration):
                self._resolver = dns.asyncresolver.Resolver()
        else:
            self._resolver.nameservers = list(nameservers)
            self._resolver.port = port
        self._resolver.lifetime = timeout_s
        self._resolver.timeout = attempt_s

    async def query(self, name: str, kind: str) -> Answer:
        try:
            found = await self._resolver.resolve(name + ".", kind, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            return Answer(problem="no such name")
        except dns.exception.Timeout as error:
            raise LookupFailed("no name server answered in time") from error
        except (dns.exception.DNSException, OSError) as error:
            raise LookupFailed(str(error)) from error
        ttl_s = float(found.chaining_result.minimum_ttl)
        if found.rrset is None:
            return Answer(problem=f"no {kind} record")
        addresses: list[str] = []
        services: list[Srv] = []
        pointers: list[Naptr] = []
        for record in found.rrset:
            if isinstance(record, A | AAAA):
                addresses.append(record.address)
            elif isinstance(record, SRV):
                services.append(Srv(record.priority, record.weight, record.port, _text(record.target)))
            elif isinstance(record, NAPTR) and record.flags.lower() == b"s":
                service = record.service.decode("ascii", "replace").upper()
                pointers.append(Naptr(record.order, record.preference, service, _text(record.replacement)))
        return Answer(tuple(addresses), tuple(services), tuple(pointers), ttl_s)


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""


def read_hosts(path: Path = Path("/etc/hosts")) -> dict[str, tuple[str, ...]]:
    """Names and their addresses from a hosts file: they come before DNS, as everywhere on a machine."""
    hosts: dict[str, tuple[str, ...]] = {}
    with contextlib.suppress(OSError):
        for line in path.read_text(errors="replace").splitlines():
            address, *names = line.partition("#")[0].split() or [""]
            for name in names:
                known = hosts.get(name.lower(), ())
                hosts[name.lower()] = (*known, address) if address not in known else known
    return hosts
