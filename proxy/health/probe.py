"""The prober of one backend: sends OPTIONS, matches what comes back, keeps the time, feeds the detector.

It stands beside the SIP stack, with a socket and time-outs of its own: an answer is late when the round-trip time
says so (RFC 6298), not after 32 s. Matching is by our branch (RFC 3261 §17.1.3), which carries a token that nobody
can guess and the number of the probe. One timer of the loop at a time, exact to the millisecond.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import ClassVar, Protocol

from proxy.backends import Backend
from proxy.config import HealthSettings
from proxy.health.detector import Detector
from proxy.health.evidence import Evidence
from proxy.health.flow import Flow
from proxy.health.selfcheck import STALL_S, SelfCheck
from proxy.net.address import bracketed, host_port
from proxy.net.api import Address

RTT_START_S = 0.05
REMEMBERED_MAX = 1024  # probes whose late answers are still recognised
ASK_APART_S = 0.02
FAST_STALL_S = 0.01  # the same while every probe counts
DRAIN_S = 0.002  # after standing still: time for the sockets to be read before anybody is judged


class Owner(Protocol):
    """The runtime that the prober belongs to."""

    def judge(self, prober: Prober, awake: float) -> None: ...


class Prober:
    detector_type: ClassVar[type[Detector]] = Detector

    __slots__ = (
        "_branch",
        "_due",
        "_graced",
        "_loop",
        "_next_send",
        "_number",
        "_open",
        "_owner",
        "_parts",
        "_rtt_var",
        "_selfcheck",
        "_sent",
        "_timer",
        "backend",
        "detector",
        "flow",
        "last_good_at",
        "last_sent_at",
        "rtt_s",
        "settings",
        "stray",
        "timeout_s",
    )

    def __init__(
        self,
        backend: Backend,
        settings: HealthSettings,
        loop: asyncio.AbstractEventLoop,
        selfcheck: SelfCheck,
        owner: Owner,
    ) -> None:
        now = loop.time()
        self.backend = backend
        self.settings = settings
        self.detector = self.detector_type(settings, selfcheck.awake(now))
        self.flow: Flow | None = None
        self.rtt_s: float | None = None
        self.timeout_s = min(RTT_START_S, settings.timeout_max_ms / 1000)
        self.last_good_at: float | None = None  # loop time of the last answer
        self.last_sent_at = -1.0
        self.stray = 0  # datagrams that answer no probe of ours
        self._rtt_var = 0.0
        self._loop = loop
        self._selfcheck = selfcheck
        self._owner = owner
        self._number = 0  # of the next probe
        self._open = 0  # the oldest one that is neither answered nor missed
        self._sent: dict[int, float] = {}  # awake time at which it was sent
        self._next_send = now
        self._due = now
        self._graced = False
        self._timer: asyncio.TimerHandle | None = None
        self._branch = b""
        self._parts = (b"", b"", b"")

    def start(self, flow: Flow, rng: Random, agent: str) -> None:
        """Probe from now on, at a random phase."""
        self.flow = flow
        token = f"{rng.getrandbits(64):016x}"
        self._branch = f"z9hG4bKprobe{token}-".encode()
        self._parts = options_template(self.backend, flow.local, token, agent)
        self._next_send = self._loop.time() + rng.random() * self.settings.interval_ms / 1000
        self._arm(self._next_send)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.flow is not None:
            self.flow.close()
            self.flow = None

    def ask(self) -> None:
        """Send an extra probe: somebody else fell silent, and needs a witness."""
        now = self._loop.time()
        if self.flow is not None and now - self.last_sent_at >= ASK_APART_S:
            self._send(now, self._selfcheck.awake(now))

    def look(self) -> None:
        """The detector has something to judge: as soon as what waits in the sockets has been read. When it has just
        begun to doubt, a probe leaves at once."""
        now = self._loop.time()
        if self._timer is None:
            return
        if self.detector.fast and now - self.last_sent_at >= self.settings.fast_interval_ms / 1000:
            self._next_send = now
        self._arm(now)

    def on_answer(self, data: bytes) -> None:
        now = self._loop.time()
        awake = self._selfcheck.awake(now)
        at = data.find(self._branch)
        if at < 0 or not data.startswith(b"SIP/2.0 ") or data[8:9] == b"1":  # a provisional one decides nothing
            self.stray += 1
            return
        at += len(self._branch)
        digits = data[at : at + 10]
        number = int(digits) if digits.isdigit() else -1
        sent_at = self._sent.pop(number, None)
        if sent_at is None:  # a copy of an answer
            self.stray += 1
            return
        if number >= self._open:  # an unanswered probe older than an answered one says nothing about now
            self._open = number + 1
        rtt = awake - sent_at
        timely = rtt < self.timeout_s
        self._measure(rtt)
        self.last_good_at = now
        self._selfcheck.heard(self, awake)
        detector = self.detector
        detector.answered(awake, sent_at, timely, data[8:11] == b"503")
        if detector.pending:
            self._owner.judge(self, awake)

    def on_trouble(self, evidence: Evidence) -> None:
        awake = self._selfcheck.awake(self._loop.time())
        if evidence is Evidence.ICMP_REFUSED:
            self._selfcheck.heard(self, awake)
            self.detector.refused(awake)
        else:
            self.detector.observe(evidence, awake)
        self._owner.judge(self, awake)
        self._hurry()

    def _hurry(self) -> None:
        """When doubts have begun the next probe is due within the fast interval."""
        if self.detector.fast and self._timer is not None:
            soon = self._loop.time() + self.settings.fast_interval_ms / 1000
            if soon < self._next_send:
                self._next_send = soon
                self._arm(min(soon, self._due))

    def _wake(self) -> None:
        self._timer = None
        now = self._loop.time()
        awake = self._selfcheck.awake(now)
        late = FAST_STALL_S if self.detector.fast else STALL_S
        if now - self._due > late and not self._graced:
            self._graced = True
            self._arm(now + DRAIN_S)
            return
        self._graced = False
        detector = self.detector
        was_fast = detector.fast
        self._expire(awake)
        if detector.fast and not was_fast:
            self._next_send = now
        if now >= self._next_send:
            self._send(now, awake)
            interval = self.settings.fast_interval_ms if detector.fast else self.settings.interval_ms
            self._next_send = now + interval / 1000
        if detector.pending or detector.fast:
            self._owner.judge(self, awake)
            if self.flow is None:  # a listener has stopped us
                return
        oldest = self._sent.get(self._open)
        if oldest is None:
            self._arm(self._next_send)
        else:
            self._arm(min(self._next_send, now + max(0.0, oldest + self.timeout_s - awake)))

    def _expire(self, awake: float) -> None:
        """Tell the detector of the probes whose time has passed. Their late answers are still welcome."""
        while self._open < self._number:
            sent_at = self._sent.get(self._open)
            if sent_at is not None:
                if awake - sent_at < self.timeout_s - 1e-6:
                    return
                self.detector.missed(awake, sent_at)
            self._open += 1

    def _send(self, now: float, awake: float) -> None:
        number = self._number
        self._number = number + 1
        self._sent[number] = awake
        self._sent.pop(number - REMEMBERED_MAX, None)
        self.last_sent_at = now
        head, middle, tail = self._parts
        digits = b"%010d" % number
        assert self.flow is not None
        self.flow.send(head + digits + middle + b"%d" % (number + 1) + tail)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = when
        self._timer = self._loop.call_at(when, self._wake)

    def _measure(self, rtt: float) -> None:
        """RFC 6298 §2. Every answer names its probe, so there is no ambiguity to be afraid of."""
        if self.rtt_s is None:
            self.rtt_s = rtt
            self._rtt_var = rtt / 2
        else:
            self._rtt_var += (abs(self.rtt_s - rtt) - self._rtt_var) / 4
            self.rtt_s += (rtt - self.rtt_s) / 8
        timeout = self.rtt_s + 4 * self._rtt_var
        self.timeout_s = min(max(timeout, self.settings.timeout_min_ms / 1000), self.settings.timeout_max_ms / 1000)


def options_template(backend: Backend, local: Address, token: str, agent: str) -> tuple[bytes, bytes, bytes]:
    """An OPTIONS request (RFC 3261 §11) in three parts: a probe's number goes between them, in Via and in CSeq."""
    here = bracketed(local[0])
    port_here = local[1] or 5060  # a TCP flow has no port before it is connected, and is answered on itself
    there = f"sip:{host_port(backend.address)}"
    if backend.transport == "tcp":
        there += ";transport=tcp"
    head = (
        f"OPTIONS {there} SIP/2.0\r\n"
        f"Via: SIP/2.0/{backend.transport.upper()} {here}:{port_here};rport;branch=z9hG4bKprobe{token}-"
    )
    middle = (
        "\r\nMax-Forwards: 70\r\n"
        f"From: <sip:{agent}@{here}>;tag={token}\r\n"
        f"To: <{there}>\r\n"
        f"Call-ID: {token}@{here}\r\n"
        "CSeq: "
    )
    tail = (
        " OPTIONS\r\n"
        f"Contact: <sip:{agent}@{here}:{port_here};transport={backend.transport}>\r\n"
        "Accept: application/sdp\r\n"
        f"User-Agent: {agent}\r\n"
        "Content-Length: 0\r\n\r\n"
    )
    return head.encode(), middle.encode(), tail.encode()
