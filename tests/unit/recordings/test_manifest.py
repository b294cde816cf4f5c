"""The manifest says what a recording is made of, and its parts make one file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from proxy.recordings import files
from proxy.recordings.files import AudioFileError
from proxy.recordings.join import join
from proxy.recordings.manifest import Manifest, ManifestError, Segment, load, wall_time


def recording(folder: Path, *segments: Segment) -> Path:
    manifest = Manifest("room", "pbx", "7001", ["c1", "c2"], segments=list(segments))
    manifest.save(folder / "room.json")
    return folder / "room.json"


def wav(file: Path, *samples: int) -> None:
    values = np.array(samples, dtype="<i2")
    file.write_bytes(files.wav_header(0) + values.tobytes())


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    segment = Segment(1, "room.wav", "backend", "as1", wall_time(0.5), state="repaired", samples=7, explained=0.99)
    file = recording(tmp_path, segment)
    assert load(file) == Manifest("room", "pbx", "7001", ["c1", "c2"], segments=[segment])
    assert json.loads(file.read_text())["segments"][0]["start"] == "1970-01-01T00:00:00.500+00:00"
    assert [each.name for each in tmp_path.iterdir()] == ["room.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "segments": [{}]}', "\x00"])
def test_what_is_no_manifest_is_refused_and_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "room.json"
    file.write_text(text)
    with pytest.raises(ManifestError, match=r"room\.json"):
        load(file)


def test_segments_are_joined_in_order_with_silence_for_what_nobody_has(tmp_path: Path) -> None:
    wav(tmp_path / "room.wav", 1, 2, 3)
    wav(tmp_path / "room.1-2.wav", 4, 5)
    wav(tmp_path / "room.2.wav", 6)
    file = recording(
        tmp_path,
        Segment(1, "room.wav", "backend", "as1", "", state="repaired", samples=3),
        Segment(1, "room.1-2.wav", "relay", "", "", state="whole", samples=2),
        Segment(2, "room.2.wav", "backend", "as2", "", state="whole", gap_before_ms=0.25),
        Segment(3, "room.3.wav", "backend", "as3", "", state="lost"),
    )
    target = tmp_path / "all.wav"
    assert join(file, target) == 8 / 8000
    assert files.read(target).tolist() == [1, 2, 3, 4, 5, 0, 0, 6]


def test_a_manifest_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    inside = tmp_path / "recordings"
    inside.mkdir()
    wav(tmp_path / "secret.wav", 1)
    file = recording(inside, Segment(1, "../secret.wav", "backend", "as1", "", state="whole"))
    with pytest.raises(AudioFileError, match="is elsewhere"):
        join(file, inside / "all.wav")
