"""The prober: what it sends, what it takes for an answer, and the time it gives."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from proxy.backends import Backends, Verdict
from proxy.config import parse
from proxy.health import Evidence, Health, VerdictChanged
from proxy.net.api import Address
from proxy.sip.message import Request
from proxy.sip.parser import parse as parse_sip
from tests.sim.detector_model import CLEAN, World

CONFIG = """
sip: {listen: ["udp:127.0.2.1:5060", "udp:[::1]:5060"]}
pools:
  pbx:
    health: {interval_ms: 50, fast_interval_ms: 10, timeout_max_ms: 300}
    backends: {as1: {address: "%s"}}
routes: [{pool: pbx}]
"""


class Wire:
    """A network on which the test is the backend."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.hosts_asked: list[Address] = []
        self.on_datagram: Any = None
        self.on_error: Any = None

    def udp(self, local: Address, on_datagram: Any, *, remote: Address, on_error: Any) -> Port:
        if remote[1] != 1:
            self.on_datagram, self.on_error = on_datagram, on_error
        return Port(self, remote)


class Port:
    def __init__(self, wire: Wire, remote: Address) -> None:
        self.wire = wire
        self.remote = remote
        self.closed = False
        self.local: Address = ("2001:db8::1" if ":" in remote[0] else "127.0.2.1", 4711)

    def send(self, data: bytes, to: Address) -> None:
        assert not self.closed and to == self.remote
        if to[1] == 1:
            self.wire.hosts_asked.append(to)
        else:
            self.wire.sent.append(data)

    def close(self) -> None:
        self.closed = True


class Bench:
    def __init__(self, address: str = "127.0.2.11:5060") -> None:
        self.world = World(CLEAN, Random(1), 1000.0)
        self.wire = Wire()
        self.backends = Backends(parse(CONFIG % address))
        self.health = Health(self.backends, self.wire, self.world, Random(1), "127.0.2.1")  # type: ignore[arg-type]
        self.backend = next(iter(self.backends))
        self.events: list[VerdictChanged] = []
        self.health.subscribe(self.events.append)
        self.health.start()

    def run(self, seconds: float) -> None:
        self.world.run(self.world.now + seconds)

    def until_sent(self, count: int) -> bytes:
        while len(self.wire.sent) < count:
            self.run(0.001)
        return self.wire.sent[count - 1]

    def answer(self, request: bytes, status: str = "200 OK") -> None:
        headers = request.partition(b"\r\n")[2]
        self.wire.on_datagram(b"SIP/2.0 " + status.encode() + b"\r\n" + headers, self.backend.address)

    def evidence(self) -> dict[str, int]:
        counts = self.health.explain(self.backend)["evidence"]
        assert isinstance(counts, dict)
        return counts


@pytest.mark.parametrize(
    ("address", "uri", "sent_by"),
    [
        ("127.0.2.11:5060", b"sip:127.0.2.11:5060", b"127.0.2.1:4711"),
        ("[2001:db8::11]:5070", b"sip:[2001:db8::11]:5070", b"[2001:db8::1]:4711"),
    ],
)
def test_a_probe_is_a_well_formed_options_request(address: str, uri: bytes, sent_by: bytes) -> None:
    bench = Bench(address)
    first, second = parse_sip(bench.until_sent(1)), parse_sip(bench.until_sent(2))
    for number, request in enumerate((first, second), 1):
        assert isinstance(request, Request)
        assert (request.method, request.uri, request.cseq) == (b"OPTIONS", uri, number)
        via = request.get(b"via")
        assert via is not None and via.startswith(b"SIP/2.0/UDP " + sent_by + b";rport;branch=z9hG4bK")
        assert request.from_tag and not request.to_tag
        assert request.get(b"max-forwards") == b"70" and request.get(b"content-length") == b"0"
    assert first.get(b"via") != second.get(b"via"), "every probe is a transaction of its own"
    assert first.call_id == second.call_id


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "401 Unauthorized", "483 Too Many Hops", "500 Oops"])
def test_any_final_answer_is_a_sign_of_life(status: str) -> None:
    bench = Bench()
    bench.answer(bench.until_sent(1), status)
    assert bench.backend.verdict is Verdict.UP


def test_503_is_life_that_asks_for_less() -> None:
    bench = Bench()
    for count in (1, 2):
        bench.answer(bench.until_sent(count), "503 Service Unavailable")
    assert bench.backend.verdict is Verdict.DEGRADED


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: b"",
        lambda r: b"\r\n\r\n",
        lambda r: r,
        lambda r: r.replace(b"OPTIONS ", b"SIP/2.0 200 OK", 1).replace(b"branch=z9hG4bK", b"branch=z9hG4bKother"),
        lambda r: b"SIP/2.0 200 OK\r\n" + r.partition(b"-")[0] + b"-99999999999\r\n\r\n",
        lambda r: b"SIP/2.0 200 OK\r\n" + r.partition(b"-")[0] + b"-xx",
        lambda r: b"SIP/2.0 200 OK\r\n" + r.partition(b"-")[0] + b"-",
        lambda r: b"SIP/2.0 100 Trying\r\n" + r.partition(b"\r\n")[2],
        lambda r: b"\xff" * 2000,
    ],
)
def test_what_answers_no_probe_is_counted_and_proves_nothing(spoil: Any) -> None:
    bench = Bench()
    bench.wire.on_datagram(spoil(bench.until_sent(1)), bench.backend.address)
    assert bench.backend.verdict is Verdict.UNKNOWN
    assert bench.health.explain(bench.backend)["stray"] == 1


def test_a_copy_of_an_answer_counts_once() -> None:
    bench = Bench()
    request = bench.until_sent(1)
    bench.answer(request)
    bench.answer(request)
    assert bench.evidence() == {"options_ok": 1}


def test_a_miss_brings_probes_at_the_fast_interval() -> None:
    bench = Bench()
    for count in range(1, 11):
        bench.answer(bench.until_sent(count))
    bench.until_sent(11)
    bench.run(0.0085)
    assert len(bench.wire.sent) == 11
    bench.run(0.1)
    assert len(bench.wire.sent) == pytest.approx(11 + 10, abs=1)
    answered = len(bench.wire.sent)
    for count in range(answered, answered + 4):
        bench.answer(bench.until_sent(count))
    began = bench.world.now
    bench.answer(bench.until_sent(answered + 4))
    assert bench.world.now - began == pytest.approx(0.05, abs=0.002)


def test_the_time_out_follows_the_round_trip_time() -> None:
    bench = Bench()
    for count in range(1, 60):
        request = bench.until_sent(count)
        bench.run(0.03)
        bench.answer(request)
    state = bench.health.explain(bench.backend)
    assert state["rtt_ms"] == pytest.approx(30, abs=1.5)
    assert 30 < state["timeout_ms"] < 45
    assert "options_timeout" not in bench.evidence()


def test_a_late_answer_is_a_sign_of_life() -> None:
    bench = Bench()
    first = bench.until_sent(1)
    bench.run(0.19)
    assert bench.evidence()["options_timeout"] >= 3
    bench.answer(first)
    bench.run(0.09)
    assert bench.backend.verdict is Verdict.UP and bench.evidence()["options_ok"] == 1


def test_a_refusal_is_followed_up_within_the_fast_interval() -> None:
    bench = Bench()
    bench.answer(bench.until_sent(1))
    bench.until_sent(2)
    for _ in range(2):
        bench.wire.on_error(ConnectionRefusedError())
        count = len(bench.wire.sent)
        bench.run(0.0101)
        assert len(bench.wire.sent) == count + 1
    bench.wire.on_error(ConnectionRefusedError())
    assert bench.events[-1].verdict is Verdict.DOWN
    assert bench.wire.hosts_asked == [], "a refusal has told that its host lives"


def test_an_error_that_says_nothing_of_the_backend_is_ignored() -> None:
    bench = Bench()
    bench.wire.on_error(PermissionError())
    bench.wire.on_error(OSError(113, "No route to host"))
    assert bench.evidence() == {"icmp_unreachable": 1}


def test_the_host_is_asked_once_a_second_while_its_backend_is_silent() -> None:
    bench = Bench()
    bench.answer(bench.until_sent(1))
    bench.run(4.5)
    assert bench.backend.verdict is Verdict.DOWN
    assert 4 <= len(bench.wire.hosts_asked) <= 5


def test_a_verdict_change_tells_what_happened() -> None:
    bench = Bench()
    bench.answer(bench.until_sent(1))
    good = bench.world.now
    bench.run(1.0)
    event = bench.events[-1]
    assert event.backend is bench.backend and event.previous is Verdict.SUSPECT and event.verdict is Verdict.DOWN
    assert event.last_good_at == good and good + 0.2 < event.at < good + 0.4
    assert event.evidence == (Evidence.OPTIONS_TIMEOUT,)
    assert "no answer for" in event.reason


def test_a_listener_that_fails_is_reported_and_stops_nobody() -> None:
    bench = Bench()

    def fail(event: VerdictChanged) -> None:
        raise RuntimeError("oops")

    heard: list[VerdictChanged] = []
    bench.health.subscribe(fail)
    bench.health.subscribe(heard.append)
    bench.answer(bench.until_sent(1))
    assert len(heard) == 1 and len(bench.world.exceptions) == 1


def test_a_listener_may_stop_health() -> None:
    bench = Bench()
    bench.health.subscribe(lambda event: bench.health.stop())
    bench.answer(bench.until_sent(1))
    count = len(bench.wire.sent)
    bench.run(5.0)
    assert len(bench.wire.sent) == count and bench.world.exceptions == []
