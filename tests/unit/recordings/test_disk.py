"""A file is written as a whole, and who may read it stays the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.recordings.disk import write


def test_it_takes_the_place_of_the_one_before_with_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "room.wav"
    file.write_bytes(b"before")
    file.chmod(0o640)
    write(file, b"after")
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"after", 0o640)
    assert list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_written_leaves_all_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "room.wav"
    folder.mkdir()
    with pytest.raises(OSError, match=r"room\.wav"):
        write(folder, b"after")
    assert list(tmp_path.iterdir()) == [folder]
