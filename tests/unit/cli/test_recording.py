"""`aqueduct recording join`: one file out of many, or one line that says why not."""

from __future__ import annotations

import subprocess
import sys
import wave
from pathlib import Path

import numpy as np

from proxy.recordings import files
from proxy.recordings.manifest import Manifest, Segment


def join(*arguments: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "proxy.cli", "recording", "join", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_segments_become_one_file(tmp_path: Path) -> None:
    segments = []
    for number in (1, 2):
        samples = np.full(4000, number, dtype="<i2")
        (tmp_path / f"room.{number}.wav").write_bytes(files.wav_header(0) + samples.tobytes())
        segments.append(Segment(number, f"room.{number}.wav", "backend", f"as{number}", "", state="whole"))
    Manifest("room", "pbx", "7001", ["c1"], segments=segments).save(tmp_path / "room.json")
    done = join(tmp_path / "room.json", tmp_path / "all.wav")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'all.wav'}: 1.0 s\n")
    with wave.open(str(tmp_path / "all.wav")) as target:
        assert target.readframes(8000) == b"\1\0" * 4000 + b"\2\0" * 4000


def test_what_is_no_manifest_is_told_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "room.json"
    file.write_text("{}")
    done = join(file, tmp_path / "all.wav")
    assert done.returncode == 1
    assert done.stderr.startswith(f"{file}: not the manifest of a recording")
    assert not (tmp_path / "all.wav").exists()
    done = join(tmp_path / "nothing.json", tmp_path / "all.wav")
    assert done.returncode == 1
    assert "No such file" in done.stderr
