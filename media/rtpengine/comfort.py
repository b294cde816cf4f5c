"""What a listener is played while nothing comes from the other side: a second of low noise, over and over.

rtpengine turns it into the codec of the leg. It is a wav file (16 bit, 8 kHz), sent along with the command, so that no
file need be put on the nodes.
"""

from __future__ import annotations

import io
import random
import wave
from functools import cache

RATE = 8000
AMPLITUDE = 40  # of 32767: about -63 dB of full scale, a quiet room
REPEAT = 3600  # seconds


@cache
def noise() -> bytes:
    """The same in every process, as a prompt would be."""
    rng = random.Random(1)
    samples = b"".join(rng.randint(-AMPLITUDE, AMPLITUDE).to_bytes(2, "little", signed=True) for _ in range(RATE))
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(RATE)
        wav.writeframes(samples)
    return file.getvalue()
