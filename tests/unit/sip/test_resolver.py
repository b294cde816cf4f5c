"""RFC 3263 by example, against answers in memory."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from proxy.sip.lookup import Answer, LookupFailed, Naptr, Srv, read_hosts
from proxy.sip.resolver import FAILED_TTL_S, NEGATIVE_TTL_S, ResolveError, Resolver, Target, by_priority
from proxy.sip.uri import parse_uri


class Records:
    """A Lookup in memory."""

    def __init__(self, **records: Answer) -> None:
        self.answers: dict[tuple[str, str], Answer] = {}
        self.asked: list[tuple[str, str]] = []
        self.failing = False
        self.gate: asyncio.Event | None = None

    def a(self, name: str, *addresses: str, ttl_s: float = 60) -> Records:
        self.answers[name, "A"] = Answer(addresses=addresses, ttl_s=ttl_s)
        return self

    def srv(self, name: str, *services: Srv) -> Records:
        self.answers[name, "SRV"] = Answer(services=services, ttl_s=60)
        return self

    def naptr(self, name: str, *pointers: Naptr) -> Records:
        self.answers[name, "NAPTR"] = Answer(pointers=pointers, ttl_s=60)
        return self

    async def query(self, name: str, kind: str) -> Answer:
        self.asked.append((name, kind))
        if self.gate:
            await self.gate.wait()
        if self.failing:
            raise LookupFailed("no name server answered")
        return self.answers.get((name, kind), Answer(problem="no such name"))


class Clock:
    """The running loop, with a clock that can be put forward."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.ahead = 0.0

    def time(self) -> float:
        return self._loop.time() + self.ahead

    def create_task(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self._loop.create_task(coroutine)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await main()

    asyncio.run(bounded())


def resolver(records: Records, clock: Clock | None = None, **options: Any) -> Resolver:
    loop: Any = clock or asyncio.get_running_loop()
    return Resolver(loop, random.Random(1), records, **({"ipv6": False} | options))


def resolve(records: Records, uri: bytes, **options: Any) -> list[tuple[str, int, str]]:
    async def main() -> list[Target]:
        return await resolver(records, **options).resolve(parse_uri(uri))

    return [(*target.address, target.transport) for target in asyncio.run(main())]


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        (b"sip:bob@192.0.2.4", ("192.0.2.4", 5060, "udp")),
        (b"sip:bob@192.0.2.4:5070", ("192.0.2.4", 5070, "udp")),
        (b"sip:bob@192.0.2.4;transport=TCP", ("192.0.2.4", 5060, "tcp")),
        (b"sip:bob@[2001:db8::1]:5070", ("2001:db8::1", 5070, "udp")),
        (b"sips:bob@192.0.2.4", ("192.0.2.4", 5061, "tls")),
        (b"sips:bob@192.0.2.4;transport=tcp", ("192.0.2.4", 5061, "tls")),
        (b"sip:bob@192.0.2.4;transport=tls", ("192.0.2.4", 5061, "tls")),
        (b"sip:bob@example.com;maddr=192.0.2.9", ("192.0.2.9", 5060, "udp")),
        (b"sip:bob@example.com:5066;maddr=[2001:db8::2]", ("2001:db8::2", 5066, "udp")),
    ],
)
def test_numeric_host_needs_no_dns(uri: bytes, target: tuple[str, int, str]) -> None:
    records = Records()

    async def main() -> None:
        here = resolver(records, transports=("udp", "tcp", "tls"))
        assert here.known(parse_uri(uri)) == [Target(target[:2], target[2])]

    run(main)
    assert records.asked == []


def test_port_means_address_records_only() -> None:
    records = Records().a("sip.example.com", "192.0.2.1", "192.0.2.2")
    found = resolve(records, b"sip:bob@sip.example.com:5070")
    assert found == [("192.0.2.1", 5070, "udp"), ("192.0.2.2", 5070, "udp")]
    assert records.asked == [("sip.example.com", "A")]


def test_naptr_chooses_the_transport_and_srv_the_hosts() -> None:
    """The example of RFC 3263 §4.1, for a client that has TCP and UDP."""
    records = (
        Records()
        .naptr(
            "example.com",
            Naptr(100, 50, "SIP+D2U", "_sip._udp.example.com"),
            Naptr(50, 50, "SIPS+D2T", "_sips._tcp.example.com"),
            Naptr(90, 50, "SIP+D2T", "_sip._tcp.example.com"),
        )
        .srv("_sip._tcp.example.com", Srv(1, 1, 5060, "server2"), Srv(0, 1, 5070, "server1"))
        .srv("_sip._udp.example.com", Srv(0, 1, 5060, "server1"))
        .a("server1", "192.0.2.1")
        .a("server2", "192.0.2.2")
    )
    found = resolve(records, b"sip:user@example.com")
    assert found == [("192.0.2.1", 5070, "tcp"), ("192.0.2.2", 5060, "tcp"), ("192.0.2.1", 5060, "udp")]
    assert ("_sips._tcp.example.com", "SRV") not in records.asked


def test_without_naptr_srv_is_asked_for_each_transport_that_we_have() -> None:
    records = Records().srv("_sip._tcp.example.com", Srv(0, 0, 5060, "s")).a("s", "192.0.2.1")
    assert resolve(records, b"sip:user@example.com") == [("192.0.2.1", 5060, "tcp")]
    assert records.asked[1:3] == [("_sip._udp.example.com", "SRV"), ("_sip._tcp.example.com", "SRV")]


def test_without_srv_the_domain_itself_over_udp() -> None:
    records = Records().a("example.com", "192.0.2.1")
    assert resolve(records, b"sip:user@Example.COM.") == [("192.0.2.1", 5060, "udp")]
    assert resolve(records, b"sip:user@example.com;transport=tcp") == [("192.0.2.1", 5060, "tcp")]


def test_transport_in_the_uri_skips_naptr() -> None:
    records = Records().srv("_sip._tcp.example.com", Srv(0, 0, 5080, "s")).a("s", "192.0.2.1")
    assert resolve(records, b"sip:user@example.com;transport=tcp") == [("192.0.2.1", 5080, "tcp")]
    assert records.asked == [("_sip._tcp.example.com", "SRV"), ("s", "A")]


def test_sips_accepts_only_tls_services() -> None:
    records = (
        Records()
        .naptr("example.com", Naptr(1, 1, "SIP+D2U", "_sip._udp.example.com"))
        .srv("_sips._tcp.example.com", Srv(0, 0, 5061, "s"))
        .a("s", "192.0.2.1")
    )
    options = {"transports": ("udp", "tls")}
    assert resolve(records, b"sips:user@example.com", **options) == [("192.0.2.1", 5061, "tls")]
    with pytest.raises(ResolveError, match="sips cannot go over udp"):
        resolve(records, b"sips:user@example.com;transport=udp", **options)


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        (b"sip:bob@nowhere.example", "nowhere.example: no such name"),
        (b"sip:bob@nowhere.example:5070", "nowhere.example: no such name"),
        (b"sip:bob@192.0.2.1;transport=sctp", "no transport sctp"),
        (b"sip:bob@example.com;transport=sctp", "no transport sctp"),
        (b"sips:bob@example.com", "no transport tls"),
        (b"sips:bob@192.0.2.1", "no transport tls"),
        (b"sip:bob@192.0.2.1;transport=\xff", "no transport"),
    ],
)
def test_no_way_is_an_error_that_says_why(uri: bytes, problem: str) -> None:
    with pytest.raises(ResolveError, match=problem):
        resolve(Records(), uri)


def test_root_target_says_that_the_service_is_not_offered() -> None:
    records = Records().srv("_sip._udp.example.com", Srv(0, 0, 0, "")).a("example.com", "192.0.2.1")
    with pytest.raises(ResolveError, match="does not offer SIP"):
        resolve(records, b"sip:bob@example.com")


def test_srv_host_without_address_is_passed_over() -> None:
    records = Records().srv("_sip._udp.x", Srv(0, 0, 5060, "dead"), Srv(1, 0, 5060, "s")).a("s", "192.0.2.1")
    assert resolve(records, b"sip:bob@x") == [("192.0.2.1", 5060, "udp")]


def test_hosts_file_comes_before_dns(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("# comment\n192.0.2.7  pbx PBX.example.com # first\n::1 pbx\n\n192.0.2.8 pbx\n")
    hosts = read_hosts(path)
    assert hosts == {"pbx": ("192.0.2.7", "::1", "192.0.2.8"), "pbx.example.com": ("192.0.2.7",)}
    records = Records()
    assert resolve(records, b"sip:1@pbx:5060", hosts=hosts, ipv6=True) == [
        ("192.0.2.7", 5060, "udp"),
        ("192.0.2.8", 5060, "udp"),
        ("::1", 5060, "udp"),
    ]
    assert records.asked == []
    assert read_hosts(tmp_path / "none") == {}


def test_weights_share_the_load_and_priorities_order_it() -> None:
    rng = random.Random(7)
    services = [Srv(2, 100, 1, "later"), Srv(1, 60, 1, "big"), Srv(1, 20, 1, "small"), Srv(1, 0, 1, "none")]
    orders = [by_priority(services, rng) for _ in range(4000)]
    assert all(order[3].host == "later" for order in orders)
    assert all(sorted(map(id, order)) == sorted(map(id, services)) for order in orders)
    first = Counter(order[0].host for order in orders)
    assert 2800 < first["big"] < 3100  # 60 of 81 draws
    assert 880 < first["small"] < 1100  # 20 of 81
    assert 20 < first["none"] < 90  # 1 of 81


def test_answer_is_kept_for_its_ttl_and_known_at_once() -> None:
    async def main() -> None:
        clock = Clock(asyncio.get_running_loop())
        records = Records().a("s", "192.0.2.1", ttl_s=60)
        here = resolver(records, clock)
        uri = parse_uri(b"sip:bob@s:5060")
        assert here.known(uri) is None
        first = await here.resolve(uri)
        assert here.known(uri) == first == await here.resolve(uri)
        assert len(records.asked) == 1
        clock.ahead = 59
        assert here.known(uri) == first
        clock.ahead = 61
        assert here.known(uri) is None
        records.a("s", "192.0.2.2")
        assert (await here.resolve(uri))[0].address == ("192.0.2.2", 5060)

    run(main)


@pytest.mark.parametrize(("ttl_s", "kept_s"), [(0, 5), (1e6, 3600)])
def test_ttl_has_bounds(ttl_s: float, kept_s: float) -> None:
    async def main() -> None:
        clock = Clock(asyncio.get_running_loop())
        here = resolver(Records().a("s", "192.0.2.1", ttl_s=ttl_s), clock)
        uri = parse_uri(b"sip:bob@s:5060")
        await here.resolve(uri)
        clock.ahead = kept_s - 1
        assert here.known(uri)
        clock.ahead = kept_s + 1
        assert here.known(uri) is None

    run(main)


def test_absence_is_remembered_too() -> None:
    async def main() -> None:
        clock = Clock(asyncio.get_running_loop())
        records = Records()
        here = resolver(records, clock)
        uri = parse_uri(b"sip:bob@s:5060")
        for _ in range(3):
            with pytest.raises(ResolveError):
                await here.resolve(uri)
        assert len(records.asked) == 1
        clock.ahead = NEGATIVE_TTL_S + 1
        records.a("s", "192.0.2.1")
        assert await here.resolve(uri)

    run(main)


def test_expired_answer_serves_while_no_name_server_can_be_reached() -> None:
    async def main() -> None:
        clock = Clock(asyncio.get_running_loop())
        records = Records().a("s", "192.0.2.1")
        here = resolver(records, clock)
        uri = parse_uri(b"sip:bob@s:5060")
        first = await here.resolve(uri)
        records.failing = True
        clock.ahead = 100
        assert await here.resolve(uri) == first
        assert len(records.asked) == 2
        clock.ahead += FAILED_TTL_S + 1
        records.failing = False
        records.a("s", "192.0.2.2")
        assert (await here.resolve(uri))[0].address == ("192.0.2.2", 5060)

    run(main)


def test_failure_without_an_old_answer_is_an_error() -> None:
    records = Records()
    records.failing = True
    with pytest.raises(ResolveError, match="s: no name server answered"):
        resolve(records, b"sip:bob@s:5060")


def test_hundred_calls_to_one_name_ask_once() -> None:
    async def main() -> None:
        records = Records().a("s", "192.0.2.1")
        records.gate = asyncio.Event()
        here = resolver(records)
        uri = parse_uri(b"sip:bob@s:5060")
        calls = [asyncio.create_task(here.resolve(uri)) for _ in range(100)]
        await asyncio.sleep(0)
        calls[0].cancel()  # one caller's hanging up is not the others' concern
        records.gate.set()
        found = await asyncio.gather(*calls[1:])
        assert {tuple(targets) for targets in found} == {(Target(("192.0.2.1", 5060), "udp"),)}
        assert len(records.asked) == 1

    run(main)


def test_resolving_has_a_deadline() -> None:
    async def main() -> None:
        records = Records()
        records.gate = asyncio.Event()
        with pytest.raises(ResolveError, match=r"within 0\.05 s"):
            await resolver(records, timeout_s=0.05).resolve(parse_uri(b"sip:bob@s"))
        records.gate.set()

    run(main)


def test_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.sip.resolver.ANSWERS_MAX", 10)

    async def main() -> None:
        records = Records()
        here = resolver(records)
        for number in range(50):
            records.a(f"s{number}", "192.0.2.1")
            await here.resolve(parse_uri(b"sip:bob@s%d:5060" % number))
        assert here.known(parse_uri(b"sip:bob@s49:5060"))
        assert here.known(parse_uri(b"sip:bob@s39:5060")) is None

    run(main)
