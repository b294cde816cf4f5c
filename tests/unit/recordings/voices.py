"""People who talk, as the relay keeps them, and a backend that records them, mixing as Asterisk's softmix does."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from media.rtp import g711, packet
from proxy.recordings.files import RATE_HZ, Samples
from proxy.recordings.job import Packet

FRAME = 160
FRAME_S = 0.02


def speech(seed: int, seconds: float, level: float = 3000.0) -> Samples:
    """Like speech: low noise in syllables with pauses between them; never twice the same."""
    rng = np.random.default_rng(seed)
    count = round(seconds * RATE_HZ)
    noise = rng.standard_normal(count + 40)
    low = np.convolve(noise, np.hanning(16) / 3.0, mode="same")[:count]
    syllables = np.repeat(rng.random(count // 1200 + 1) ** 2 * (rng.random(count // 1200 + 1) > 0.25), 1200)[:count]
    envelope = np.convolve(syllables, np.hanning(400) / 200.0, mode="same")
    return np.clip(level * low * envelope, -30000, 30000).astype(np.int16)


@dataclass
class Speaker:
    """Says `samples` (in G.711: `said` is what can be heard of it) from `at` on. `delay_s`: until the relay has it."""

    name: str
    samples: Samples
    at: float
    law: int = g711.PCMU
    delay_s: float = 0.03
    jitter_s: float = 0.0
    seed: int = 1
    frames: list[bytes] = field(init=False)
    said: Samples = field(init=False)

    def __post_init__(self) -> None:
        self.samples = self.samples[: len(self.samples) // FRAME * FRAME]
        encoded = g711.encode(self.samples, self.law)
        self.frames = [encoded[start : start + FRAME] for start in range(0, len(encoded), FRAME)]
        self.said = g711.decode(encoded, self.law)

    def packets(self) -> list[Packet]:
        rng = np.random.default_rng(self.seed)
        number, timestamp = 65_530, 2**32 - 800
        return sorted(
            (
                self.at + (index + 1) * FRAME_S + self.delay_s + rng.random() * self.jitter_s,
                packet.pack(self.law, number + index, timestamp + FRAME * index, 77 + self.seed, frame),
            )
            for index, frame in enumerate(self.frames)
        )


def kept(packets: list[Packet], now: float, seconds: float = 10.0) -> list[Packet]:
    return [each for each in packets if now - seconds <= each[0] <= now]


@dataclass
class Mixer:
    """A conference that is recorded: what came of each by a turn is in it, 20 ms a turn. `began` is when."""

    began: float

    def record(self, speakers: list[Speaker], seconds: float) -> Samples:
        turns = round(seconds / FRAME_S)
        total = np.zeros(turns * FRAME, dtype=np.int32)
        for speaker in speakers:
            waiting: list[Samples] = []
            packets = iter(speaker.packets())
            coming = next(packets, None)
            for turn in range(turns):
                now = self.began + (turn + 1) * FRAME_S
                while coming is not None and coming[0] <= now:
                    frame = g711.decode(packet.parse(coming[1]).payload, speaker.law)
                    if coming[0] > self.began:
                        waiting.append(frame)
                    coming = next(packets, None)
                if waiting:
                    total[turn * FRAME : (turn + 1) * FRAME] += waiting.pop(0)
        return np.clip(total, -32768, 32767).astype(np.int16)
