"""What a listener hears while nobody speaks: low noise, or a recorded prompt, in G.711.

Encoded once, when the relay starts; then any piece of it is a slice. Comfort noise as packets of its own (RFC 3389) is
one byte, for those who can make the noise themselves.
"""

from __future__ import annotations

import random
import wave
from collections.abc import Iterable
from pathlib import Path

from media.rtp import laws
from media.rtp.formats import CLOCK_HZ, G711

LEVEL_DBOV = -65  # like a quiet line
NOISE = bytes([-LEVEL_DBOV])  # RFC 3389 §3.1: the payload of a packet of noise without a spectrum
_SAMPLES = 4000  # of noise, repeated


class Sound:
    """Repeated without end."""

    def __init__(self, samples: Iterable[int]) -> None:
        values = list(samples)
        self._codes = {law: laws.encode(law, values) for law in G711}
        self._length = len(values)

    def piece(self, law: str, start: int, length: int) -> bytes:
        codes = self._codes[law]
        at = start % self._length
        piece = codes[at : at + length]
        while len(piece) < length:
            piece += codes[: length - len(piece)]
        return piece


def noise() -> Sound:
    rng = random.Random(3389)  # the same noise in each process: there is nothing to guess in it
    deviation = 32768 * 10 ** (LEVEL_DBOV / 20)
    return Sound(round(rng.gauss(0.0, deviation)) for _ in range(_SAMPLES))


def prompt(file: Path) -> Sound:
    """Raises ValueError when the file is not what can be played, and says why."""
    try:
        with wave.open(str(file)) as source:
            if (source.getframerate(), source.getnchannels(), source.getsampwidth()) != (CLOCK_HZ, 1, 2):
                raise ValueError(f"prompt {file}: must be 8 kHz, mono, 16 bits")
            frames = source.readframes(source.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise ValueError(f"prompt {file}: {error}") from error
    if not frames:
        raise ValueError(f"prompt {file}: is empty")
    return Sound(int.from_bytes(frames[at : at + 2], "little", signed=True) for at in range(0, len(frames), 2))
