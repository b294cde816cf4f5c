"""What blocks is done beside the event loop, and nobody waits for it at the end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from proxy.aside import aside


def test_it_gives_or_raises_what_the_work_does() -> None:
    assert asyncio.run(aside(lambda: threading.current_thread().name)) == "aside"
    with pytest.raises(FileNotFoundError):
        asyncio.run(aside(lambda: Path("/nowhere/x").read_text()))


def test_the_loop_goes_on_meanwhile_and_who_waits_no_longer_is_not_told() -> None:
    goes_on = threading.Event()

    async def main() -> None:
        task = asyncio.create_task(aside(goes_on.wait))
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        goes_on.set()
        await asyncio.sleep(0.05)

    asyncio.run(main(), debug=True)


def test_what_does_not_end_keeps_no_process_from_ending(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "nobody-writes")
    program = (
        "import asyncio, sys\nfrom proxy.aside import aside\n"
        "asyncio.run(asyncio.wait_for(aside(lambda: open(sys.argv[1]).read()), 0.2))"
    )
    argv = [sys.executable, "-c", program, str(tmp_path / "nobody-writes")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=10.0, check=False)
    assert done.returncode == 1 and "TimeoutError" in done.stderr
