"""The segments of a recording as one wav file, with silence where nobody has the sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from proxy.recordings import files
from proxy.recordings.disk import write
from proxy.recordings.files import RATE_HZ, AudioFileError, Samples
from proxy.recordings.manifest import load


def joined(manifest: Path) -> Samples:
    """Raises ManifestError, AudioFileError, OSError."""
    parts: list[Samples] = []
    for segment in load(manifest).segments:
        if segment.gap_before_ms:
            parts.append(np.zeros(round(segment.gap_before_ms * RATE_HZ / 1000), dtype=np.int16))
        if segment.state == "lost":
            continue
        file = manifest.parent / segment.file
        if not file.resolve().is_relative_to(manifest.parent.resolve()):
            raise AudioFileError(f"{manifest}: {segment.file} is elsewhere")
        samples = files.read(file)
        parts.append(samples[segment.from_sample :])
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int16)


def join(manifest: Path, target: Path) -> float:
    """Seconds that the file has. Raises ManifestError, AudioFileError, OSError."""
    samples = joined(manifest)
    data = samples.astype("<i2").tobytes()
    write(target, files.wav_header(len(data)) + data)
    return len(samples) / RATE_HZ
