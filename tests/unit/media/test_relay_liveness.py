"""Liveness through a real relay: what a plane hears of peers that talk and fall silent."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from media.api import FlowsSilent, LegSilent, MediaEvent
from tests.unit.media.relay_bed import CALLER, Bed, Peer, relay_bed, run, when

PTIME_S = 0.02
BACKEND = "127.0.42.6"


class Calls:
    """So many calls of one backend, whose legs all talk until they are told to be silent."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.events: list[MediaEvent] = []
        self.backends: list[tuple[Peer, tuple[str, int]]] = []
        self.callers: list[tuple[Peer, tuple[str, int]]] = []
        self.silent = False
        bed.plane.subscribe(self.events.append)

    async def place(self, count: int, timeout_s: float = 0.0) -> None:
        for number in range(count):
            caller, backend = self.bed.peer(CALLER), self.bed.peer(BACKEND)
            for_caller, for_backend = await self.bed.call(caller, backend, f"c{number}")
            self.bed.plane.watch(f"c{number}", "b1", "as1", timeout_s)
            self.callers.append((caller, for_caller))
            self.backends.append((backend, for_backend))

    async def talk(self) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time()
        while True:
            for caller, to in self.callers:
                caller.say(to, b"a")
            if not self.silent:
                for backend, to in self.backends:
                    backend.say(to, b"b")
            at += PTIME_S
            await asyncio.sleep(at - loop.time())

    def flows(self) -> list[FlowsSilent]:
        return [event for event in self.events if isinstance(event, FlowsSilent)]

    async def flowing(self, count: int) -> None:
        async def look() -> bool | None:
            flows = self.flows()
            return (bool(flows) and flows[-1].active == count and flows[-1].silent == 0) or None

        await when(look)

    async def silence(self) -> FlowsSilent:
        async def look() -> FlowsSilent | None:
            flows = self.flows()
            return flows[-1] if flows and flows[-1].silent else None

        return await when(look)


@asynccontextmanager
async def calls(bed: Bed, count: int, timeout_s: float = 0.0) -> AsyncIterator[Calls]:
    placed = Calls(bed)
    await placed.place(count, timeout_s)
    talking = asyncio.create_task(placed.talk())
    try:
        yield placed
    finally:
        talking.cancel()


def test_the_silence_of_a_backend_is_told_and_its_end(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed, calls(bed, 6) as placed:
            await placed.flowing(6)
            placed.silent = True
            event = await placed.silence()
            assert (event.group, event.active) == ("as1", 6) and event.silent >= 5
            assert event.silent_s >= 0.045 and event.at - event.last_packet_at >= 0.045
            placed.silent = False
            await placed.flowing(6)

    run(test())


def test_hold_is_not_silence(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed, calls(bed, 2) as placed:
            await placed.flowing(2)
            caller, backend = placed.callers[0][0], placed.backends[0][0]
            await bed.plane.offer("c0", "a", "b1", caller.sdp(b"a=sendonly"))
            await bed.plane.answer("c0", "b1", "a", backend.sdp(b"a=recvonly"))
            await placed.flowing(1)
            await bed.plane.offer("c0", "a", "b1", caller.sdp(b"a=sendrecv"))
            await bed.plane.answer("c0", "b1", "a", backend.sdp(b"a=sendrecv"))
            await placed.flowing(2)

    run(test())


def test_the_watch_survives_the_death_of_the_relay(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed, calls(bed, 5) as placed:
            await placed.flowing(5)
            assert bed.plane.relay_pid is not None
            placed.events.clear()
            os.kill(bed.plane.relay_pid, signal.SIGKILL)
            await placed.flowing(5)
            placed.silent = True
            assert (await placed.silence()).active == 5

    run(test())


def test_a_leg_that_moves_leaves_its_group(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed, calls(bed, 2) as placed:
            await placed.flowing(2)
            bed.plane.delete("c0", "b1")
            await placed.flowing(1)
            bed.plane.delete("c1")

            async def look() -> bool | None:
                return placed.flows()[-1].active == 0 or None

            await when(look)

    run(test())


def test_one_leg_passes_its_media_timeout(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed, calls(bed, 1, timeout_s=1.0) as placed:
            await placed.flowing(1)
            placed.silent = True

            async def look() -> LegSilent | None:
                return next((event for event in placed.events if isinstance(event, LegSilent)), None)

            event = await when(look)
            assert (event.session, event.leg) == ("c0", "b1") and event.silent_s >= 1.0

    run(test())


def test_the_fault_of_a_listener_costs_nobody_else(tmp_path: Path) -> None:
    async def test() -> None:
        faults = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))

        def broken(event: MediaEvent) -> None:
            raise TypeError("a fault")

        async with relay_bed(tmp_path) as bed:
            bed.plane.subscribe(broken)
            async with calls(bed, 1) as placed:
                await placed.flowing(1)
                assert faults and (await bed.settle())["connections"] == 1

    run(test())
