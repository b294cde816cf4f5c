"""A child process of a test run: it dies with its parent, logs to a file, and can be killed, frozen and thawed.

`setpriv --pdeathsig` (util-linux) rather than a `preexec_fn`: no Python runs between fork and exec, so it is safe in
a process with threads. The kernel sends that signal when the *thread* that started the child ends: start from one
that stays.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self


class Process:
    """One child in a session of its own, started at once. `log` receives its stdout and stderr."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        log: Path,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        self._argv = ["setpriv", "--pdeathsig", "KILL", *map(str, argv)]
        self._cwd = cwd
        self._env = env
        self.start()

    def start(self) -> None:
        """Start it; again, after it has ended."""
        with open(self.log, "ab") as out:
            self._child = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self._cwd,
                env={**os.environ, **(self._env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def signal(self, number: signal.Signals) -> None:
        if self.running:
            self._child.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: no goodbye of any kind."""
        self.signal(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: sockets stay open and fill up, nothing is answered."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def wait(self, timeout_s: float) -> int:
        """The exit code; raises `subprocess.TimeoutExpired` when it runs on."""
        return self._child.wait(timeout_s)

    def stop(self, timeout_s: float = 5.0) -> int:
        """SIGTERM (a frozen process is thawed first), then SIGKILL for what does not listen. The exit code."""
        self.thaw()
        self.signal(signal.SIGTERM)
        try:
            return self.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.wait(5.0)

    def log_tail(self, size: int = 4000) -> str:
        return self.log.read_text(errors="replace")[-size:]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
