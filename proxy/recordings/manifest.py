"""The manifest of a recording: JSON beside the audio that says which files it is made of, and what is missing.

One recording has one manifest, however many backends wrote it. It is written anew, as a whole, whenever a segment
begins, ends or is repaired. Files are named relative to it, so the folder may be moved.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from proxy.recordings.disk import write

VERSION = 1
BACKEND, RELAY = "backend", "relay"


class ManifestError(Exception):
    """Not a manifest; the text says where and why."""


@dataclass(slots=True)
class Segment:
    """One file. `by`: the backend wrote it, or it is what the relay has kept of the time between two of them.

    `from_sample`: what is before that is in the file before, and more of it. `start` and `end` are wall-clock times
    (ISO 8601, UTC). `gap_before_ms` is silence that belongs before it: nobody has those samples. `state`: open, whole,
    cut (its backend died), repaired or lost.
    """

    number: int
    file: str
    by: str
    backend: str
    start: str
    end: str | None = None
    state: str = "open"
    from_sample: int = 0
    samples: int | None = None
    on_disk_samples: int | None = None  # of a repaired one: from there on it is what the relay has kept
    repaired_ms: float = 0.0
    gap_before_ms: float = 0.0
    voices: int = 0  # who was kept, and how many of them were found in the file by their sound
    voices_found: int = 0
    explained: float | None = None  # share of the sound at the end of the file that they are the reason of
    problem: str = ""


@dataclass(slots=True)
class Manifest:
    recording: str
    pool: str
    conference: str | None
    calls: list[str]
    rate_hz: int = 8000
    segments: list[Segment] = field(default_factory=list)
    version: int = VERSION

    def save(self, file: Path) -> None:
        """Whole or not at all. Raises OSError."""
        write(file, f"{json.dumps(asdict(self), indent=2, ensure_ascii=False)}\n".encode())


def load(file: Path) -> Manifest:
    """Raises ManifestError, OSError."""
    try:
        state: Any = json.loads(file.read_text(encoding="utf-8"))
        if state["version"] != VERSION:
            raise ManifestError(f"{file}: version {state['version']!r} is not known here")
        segments = [Segment(**_known(Segment, each)) for each in state.pop("segments")]
        return Manifest(segments=segments, **_known(Manifest, state))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{file}: not the manifest of a recording: {error!r}") from error


def _known(kind: type[Any], state: dict[str, Any]) -> dict[str, Any]:
    names = {each.name for each in fields(kind)}
    return {name: value for name, value in state.items() if name in names}


def wall_time(at: float) -> str:
    """`at`: seconds since the epoch."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
