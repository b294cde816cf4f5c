"""Nonsense from the network while a call is up: it is counted, the call does not notice, and nothing is kept of it."""

from __future__ import annotations

import contextlib
import random
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sipp.pairs import PAIRS, Pair, assert_clean, call, callee
from tests.testbed.aqueduct import Aqueduct, settings
from tests.testbed.hosts import PROXY, host

HALF_OPEN = 10_000
BASIC: Pair = next(pair for pair in PAIRS if pair.name == "basic")


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Aqueduct]:
    with callee(BASIC, tmp_path) as uas:
        configuration = settings(PROXY, {"uas": uas.local}, tmp_path, media_ports="20000-20399")
        with Aqueduct(configuration, tmp_path) as running:
            running.wait_ready()
            yield running
            assert running.running
            uac, figures = call(BASIC, tmp_path, running.address, "u1")
            assert_clean(BASIC, uac, figures, uas, running)
            assert "Traceback" not in running.log.read_text(), running.log_tail()


def open_files(process: Aqueduct) -> int:
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


def test_random_and_truncated_datagrams_are_counted_and_harmless(proxy: Aqueduct) -> None:
    rng = random.Random(4475)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    invite = (
        b"INVITE sip:600@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\n"
    )
    for round_ in range(2000):
        data = rng.randbytes(rng.randrange(5, 1400)) if round_ % 2 else invite[: rng.randrange(5, len(invite))]
        sender.sendto(data, proxy.address)
        if round_ % 100 == 0:
            time.sleep(0.01)  # a burst, not a flood: the socket buffer is not what is tested
    for size in (60_000, 65_000):
        sender.sendto(invite + b"X-Long: " + b"a" * (size - 200) + b"\r\n\r\n", proxy.address)
    deadline = time.monotonic() + 5
    while sum(proxy.ask("status")["errors"].values()) < 1900 and time.monotonic() < deadline:
        time.sleep(0.05)
    status = proxy.ask("status")
    assert sum(status["errors"].values()) >= 1900
    assert status["errors"].get("handler", 0) == 0
    assert status["calls"] == 0


def test_ten_thousand_half_open_connections_leave_nothing_behind(proxy: Aqueduct) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    before = open_files(proxy)
    connections: list[socket.socket] = []
    try:
        for number in range(HALF_OPEN):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.bind((host(100 + number % 4), 0))
            sock.settimeout(5)
            sock.connect(proxy.address)
            with contextlib.suppress(OSError):  # refused beyond the limit: that is an answer too
                sock.send(b"INVITE sip:600@h SIP/2.0\r\nVia: SIP/2.0/TCP h")
            connections.append(sock)
        assert proxy.ask("status")["calls"] == 0
        deadline = time.monotonic() + 25
        while open_files(proxy) > before + 10 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert open_files(proxy) <= before + 10  # all were closed for want of patience
    finally:
        for sock in connections:
            sock.close()
