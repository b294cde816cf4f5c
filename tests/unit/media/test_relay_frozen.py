"""A relay that is there and does nothing (SIGSTOP, a dead lock) is noticed, killed, and its sessions are built anew."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import time
from pathlib import Path

from media.api import MediaEvent, MediaRestarted
from media.relay.client import RelayPlane
from media.relay.protocol import MAX_FRAME, VERSION, Frames, frame
from tests.unit.media.relay_bed import BACKEND, CALLER, PATIENCE_S, relay_bed, run


def test_a_frozen_relay_is_replaced_within_half_a_second(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, for_backend = await bed.call(caller, backend)
            former = bed.plane.relay_pid
            assert former is not None
            events: asyncio.Queue[MediaEvent] = asyncio.Queue()
            bed.plane.subscribe(events.put_nowait)
            os.kill(former, signal.SIGSTOP)
            frozen_at = time.monotonic()
            event = await asyncio.wait_for(events.get(), PATIENCE_S)
            assert isinstance(event, MediaRestarted) and event.lost == ()
            print(f"replaced after {(time.monotonic() - frozen_at) * 1000:.0f} ms")
            assert bed.plane.relay_pid != former
            caller.say(for_caller, b"thawed")
            assert backend.hear() == b"thawed"
            backend.say(for_backend, b"indeed")
            assert caller.hear() == b"indeed"

    run(test())


def test_a_relay_that_is_found_frozen_is_replaced(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, _ = await bed.call(caller, backend)
            snapshot, former = bed.plane.snapshot("c"), bed.plane.relay_pid
            await bed.plane.close()
            assert former is not None
            os.kill(former, signal.SIGSTOP)
            bed.plane = await RelayPlane.start(bed.options, random.Random(8))
            bed.plane.restore("c", snapshot)
            await bed.settle()
            caller.say(for_caller, b"hello")
            assert backend.hear() == b"hello"
            assert os.waitpid(former, 0)[0] == former

    run(test())


def test_a_relay_is_not_killed_over_our_own_stall(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            former = bed.plane.relay_pid
            for _ in range(3):
                time.sleep(0.5)
                await asyncio.sleep(0.15)
            assert (await bed.settle())["connections"] == 1 and bed.plane.relay_pid == former

    run(test())


def test_the_sign_of_life_overtakes_commands_that_wait(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path, orphan_s=0.1) as bed:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.connect(bed.options.socket)
                work = [["hello", VERSION], *[["stock", 0, 64], *[["fence", n] for n in range(999)]] * 50, ["sync", 1]]
                sock.sendall(frame(work))
                sock.sendall(frame([["ping"]]))
                sock.settimeout(PATIENCE_S)
                frames, answers = Frames(), []
                while ["sync", 1] not in answers:
                    answers += frames.feed(await asyncio.to_thread(sock.recv, 65536))
                assert answers.index(["pong"]) < len(answers) - 2

    run(test())


def test_what_a_predecessor_left_and_nobody_took_up_is_ended(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, _ = await bed.call(caller, backend)
            for number in range(40):
                await bed.call(caller, backend, f"d{number}")
            snapshot = bed.plane.snapshot("c")
            await bed.successor()
            bed.plane.restore("c", snapshot)
            assert await bed.plane.release_orphans() == 80
            for _ in range(20):
                counters = await bed.settle()
                if not counters["orphans"]:
                    break
            assert (counters["lines"], counters["orphans"]) == (2, 0)
            caller.say(for_caller, b"known")
            assert backend.hear() == b"known"

    run(test())


def test_more_than_a_frame_can_hold_is_told_in_several(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, _ = await bed.call(caller, backend)
            for _ in range(3 * MAX_FRAME // 1000):
                bed.plane.watch("c", "a", "g" * 1000)
            assert (await bed.settle())["connections"] == 1
            caller.say(for_caller, b"still here")
            assert backend.hear() == b"still here"

    run(test())
