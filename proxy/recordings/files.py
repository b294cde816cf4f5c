"""Audio files as telephony servers write them, in whatever state their writer left them, and whole ones of ours.

8 kHz, one channel: wav with 16-bit samples, or raw G.711 and raw 16-bit samples, told apart by the name.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from media.rtp import g711
from proxy.recordings.kinds import ALAW, LINEAR, MULAW, WAV

RATE_HZ = g711.SAMPLE_RATE
_LAWS = {**dict.fromkeys(MULAW, g711.PCMU), **dict.fromkeys(ALAW, g711.PCMA)}
_RIFF = struct.Struct("<4sI4s")
_CHUNK = struct.Struct("<4sI")
_FORMAT = struct.Struct("<HHIIHH")
_PCM = 1

Samples = g711.Samples
Floats = NDArray[np.float64]


class AudioFileError(Exception):
    """Not a file that can be read here; the text says which and why."""


def read(file: Path) -> Samples:
    """All samples that are there, whatever its header says of their number. Raises AudioFileError, OSError."""
    data, suffix = file.read_bytes(), file.suffix.lower()
    if suffix == WAV:
        return _linear(_wav_data(file, data))
    if suffix in _LAWS:
        return g711.decode(data, _LAWS[suffix])
    if suffix in LINEAR:
        return _linear(data)
    raise AudioFileError(f"{file}: files of kind {suffix or '?'!r} are not known here")


def _linear(data: bytes) -> Samples:
    return np.frombuffer(data[: len(data) & ~1], dtype="<i2").astype(np.int16)


def _wav_data(file: Path, data: bytes) -> bytes:
    """From the data chunk to the end: the writer puts the length there when it closes the file."""
    if not data:
        return b""  # not even the header had left the writer's buffer
    if len(data) < _RIFF.size or data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise AudioFileError(f"{file}: not a wav file")
    at = _RIFF.size
    while at + _CHUNK.size <= len(data):
        name, length = _CHUNK.unpack_from(data, at)
        at += _CHUNK.size
        if name == b"data":
            return data[at:]
        if name == b"fmt ":
            if at + _FORMAT.size > len(data):
                break
            kind, channels, rate, _, _, bits = _FORMAT.unpack_from(data, at)
            if (kind, channels, rate, bits) != (_PCM, 1, RATE_HZ, 16):
                raise AudioFileError(f"{file}: {rate} Hz, {channels} channels, {bits} bits; not 8 kHz, mono, 16 bits")
        at += length + (length & 1)
    raise AudioFileError(f"{file}: a wav file without samples")


def encoded(file: Path, samples: Samples) -> bytes:
    """What a whole file of that name has in it."""
    suffix = file.suffix.lower()
    if suffix in _LAWS:
        return g711.encode(samples, _LAWS[suffix])
    data = samples.astype("<i2").tobytes()
    return wav_header(len(data)) + data if suffix == WAV else data


def wav_header(data_bytes: int) -> bytes:
    head = _FORMAT.pack(_PCM, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
    body = _CHUNK.pack(b"fmt ", len(head)) + head + _CHUNK.pack(b"data", data_bytes)
    return _RIFF.pack(b"RIFF", 4 + len(body) + data_bytes, b"WAVE") + body
