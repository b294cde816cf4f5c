"""Faults of our own: whatever is raised while a call is set up, its caller is answered and nothing of it stays."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from proxy.sip.user_agent import CallFailed, Incoming
from tests.sim.scenario import FIRST, SECOND, hears, play
from tests.sim.world import World


async def refused(world: World) -> int:
    with pytest.raises(CallFailed) as caught:
        await world.place(1)
    return caught.value.status


def stays(world: World) -> list[object]:
    node = world.node
    loads = [backend.calls for backend in node.backends if backend.calls]
    return [*node.calls.live, *node.calls.index, *loads]


def complaints(script: Callable[[World], Awaitable[None]]) -> list[str]:
    """What is wrong afterwards, besides that a call did not come about; the log's complaints are what was asked for."""
    return [each for each in play(script) if "Traceback" not in each and "cannot be reached" not in each]


def test_a_backend_that_no_listener_can_reach_costs_the_call_503_and_nothing_stays() -> None:
    async def script(world: World) -> None:
        world.node.stack.transports.clear()
        assert await refused(world) == 503
        assert stays(world) == []
        assert not world.node.stack.errors["handler"]

    assert complaints(script) == []


def test_a_refusal_with_a_retry_after_of_thousands_of_digits_is_passed_over_like_any_other() -> None:
    async def script(world: World) -> None:
        async def refuse(incoming: Incoming) -> None:
            incoming.reject(503, [(b"Retry-After", b"9" * 5000)])

        world.servers[FIRST].ua.on_invite = refuse
        call = await world.place(1)
        assert hears(call, SECOND)

    assert play(script) == []


@pytest.mark.parametrize("ask", ["offer", "answer"])
def test_a_fault_in_a_request_or_in_its_answer_costs_the_call_500_and_nothing_stays(ask: str) -> None:
    async def script(world: World) -> None:
        def fails(*_: Any, **__: Any) -> Any:
            raise RuntimeError("a fault")

        good = getattr(world.relay, ask)
        setattr(world.relay, ask, fails)
        assert await refused(world) == 500
        assert stays(world) == []
        assert world.node.stack.errors.pop("handler") == 1
        setattr(world.relay, ask, good)
        call = await world.place(2)
        assert not call.ended and world.servers[FIRST].live

    assert complaints(script) == []
