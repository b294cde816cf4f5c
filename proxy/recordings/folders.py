"""Where the files of backends are for us: shared folders, perhaps mounted elsewhere here.

A path that a backend tells is believed only as far as it stays in a folder of the configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from proxy.config import Folder
from proxy.recordings.kinds import SUFFIXES


class Folders:
    def __init__(self, folders: Sequence[Folder]) -> None:
        self._folders = folders

    def find(self, told: str, backend: str) -> Path | None:
        """What a backend calls `told`; without a folder it is in the first one, without a suffix the file that is
        there. None: it is in none of them."""
        path = PurePosixPath(told)
        if ".." in path.parts or not path.name:
            return None
        for folder in self._folders:
            here = Path(folder.here.replace("{backend}", backend))
            if not path.is_absolute():
                return _there(here / path)
            if path.is_relative_to(folder.there):
                return _there(here / path.relative_to(folder.there))
        return None


def _there(file: Path) -> Path:
    if file.suffix.lower() in SUFFIXES:
        return file
    for suffix in SUFFIXES:
        candidate = file.with_name(file.name + suffix)
        if candidate.exists():
            return candidate
    return file.with_name(f"{file.name}.wav")
