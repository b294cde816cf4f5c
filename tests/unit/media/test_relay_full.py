"""A port range that is used up: new calls are refused in time, and those that are there can still be carried over."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from media.api import MediaError, MediaFull
from tests.unit.media.descriptions import audio
from tests.unit.media.relay_bed import BACKEND, BACKUP, CALLER, RELAY, Bed, relay_bed, run

OFFER = audio(CALLER, 4000)


async def fill(bed: Bed, most: int) -> list[str]:
    """Place calls until one is refused."""
    names: list[str] = []
    for number in range(most):
        try:
            await bed.plane.offer(f"c{number}", "a", "b1", OFFER)
        except MediaFull:
            break
        await bed.plane.answer(f"c{number}", "b1", "a", audio(BACKEND, 5000))
        names.append(f"c{number}")
    return names


def test_calls_of_a_full_range_can_all_be_carried_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path, ports=(31000, 31079)) as bed:  # 40 lines, 10 of them in reserve
            names = await fill(bed, 40)
            assert len(names) == 15
            assert [record.message for record in caplog.records if "running out" in record.message] == [
                "media ports are running out: 27 of 40 lines are in use; new calls may have 30 of them"
            ]
            with pytest.raises(MediaFull, match="session x: no free media ports"):
                await bed.plane.offer("x", "a", "b1", OFFER)
            assert "x" not in bed.plane.sessions()
            for group in (names[:10], names[10:]):  # as many at a time as there are in reserve
                for name in group:
                    await bed.plane.offer(name, "a", "b2", OFFER)
                for name in group:
                    await bed.plane.answer(name, "b2", "a", audio(BACKUP, 6000), preview=True)
                    await bed.plane.switch(name, "a", "b2")
                    bed.plane.delete(name, "b1")
            assert bed.plane.counters["full"] == 2
            bed.plane.delete(names[0])
            await bed.plane.offer("x", "a", "b1", OFFER)

    caplog.set_level(logging.WARNING)
    run(test())


def test_ports_that_others_hold_are_no_reserve(tmp_path: Path) -> None:
    async def test() -> None:
        held = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(16)]
        for number, each in enumerate(held):
            each.bind((RELAY, 31000 + 2 * number))
        async with relay_bed(tmp_path, ports=(31000, 31063)) as bed:  # 32 lines, of which 16 can be had
            await bed.settle()
            names = await fill(bed, 32)
            assert len(names) == 6
            for name in names[:4]:
                await bed.plane.offer(name, "a", "b2", OFFER)
            with pytest.raises(MediaError, match="no free media ports"):
                await bed.plane.offer(names[4], "a", "b2", OFFER)
        for each in held:
            each.close()

    run(test())


def test_the_count_is_right_after_the_relay_and_the_proxy_have_been_replaced(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path, ports=(31000, 31079)) as bed:
            names = await fill(bed, 40)
            snapshots = {name: bed.plane.snapshot(name) for name in names}
            await bed.successor()
            for name, snapshot in snapshots.items():
                bed.plane.restore(name, snapshot)
            with pytest.raises(MediaFull):
                await bed.plane.offer("x", "a", "b1", OFFER)
            bed.plane.delete(names[0])
            await bed.plane.offer("x", "a", "b1", OFFER)

    run(test())
