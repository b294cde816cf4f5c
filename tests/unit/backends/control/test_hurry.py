"""A session that is told that its backend was started just now does not wait for the end of its pause."""

from __future__ import annotations

import asyncio
from random import Random

from proxy.backends.control.api import Event, Loss, Lost
from proxy.backends.control.ari import AriSession
from tests.sim.loop import VirtualLoop
from tests.sim.network import SimNetwork
from tests.testbed.asterisk.ari import Ari

US, THERE, PORT = "10.0.0.1", "10.0.0.2", 8088


def seconds_until_up(*, hurry: bool) -> float:
    """After a minute without anybody there."""
    loop = VirtualLoop()

    async def main() -> float:
        network = SimNetwork(loop, Random(1))
        server = Ari(network.host(THERE), (THERE, PORT))
        session = AriSession(network.host(US, loop), (THERE, PORT), "lab", "geheim", Random(7))
        told: list[Event] = []
        session.start(told.append)
        await asyncio.sleep(62.0)
        assert all(isinstance(event, Lost) and event.loss is Loss.REFUSED for event in told)
        began = loop.time()
        await network.host(THERE).process.spawn(server.start())
        if hurry:
            session.hurry()
        while not session.up:
            await asyncio.sleep(0.001)
        await session.stop()
        return loop.time() - began

    return loop.run(main())


def test_it_tries_at_once() -> None:
    assert seconds_until_up(hurry=True) < 0.05


def test_otherwise_it_waits_for_the_end_of_its_pause() -> None:
    assert seconds_until_up(hurry=False) > 1.0
