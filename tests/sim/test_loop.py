"""The virtual loop itself: asyncio in virtual time, processes that freeze and die, faults that show."""

from __future__ import annotations

import asyncio
import contextvars
import time

import pytest

from proxy.net.timers import Timers
from tests.sim.loop import START_S, DeadlockError, ProcessKilledError, SimulationError, VirtualLoop


@pytest.fixture
def loop() -> VirtualLoop:
    return VirtualLoop()


def test_an_hour_of_sleep_takes_no_time(loop: VirtualLoop) -> None:
    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    began = time.perf_counter()
    assert loop.run(main()) == START_S + 3600
    assert time.perf_counter() - began < 1


def test_timers_fire_in_order_and_ties_in_the_order_they_were_set(loop: VirtualLoop) -> None:
    fired: list[str] = []

    async def main() -> None:
        loop.call_later(0.2, fired.append, "late")
        loop.call_later(0.1, fired.append, "first")
        loop.call_later(0.1, fired.append, "second")
        loop.call_later(0.05, fired.append, "cancelled").cancel()
        loop.call_soon(fired.append, "now")
        await asyncio.sleep(0.3)

    loop.run(main())
    assert fired == ["now", "first", "second", "late"]


def test_a_cancelled_timer_does_not_move_the_clock(loop: VirtualLoop) -> None:
    async def main() -> float:
        loop.call_later(5, print).cancel()
        await asyncio.sleep(1)
        return loop.time()

    assert loop.run(main()) == START_S + 1


def test_asyncio_primitives_work(loop: VirtualLoop) -> None:
    async def main() -> list[object]:
        seen: list[object] = []
        queue: asyncio.Queue[int] = asyncio.Queue(maxsize=1)
        event = asyncio.Event()

        async def producer() -> None:
            for number in range(3):
                await queue.put(number)
                await asyncio.sleep(1)
            event.set()

        async def consumer() -> None:
            for _ in range(3):
                seen.append((await queue.get(), loop.time() - START_S))

        async with asyncio.TaskGroup() as group:
            group.create_task(producer())
            group.create_task(consumer())
        await event.wait()
        seen.append(await asyncio.gather(asyncio.sleep(2, "a"), asyncio.sleep(1, "b")))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.sleep(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.25)
        lock, condition = asyncio.Lock(), asyncio.Condition()
        async with lock, condition, asyncio.Semaphore(1):
            seen.append(loop.time() - START_S)
        return seen

    assert loop.run(main()) == [(0, 0), (1, 1), (2, 2), ["a", "b"], 5.75]


def test_timers_of_the_node_run_on_it(loop: VirtualLoop) -> None:
    async def main() -> float:
        fired: asyncio.Future[float] = loop.create_future()
        Timers(loop).start(32.0, lambda _: fired.set_result(loop.time()))
        return await fired

    assert 0 <= loop.run(main()) - START_S - 32 <= 0.011


def test_a_deadlock_is_said_to_be_one(loop: VirtualLoop) -> None:
    async def main() -> None:
        await loop.create_future()

    with pytest.raises(DeadlockError, match="nothing ready and nothing scheduled"):
        loop.run(main())


def test_a_busy_loop_is_said_to_be_one(loop: VirtualLoop) -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(SimulationError, match="busy loop"):
        loop.run(main())


def test_what_the_test_raises_comes_out_of_run(loop: VirtualLoop) -> None:
    async def main() -> None:
        await asyncio.sleep(1)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        loop.run(main())


def test_a_failing_callback_ends_the_run_at_once(loop: VirtualLoop) -> None:
    async def main() -> None:
        loop.call_later(1, [].pop)
        await asyncio.sleep(1000)

    with pytest.raises(SimulationError, match="IndexError"):
        loop.run(main())
    assert loop.time() == START_S + 1


def test_a_failed_task_that_nobody_asked_about_fails_the_test(loop: VirtualLoop) -> None:
    async def fail() -> None:
        raise KeyError("lost")

    async def main() -> None:
        task = asyncio.create_task(fail())
        await asyncio.sleep(1)
        del task

    with pytest.raises(SimulationError, match="lost"):
        loop.run(main())


def test_tasks_left_over_are_cancelled_and_clean_up(loop: VirtualLoop) -> None:
    cleaned: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.sleep(1e9)
        finally:
            await asyncio.sleep(1)
            cleaned.append("yes")

    async def main() -> None:
        tasks.append(asyncio.create_task(forever()))
        await asyncio.sleep(1)

    tasks: list[asyncio.Task[None]] = []
    loop.run(main())
    assert cleaned == ["yes"]


def test_a_task_that_fails_while_it_is_cancelled_fails_the_test(loop: VirtualLoop) -> None:
    async def forever() -> None:
        try:
            await asyncio.sleep(1e9)
        finally:
            raise KeyError("clumsy")

    async def main() -> None:
        asyncio.create_task(forever())  # noqa: RUF006
        await asyncio.sleep(1)

    with pytest.raises(SimulationError, match="clumsy"):
        loop.run(main())


def test_context_variables_belong_to_the_task(loop: VirtualLoop) -> None:
    call = contextvars.ContextVar("call", default="none")

    async def work(name: str) -> str:
        call.set(name)
        await asyncio.sleep(1)
        return call.get()

    async def main() -> list[str]:
        return [*await asyncio.gather(work("one"), work("two")), call.get()]

    assert loop.run(main()) == ["one", "two", "none"]


def test_a_process_has_its_own_running_loop_and_the_same_clock(loop: VirtualLoop) -> None:
    process = loop.process("node")

    async def where() -> tuple[object, float]:
        await asyncio.sleep(1)
        async with asyncio.timeout(5):
            await asyncio.sleep(1)
        return asyncio.get_running_loop(), asyncio.get_running_loop().time()

    async def main() -> None:
        assert await process.spawn(where()) == (process, loop.time())
        assert asyncio.get_running_loop() is loop

    loop.run(main())
    assert loop.time() == START_S + 2


def test_a_frozen_process_runs_nothing_until_it_is_thawed(loop: VirtualLoop) -> None:
    process = loop.process("node")
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            await asyncio.sleep(1)
            ticks.append(loop.time() - START_S)

    async def main() -> None:
        process.spawn(tick())
        await asyncio.sleep(2.5)
        process.freeze()
        await asyncio.sleep(4)
        assert ticks == [1, 2]
        process.thaw()
        await asyncio.sleep(1.8)

    loop.run(main())
    assert ticks == [1, 2, 6.5, 7.5]  # one tick is overdue, the others never were set


def test_a_thawed_process_reads_its_input_before_it_runs_overdue_timers(loop: VirtualLoop) -> None:
    process = loop.process("node")
    seen: list[str] = []

    async def main() -> None:
        process.call_later(1, seen.append, "timer")
        process.call_soon(seen.append, "ready before")
        process.freeze()
        await asyncio.sleep(2)
        process.deliver(contextvars.copy_context(), seen.append, "input")
        await asyncio.sleep(1)
        assert not seen
        process.thaw()
        await asyncio.sleep(0)

    loop.run(main())
    assert seen == ["ready before", "input", "timer"]


def test_a_killed_process_runs_not_even_its_finally(loop: VirtualLoop) -> None:
    process = loop.process("backend")
    ran: list[str] = []

    async def work() -> None:
        try:
            while True:
                await asyncio.sleep(1)
                ran.append("line")
        finally:
            ran.append("finally")

    async def main() -> None:
        work_ends = process.spawn(work())
        await asyncio.sleep(1.5)
        process.kill()
        with pytest.raises(ProcessKilledError):
            await work_ends
        await asyncio.sleep(10)
        process.call_soon(ran.append, "after death")
        process.deliver(contextvars.copy_context(), ran.append, "after death")
        with pytest.raises(ProcessKilledError):
            await process.spawn(work())
        process.thaw()
        await asyncio.sleep(10)
        assert ran == ["line"]

    loop.run(main())


def test_a_frozen_process_can_be_killed(loop: VirtualLoop) -> None:
    process = loop.process("backend")
    ran: list[str] = []

    async def main() -> None:
        process.call_later(1, ran.append, "timer")
        process.freeze()
        await asyncio.sleep(2)
        process.kill()
        process.thaw()
        await asyncio.sleep(2)

    loop.run(main())
    assert ran == []


def test_what_fails_in_a_process_and_is_waited_for_comes_to_the_test(loop: VirtualLoop) -> None:
    async def fail() -> None:
        raise KeyError("there")

    async def main() -> None:
        with pytest.raises(KeyError, match="there"):
            await loop.process("backend").spawn(fail())

    loop.run(main())
