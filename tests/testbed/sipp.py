"""SIPp as a child process: one scenario, its figures read back from the statistics file.

The scenarios are in `sipp-scenarios/`. A UAS scenario answers OPTIONS as a call of its own (SIPp as a server takes
every new Call-ID for a new call), so its `successful` counts probes too; the real calls are in its counter `calls`.
"""

from __future__ import annotations

import csv
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.testbed.process import Process
from tests.testbed.sip_ping import Address, free_port, wait_for_connection, wait_for_options

SCENARIOS = Path(__file__).resolve().parents[2] / "sipp-scenarios"


@dataclass(frozen=True)
class SippFigures:
    """Cumulative figures of one SIPp process."""

    current: int
    created: int
    successful: int
    failed: int
    unexpected: int  # calls failed by a message that the scenario did not wait for
    retransmissions: int
    out_of_call: int  # messages of calls that this SIPp never had
    after_end: int  # messages of calls that had ended
    counters: dict[str, int]  # `counter="…"` of the scenario

    @classmethod
    def from_row(cls, row: dict[str, str]) -> SippFigures:
        def count(*names: str) -> int:
            return sum(int(row[name]) for name in names)

        standard_end = list(row).index("WatchdogMinor(C)") + 1 if "WatchdogMinor(C)" in row else len(row)
        return cls(
            current=count("CurrentCall"),
            created=count("TotalCallCreated"),
            successful=count("SuccessfulCall(C)"),
            failed=count("FailedCall(C)"),
            unexpected=count("FailedUnexpectedMessage(C)"),
            retransmissions=count("Retransmissions(C)"),
            out_of_call=count("OutOfCallMsgs(C)"),
            after_end=count("DeadCallMsgs(C)"),
            counters={
                name.removesuffix("(C)"): int(value)
                for name, value in list(row.items())[standard_end:]
                if name.endswith("(C)") and value.isdigit()
            },
        )


class Sipp(Process):
    """A running SIPp. With `remote` it calls (`calls` times at `rate` a second), without it answers for ever."""

    def __init__(
        self,
        scenario: str | Path,
        folder: Path,
        *,
        local: Address,
        remote: Address | None = None,
        calls: int | None = None,
        rate: float = 10.0,
        transport: str = "u1",
        timeout_s: float = 60.0,
        options: Sequence[str] = (),
        trace_messages: bool = True,
    ) -> None:
        path = SCENARIOS / f"{scenario}.xml" if isinstance(scenario, str) else scenario
        self.local = local if local[1] else (local[0], free_port(local[0]))
        self.transport = transport
        self.timeout_s = timeout_s
        host, port = self.local
        self.name = f"{path.stem}_{host}_{port}"
        self.statistics = folder / f"{self.name}.csv"
        self.errors = folder / f"{self.name}.errors"
        self.messages = folder / f"{self.name}.messages"
        argv: list[str | Path] = ["sipp", "-sf", path, "-t", transport, "-nostdin", "-bind_local"]
        argv += ["-i", host, "-p", str(port), "-mi", host, "-ci", host, "-cp", str(free_port(host))]
        argv += ["-trace_stat", "-stf", self.statistics, "-fd", "1", "-trace_err", "-error_file", self.errors]
        if trace_messages:
            argv += ["-trace_msg", "-message_file", self.messages]
        if remote is not None:
            argv += [f"{remote[0]}:{remote[1]}", "-r", f"{rate:g}"]
            argv += ["-timeout", f"{timeout_s:g}s", "-timeout_error"]
            argv += ["-l", str(max(calls or 0, 1000))]  # else SIPp holds calls back at 3 × rate × duration
        if calls is not None:
            argv += ["-m", str(calls)]
        super().__init__([*argv, *options], folder / f"{self.name}.log", cwd=folder)

    def wait_ready(self) -> None:
        """Until this UAS answers OPTIONS; over TCP takes connections, for SIPp fails a call whose connection closes."""
        wait = wait_for_connection if self.transport.startswith("t") else wait_for_options
        try:
            wait(self.local, timeout_s=5.0, alive=lambda: self.running)
        except TimeoutError as error:
            raise RuntimeError(f"SIPp does not answer:\n{self.report()}") from error

    def figures(self) -> SippFigures:
        """The figures as of the last report (once a second, and at the end)."""
        with open(self.statistics, newline="") as file:
            rows = [row for row in csv.reader(file, delimiter=";") if row]
        return SippFigures.from_row(dict(zip(rows[0], rows[-1], strict=False)))

    def finish(self) -> SippFigures:
        """Wait for a caller's last call and give its figures; RuntimeError when SIPp hangs or could not run at all."""
        try:
            code = self.wait(self.timeout_s + 10.0)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"SIPp hangs:\n{self.report()}") from None
        if code not in (0, 1):  # 1: calls failed, which the figures say better
            raise RuntimeError(f"SIPp ended with exit code {code}:\n{self.report()}")
        return self.figures()

    def stop(self, timeout_s: float = 2.0) -> int:
        """End an answering SIPp softly (SIGUSR1: it writes its last figures), and by force what does not listen."""
        self.thaw()
        self.signal(signal.SIGUSR1)
        try:
            return self.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return super().stop(timeout_s)

    def report(self) -> str:
        """What SIPp complained of, for the text of a failed assertion."""
        errors = self.errors.read_text(errors="replace")[:6000] if self.errors.exists() else ""
        return f"{self.name}: {errors or self.log_tail(1500)}"
