"""G.711 µ-law tones to send, and how much of a frequency is in what was heard (ITU-T G.711, Goertzel)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RATE_HZ = 8000
FRAME_S = 0.02
FRAME_SAMPLES = 160
SILENCE = b"\xff" * FRAME_SAMPLES


def _decode_table() -> npt.NDArray[np.int32]:
    code = ~np.arange(256) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84) << ((code >> 4) & 7)
    return np.where(code & 0x80, 0x84 - magnitude, magnitude - 0x84).astype(np.int32)


_DECODE = _decode_table()
# Encoding is a look-up of the nearest decoded value; both zeros decode to 0, the positive one (0xFF) is the usual.
_ORDER = np.argsort(_DECODE, kind="stable")
_SORTED = _DECODE[_ORDER]


def decode(ulaw: bytes) -> npt.NDArray[np.int32]:
    return _DECODE[np.frombuffer(ulaw, np.uint8)]


def encode(samples: npt.NDArray[np.float64]) -> bytes:
    above = np.clip(np.searchsorted(_SORTED, samples), 1, 255)
    nearer_below = samples - _SORTED[above - 1] < _SORTED[above] - samples
    return _ORDER[np.where(nearer_below, above - 1, above)].astype(np.uint8).tobytes()


def tone(hz: float, amplitude: float = 8000.0) -> list[bytes]:
    """One second of a tone as 20 ms frames; repeated without a click when `hz` is whole."""
    samples = amplitude * np.sin(2 * np.pi * hz * np.arange(RATE_HZ) / RATE_HZ)
    encoded = encode(samples)
    return [encoded[at : at + FRAME_SAMPLES] for at in range(0, RATE_HZ, FRAME_SAMPLES)]


def share_of(hz: float, ulaw: bytes) -> float:
    """The share (0 to 1) of the power that is at `hz`; 0 for silence."""
    samples = decode(ulaw).astype(np.float64)
    power = float(np.sum(samples * samples))
    if power < len(samples):
        return 0.0
    turns = np.exp(-2j * np.pi * hz * np.arange(len(samples)) / RATE_HZ)
    return float(2 * abs(np.dot(samples, turns)) ** 2 / len(samples) / power)
