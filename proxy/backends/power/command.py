"""A command of this machine: run without a shell, with few variables, within a time, and the end of what it says kept.

What it says goes to a file without a name, not to a pipe: a daemon that a command leaves behind may hold on to it, and
neither makes us wait nor dies of our having closed it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

OUTPUT_BYTES = 2000  # of the end of what it says
_INHERITED = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR")


class CommandError(Exception):
    """It could not be run, or took too long."""


@dataclass(frozen=True, slots=True)
class Done:
    code: int  # negative: the signal that ended it
    output: str

    @property
    def last_line(self) -> str:
        return self.output.rpartition("\n")[2]


async def run(
    argv: Sequence[str], environment: Mapping[str, str], timeout_s: float, output_bytes: int = OUTPUT_BYTES
) -> Done:
    """Raises CommandError. One that takes too long, or is not waited for any more, is killed with its group."""
    with tempfile.TemporaryFile() as output:
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        try:
            child = await asyncio.create_subprocess_exec(
                *argv, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, env={**inherited, **environment},
                start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise CommandError(f"{argv[0]}: {getattr(error, 'strerror', None) or error}") from None
        try:
            async with asyncio.timeout(timeout_s):
                code = await child.wait()
        except TimeoutError:
            said = _tail(output, output_bytes).rpartition("\n")[2]
            raise CommandError(f"{argv[0]}: not done within {timeout_s:g} s{': ' + said if said else ''}") from None
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
        return Done(code, _tail(output, output_bytes))


def _tail(output: IO[bytes], most: int) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - most))
    return output.read().decode(errors="replace").strip()
