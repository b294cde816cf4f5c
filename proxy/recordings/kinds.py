"""The kinds of audio files that are known here, by the end of their names."""

from __future__ import annotations

WAV = ".wav"
MULAW = (".ulaw", ".ul", ".mu", ".pcm")
ALAW = (".alaw", ".al")
LINEAR = (".sln", ".sln8", ".slin", ".raw")
SUFFIXES = (WAV, *MULAW, *ALAW, *LINEAR)

WAV_HEADER = 44  # bytes, as telephony servers write it


def samples_in(name: str, size: int) -> int:
    """Of a file of that name and size."""
    suffix = name[name.rfind(".") :].lower()
    if suffix in (*MULAW, *ALAW):
        return size
    return max(0, size - (WAV_HEADER if suffix == WAV else 0)) // 2
