"""Where the files of backends are for us: shared folders, perhaps mounted elsewhere here.

A path that a backend tells is believed only as far as it stays in a folder of the configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from glob import escape
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

    def find_unnamed(self, recording: str, conference: str, number: int, backend: str) -> Path | None:
        """The file of a conference's recording whose backend does not tell its name: that of the recording, as the
        dialplans that are supplied have it, or what Asterisk calls it by itself. None: there is none yet."""
        name = segment_name(recording, number)
        for folder in self._folders:
            here = Path(folder.here.replace("{backend}", backend))
            for suffix in SUFFIXES:
                if (here / f"{name}{suffix}").exists():
                    return here / f"{name}{suffix}"
            own = [each for each in here.glob(f"confbridge-{escape(conference)}-*") if each.suffix in SUFFIXES]
            if own:
                return max(own, key=lambda each: each.stat().st_mtime)
        return None

    def expected(self, recording: str, number: int, backend: str) -> Path:
        """Where it will be, as far as can be said."""
        return Path(self._folders[0].here.replace("{backend}", backend)) / f"{segment_name(recording, number)}.wav"


def segment_name(recording: str, number: int) -> str:
    """What the file of a segment is called, without its suffix."""
    return f"{recording}.{number}" if number > 1 else recording


def _there(file: Path) -> Path:
    if file.suffix.lower() in SUFFIXES:
        return file
    for suffix in SUFFIXES:
        candidate = file.with_name(file.name + suffix)
        if candidate.exists():
            return candidate
    return file.with_name(f"{file.name}.wav")
