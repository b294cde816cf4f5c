"""Who takes part in a failover besides the proxy: two backends and the callers, of one kind each.

SIPp plays both sides without RTP. The reference backend and real Asterisk get phones with RTP instead: half of them
talk to an echo, half listen to a tone, and a packet counts as heard when the sound is in it.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from bench.common import on_cpu
from bench.load import HOLD_CPS
from bench.peers import AGENTS, LOAD_CPU, UAC, UAS, UAS_BACKUP, Server, ask_node
from proxy.demo.tones import Ear, frame
from tests.testbed.asterisk import pair
from tests.testbed.phone import Call, Heard, Phones
from tests.testbed.process import Process
from tests.testbed.sip_ping import Address, wait_for_options
from tests.testbed.sipp import Sipp

PACKET_S = 0.02
AGENTS_UP_S = 10.0


@dataclass(frozen=True)
class Outcome:
    """What the callers say afterwards."""

    ended_well: int  # calls that their caller could hang up, answered by the backup
    gaps_ms: tuple[float, ...] = ()  # one per call; none without RTP
    audio_verified: int = 0  # calls that heard at the end what they should hear, from the decoded audio
    retransmissions: int = 0  # of the callers and the backup


class Parties(Protocol):
    def start_backends(self) -> Process:
        """Both are up when it returns; gives the primary."""
        ...

    async def start_callers(self, server: Server) -> None:
        """Every call is answered when it returns."""
        ...

    async def finish(self, struck_at: float) -> Outcome:
        """Let the callers hang up."""
        ...

    async def stop(self) -> None:
        """End the callers, whatever state they are in."""
        ...

    def end_backends(self) -> None:
        """End both backends, whatever state they are in."""
        ...


class SippParties:
    """A call lasts for a fixed time after its answer (`direct`: after the last re-INVITE), long enough to span the
    failover; the caller then hangs up."""

    AFTER_S = 8.0

    def __init__(self, folder: Path, calls: int, mode: str) -> None:
        self._folder, self._calls = folder, calls
        self._lasts_ms = round((calls / HOLD_CPS + self.AFTER_S) * 1000)
        if mode == "anchored":
            self._scenario, self._options = "uac_hold_long", ["-d", str(self._lasts_ms)]
        else:
            self._scenario, self._options = "uac_reinvite_answerer", ["-recv_timeout", str(self._lasts_ms)]
        self._running: list[Sipp] = []

    def _sipp(self, scenario: str, local: Address, options: list[str], server: Server | None = None) -> Sipp:
        with on_cpu(LOAD_CPU):
            sipp = Sipp(
                scenario,
                self._folder,
                local=local,
                remote=server.address if server else None,
                calls=self._calls if server else None,
                rate=HOLD_CPS,
                timeout_s=self._lasts_ms / 1000 * 2 + 40,
                options=[*options, "-buff_size", "4000000"],
                trace_messages=False,
            )
        self._running.append(sipp)
        return sipp

    def start_backends(self) -> Process:
        backends = [self._sipp("uas_answer", address, []) for address in (UAS, UAS_BACKUP)]
        for backend in backends:
            backend.wait_ready()
        self._backup = backends[1]
        return backends[0]

    async def start_callers(self, server: Server) -> None:
        self._callers = self._sipp(self._scenario, UAC, self._options, server)
        await asyncio.sleep(self._calls / HOLD_CPS + 1.5)  # the ramp, and SIPp's report once a second
        figures = self._callers.figures()
        if figures.current != self._calls or figures.failed:
            raise RuntimeError(f"not every call came up: {figures}\n{self._callers.report()}")

    async def finish(self, struck_at: float) -> Outcome:
        callers = await asyncio.to_thread(self._callers.finish)
        await asyncio.sleep(1.5)
        backup = self._backup.figures()
        return Outcome(
            ended_well=min(callers.successful, backup.counters["calls"]),
            retransmissions=callers.retransmissions + backup.retransmissions,
        )

    async def stop(self) -> None:
        for sipp in self._running[2:]:
            sipp.kill()

    def end_backends(self) -> None:
        for sipp in self._running:
            sipp.kill()


class Listened(Heard):
    """What a phone heard, with only those arrivals that carry the sound of the backend."""

    def __init__(self, ear: Ear, hz: int) -> None:
        super().__init__()
        self._ear, self._hz = ear, hz

    def take(self, packet: bytes, now: float) -> None:
        if self._hz in self._ear.hear(packet[12:]):
            super().take(packet, now)


class PhoneParties:
    """Phones with RTP in this process, and two backends of one kind."""

    ECHO_HZ, TONE_HZ = 450, 1000
    tone_user = "tone"
    STARTED_PER_S = 50
    AFTER_S = 2.0

    def __init__(self, folder: Path, calls: int, mode: str) -> None:
        self._folder, self._calls = folder, calls
        self._ear = Ear((self.ECHO_HZ, self.TONE_HZ))
        self._phones = Phones(UAC[0])
        self._entered = False
        self._backends: list[Process] = []

    def _start(self) -> list[Process]:
        raise NotImplementedError

    def start_backends(self) -> Process:
        with on_cpu(LOAD_CPU):
            self._backends = self._start()
        return self._backends[0]

    async def start_callers(self, server: Server) -> None:
        await self._phones.__aenter__()
        self._entered = True
        await asyncio.gather(*(self._call(number, server) for number in range(self._calls)))

    async def _call(self, number: int, server: Server) -> Call:
        await asyncio.sleep(number / self.STARTED_PER_S)
        user, hz = (("echo", self.ECHO_HZ), (self.tone_user, self.TONE_HZ))[number % 2]
        call = await self._phones.call(user, server.address, say=[frame(self.ECHO_HZ)])
        call.heard = Listened(self._ear, hz)
        return call

    async def finish(self, struck_at: float) -> Outcome:
        await asyncio.sleep(self.AFTER_S)
        until = asyncio.get_running_loop().time()
        gaps = [gap_s(call.heard, struck_at, until) for call in self._phones.calls]
        talking = [call for call in self._phones.calls if not call.ended.done() and speaks(call.heard, until)]
        statuses = await asyncio.gather(*(call.bye() for call in talking), return_exceptions=True)
        ended_well = sum(status == 200 for status in statuses)
        return Outcome(ended_well, tuple(gap * 1000 for gap in gaps), len(talking))

    async def stop(self) -> None:
        if self._entered:
            await self._phones.__aexit__(None, None, None)

    def end_backends(self) -> None:
        for backend in self._backends:
            backend.kill()


class PairParties:
    """Customers and agents whom the primary connects to each other, and what each hears of the other. Both are phones
    in this process; `calls` counts both. The reference backend is called by both; Asterisk dials the agents through
    the proxy."""

    CUSTOMER_HZ, AGENT_HZ = 450, 650

    def __init__(self, backends: PhoneParties, calls: int) -> None:
        self._backends, self._pairs = backends, calls // 2
        self._ear = Ear((self.CUSTOMER_HZ, self.AGENT_HZ))
        self._agents = Phones(AGENTS[0], AGENTS[1], [frame(self.AGENT_HZ)])
        self._customers = Phones(UAC[0])
        self._entered: list[Phones] = []

    def start_backends(self) -> Process:
        return self._backends.start_backends()

    async def start_callers(self, server: Server) -> None:
        for phones in (self._agents, self._customers):
            await phones.__aenter__()
            self._entered.append(phones)
        deadline = asyncio.get_running_loop().time() + AGENTS_UP_S
        while any(row["verdict"] != "up" for row in await ask_node(server, "backends")):
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError("the agents' phones are not up for the proxy")
            await asyncio.sleep(0.05)
        await asyncio.gather(*(self._pair(number, server) for number in range(self._pairs)))
        for phones, hz in ((self._customers, self.AGENT_HZ), (self._agents, self.CUSTOMER_HZ)):
            for call in phones.calls:
                call.heard = Listened(self._ear, hz)
        if len(self._agents.calls) != self._pairs:
            raise RuntimeError(f"{len(self._agents.calls)} agents for {self._pairs} customers")

    async def _pair(self, number: int, server: Server) -> None:
        await asyncio.sleep(number / PhoneParties.STARTED_PER_S)
        says = [frame(self.CUSTOMER_HZ)]
        if isinstance(self._backends, AsteriskParties):
            await self._customers.call(f"agent-{number}", server.address, say=says)
        else:
            await self._customers.call(f"pair-{number}", server.address, say=says)
            await self._agents.call(f"pair-{number}", server.address, say=[frame(self.AGENT_HZ)])

    async def finish(self, struck_at: float) -> Outcome:
        await asyncio.sleep(PhoneParties.AFTER_S)
        until = asyncio.get_running_loop().time()
        calls = [*self._customers.calls, *self._agents.calls]
        gaps = [gap_s(call.heard, struck_at, until) * 1000 for call in calls]
        talking = [call for call in calls if not call.ended.done() and speaks(call.heard, until)]
        statuses = await asyncio.gather(*(call.bye() for call in talking), return_exceptions=True)
        ended_well = sum(status in (200, 481) for status in statuses)  # 481: the other one's BYE has ended it already
        return Outcome(ended_well, tuple(gaps), len(talking))

    async def stop(self) -> None:
        for phones in self._entered:
            await phones.__aexit__(None, None, None)

    def end_backends(self) -> None:
        self._backends.end_backends()


def gap_s(heard: Heard, struck_at: float, until: float) -> float:
    """The longest time without a packet from the fault on, less one packet interval. The last packet before the
    fault begins it; a call that is silent at the end is silent until then."""
    first = max((at for at in heard.arrivals if at <= struck_at), default=struck_at)
    times = [first, *(at for at in heard.arrivals if struck_at < at < until), until]
    return max(0.0, max(later - earlier for earlier, later in itertools.pairwise(times)) - PACKET_S)


def speaks(heard: Heard, now: float) -> bool:
    return bool(heard.arrivals) and now - heard.arrivals[-1] < 0.2


def is_running(process: Process) -> bool:
    return process.running


class AsteriskParties(PhoneParties):
    tone_user = "milliwatt"

    def _start(self) -> list[Process]:
        return list(pair(self._folder, (UAS[0], UAS_BACKUP[0])))


class ReferenceParties(PhoneParties):
    def _start(self) -> list[Process]:
        backends: list[Process] = []
        for host, port in (UAS, UAS_BACKUP):
            command = [sys.executable, "-m", "proxy.demo.backend", "--address", f"{host}:{port}"]
            command += ["--tone-hz", str(self.TONE_HZ)]
            backends.append(Process(command, self._folder / f"{host}.log"))
        for backend, address in zip(backends, (UAS, UAS_BACKUP), strict=True):
            wait_for_options(address, timeout_s=15.0, alive=partial(is_running, backend))
        return backends


PARTIES: dict[str, Callable[[Path, int, str], Parties]] = {
    "reference": ReferenceParties,
    "sipp": SippParties,
    "asterisk": AsteriskParties,
}


def parties_of(backend: str, folder: Path, calls: int, mode: str, *, pairs: bool) -> Parties:
    """Who takes part. Raises ValueError where there are no such."""
    parties = PARTIES[backend](folder, calls, mode)
    if not pairs:
        return parties
    if not isinstance(parties, PhoneParties):
        raise ValueError(f"{backend} connects nobody to anybody")
    return PairParties(parties, calls)
