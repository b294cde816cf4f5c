"""Tones as G.711 frames, and an ear that names the tones in a frame.

All tones are whole multiples of 50 Hz: a 20 ms frame then holds whole periods, every frame of a tone is the same, and
tones are orthogonal over a frame. So a tone is one frame to send over and over, and what an ear made of a payload
once, it can look up the next time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from media.rtp.g711 import PACKET_SAMPLES, PCMA, PCMU, SAMPLE_RATE, decode, encode
from media.rtp.sound import level, tone

STEP_HZ = 50
PRESENT = 0.1  # share of the power from which a tone counts as heard; noise has about 1/80 at each
LEVEL_MIN = 100.0  # what is quieter is silence
REMEMBERED_MAX = 8192

SILENCE: Mapping[int, bytes] = {kind: encode(np.zeros(PACKET_SAMPLES, np.int16), kind) for kind in (PCMU, PCMA)}


def frame(hz: int, payload_type: int = PCMU, amplitude: int = 8000) -> bytes:
    """20 ms of a tone; repeated, it has no click."""
    if hz % STEP_HZ or not 0 < hz < SAMPLE_RATE // 2:
        raise ValueError(f"a tone must be a multiple of {STEP_HZ} Hz below {SAMPLE_RATE // 2}, not {hz}")
    return encode(tone(hz, PACKET_SAMPLES, amplitude), payload_type)


class Ear:
    """Knows some tones, and says which of them are in a frame."""

    def __init__(self, tones: Iterable[int]) -> None:
        self.tones = tuple(sorted(set(tones)))
        angles = 2j * np.pi / SAMPLE_RATE * np.outer(self.tones, np.arange(PACKET_SAMPLES))
        self._turns = np.exp(-angles)
        self._known: dict[tuple[int, bytes], frozenset[int]] = {}

    def hear(self, payload: bytes, payload_type: int = PCMU) -> frozenset[int]:
        """Empty for silence, for noise, and for what is not 20 ms of G.711."""
        key = (payload_type, payload)
        heard = self._known.get(key)
        if heard is None:
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            heard = self._known[key] = self._listen(payload, payload_type)
        return heard

    def _listen(self, payload: bytes, payload_type: int) -> frozenset[int]:
        if len(payload) != PACKET_SAMPLES or payload_type not in SILENCE:
            return frozenset()
        samples = decode(payload, payload_type)
        if level(samples) < LEVEL_MIN:
            return frozenset()
        values = samples.astype(np.float64)
        # One term of the DFT for each tone, as a share of all power (Parseval).
        shares = 2 * np.abs(self._turns @ values) ** 2 / (PACKET_SAMPLES * float(values @ values))
        return frozenset(hz for hz, share in zip(self.tones, shares, strict=True) if share >= PRESENT)
