"""The command as it was installed, from anywhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("aqueduct")


@pytest.mark.skipif(not COMMAND.exists(), reason="the project is not installed in this environment")
def test_it_starts_in_any_folder(tmp_path: Path) -> None:
    done = subprocess.run([COMMAND, "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("aqueduct ")
