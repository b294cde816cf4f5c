"""Random histories hold every check; a seed replays exactly; a safeguard that is switched off is noticed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from proxy.calls import Call
from tests.sim.explore import explore
from tests.sim.world import World

SEEDS = 300
BATCH = 10


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_histories_hold_every_check(first: int) -> None:
    for seed in range(first, first + BATCH):
        outcome = explore(seed, lines=40)
        assert not outcome.violations, "\n".join([outcome.trace, outcome.replay, *outcome.violations])


@pytest.mark.parametrize("first", range(0, 60, BATCH))
def test_histories_with_rtpengines_that_die_too_hold_every_check(first: int) -> None:
    for seed in range(first, first + BATCH):
        outcome = explore(seed, lines=40, media="rtpengine")
        assert not outcome.violations, "\n".join([outcome.trace, outcome.replay, *outcome.violations])


def test_calls_of_a_dead_rtpengine_that_nobody_anchors_anew_are_noticed() -> None:
    def nobody_hears_of_it(world: World) -> None:
        assert world.rtpengine is not None
        world.rtpengine._listeners.clear()

    outcomes = (explore(seed, nobody_hears_of_it, media="rtpengine") for seed in range(20))
    assert any("hears nobody" in text for outcome in outcomes for text in outcome.violations)


def test_one_seed_is_one_history_in_every_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", "from tests.sim.explore import explore; print(explore(7).digest)"],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert digests == {explore(7).digest}


def forgets_nothing(world: World) -> None:
    world.node.stack.forget_client = lambda transaction: None  # type: ignore[method-assign]


def leaves_dialogs_behind_for_ever(world: World) -> None:
    world.node.calls.left_behind.leave = lambda leg: None  # type: ignore[method-assign]


def does_not_switch_the_media(world: World) -> None:
    def switch(session: str, leg: str, other: str) -> object:
        done = world.host.loop.create_future()
        done.set_result(None)
        return done

    world.relay.switch = switch  # type: ignore[method-assign, assignment]


def does_not_hear_who_belongs_together(world: World) -> None:
    world.node.calls.pairs.hear = lambda call, leg, message: False  # type: ignore[method-assign]


@pytest.mark.plain
@pytest.mark.parametrize(
    ("ablate", "complaint"),
    [
        (does_not_hear_who_belongs_together, "does not hear call"),
        (forgets_nothing, "client transactions left"),
        (leaves_dialogs_behind_for_ever, "still has a session"),
        (does_not_switch_the_media, "hears nobody"),
    ],
)
def test_a_safeguard_that_is_switched_off_is_noticed(ablate: Callable[[World], None], complaint: str) -> None:
    assert complaint in first_violations(ablate)


@pytest.mark.plain
def test_a_held_invite_that_is_not_refused_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Call, "refuse_held_invites", lambda call, leg: None)
    assert "although a server was there" in first_violations(None) or "hears nobody" in first_violations(None)


def first_violations(ablate: Callable[[World], None] | None) -> str:
    """What the first history has to say that notices."""
    for seed in range(100):
        outcome = explore(seed, ablate)
        if outcome.violations:
            return "\n".join(outcome.violations)
    return ""
