"""A session with a FreeSWITCH that shows what its source says, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from proxy.backends.control.api import (
    Event,
    Lost,
    Synced,
    Up,
)
from proxy.backends.control.esl import EslSession
from proxy.backends.control.esl_codec import Frame
from tests.sim.loop import VirtualLoop
from tests.sim.network import SimNetwork
from tests.testbed.freeswitch.server import CORE, FreeSwitch

US, THERE, PORT = "10.0.0.1", "10.0.0.2", 8021
UP = Up("FreeSWITCH 1.10.11-release+git~20231222T180831Z~f24064f7c9~64bit", CORE)


class Session(EslSession):
    """Fails once when it is told to."""

    fault: Exception | None = None

    def _take(self, message: Frame) -> None:
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        super()._take(message)


class Site:
    """A session on one host, FreeSWITCH on another; `told` is what the session said."""

    def __init__(self, network: SimNetwork, password: str = "ClueCon", **server: Any) -> None:
        self.network = network
        self.server = FreeSwitch(network.host(THERE), (THERE, PORT), **server)
        self.session = Session(network.host(US, network.loop), (THERE, PORT), password, Random(7))
        self.told: list[Event] = []
        self.at_first: Callable[[], None] | None = None  # called once, in the turn after the next event

    async def begin(self) -> None:
        await self.network.host(THERE).process.spawn(self.server.start())
        self.session.start(self._hear)

    def _hear(self, event: Event) -> None:
        self.told.append(event)
        if self.at_first is not None:
            call, self.at_first = self.at_first, None
            self.network.loop.call_soon(call)

    async def synced(self) -> None:
        await self.until(lambda: Synced() in self.told)
        self.told.clear()

    async def until(self, condition: Callable[[], bool], limit_s: float = 60.0) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():
                await asyncio.sleep(0.001)

    async def settle(self) -> list[Event]:
        """What was told until now, a moment later."""
        await asyncio.sleep(0.1)
        told = self.told.copy()
        self.told.clear()
        return told

    def lost(self) -> list[Lost]:
        return [event for event in self.told if isinstance(event, Lost)]


def simulate(main: Callable[[Site], Coroutine[Any, Any, None]], **site: Any) -> None:
    loop = VirtualLoop()

    async def whole() -> None:
        place = Site(SimNetwork(loop, Random(1)), **site)
        await place.begin()
        try:
            await main(place)
        finally:
            await place.session.stop()

    loop.run(whole())


def alive(server: FreeSwitch) -> None:
    """Two in a conference, a pair that is recorded."""
    anna, bert, carl, dora = (server.call(f"uuid-{name}", f"{name}@192.0.2.1") for name in "abcd")
    server.join("3000", anna, moderator=True)
    server.join("3000", bert, speak=False, hear=False)
    server.api("conference 3000 lock")
    server.api("conference 3000 record /rec/3000.wav")
    server.bridge(carl, dora)
    server.record_call(carl, "/rec/pair.wav")
