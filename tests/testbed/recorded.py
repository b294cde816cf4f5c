"""Is everything that was said in a recording? Speech that is never twice the same, and a look for every 20 ms of it.

    said = {name: spoken(frames, first_tick, last_tick), ...}     what phones have said, by `tests.testbed.phone`
    recording_missing_ms = missing(joined(manifest), said).between(*around(kill_tick - first_tick)).most_ms

Each speaker is followed through the recording: where half a second of what he said is, by correlation, near where the
half second before was; so a pause that was cut, or sound that was moved, is followed too. What all of them said is
then taken away from the recording, and each frame of each speaker is looked for in what is left with his own put back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tests.testbed.audio import FRAME_SAMPLES, RATE_HZ, decode, encode

BLOCK = RATE_HZ // 2
PASSES = 3
LOST_BEFORE, LOST_AFTER = 215, 100  # frames: 4.1 s of G.711 are in a writer's buffer at most
CLEARLY = 0.7  # of what was said in half a second
NEAR = 2 * RATE_HZ
FIRST = 2 * RATE_HZ
AUDIBLE = 50.0  # root mean square of a frame
THERE = 0.5  # of its amplitude

Samples = npt.NDArray[np.float64]


def speech(seed: int, seconds: float = 60.0, level: float = 2500.0) -> list[bytes]:
    """20 ms frames of low noise in syllables, in G.711 µ-law."""
    rng = np.random.default_rng(seed)
    count = int(seconds * RATE_HZ) // FRAME_SAMPLES * FRAME_SAMPLES
    low = np.convolve(rng.standard_normal(count), np.hanning(16) / 2.4, mode="same")
    syllable = RATE_HZ // 6
    loud = rng.random(count // syllable + 1) * (rng.random(count // syllable + 1) > 0.2)
    envelope = np.convolve(np.repeat(loud, syllable)[:count], np.hanning(400) / 200.0, mode="same")
    encoded = encode(np.clip(level * low * envelope, -20000, 20000))
    return [encoded[at : at + FRAME_SAMPLES] for at in range(0, count, FRAME_SAMPLES)]


def around(killed: int) -> tuple[int, int]:
    """The frames that a death may have cost: what was not on disk yet, and until others are heard again."""
    return killed - LOST_BEFORE, killed + LOST_AFTER


def spoken(frames: Sequence[bytes], first: int, last: int) -> Samples:
    """What a phone that says `frames` over and over has said from one tick to another."""
    return decode(b"".join(frames[tick % len(frames)] for tick in range(first, last))).astype(np.float64)


@dataclass(frozen=True)
class Missing:
    """By speaker, the frames of audible speech (20 ms each, counted from the first that he said) that are not in the
    recording."""

    frames: dict[str, list[int]]

    @property
    def most_ms(self) -> float:
        """Of the one of whom most is missing."""
        return 20.0 * max(map(len, self.frames.values()), default=0)

    def between(self, first: int, last: int) -> Missing:
        """Of these frames only: a telephony server drops one by itself now and then."""
        return Missing(
            {name: [each for each in frames if first <= each < last] for name, frames in self.frames.items()}
        )


def missing(recording: Samples, said: dict[str, Samples]) -> Missing:
    rest = recording.astype(np.float64).copy()
    lags: dict[str, list[int]] = {}
    for _ in range(PASSES):  # who has been found does not stand in the way of the others any more
        for name, samples in said.items():
            if name in lags:
                _add(rest, samples, lags[name], 1.0)
            lags[name] = _lags(rest, samples)
            _add(rest, samples, lags[name], -1.0)
    return Missing(_lost(rest, said, lags))


def _lost(rest: Samples, said: dict[str, Samples], lags: dict[str, list[int]]) -> dict[str, list[int]]:
    """The frames that were taken away from the recording though they are not in it."""
    doubtful = []
    for name, samples in said.items():
        for frame, lag in enumerate(lags[name]):
            part = samples[frame * FRAME_SAMPLES : (frame + 1) * FRAME_SAMPLES]
            if _audible(part):
                doubtful.append((float(part @ part), name, frame, part, frame * FRAME_SAMPLES + lag))
    lost: dict[str, list[int]] = {name: [] for name in said}
    doubtful.sort(key=lambda each: -each[0])
    while doubtful:
        doubtful = [each for each in doubtful if 1.0 + _share(rest, each[3], each[4], outside=-1.0) < THERE]
        if doubtful:  # the loudest is put back first: quiet ones beside it may have been there after all
            _, name, frame, part, at = doubtful.pop(0)
            lost[name].append(frame)
            if 0 <= at <= len(rest) - FRAME_SAMPLES:
                rest[at : at + FRAME_SAMPLES] += part
    return {name: sorted(frames) for name, frames in lost.items()}


def _audible(part: Samples) -> bool:
    return float(part @ part) > AUDIBLE**2 * len(part)


def _share(recording: Samples, part: Samples, at: int, outside: float = 0.0) -> float:
    """How much of `part` is in the recording at that place."""
    if not 0 <= at <= len(recording) - len(part):
        return outside
    return float(recording[at : at + len(part)] @ part) / float(part @ part)


def _add(recording: Samples, samples: Samples, lags: list[int], factor: float) -> None:
    for frame, lag in enumerate(lags):
        at = frame * FRAME_SAMPLES + lag
        if 0 <= at <= len(recording) - FRAME_SAMPLES:
            part = samples[frame * FRAME_SAMPLES : (frame + 1) * FRAME_SAMPLES]
            recording[at : at + FRAME_SAMPLES] += factor * part


def _lags(recording: Samples, samples: Samples) -> list[int]:
    """For each frame, how much later it is in the recording."""
    lag = _search(recording, samples[:FIRST], 0, -FIRST, len(recording))
    blocks = []
    for first in range(0, len(samples), BLOCK):
        part = samples[first : first + BLOCK]
        if _audible(part) and _share(recording, part, first + lag) < CLEARLY:
            other = _search(recording, part, first, lag - NEAR, lag + NEAR)
            if _share(recording, part, first + other) > CLEARLY:
                lag = other
        blocks.append(lag)
    frames = len(samples) // FRAME_SAMPLES
    lags = [blocks[frame * FRAME_SAMPLES // BLOCK] for frame in range(frames)]
    for block in range(1, len(blocks)):
        if blocks[block] != blocks[block - 1]:
            _change(recording, samples, lags, block)
    return lags


def _change(recording: Samples, samples: Samples, lags: list[int], block: int) -> None:
    """Between the block before and this one the lag has changed: at the frame with which most of it is explained."""
    first = (block - 1) * BLOCK // FRAME_SAMPLES
    last = min(len(lags), (block + 1) * BLOCK // FRAME_SAMPLES)
    old, new = lags[first], lags[last - 1]
    before, after = [0.0], [0.0]
    for frame in range(first, last):
        part = samples[frame * FRAME_SAMPLES : (frame + 1) * FRAME_SAMPLES]
        for sums, lag in ((before, old), (after, new)):
            at = frame * FRAME_SAMPLES + lag
            there = recording[at : at + FRAME_SAMPLES] if at >= 0 else recording[:0]
            # What taking it away there adds to what is left of the recording, at this place and at the other one.
            sums.append(sums[-1] + float(part @ part) - 2.0 * float(part[: len(there)] @ there))
    rest = [before[place] + after[-1] - after[place] for place in range(len(before))]
    change = first + rest.index(min(rest))
    lags[first:last] = [old] * (change - first) + [new] * (last - change)


def _search(recording: Samples, part: Samples, at: int, earliest: int, latest: int) -> int:
    """The lag between these at which `part`, said at sample `at`, is most like the recording."""
    first = max(0, at + earliest)
    there = recording[first : max(first, at + latest + len(part))]
    if len(there) < len(part):
        return earliest + (latest - earliest) // 2
    needle, hay = np.diff(part), np.diff(there)
    size = 1 << (len(needle) + len(hay)).bit_length()
    product = np.fft.irfft(np.fft.rfft(hay, size) * np.conj(np.fft.rfft(needle, size)), size)
    sums = np.concatenate(([0.0], np.cumsum(hay * hay)))
    power = sums[len(needle) :] - sums[: -len(needle)] + AUDIBLE**2 * len(needle)  # louder is not more alike
    return first + int(np.argmax(product[: len(power)] / np.sqrt(power))) - at
