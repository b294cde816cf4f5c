"""The process that repairs: `python -m proxy.recordings.worker`, one job on stdin, its result on stdout, msgpack both.

Numpy and seconds of audio of a whole conference are no business of the signalling process; and whatever a broken file
does to this one, calls go on. It is nice: nobody waits for it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import asdict
from typing import Any

import msgpack

from proxy.recordings.job import Job, Repaired, RepairFailed, Voice

TIMEOUT_S = 60.0
NICENESS = 10


async def repair(job: Job, timeout_s: float = TIMEOUT_S) -> Repaired:
    """Raises RepairFailed."""
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy.recordings.worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        raise RepairFailed(f"{job.file}: no process for it: {error}") from error
    try:
        async with asyncio.timeout(timeout_s):
            said, problem = await process.communicate(msgpack.packb(asdict(job)))
    except TimeoutError:
        raise RepairFailed(f"{job.file}: not done within {timeout_s:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = problem.decode(errors="replace").splitlines()
        raise RepairFailed(lines[-1] if lines else f"{job.file}: the process ended with {process.returncode}")
    return Repaired(**msgpack.unpackb(said))


def main() -> None:
    os.nice(NICENESS)
    from proxy.recordings.files import AudioFileError  # what loads numpy is for this process alone
    from proxy.recordings.repair import repair as work

    state: dict[str, Any] = msgpack.unpackb(sys.stdin.buffer.read(), use_list=False)
    job = Job(**{**state, "voices": [Voice(**voice) for voice in state["voices"]]})
    try:
        done = work(job)
    except (AudioFileError, OSError) as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(msgpack.packb(asdict(done)))


if __name__ == "__main__":
    main()
