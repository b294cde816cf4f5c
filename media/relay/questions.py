"""Questions to the relay: each has a number, and the answer bears it. What is much is read in pieces."""

from __future__ import annotations

import asyncio
from typing import Any

from media.api import Kept, MediaError
from media.relay.link import RelayLink

ANSWERS = frozenset({"stats", "counters", "sync", "released", "kept"})


class Questions:
    def __init__(self, loop: asyncio.AbstractEventLoop, link: RelayLink) -> None:
        self._loop = loop
        self._link = link
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._number = 0

    def ask(self, name: str, *arguments: Any) -> asyncio.Future[Any]:
        """Errors are in the future that is returned."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self._link.connected:
            future.set_exception(MediaError("the media relay is down"))
            return future
        self._number += 1
        self._open[self._number] = future
        self._link.send([name, self._number, *arguments])
        return future

    def answered(self, number: int, answer: Any = None) -> None:
        future = self._open.pop(number, None)
        if future is not None and not future.done():
            future.set_result(answer)

    def fail(self, error: MediaError) -> None:
        """None of them will be answered."""
        unanswered, self._open = self._open, {}
        for future in unanswered.values():
            if not future.done():
                future.set_exception(error)

    async def kept(self, session: str, since: float) -> tuple[Kept, ...]:
        """Piece by piece, so that media never waits for it. Raises MediaError."""
        read: dict[str, list[tuple[float, bytes]]] = {}
        while True:
            last = {place: packets[-1][0] for place, packets in read.items()}
            pieces: dict[str, list[list[Any]]] = await self.ask("kept", session, since, last)
            if not pieces:
                return tuple(_kept(place, packets) for place, packets in read.items())
            for place, packets in pieces.items():
                read.setdefault(place, []).extend((at, packet) for at, packet in packets)


def _kept(place: str, packets: list[tuple[float, bytes]]) -> Kept:
    line, _, leg = place.partition(" ")
    return Kept(leg, int(line), tuple(packets))
