"""What people and servers of a scenario do, and what a test then waits for: shared by the tests of traps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from proxy.sip.message import Response
from proxy.sip.user_agent import Headers, Incoming
from tests.sim.agents import Conversation, Server
from tests.sim.scenario import hears, until
from tests.sim.world import World

both_modes = pytest.mark.parametrize("mode", ["relay", "direct"])


def end_at(world: World, address: str, number: bytes = b"1") -> Conversation:
    """The latest end of a call at a server."""
    return world.servers[address].calls[number][-1]


async def asks(world: World, end: Conversation, method: bytes) -> int:
    """A server sends a request in its dialog; the status of the answer."""
    assert end.session is not None
    answer: Response = await world.on_server(end.agent.host.address, end.session.request(method))
    return answer.status


async def moved_to(world: World, call: Conversation, address: str, within_s: float = 2.0) -> None:
    await until(lambda: hears(call, address) and all(each.finished for each in world.node.failovers.reports), within_s)


def answering(
    server: Server, answer: Callable[[Conversation], bytes], headers: Headers = ()
) -> Callable[[Incoming], Awaitable[None]]:
    """A server's `on_invite` that answers at once with that description."""

    async def on_invite(incoming: Incoming) -> None:
        conversation = Conversation(server, incoming.request.get(b"x-call") or b"?")
        server.calls.setdefault(conversation.number, []).append(conversation)
        conversation.listen()
        session = incoming.accept(answer(conversation), headers)
        if session is not None:
            conversation.talk(session)

    return on_invite


def all_moved(world: World) -> bool:
    reports = world.node.failovers.reports
    return bool(reports) and all(report.finished for report in reports)
