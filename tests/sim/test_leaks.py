"""What is over is freed by reference counting alone: the node runs without a garbage collector."""

from __future__ import annotations

import asyncio
import gc

import pytest

from proxy.calls import Call, Leg
from proxy.calls.reinvite import Reinvite
from proxy.calls.setup import Setup
from proxy.failover.recovery import Recovery
from proxy.sip.client_transaction import ClientTransaction
from proxy.sip.server_transaction import ServerTransaction
from tests.sim.scenario import FIRST, SECOND, hears, play, until
from tests.sim.world import World

SHORT_LIVED = (Call, Leg, Reinvite, Setup, Recovery)
TRANSACTIONS = (ClientTransaction, ServerTransaction)


def alive(world: World) -> list[str]:
    """Objects of finished business that the node still holds (agents keep a record of all their calls)."""
    return [
        repr(each)
        for each in gc.get_objects()
        if isinstance(each, SHORT_LIVED) or (isinstance(each, TRANSACTIONS) and each.stack is world.node.stack)
    ]


def left_without_the_collector(mode: str) -> list[str]:
    """What is left of ten calls, held and talking, that were recovered and have ended."""
    left: list[str] = []

    async def script(world: World) -> None:
        gc.collect()
        gc.disable()
        try:
            for number in range(10):
                await world.place(number)
            held, talking = list(world.phones[0].live)[:5], list(world.phones[0].live)[5:]
            for call in held:
                await call.hold()
            world.network.freeze(FIRST)
            await until(lambda: all(hears(each, SECOND) for each in talking), 3.0)
            world.network.thaw(FIRST)
            for call in held:
                await call.hold(b"sendrecv")
            await asyncio.sleep(2.0)
            for call in (*held, *talking):
                assert call.session is not None
                await call.session.bye()
            await asyncio.sleep(70.0)
            left.extend(alive(world))
        finally:
            gc.enable()

    assert play(script, mode=mode) == []
    return left


@pytest.mark.parametrize("mode", ["relay", "direct"])
def test_recovered_calls_are_freed_without_the_collector(mode: str) -> None:
    assert left_without_the_collector(mode) == []


@pytest.mark.plain
def test_a_leg_that_is_not_unlinked_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leg, "unlink", lambda leg: None)
    assert any("Leg" in each for each in left_without_the_collector("relay"))
