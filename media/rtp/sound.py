"""Tones, silence, and how much of a sound is a given tone: what callers play, and how they know what they hear."""

from __future__ import annotations

import numpy as np

from media.rtp.g711 import SAMPLE_RATE, Samples


def tone(frequency: float, count: int, amplitude: int = 8000, start: int = 0) -> Samples:
    """`count` samples of a sine. With `start` (samples played so far) pieces join without a click."""
    angle = 2 * np.pi * frequency / SAMPLE_RATE * np.arange(start, start + count)
    return np.asarray(np.rint(amplitude * np.sin(angle)), dtype=np.int16)


def silence(count: int) -> Samples:
    return np.zeros(count, dtype=np.int16)


def level(samples: Samples) -> float:
    """Root mean square, 0-32768."""
    if len(samples) == 0:
        return 0.0
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


def power_share(samples: Samples, frequency: float) -> float:
    """Share of the power that lies at a frequency, 0-1; 0 for silence. One term of the DFT (Goertzel's)."""
    values = samples.astype(np.float64)
    total = float(np.dot(values, values))
    if total == 0.0:
        return 0.0
    angle = 2 * np.pi * frequency / SAMPLE_RATE * np.arange(len(values))
    real, imaginary = float(np.dot(values, np.cos(angle))), float(np.dot(values, np.sin(angle)))
    return min(1.0, 2 * (real * real + imaginary * imaginary) / (len(values) * total))
