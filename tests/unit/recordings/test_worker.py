"""The process that repairs: it does what is asked, says what it cannot do, and the asking process has no numpy."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.recordings import files
from proxy.recordings.job import Job, RepairFailed, Voice
from proxy.recordings.worker import repair
from tests.unit.recordings.voices import Mixer, Speaker, kept, speech


def test_it_repairs(tmp_path: Path) -> None:
    file = tmp_path / "room.wav"
    speaker = Speaker("c a", speech(1, 12.0), 999.0)
    whole = Mixer(1000.0).record([speaker], 9.0)
    file.write_bytes((files.wav_header(0) + whole.tobytes())[: 4 * 32768])
    job = Job(str(file), 1000.0, 1009.0, 1008.0, [Voice("c a", kept(speaker.packets(), 1009.0), [])])
    done = asyncio.run(repair(job))
    assert (done.found, done.on_disk) == (1, (4 * 32768 - 44) // 2)
    both = min(done.samples, len(whole))
    assert (files.read(file)[:both] == whole[:both]).all()


def test_it_says_what_it_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(RepairFailed, match=r"No such file or directory: '.*nothing\.wav'"):
        asyncio.run(repair(Job(str(tmp_path / "nothing.wav"), 0.0, 1.0, 1.0, [])))
    file = tmp_path / "call.gsm"
    file.touch()
    with pytest.raises(RepairFailed, match=r"call\.gsm: files of kind '\.gsm' are not known here"):
        asyncio.run(repair(Job(str(file), 0.0, 1.0, 1.0, [])))


def test_who_asks_needs_no_numpy() -> None:
    program = "import sys, proxy.recordings.worker; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_it_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    file = tmp_path / "room.wav"
    os.mkfifo(file)  # who reads it waits for a writer
    with pytest.raises(RepairFailed, match=r"room\.wav: not done within 1 s"):
        asyncio.run(repair(Job(str(file), 0.0, 1.0, 1.0, []), timeout_s=1.0))


def test_a_process_that_cannot_be_started_is_a_repair_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(RepairFailed, match=r"room\.wav: no process for it: .*No such file"):
        asyncio.run(repair(Job("room.wav", 0.0, 1.0, 1.0, [])))


def test_a_process_that_is_killed_is_a_repair_that_failed(tmp_path: Path) -> None:
    async def test() -> None:
        file = tmp_path / "room.wav"
        os.mkfifo(file)
        work = asyncio.create_task(repair(Job(str(file), 0.0, 1.0, 1.0, [])))
        descriptor = await asyncio.to_thread(os.open, file, os.O_WRONLY)  # returns when it reads
        (reader,) = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        os.kill(int(reader), signal.SIGKILL)
        with pytest.raises(RepairFailed, match=r"room\.wav: the process ended with -9"):
            await work
        os.close(descriptor)

    asyncio.run(test())
