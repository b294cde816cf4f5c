"""G.711 code by code, without numpy: for tables that a process needs at its start, and for a few samples.

`media.rtp.g711` has the same for whole frames.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache


def _mulaw(code: int) -> int:
    code = ~code & 0xFF  # G.711 table 2: all bits are inverted on the wire
    magnitude = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return -magnitude if code & 0x80 else magnitude


def _alaw(code: int) -> int:
    code ^= 0x55  # G.711 table 1: even bits are inverted on the wire
    exponent = code >> 4 & 7
    magnitude = ((code & 0x0F) << 4) + 8
    if exponent:
        magnitude = magnitude + 0x100 << exponent - 1
    return magnitude if code & 0x80 else -magnitude


DECODE = {"PCMU": [_mulaw(code) for code in range(256)], "PCMA": [_alaw(code) for code in range(256)]}


@lru_cache(maxsize=2)
def _ascending(law: str) -> tuple[list[int], list[int]]:
    """The values of a law, and the code of each."""
    codes = sorted(range(256), key=DECODE[law].__getitem__)
    return [DECODE[law][code] for code in codes], codes


def encode(law: str, samples: Iterable[int]) -> bytes:
    """The nearest code of each sample."""
    values, codes = _ascending(law)
    result = bytearray()
    for sample in samples:
        above = min(max(bisect_right(values, sample), 1), 255)
        nearest = above - 1 if sample - values[above - 1] <= values[above] - sample else above
        result.append(codes[nearest])
    return bytes(result)


@lru_cache(maxsize=2)
def transcoding(source: str, target: str) -> bytes:
    """For each code of the one law the nearest of the other, as `bytes.translate` wants it."""
    return encode(target, DECODE[source])
