"""A scenario: one script of what people do and what befalls them, in a small world, under all checks.

`play` runs it, undoes every fault, lets everybody hang up and returns what the checks complain of; a test asserts
that this is nothing, or, with a safeguard taken out, that it is something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.sim.agents import Conversation
from tests.sim.checks import Checks
from tests.sim.loop import VirtualLoop
from tests.sim.world import NODE, World, server_address

Script = Callable[[World], Awaitable[None]]
FIRST, SECOND, THIRD = (server_address(number) for number in range(3))
PHONE = "10.0.1.1"


def play(script: Script, ablate: Callable[[World], None] | None = None, **options: Any) -> list[str]:
    """Violations of the checks in this scenario; an assertion of the script itself is raised. `prepare` is called with
    the world before its node is started."""

    async def run() -> list[str]:
        if prepare is not None:
            prepare(world)
        await world.start()
        if ablate is not None:
            ablate(world)
        checks = Checks(world, patience_s=options_patience)
        watch = asyncio.create_task(checks.watch())
        await asyncio.sleep(checks.patience_s + 2.0)  # then all is calm enough for the checks
        await script(world)
        await finish(world)
        watch.cancel()
        checks.at_rest()
        return checks.violations

    options_patience = options.pop("patience_s", 6.0)
    prepare = options.pop("prepare", None)
    loop = VirtualLoop()
    world = World(loop, 1, **options)
    try:
        return loop.run(run())
    except AssertionError as error:
        error.add_note(world.network.trace.tail(60))
        raise
    finally:
        world.stop()


async def finish(world: World) -> None:
    """Every fault is undone, the phones hang up, and the longest transaction has its time."""
    world.network.thaw(NODE)
    for address in (*world.addresses, *world.engines):
        world.network.join(NODE, address)
        world.network.thaw(address)
        if not world.network.hosts[address].alive:
            world.restart(address)
    await asyncio.sleep(5.0)
    for phone in (*world.phones, world.carrier):
        for conversation in list(phone.live):
            assert conversation.session is not None
            if conversation.bond:  # the server, or a bypass, ends the others that it is connected to
                world.hung_up.update(each.number for phone in world.phones for each in phone.live)
            await conversation.session.bye()
    await asyncio.sleep(105.0)


async def until(condition: Callable[[], object], within_s: float, step_s: float = 0.01) -> None:
    """Wait until `condition` holds. Fails when it does not in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not condition():
        assert loop.time() < deadline, f"{condition} did not hold within {within_s} s"
        await asyncio.sleep(step_s)


def hears(conversation: Conversation, address: str) -> bool:
    source = conversation.hears()
    return source is not None and source[0] == address
