"""G.711 µ-law and A-law as table look-ups. Samples are 16-bit linear (numpy int16)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PCMU = 0  # payload types, RFC 3551 §6
PCMA = 8
SAMPLE_RATE = 8000
PACKET_SAMPLES = 160  # 20 ms

Samples = NDArray[np.int16]


def _decode_mulaw() -> Samples:
    code = ~np.arange(256) & 0xFF  # G.711 table 2: all bits are inverted on the wire
    magnitude = (((code & 0x0F) << 3) + 0x84 << ((code >> 4) & 7)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _decode_alaw() -> Samples:
    code = np.arange(256) ^ 0x55  # G.711 table 1: even bits are inverted on the wire
    exponent = (code >> 4) & 7
    mantissa = ((code & 0x0F) << 4) + 8
    magnitude = np.where(exponent == 0, mantissa, (mantissa + 0x100) << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def _encode_table(decoded: Samples) -> NDArray[np.uint8]:
    """For each sample the code whose value is nearest; index is the sample as unsigned 16 bits."""
    order = np.argsort(decoded, kind="stable")
    values = decoded[order].astype(np.int32)
    samples = np.arange(-32768, 32768, dtype=np.int32)
    above = np.searchsorted(values, samples, side="right").clip(1, 255)
    nearest = np.where(samples - values[above - 1] <= values[above] - samples, above - 1, above)
    table = np.empty(65536, dtype=np.uint8)
    table[samples.astype(np.uint16)] = order[nearest]
    return table


_DECODE = {PCMU: _decode_mulaw(), PCMA: _decode_alaw()}
_ENCODE = {payload_type: _encode_table(table) for payload_type, table in _DECODE.items()}


def decode(payload: bytes, payload_type: int = PCMU) -> Samples:
    return _DECODE[payload_type][np.frombuffer(payload, dtype=np.uint8)]


def encode(samples: Samples, payload_type: int = PCMU) -> bytes:
    return _ENCODE[payload_type][samples.view(np.uint16)].tobytes()
