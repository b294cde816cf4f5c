"""A media plane that takes its time, as one in another process does: every answer comes a moment later.

`SimMedia` answers at once, so nothing can happen between a question and its answer. Behind this, it can: a BYE, a
deadline, the death of the next backend. Answers keep their order, as on one socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from media.api import Kept, MediaError, MediaEvent, MediaPlane
from tests.sim.world import World


class SlowMedia:
    def __init__(self, fast: MediaPlane, loop: asyncio.AbstractEventLoop, delay_s: tuple[float, float], rng: Random):
        self._fast = fast
        self._loop = loop
        self._delay_s = delay_s
        self._rng = rng
        self._last_at = 0.0
        self.anchors = fast.anchors
        self.capabilities = fast.capabilities
        self.counters = fast.counters

    def _later(self, ask: Callable[..., asyncio.Future[Any]], *args: Any, **options: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()

        def answer() -> None:
            try:
                result = ask(*args, **options).result()
            except MediaError as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        self._last_at = max(self._last_at, self._loop.time() + self._rng.uniform(*self._delay_s))
        self._loop.call_at(self._last_at, answer)
        return future

    def offer(self, *args: Any, **options: Any) -> asyncio.Future[bytes]:
        return self._later(self._fast.offer, *args, **options)

    def answer(self, *args: Any, **options: Any) -> asyncio.Future[bytes]:
        return self._later(self._fast.answer, *args, **options)

    def switch(self, *args: Any) -> asyncio.Future[None]:
        return self._later(self._fast.switch, *args)

    def fork(self, *args: Any) -> asyncio.Future[None]:
        return self._later(self._fast.fork, *args)

    def bridge(self, *args: Any) -> asyncio.Future[None]:
        return self._later(self._fast.bridge, *args)

    def mix(self, *args: Any) -> asyncio.Future[None]:
        return self._later(self._fast.mix, *args)

    def query(self, *args: Any) -> asyncio.Future[Any]:
        return self._later(self._fast.query, *args)

    def delete(self, session: str, leg: str | None = None) -> None:
        self._last_at = max(self._last_at, self._loop.time())
        self._loop.call_at(self._last_at, self._fast.delete, session, leg)

    def watch(self, session: str, leg: str, group: str, timeout_s: float = 0.0) -> None:
        self._last_at = max(self._last_at, self._loop.time())
        self._loop.call_at(self._last_at, self._fast.watch, session, leg, group, timeout_s)

    def keep(self, session: str, leg: str | None, seconds: float) -> None:
        self._fast.keep(session, leg, seconds)

    async def kept(self, session: str, since: float = 0.0) -> tuple[Kept, ...]:
        return await self._fast.kept(session, since)

    def snapshot(self, session: str) -> dict[str, object]:
        return self._fast.snapshot(session)

    def restore(self, session: str, snapshot: dict[str, object]) -> None:
        self._fast.restore(session, snapshot)

    def subscribe(self, listener: Callable[[MediaEvent], None]) -> None:
        self._fast.subscribe(listener)

    async def close(self) -> None:
        await self._fast.close()


def media_takes(world: World, least_s: float, most_s: float) -> None:
    """From now on the media of the node answers only after such a time."""
    calls = world.node.calls
    rng = Random(world.seed)
    calls.relay = SlowMedia(calls.relay, world.host.loop, (least_s, most_s), rng)
    calls.direct = SlowMedia(calls.direct, world.host.loop, (least_s, most_s), rng)
