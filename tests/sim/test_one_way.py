"""A path that is cut in one direction only: a backend's media comes, and nothing of ours reaches it.

Its SIP is silent and its streams flow, as with a dead SIP module. But people whom it connects do not hear each other
any more, so a pair stays connected in the relay until it is known that the backend hears us.
"""

from __future__ import annotations

import asyncio

import pytest

from proxy.backends import Verdict
from proxy.health import Diagnosis
from tests.sim.acting import end_at
from tests.sim.scenario import FIRST, SECOND, hears, play, until
from tests.sim.test_bypass import Pair, pair, past, silence, talk, through
from tests.sim.test_liveness import backend
from tests.sim.world import NODE, World

standbys = pytest.mark.parametrize("standby", [None, {"standby": "hot"}])


async def connected(world: World) -> Pair:
    """A pair; and callers who are connected to nobody, so that they go on hearing the backend."""
    people = await pair(world)
    for number in (10, 11):
        await world.place(number)
    await asyncio.sleep(3.0)
    return people


async def cut_one_way(world: World, people: Pair) -> None:
    """Nothing of ours reaches the backend any more."""
    world.network.cut(NODE, FIRST, both=False)
    await until(lambda: past(people), 0.3)


@standbys
def test_a_pair_stays_connected_while_nothing_says_that_the_backend_hears_us(standby: dict[str, str] | None) -> None:
    async def script(world: World) -> None:
        people = await connected(world)
        longest = [0.0]
        listening = asyncio.create_task(silence(world, people, longest))
        await cut_one_way(world, people)
        await asyncio.sleep(15.0)
        assert past(people) and not world.node.failovers.reports
        assert (backend(world).verdict, diagnosis(world)) == (Verdict.SUSPECT, Diagnosis.SIP_DEAF)
        world.network.join(NODE, FIRST, both=False)
        await until(lambda: through(world, people, FIRST), 3.0)
        listening.cancel()
        assert longest[0] < 0.3

    assert play(script, standby=standby) == []


@standbys
def test_a_backend_whose_host_answers_gets_its_pairs_back(standby: dict[str, str] | None) -> None:
    """Only its SIP is dead: it records, plays and listens for digits."""

    async def script(world: World) -> None:
        people = await connected(world)
        port = world.servers[FIRST].host.udp_ports[5060]
        port.arrive = lambda data, source: True  # type: ignore[method-assign]
        await until(lambda: diagnosis(world) is Diagnosis.SIP_DEAF, 1.0)
        await asyncio.sleep(0.1)
        assert backend(world).verdict is Verdict.DEGRADED and through(world, people, FIRST)
        del port.arrive
        await until(lambda: backend(world).verdict is Verdict.UP, 3.0)

    assert play(script, standby=standby) == []


@standbys
def test_a_backend_that_dies_after_all_is_bypassed_without_a_break(standby: dict[str, str] | None) -> None:
    async def script(world: World) -> None:
        people = await connected(world)
        await cut_one_way(world, people)
        await asyncio.sleep(2.0)
        world.network.freeze(FIRST)
        end = world.loop.time() + 4.0
        while world.loop.time() < end:
            assert talk(world, people)
            await asyncio.sleep(0.001)
        assert not past(people)

    assert play(script, standby=standby) == []


@standbys
def test_who_gets_no_answer_is_carried_over_with_the_one_he_talks_to(standby: dict[str, str] | None) -> None:
    async def script(world: World) -> None:
        people = await connected(world)
        await cut_one_way(world, people)
        session = people[0].session
        assert session is not None
        asked = asyncio.ensure_future(session.info(b"application/dtmf-relay", b"Signal=5\r\n"))
        await until(lambda: not past(people), 40.0)
        assert through(world, people, SECOND)
        await asked

    assert play(script, standby=standby, patience_s=60.0) == []


def test_a_deaf_backend_that_is_heard_may_part_them() -> None:
    async def script(world: World) -> None:
        people = await connected(world)
        await cut_one_way(world, people)
        end = end_at(world, FIRST)
        assert end.session is not None
        world.on_server(FIRST, end.session.request(b"INFO", b"", [(b"X-Aqueduct-Pair", b"")]))
        await until(lambda: all(hears(one, FIRST) for one in people), 0.1)
        for one in people:
            end_at(world, FIRST, one.number).bond = one.bond = b""

    assert play(script) == []


def diagnosis(world: World) -> Diagnosis | None:
    said = world.node.health.explain(backend(world))["diagnosis"]
    return Diagnosis(said) if said else None
