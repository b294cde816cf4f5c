"""Health: a prober and a detector for every backend, one self-check for all, and the news of what they find.

Sets `verdict` and `up_since` of the backends and tells the listeners of every change. It never acts on one.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from media.api import FlowsSilent, MediaEvent, MediaRestarted
from proxy.backends import Backend, Backends, Power, Verdict
from proxy.health.detector import Change
from proxy.health.diagnosis import Diagnosis, Sip
from proxy.health.evidence import Evidence
from proxy.health.flow import TcpFlow, UdpFlow, trouble
from proxy.health.probe import Prober
from proxy.health.selfcheck import BEAT_S, SelfCheck
from proxy.net.api import Network, UdpPort

HOST_PROBE_PORT = 1  # tcpmux: nobody listens there with UDP, so a living kernel refuses
CHANGES_KEPT = 16  # of each backend, for people
HOST_PROBE_APART_S = 1.0  # kernels send one ICMP error a second to a destination

log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class VerdictChanged:
    """What health believes of `backend` since `at`. Times are those of the event loop's clock."""

    backend: Backend
    previous: Verdict  # the same as `verdict` when only the diagnosis has changed
    verdict: Verdict
    diagnosis: Diagnosis | None
    reason: str
    at: float
    last_good_at: float | None  # its last sign of life; None: there was none
    evidence: tuple[Evidence, ...]


Listener = Callable[[VerdictChanged], None]


class Health:
    prober_type: ClassVar[type[Prober]] = Prober
    selfcheck_type: ClassVar[type[SelfCheck]] = SelfCheck

    def __init__(
        self,
        backends: Backends,
        network: Network,
        loop: asyncio.AbstractEventLoop,
        rng: Random,
        local_host: str,
        agent: str = "aqueduct",
    ) -> None:
        """Probes leave from `local_host`; a wildcard address lets the kernel choose."""
        self._network = network
        self._loop = loop
        self._rng = rng
        self._local_host = local_host
        self._agent = agent
        self._listeners: list[Listener] = []
        self._beat: asyncio.TimerHandle | None = None
        self._host_probes: dict[Backend, tuple[float, UdpPort]] = {}
        everybody = list(backends)
        self.selfcheck = self.selfcheck_type(loop.time(), alone=len(everybody) == 1)
        self._probers = {
            backend: self.prober_type(backend, backends.pool_of(backend).settings.health, loop, self.selfcheck, self)
            for backend in everybody
        }
        self._changes: dict[Prober, deque[VerdictChanged]] = {
            prober: deque(maxlen=CHANGES_KEPT) for prober in self._probers.values()
        }
        self._by_name = {backend.name: prober for backend, prober in self._probers.items()}

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` at every change of a verdict or a diagnosis."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Open the flows and probe. Raises OSError when a socket cannot be had."""
        self._on_beat()
        for backend, prober in self._probers.items():
            kind = TcpFlow if backend.transport == "tcp" else UdpFlow
            flow = kind(self._network, self._local(backend), backend.address, prober.on_answer, prober.on_trouble)
            prober.start(flow, self._rng, self._agent)

    def stop(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None
        for prober in self._probers.values():
            prober.stop()
        for _, port in self._host_probes.values():
            port.close()
        self._host_probes.clear()

    def answers(self, backend: Backend, since: float = 0.0) -> bool:
        """Its SIP answers, the last time after `since`, and nothing else has made it down."""
        prober = self._probers[backend]
        return (
            backend.verdict is not Verdict.DOWN
            and prober.detector.signs.sip in (Sip.ANSWERS, Sip.OVERLOADED)
            and (prober.last_good_at or 0.0) > since
        )

    def report_live(self, backend: Backend, ok: bool) -> None:
        """A request of a call was answered by anything at all (`ok`), or by nothing."""
        self.observe(backend, Evidence.LIVE_OK if ok else Evidence.LIVE_TIMEOUT)

    def observe(self, backend: Backend, evidence: Evidence) -> None:
        """The door for evidence from elsewhere: calls, the RTP watch, control sessions, synthetic calls."""
        prober = self._probers[backend]
        now = self._loop.time()
        awake = self.selfcheck.awake(now)
        if evidence is Evidence.ICMP_REFUSED:
            prober.on_trouble(evidence)
            return
        if evidence is Evidence.LIVE_OK:
            prober.last_good_at = now
            self.selfcheck.heard(prober, awake)
        prober.detector.observe(evidence, awake)
        if prober.detector.pending:
            self.judge(prober, awake)
        if evidence is Evidence.CONTROL_CUT:
            prober.look()

    def forgive(self, backend: Backend) -> None:
        """An operator says that it does not flap any more."""
        prober = self._probers[backend]
        awake = self.selfcheck.awake(self._loop.time())
        prober.detector.forgive()
        if prober.detector.pending:
            self.judge(prober, awake)

    def dialog_unknown(self, backend: Backend, dialog: bytes) -> None:
        """It answered 481 in a dialog (named by its Call-ID) that we know to be live."""
        prober = self._probers[backend]
        awake = self.selfcheck.awake(self._loop.time())
        prober.detector.dialog_unknown(dialog, awake)
        if prober.detector.pending:
            self.judge(prober, awake)

    def media(self, event: MediaEvent) -> None:
        """How the streams of a backend flow: the listener of the media plane."""
        if isinstance(event, FlowsSilent):
            prober = self._by_name.get(event.group)
            if prober is not None:
                self._flowed(prober, event)
        elif isinstance(event, MediaRestarted):
            for name, prober in self._by_name.items():  # nothing is known of streams until they flow again
                self._flowed(prober, FlowsSilent(name, 0, 0, 0.0, 0.0, event.at))

    def _flowed(self, prober: Prober, event: FlowsSilent) -> None:
        now = self._loop.time()
        awake = self.selfcheck.awake(now)
        if event.last_packet_at:
            prober.last_good_at = max(prober.last_good_at or 0.0, event.last_packet_at)
        if event.active and not event.silent:
            self.selfcheck.heard(prober, awake)
        others = [other.detector.flows for other in self._probers.values() if other is not prober]
        others = [flows for flows in others if flows.active]
        everywhere = bool(others) and all(flows.silent for flows in others)
        detector = prober.detector
        detector.flowed(event, awake - max(0.0, now - event.at), awake, everywhere)
        if detector.pending:
            prober.look()

    def explain(self, backend: Backend) -> dict[str, Any]:
        """What is known of `backend`, for people."""
        prober = self._probers[backend]
        detector = prober.detector
        return {
            "verdict": str(detector.verdict),
            "diagnosis": detector.diagnosis and str(detector.diagnosis),
            "reason": detector.reason,
            "rtt_ms": None if prober.rtt_s is None else round(prober.rtt_s * 1000, 2),
            "timeout_ms": round(prober.timeout_s * 1000, 1),
            "longest_silence_ms": round(detector.silence.learned * 1000),
            "silence_needed_ms": round(detector.silence.needed * 1000),
            "streams": {"active": detector.flows.active, "silent": detector.flows.silent},
            "rtp_silence_needed_ms": round(detector.joint.needed * 1000),
            "last_good_at": prober.last_good_at,
            "stray": prober.stray,
            "changes": [
                {
                    "at": change.at,
                    "verdict": str(change.verdict),
                    "diagnosis": change.diagnosis and str(change.diagnosis),
                    "reason": change.reason,
                    "evidence": [str(each) for each in change.evidence],
                }
                for change in self._changes[prober]
            ],
            "evidence": {str(kind): count for kind, count in sorted(detector.counts.items())},
        }

    # What the probers ask of us

    def judge(self, prober: Prober, awake: float) -> None:
        change = prober.detector.judge(awake, self._witness_at(prober))
        if change is not None:
            self._announce(prober, change)
        if prober.detector.misses and not prober.detector.signs.host_alive:
            self._ask_host(prober)
        if prober.detector.needs_witness(awake):
            for other in self._probers.values():
                if other is not prober:
                    other.ask()

    def _witness_at(self, prober: Prober) -> float:
        """When somebody else was heard last. Who is switched off cannot be a witness, and is not missed as one."""
        others = (backend for backend, other in self._probers.items() if other is not prober)
        return self.selfcheck.witness_at(prober) if any(b.power is not Power.OFF for b in others) else math.inf

    def _ask_host(self, prober: Prober) -> None:
        """Ask the host's kernel, so that a hung process can be told from a host that is cut off."""
        backend = prober.backend
        now = self._loop.time()
        asked_at, port = self._host_probes.get(backend, (0.0, None))
        if port is not None and now - asked_at < HOST_PROBE_APART_S:
            return
        host = (backend.address[0], HOST_PROBE_PORT)
        if port is None:

            def on_error(error: OSError) -> None:
                if trouble(error) is Evidence.ICMP_REFUSED:
                    self.selfcheck.heard(prober, self.selfcheck.awake(self._loop.time()))
                    self.observe(backend, Evidence.HOST_ALIVE)

            try:
                port = self._network.udp(
                    (self._local(backend), 0), lambda _data, _source: None, remote=host, on_error=on_error
                )
            except OSError:
                return
        self._host_probes[backend] = (now, port)
        port.send(b"\r\n", host)

    def _announce(self, prober: Prober, change: Change) -> None:
        backend = prober.backend
        now = self._loop.time()
        backend.verdict = change.verdict
        if change.previous is Verdict.DOWN and change.verdict is not Verdict.DOWN:
            backend.up_since = now
        event = VerdictChanged(
            backend,
            change.previous,
            change.verdict,
            change.diagnosis,
            change.reason,
            now,
            prober.last_good_at,
            change.evidence,
        )
        before = self._changes[prober][-1].diagnosis if self._changes[prober] else None
        self._changes[prober].append(event)
        named = change.diagnosis is not None or before is not None
        quiet = not named and (
            change.verdict is Verdict.SUSPECT or change.previous in (Verdict.SUSPECT, Verdict.UNKNOWN)
        )
        alarming = change.verdict is Verdict.DOWN and backend.power is not Power.OFF
        log.log(
            logging.WARNING if alarming else logging.DEBUG if quiet else logging.INFO,
            "backend=%s pool=%s verdict=%s diagnosis=%s reason=%r last_good_ms=%s",
            backend.name,
            backend.pool,
            change.verdict,
            change.diagnosis,
            change.reason,
            None if prober.last_good_at is None else round((now - prober.last_good_at) * 1000),
        )
        for listener in self._listeners:
            try:
                listener(event)
            except Exception as error:  # one listener's fault must not blind the others
                self._loop.call_exception_handler(
                    {"message": f"listener {listener!r} failed on {event}", "exception": error}
                )

    def _on_beat(self) -> None:
        now = self._loop.time()
        self.selfcheck.awake(now)
        self._beat = self._loop.call_at(now + BEAT_S, self._on_beat)

    def _local(self, backend: Backend) -> str:
        """Our host for a flow to `backend`: of its family."""
        inet6 = ":" in backend.address[0]
        if inet6 == (":" in self._local_host):
            return self._local_host
        return "::" if inet6 else "0.0.0.0"
