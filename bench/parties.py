"""Who takes part in a failover besides the proxy: two backends and the callers, of one kind each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.common import on_cpu
from bench.load import HOLD_CPS
from bench.peers import LOAD_CPU, UAC, UAS, UAS_BACKUP, Server
from tests.testbed.process import Process
from tests.testbed.sip_ping import Address
from tests.testbed.sipp import Sipp


@dataclass(frozen=True)
class Heard:
    """What the callers say afterwards."""

    ended_well: int  # calls that their caller could hang up, answered by the backup
    gaps_ms: tuple[float, ...]  # one per call; none without RTP
    retransmissions: int  # of the callers and the backup


class Parties(Protocol):
    def start_backends(self) -> Process:
        """Both are up when it returns; gives the primary."""
        ...

    def start_callers(self, server: Server) -> None:
        """Every call is answered when it returns."""
        ...

    def finish(self) -> Heard:
        """Let the callers hang up."""
        ...

    def stop(self) -> None:
        """End every process; may be called at any time."""
        ...


class SippParties:
    """SIPp as both backends and as the callers, without RTP. A call lasts for a fixed time after its answer
    (`direct`: after the last re-INVITE), long enough to span the failover; the caller then hangs up."""

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
        calling = server is not None
        with on_cpu(LOAD_CPU):
            sipp = Sipp(
                scenario,
                self._folder,
                local=local,
                remote=server.address if server else None,
                calls=self._calls if calling else None,
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

    def start_callers(self, server: Server) -> None:
        self._callers = self._sipp(self._scenario, UAC, self._options, server)
        time.sleep(self._calls / HOLD_CPS + 1.5)  # the ramp, and SIPp's report once a second
        figures = self._callers.figures()
        if figures.current != self._calls or figures.failed:
            raise RuntimeError(f"not every call came up: {figures}\n{self._callers.report()}")

    def finish(self) -> Heard:
        callers = self._callers.finish()
        time.sleep(1.5)
        backup = self._backup.figures()
        return Heard(
            ended_well=min(callers.successful, backup.counters["calls"]),
            gaps_ms=(),
            retransmissions=callers.retransmissions + backup.retransmissions,
        )

    def stop(self) -> None:
        for sipp in self._running:
            sipp.kill()


PARTIES: dict[str, Callable[[Path, int, str], Parties]] = {"sipp": SippParties}
