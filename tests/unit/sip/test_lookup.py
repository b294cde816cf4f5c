"""Names out of a real (tiny) name server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import dns.rcode
import pytest

from proxy.sip.lookup import DnsLookup
from proxy.sip.resolver import ResolveError, Resolver
from proxy.sip.uri import parse_uri
from tests.unit.sip.name_server import NameServer, Zone
from tests.unit.sip.test_resolver import run

DNS_HOST = "127.0.6.53"
ZONE: Zone = {
    ("example.com", "NAPTR"): [
        '10 1 "s" "SIP+D2T" "" _sip._tcp.example.com.',
        '20 1 "s" "SIP+D2U" "" _sip._udp.example.com.',
        '5 1 "u" "E2U+sip" "!^.*$!sip:x@example.com!" .',
    ],
    ("_sip._tcp.example.com", "SRV"): ["0 0 5070 one.example.com."],
    ("_sip._udp.example.com", "SRV"): ["0 0 5060 two.example.com."],
    ("one.example.com", "A"): ["127.0.6.11"],
    ("two.example.com", "A"): ["127.0.6.12"],
    ("two.example.com", "AAAA"): ["::1"],
    ("none.example.com", "TXT"): ["x"],
    ("_sip._udp.off.example.com", "SRV"): ["0 0 0 ."],
}


def with_name_server(main: Callable[[NameServer, Resolver], Coroutine[Any, Any, None]]) -> None:
    async def served() -> None:
        server = NameServer(ZONE)
        port = await server.serve(DNS_HOST)
        loop = asyncio.get_running_loop()
        lookup = DnsLookup([DNS_HOST], port, timeout_s=0.3, attempt_s=0.1)
        try:
            await main(server, Resolver(loop, random.Random(1), lookup))
        finally:
            server.close()

    run(served)


def test_real_name_server_from_naptr_to_addresses() -> None:
    async def main(server: NameServer, here: Resolver) -> None:
        uri = parse_uri(b"sip:bob@example.com")
        found = await here.resolve(uri)
        assert [(*target.address, target.transport) for target in found] == [
            ("127.0.6.11", 5070, "tcp"),
            ("127.0.6.12", 5060, "udp"),
            ("::1", 5060, "udp"),
        ]
        assert here.known(uri) == found
        assert set(server.asked.values()) == {1}

    with_name_server(main)


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        (b"sip:bob@none.example.com", "no A record"),
        (b"sip:bob@nowhere.example.com", "no such name"),
        (b"sip:bob@off.example.com", "does not offer SIP"),
        (b"sip:bob@a..b:5060", "a..b: .*label"),
        (b"sip:bob@" + b"a" * 64 + b":5060", "label"),
    ],
)
def test_real_name_server_has_no_such_thing(uri: bytes, problem: str) -> None:
    async def main(server: NameServer, here: Resolver) -> None:
        with pytest.raises(ResolveError, match=problem):
            await here.resolve(parse_uri(uri))

    with_name_server(main)


def test_real_name_server_that_is_silent_or_broken() -> None:
    async def main(server: NameServer, here: Resolver) -> None:
        server.dumb = True
        with pytest.raises(ResolveError, match="in time"):
            await here.resolve(parse_uri(b"sip:bob@one.example.com:5060"))
        server.dumb, server.rcode = False, dns.rcode.SERVFAIL
        with pytest.raises(ResolveError, match="SERVFAIL"):
            await here.resolve(parse_uri(b"sip:bob@two.example.com:5060"))

    with_name_server(main)
