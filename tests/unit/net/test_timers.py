"""The node's timers, on a loop whose clock the test moves by hand."""

from __future__ import annotations

import pytest

from proxy.net.timers import SLOT_S, Timers
from tests.unit.net.hand_loop import HandLoop


@pytest.fixture
def loop() -> HandLoop:
    return HandLoop()


@pytest.fixture
def timers(loop: HandLoop) -> Timers:
    return Timers(loop)  # type: ignore[arg-type]


def test_timer_fires_once_with_its_argument(loop: HandLoop, timers: Timers) -> None:
    fired: list[object] = []
    timer = timers.start(0.5, fired.append, "a")
    loop.advance(0.49)
    assert fired == []
    loop.advance(0.03)
    assert fired == ["a"]
    assert timer.callback is None  # it keeps nothing alive
    loop.advance(10)
    assert fired == ["a"]


@pytest.mark.parametrize("start", [0.0, 0.004, 1000.0, 1000.00999, 123456.789, 86400 * 365 + 0.003])
@pytest.mark.parametrize("delay", [0.0, 0.0001, 0.009999, 0.01, 0.5, 32.0])
def test_timer_is_never_early_and_at_most_one_slot_late(start: float, delay: float) -> None:
    loop = HandLoop(start)
    timers = Timers(loop)  # type: ignore[arg-type]
    fired: list[float] = []
    timers.start(delay, lambda _: fired.append(loop.now))
    loop.advance(delay + 1)
    assert start + delay <= fired[0] <= start + delay + SLOT_S + 1e-6


def test_cancelled_timer_does_not_fire_and_lets_go_of_its_argument(loop: HandLoop, timers: Timers) -> None:
    fired: list[object] = []
    timer = timers.start(0.5, fired.append, "a")
    timer.cancel()
    timer.cancel()
    assert (timer.callback, timer.argument) == (None, None)
    loop.advance(1)
    assert fired == []


def test_timer_has_let_go_in_its_own_callback_and_may_be_started_again(loop: HandLoop, timers: Timers) -> None:
    seen: list[bool] = []

    def again(_: object) -> None:
        seen.append(timer.callback is None)
        if len(seen) < 3:
            timers.start(0.1, again)

    timer = timers.start(0.1, again)
    loop.advance(1)
    assert seen == [True, True, True]


def test_timer_cancelled_by_another_of_the_same_slot_does_not_fire(loop: HandLoop, timers: Timers) -> None:
    fired: list[str] = []
    timers.start(0.1, lambda _: second.cancel())
    second = timers.start(0.1, lambda _: fired.append("second"))
    loop.advance(1)
    assert fired == []


def test_timers_fire_in_the_order_of_their_slots(loop: HandLoop, timers: Timers) -> None:
    fired: list[int] = []
    for delay_ms in (300, 100, 200, 50, 250):
        timers.start(delay_ms / 1000, fired.append, delay_ms)
    loop.advance(1)
    assert fired == [50, 100, 200, 250, 300]


def test_earlier_timer_moves_the_alarm_forward(loop: HandLoop, timers: Timers) -> None:
    fired: list[str] = []
    timers.start(32, fired.append, "late")
    timers.start(0.1, fired.append, "soon")
    loop.advance(0.2)
    assert fired == ["soon"]
    loop.advance(32)
    assert fired == ["soon", "late"]


def test_loop_has_one_alarm_whatever_the_number_of_timers(loop: HandLoop, timers: Timers) -> None:
    for number in range(500):
        timers.start(number / 100, lambda _: None)
        assert loop.armed == 1
    loop.advance(10)
    assert loop.armed == 0


def test_fault_of_one_timer_is_reported_and_stops_no_other(loop: HandLoop, timers: Timers) -> None:
    fired: list[str] = []
    timers.start(0.1, lambda _: 1 / 0)
    timers.start(0.1, fired.append, "same slot")
    timers.start(0.2, fired.append, "later")
    loop.advance(1)
    assert fired == ["same slot", "later"]
    assert isinstance(loop.failures[0]["exception"], ZeroDivisionError)


def test_timers_that_fell_due_during_a_stall_all_fire(loop: HandLoop, timers: Timers) -> None:
    fired: list[int] = []
    for number in range(20):
        timers.start(0.1 * number, fired.append, number)
    loop.now += 5  # the loop was not let run
    loop.advance(0)
    assert fired == list(range(20))


def test_timer_started_by_a_callback_of_a_late_slot_fires_in_time(loop: HandLoop, timers: Timers) -> None:
    fired: list[float] = []
    timers.start(0.1, lambda _: timers.start(0.0, lambda _: fired.append(loop.now)))
    loop.advance(1)
    assert fired and 0.1 <= fired[0] - 1000.0 <= 0.1 + 3 * SLOT_S
