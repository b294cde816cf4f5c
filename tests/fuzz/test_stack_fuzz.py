"""Bad datagrams into the whole stack: it answers or drops them, its handlers never fail, and it forgets them again."""

from __future__ import annotations

import os
import random
import re
from typing import Any

import pytest

from proxy.net.timers import Timers
from proxy.sip.stack import Stack
from tests.fuzz.test_parser_fuzz import CORPUS, mutate
from tests.fuzz.test_torture import EXPECTED, MESSAGES
from tests.unit.net.hand_loop import HandLoop

ROUNDS = int(os.environ.get("FUZZ_ROUNDS", "3000"))


class Wire:
    """A UDP transport that keeps what is sent."""

    name = b"UDP"
    bound = local = ("192.0.2.100", 5060)

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def flow(self, remote: tuple[str, int]) -> Any:
        return WireFlow(self, remote)


class WireFlow:
    transport = b"UDP"
    reliable = False
    open = True

    def __init__(self, wire: Wire, remote: tuple[str, int]) -> None:
        self.local, self.remote, self.bound, self._wire = wire.local, remote, wire.bound, wire

    def send(self, data: bytes) -> None:
        self._wire.sent.append(data)


class Core:
    """Answers every request 480."""

    def on_request(self, request: Any, transaction: Any) -> None:
        transaction.reply(480)

    def on_ack(self, request: Any) -> None: ...

    def on_stray(self, message: Any) -> None: ...


class Bench:
    def __init__(self) -> None:
        self.loop = HandLoop()
        self.wire = Wire()
        self.stack = Stack(Timers(self.loop), random.Random(1))  # type: ignore[arg-type]
        self.stack.transports.append(self.wire)  # type: ignore[arg-type]
        self.stack.core = Core()

    def receive(self, data: bytes) -> list[int]:
        """The statuses of the answers. A 400 repeats what could not be read, so we need not be able to read it."""
        self.wire.sent.clear()
        self.stack.receive(data, self.wire.flow(("192.0.2.1", 5060)))
        starts = [
            re.match(rb"SIP/2\.0 (\d{3}) .*\r\n(?:via|v)\s*:", sent, re.IGNORECASE | re.DOTALL)
            for sent in self.wire.sent
        ]
        return [int(start[1]) if start else 0 for start in starts]


@pytest.mark.parametrize("name", MESSAGES)
def test_torture_message_is_answered_as_it_must_be(name: str) -> None:
    bench = Bench()
    statuses = bench.receive(MESSAGES[name])
    is_request = not MESSAGES[name].startswith(b"SIP/")
    expected = EXPECTED[name] or 480
    assert statuses == ([expected] if is_request else [])
    assert bench.stack.errors["handler"] == 0


def test_mutated_messages_harm_nothing_and_are_forgotten() -> None:
    bench = Bench()
    answered = 0
    for seed in range(ROUNDS):
        rng = random.Random(seed)
        data = mutate(rng.choice(CORPUS), rng)
        statuses = bench.receive(data)
        assert 0 not in statuses, f"seed {seed}: {data!r}"
        answered += bool(statuses)
        assert bench.stack.errors["handler"] == 0, f"seed {seed}: {data!r}"
    assert answered > ROUNDS * 0.2
    bench.loop.advance(120)
    assert (bench.stack.servers, bench.stack.clients, bench.stack._merging) == ({}, {}, {})
    assert bench.loop.failures == []
