"""A conference: everybody hears the sum of the others, 20 ms at a time, in G.711.

Each party has a short queue of frames that came and have not been mixed; who has none is silent in that tick. One
matrix a tick: all frames decoded and summed, each party's own taken off, clipped and encoded in one go.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from media.rtp.g711 import PACKET_SAMPLES, PCMA, PCMU, decode, encode
from proxy.demo.tones import SILENCE

PARTIES_MAX = 32
QUEUED_FRAMES_MAX = 3  # 60 ms of jitter; what is older would only be delay


class Party:
    __slots__ = ("codec", "frames", "mixed")

    def __init__(self) -> None:
        self.codec = PCMU
        self.frames: deque[bytes] = deque(maxlen=QUEUED_FRAMES_MAX)
        self.mixed = SILENCE[PCMU]  # what it hears now

    def speak(self, payload: bytes, codec: int) -> None:
        if codec != self.codec:
            self.codec = codec
            self.frames.clear()
            self.mixed = SILENCE[codec]
        if len(payload) == PACKET_SAMPLES:
            self.frames.append(payload)


class Conference:
    def __init__(self, parties_max: int = PARTIES_MAX) -> None:
        self.parties: list[Party] = []
        self._parties_max = parties_max

    @property
    def full(self) -> bool:
        return len(self.parties) >= self._parties_max

    def mix(self) -> None:
        """Take one frame of each party, and set what each hears."""
        if not self.parties:
            return
        rows = []
        for party in self.parties:
            payload = party.frames.popleft() if party.frames else SILENCE[party.codec]
            rows.append(decode(payload, party.codec))
        spoken = np.stack(rows).astype(np.int32)
        heard = np.clip(spoken.sum(axis=0) - spoken, -32768, 32767).astype(np.int16)
        encoded = {kind: encode(heard, kind) for kind in (PCMU, PCMA)}
        for row, party in enumerate(self.parties):
            party.mixed = encoded[party.codec][row * PACKET_SAMPLES : (row + 1) * PACKET_SAMPLES]
