"""What calls tell health of a backend: who answers is there, whatever it says; who forgot a dialog is not silent."""

from __future__ import annotations

import asyncio

import pytest

from proxy.backends import Backend, Verdict
from proxy.failover import Refusal, RefusedOrder
from proxy.health import Evidence
from proxy.sip.message import Request
from proxy.sip.server_transaction import ServerTransaction
from proxy.sip.user_agent import CallFailed, Incoming
from tests.sim.agents import Conversation
from tests.sim.scenario import FIRST, SECOND, hears, play, until
from tests.sim.world import World


def backend(world: World, name: str) -> Backend:
    found = world.node.backends.get(name)
    assert found is not None
    return found


def counted(world: World, name: str, evidence: Evidence) -> int:
    known = world.node.health.explain(backend(world, name))["evidence"]
    return int(known.get(str(evidence), 0))


@pytest.mark.parametrize("status", [404, 486, 503])
def test_a_refusal_shows_that_a_backend_answers_calls(status: int) -> None:
    async def script(world: World) -> None:
        async def refuses(incoming: Incoming) -> None:
            incoming.reject(status)

        for address in (FIRST, SECOND):
            world.servers[address].ua.on_invite = refuses
        with pytest.raises(CallFailed):
            await world.place(1)
        assert counted(world, "as1", Evidence.LIVE_OK) == 1

    assert play(script) == []


def test_calls_that_nobody_answers_do_not_add_up_over_calls_that_are_refused() -> None:
    async def script(world: World) -> None:
        first, server = backend(world, "as1"), world.servers[FIRST]
        for _ in range(world.settings.pools["pbx"].health.live_fall):
            server.ua.on_invite = None  # 480
            with pytest.raises(CallFailed):
                await world.place(1)
            world.node.health.report_live(first, False)
            await asyncio.sleep(10.0)
        assert first.verdict is Verdict.UP

    assert play(script) == []


def says_nothing_to_info(end: Conversation) -> None:
    """Or much too late."""
    session = end.session
    assert session is not None
    receive = session.receive

    def instead(request: Request, transaction: ServerTransaction) -> None:
        if request.method == b"INFO":
            asyncio.get_running_loop().call_later(40.0, transaction.reply, 200)
        else:
            receive(request, transaction)

    session.receive = instead  # type: ignore[method-assign]


def test_requests_that_nobody_answers_are_no_restart() -> None:
    async def script(world: World) -> None:
        calls = [await world.place(number) for number in range(3)]
        for end in world.servers[FIRST].live:
            says_nothing_to_info(end)
        sessions = [call.session for call in calls if call.session is not None]
        await asyncio.gather(*(session.info(b"application/dtmf-relay", b"Signal=5\r\n") for session in sessions))
        assert counted(world, "as1", Evidence.DIALOG_UNKNOWN) == 0
        assert counted(world, "as1", Evidence.LIVE_TIMEOUT) == 3
        assert backend(world, "as1").verdict is Verdict.UP

    assert play(script, patience_s=40.0) == []


def test_dialogs_that_are_unknown_are_a_restart() -> None:
    async def script(world: World) -> None:
        calls = [await world.place(number) for number in range(4)]
        world.network.kill(FIRST)
        world.restart(FIRST)
        for call in calls[:3]:
            assert call.session is not None
            await call.session.info(b"application/dtmf-relay", b"Signal=5\r\n")
        assert counted(world, "as1", Evidence.DIALOG_UNKNOWN) == 3
        await until(lambda: hears(calls[3], SECOND), 1.0)  # which nobody has asked anything in

    assert play(script) == []


def test_a_request_that_crosses_the_bye_of_a_backend_says_nothing_of_it() -> None:
    async def script(world: World) -> None:
        calls = [await world.place(number) for number in range(3)]
        for call in calls:
            assert call.session is not None
            info = asyncio.create_task(call.session.info(b"application/dtmf-relay", b"Signal=5\r\n"))
            await asyncio.sleep(0.0006)  # it is on its way to the backend
            await world.hang_up_far(call)
            await info
        assert counted(world, "as1", Evidence.DIALOG_UNKNOWN) == 0
        assert not world.node.failovers.reports

    assert play(script) == []


# -- orders


def test_an_order_does_not_move_the_calls_of_a_carrier() -> None:
    async def script(world: World) -> None:
        trunk, failovers = backend(world, "trunk"), world.node.failovers
        await world.place_out(1, FIRST)
        with pytest.raises(RefusedOrder, match="recover: false"):
            failovers.failover(trunk)
        with pytest.raises(RefusedOrder, match="recover: false"):
            failovers.drain(trunk, move=True)
        assert failovers.refusals[Refusal.CARRIER] == 2 and not failovers.reports
        assert trunk.usable(world.loop.time())
        assert world.carrier.live

    assert play(script) == []
