"""Many people with a voice each, and who it is that somebody hears: told apart by their tones.

All tones are whole multiples of 25 Hz, so two packets (40 ms) hold whole periods of each and one Fourier transform
names all that are in them. What is in no voice is a stranger: a prompt, a beep, music.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tests.testbed.audio import FRAME_S, RATE_HZ, decode, tone
from tests.testbed.phone import Heard

STEP_HZ = 25
FIRST_HZ, LAST_HZ = 400, 3500
WINDOW = RATE_HZ // STEP_HZ
AMPLITUDE = 1200.0  # a dozen together do not clip
HEARD = AMPLITUDE / 3
STRANGER_RMS = 250.0  # comfort noise has less, any prompt several times as much
STRANGER_WINDOWS = 4  # 160 ms of it: a cut in a tone rings for one


class Voices:
    def __init__(self) -> None:
        self._free = iter(range(FIRST_HZ, LAST_HZ + 1, STEP_HZ))
        self.all: list[int] = []

    def new(self) -> int:
        """A tone that nobody else has. Raises StopIteration when all are taken."""
        self.all.append(next(self._free))
        return self.all[-1]


def frames(hz: int) -> list[bytes]:
    return tone(hz, AMPLITUDE)[:2]


@dataclass
class Listener(Heard):
    """Keeps every packet with the time when it came."""

    times: list[float] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)

    def take(self, packet: bytes, now: float) -> None:
        before = len(self.arrivals)
        super().take(packet, now)
        if len(self.arrivals) > before and len(packet) == 12 + WINDOW // 2:
            self.times.append(now)
            self.payloads.append(packet[12:])

    def windows(self, since: float, until: float) -> npt.NDArray[np.float64]:
        """Amplitude by window and multiple of 25 Hz."""
        heard = self.payloads[bisect_left(self.times, since) : bisect_left(self.times, until)]
        samples = decode(b"".join(heard[: len(heard) // 2 * 2])).astype(np.float64)
        if not len(samples):
            return np.zeros((0, WINDOW // 2 + 1))
        return np.abs(np.fft.rfft(samples.reshape(-1, WINDOW), axis=1)) * 2 / WINDOW

    def hears(self, since: float, until: float) -> frozenset[int]:
        """The tones that were there in most of that time."""
        windows = self.windows(since, until)
        if not len(windows):
            return frozenset()
        usual = np.median(windows, axis=0)
        return frozenset(int(place) * STEP_HZ for place in np.flatnonzero(usual > HEARD) if place)

    def silent_s(self, since: float, until: float) -> float:
        """The longest time without a packet in which somebody speaks."""
        places = range(bisect_left(self.times, since), bisect_left(self.times, until))
        loud = [self.times[place] for place in places if _rms(self.payloads[place]) > STRANGER_RMS]
        times = [since, *loud, until]
        return max(0.0, max(later - earlier for earlier, later in pairwise(times)) - FRAME_S)

    def stranger(self, since: float, until: float, voices: Voices) -> float | None:
        """When somebody was heard first who is none of them."""
        windows = self.windows(since, until)
        windows[:, [0, 1, *(hz // STEP_HZ for hz in voices.all)]] = 0.0
        loud = np.sqrt(np.sum(windows**2, axis=1) / 2) > STRANGER_RMS
        run = 0
        for place, each in enumerate(loud):
            run = run + 1 if each else 0
            if run == STRANGER_WINDOWS:
                return self.times[bisect_left(self.times, since) + 2 * (place - STRANGER_WINDOWS + 1)]
        return None


def _rms(payload: bytes) -> float:
    return float(np.sqrt(np.mean(np.square(decode(payload), dtype=np.float64))))
