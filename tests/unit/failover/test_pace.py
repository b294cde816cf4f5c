"""Pacing, in virtual time: the window, the rate, growth and halving, waiters that give up, and whose turn it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from proxy.failover.pace import HALVE_APART_S, SLOW_S, WINDOW_MIN, WINDOW_START, Pace
from tests.sim.loop import VirtualLoop


def play(script: Callable[[Pace], Awaitable[None]], per_s: float = 1000.0, unanswered_max: int = 64) -> None:
    loop = VirtualLoop()

    async def main() -> None:
        await script(Pace(loop, per_s, unanswered_max))

    loop.run(main())


async def crowd(pace: Pace, size: int) -> tuple[list[int], list[asyncio.Task[None]]]:
    """That many want a turn; returns who has had his, in order, as it grows."""
    had: list[int] = []

    async def one(number: int) -> None:
        await pace.turn()
        had.append(number)

    tasks = [asyncio.create_task(one(number)) for number in range(size)]
    await asyncio.sleep(0)
    return had, tasks


def test_no_more_than_the_window_are_unanswered() -> None:
    async def script(pace: Pace) -> None:
        had, tasks = await crowd(pace, 100)
        await asyncio.sleep(10.0)
        assert len(had) == pace.unanswered == WINDOW_START
        for task in tasks:
            task.cancel()

    play(script)


def test_the_window_never_exceeds_what_is_configured() -> None:
    async def script(pace: Pace) -> None:
        assert pace.window == 8
        for _ in range(50):
            await pace.turn()
            pace.heard(0.001)
        assert pace.window == 8

    play(script, unanswered_max=8)


def test_each_prompt_answer_lets_one_more_go_and_widens_the_window_by_one() -> None:
    async def script(pace: Pace) -> None:
        had, tasks = await crowd(pace, 100)
        await asyncio.sleep(1.0)
        pace.heard(0.01)
        await asyncio.sleep(1.0)
        assert len(had) == WINDOW_START + 2 and pace.window == WINDOW_START + 1
        for task in tasks:
            task.cancel()

    play(script)


def test_turns_come_at_the_rate() -> None:
    async def script(pace: Pace) -> None:
        began = asyncio.get_running_loop().time()
        for _ in range(200):
            await pace.turn()
            pace.heard(0.001)
        took = asyncio.get_running_loop().time() - began
        assert 1.9 <= took <= 2.0  # 200 at 100 a second, less what may be made up

    play(script, per_s=100.0)


def test_a_busy_loop_makes_up_for_no_more_than_20_ms() -> None:
    async def script(pace: Pace) -> None:
        loop = asyncio.get_running_loop()
        await pace.turn()
        pace.heard(0.001)
        await asyncio.sleep(5.0)
        began = loop.time()
        burst = 0
        while loop.time() == began:
            await pace.turn()
            pace.heard(0.001)
            burst += 1
        assert burst <= 23  # 20 ms at 1,000 a second, and the one that moved the clock

    play(script)


def test_a_slow_answer_halves_the_window_and_a_503_too() -> None:
    async def script(pace: Pace) -> None:
        await pace.turn()
        pace.heard(SLOW_S + 0.1)
        assert pace.window == WINDOW_START / 2
        await asyncio.sleep(1.5 * HALVE_APART_S)
        await pace.turn()
        pace.heard(0.01, refused=True)
        assert pace.window == WINDOW_START / 4

    play(script)


def test_many_slow_answers_of_one_moment_halve_it_once() -> None:
    async def script(pace: Pace) -> None:
        for _ in range(10):
            await pace.turn()
            pace.heard(1.0)
        assert pace.window == WINDOW_START / 2

    play(script)


def test_the_window_does_not_close() -> None:
    async def script(pace: Pace) -> None:
        for _ in range(20):
            await pace.turn()
            pace.heard(1.0)
            await asyncio.sleep(1.5 * HALVE_APART_S)
        assert pace.window == WINDOW_MIN

    play(script)


def test_who_came_first_is_first() -> None:
    async def script(pace: Pace) -> None:
        had, _ = await crowd(pace, 50)
        for _ in range(50):
            await asyncio.sleep(0.05)
            pace.heard(0.01)
        assert had == list(range(50))

    play(script)


def test_a_newcomer_does_not_overtake_who_waits() -> None:
    async def script(pace: Pace) -> None:
        had, _ = await crowd(pace, 8)
        newcomer = asyncio.create_task(pace.turn())
        await asyncio.sleep(0.035)
        assert 3 <= len(had) < 8 and not newcomer.done()
        await asyncio.sleep(0.1)
        assert len(had) == 8 and newcomer.done()

    play(script, per_s=100.0)


def test_a_waiter_that_gives_up_leaves_his_place_to_the_next() -> None:
    async def script(pace: Pace) -> None:
        had, tasks = await crowd(pace, WINDOW_START + 3)
        await asyncio.sleep(1.0)
        tasks[WINDOW_START].cancel()
        await asyncio.sleep(0)
        pace.heard(0.01)
        await asyncio.sleep(0.1)
        assert had[WINDOW_START:] == [WINDOW_START + 1, WINDOW_START + 2]

    play(script)


def test_a_turn_that_comes_as_its_waiter_gives_up_is_given_back() -> None:
    async def script(pace: Pace) -> None:
        had, tasks = await crowd(pace, WINDOW_START + 1)
        await asyncio.sleep(1.0)
        pace.heard(0.01)
        assert pace.unanswered == WINDOW_START  # the turn is his, and he does not know yet
        tasks[-1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(had) == WINDOW_START and pace.unanswered == WINDOW_START - 1

    play(script)


def test_answers_that_nobody_counted_do_no_harm() -> None:
    async def script(pace: Pace) -> None:
        pace.heard(0.01)
        assert pace.unanswered == 0

    play(script)
