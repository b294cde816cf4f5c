"""When callers are given comfort audio, and when it is taken back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from proxy.backends import Backend, Verdict
from proxy.config import BackendSettings
from proxy.failover import Comfort
from proxy.health import VerdictChanged

BACKEND = Backend("as1", "pbx", BackendSettings.model_validate({"address": "192.0.2.1"}))
UP, SUSPECT, DOWN, DEGRADED, UNKNOWN = Verdict.UP, Verdict.SUSPECT, Verdict.DOWN, Verdict.DEGRADED, Verdict.UNKNOWN


class Plane:
    def __init__(self, *capabilities: str) -> None:
        self.capabilities = frozenset(capabilities)
        self.told: list[tuple[str, bool]] = []

    def comfort(self, group: str, on: bool) -> None:
        self.told.append((group, on))


class Watching:
    """Health, as far as a listener sees it."""

    def subscribe(self, listener: Callable[[VerdictChanged], None]) -> None:
        self.listener = listener

    def goes(self, *verdicts: Verdict) -> None:
        for previous, verdict in pairwise(verdicts):
            self.listener(VerdictChanged(BACKEND, previous, verdict, None, "", 0.0, None, ()))


def told(plane: Plane, *verdicts: Verdict) -> list[bool]:
    health: Any = Watching()
    planes: Any = [plane]
    Comfort(planes, health)
    health.goes(*verdicts)
    assert {group for group, _ in plane.told} <= {"as1"}
    return [on for _, on in plane.told]


@pytest.mark.parametrize(
    ("verdicts", "relay", "engine"),
    [
        ((UNKNOWN, UP, SUSPECT, UP), [True, False], []),
        ((UP, SUSPECT, DOWN, UP), [True, False], [True, False]),
        ((UP, DOWN, DEGRADED), [True, False], [True, False]),
        ((UP, SUSPECT, DOWN, DOWN), [True], [True]),
        ((UP, DEGRADED, UP), [], []),
    ],
)
def test_a_relay_that_fills_silence_only_begins_at_a_suspicion(
    verdicts: tuple[Verdict, ...], relay: list[bool], engine: list[bool]
) -> None:
    assert told(Plane("comfort", "liveness"), *verdicts) == relay
    assert told(Plane("comfort"), *verdicts) == engine


def test_a_plane_that_cannot_is_not_asked() -> None:
    assert told(Plane("liveness"), UP, DOWN, UP) == []
