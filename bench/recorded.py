"""A conference of people who speak, not of tones, recorded over the death of its backend: what of it is missing?"""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np

from bench.peers import Server
from proxy.recordings import manifest
from proxy.recordings.join import joined
from tests.testbed.phone import Call, Phones
from tests.testbed.recorded import around, missing, speech, spoken

CONFERENCE = "conf-spoken"
SPEAKERS = 4
WRITTEN_S = 6.0  # a backup has the beginning of its file on disk by then
REPAIRED_S = 15.0


class Recorded:
    def __init__(self, server: Server, phones: Phones, folder: Path) -> None:
        self._server = server
        self._phones = phones
        self._folder = folder
        self._calls: list[Call] = []
        self._since = 0

    async def start(self) -> None:
        for number in range(SPEAKERS):
            headers = {"X-Record": "yes"}
            call = await self._phones.call(
                CONFERENCE, self._server.address, headers=headers, say=speech(number, level=1000.0)
            )
            self._calls.append(call)

    def listen(self) -> None:
        """From now on everything that is said should be in the recording."""
        self._since = self._phones.tick

    async def missing_ms(self, killed_at_tick: int) -> float:
        """Of the speaker of whom most is missing. Raises TimeoutError when it is not repaired."""
        await asyncio.sleep(WRITTEN_S)
        until = self._phones.tick
        await asyncio.sleep(0.5)
        for call in self._calls:
            await call.bye()
        async with asyncio.timeout(REPAIRED_S):
            while not self._is_whole():
                await asyncio.sleep(0.2)
        said = {call.call_id: spoken(call.said, self._since, until) for call in self._calls}
        recording = joined(self._file()).astype(np.float64)
        return missing(recording, said).between(*around(killed_at_tick - self._since)).most_ms

    def _file(self) -> Path:
        return self._folder / f"{CONFERENCE}.json"

    def _is_whole(self) -> bool:
        states = {each.state for each in manifest.load(self._file()).segments}
        return "repaired" in states and not states & {"open", "cut"}
