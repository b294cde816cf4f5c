"""What a session with FreeSWITCH can be asked for, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from proxy.backends.control.api import (
    ChannelDown,
    ControlError,
)
from proxy.backends.control.esl import EslSession
from tests.unit.backends.control.esl_site import THERE, Site, simulate


def test_commands_do_what_they_say() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        server, session = site.server, site.session
        channel = await session.originate(
            "sofia/external/sip:600@192.0.2.9", {"sip_h_X-Aqueduct-Pair": "p,1"}, context="public", extension="pair"
        )
        assert channel in server.channels
        assert "sip_h_X-Aqueduct-Pair='p,1'" in next(line for line in server.apis if line.startswith("originate"))
        await session.join(channel, "3000")
        await session.mute("3000", channel, True)
        assert await site.settle() != []
        assert not next(iter(server.rooms["3000"].members.values())).speak
        await session.mute("3000", channel, False)
        await session.lock("3000", True)
        await session.record("3000", "/rec/3000.wav")
        assert server.rooms["3000"].locked
        assert server.rooms["3000"].recordings == ["/rec/3000.wav"]
        await session.record("3000", None)
        await session.lock("3000", False)
        assert server.rooms["3000"].recordings == []
        assert not server.rooms["3000"].locked
        await session.hang_up(channel)
        assert server.channels == {}
        assert (await site.settle())[-1] == ChannelDown(channel, 16)

    simulate(main)


@pytest.mark.parametrize(
    ("order", "says"),
    [
        (lambda s: s.lock("999", True), "conference: Conference 999 not found"),
        (lambda s: s.hang_up("nobody"), "uuid_kill: -ERR No such channel!"),
        (lambda s: s.mute("999", "nobody", True), "nobody is not in conference 999"),
        (lambda s: s.lock("a b", True), "'a b' cannot be an argument of a command"),
        (lambda s: s.join("u1\n\nexit", "3000"), r"'u1\\n\\nexit' cannot be an argument of a command"),
        (lambda s: s.originate("user/busy", {}, context="c", extension="e"), "originate: -ERR USER_BUSY"),
        (lambda s: s.originate("user/x", {"a": "${b}"}, context="c", extension="e"), "cannot be the value"),
        (lambda s: s.originate("user/x y", {}, context="c", extension="e"), "'user/x y' is no dial string"),
    ],
)
def test_what_cannot_be_done_is_said(order: Callable[[EslSession], Coroutine[Any, Any, Any]], says: str) -> None:
    async def main(site: Site) -> None:
        await site.synced()
        with pytest.raises(ControlError, match=says):
            await order(site.session)
        assert site.session.up

    simulate(main)


def test_commands_that_are_under_way_at_once_get_their_own_answers() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        for number in range(20):
            site.server.call(f"u{number}", f"{number}@192.0.2.1")
        results = await asyncio.gather(
            *(site.session.hang_up(f"u{number}" if number % 2 else f"nobody{number}") for number in range(20)),
            return_exceptions=True,
        )
        assert [result is None for result in results] == [number % 2 == 1 for number in range(20)]

    simulate(main)


def test_a_command_without_an_answer_times_out_and_the_next_one_gets_its_own() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        one, two = site.server.call("u1", "one@192.0.2.1"), site.server.call("u2", "two@192.0.2.1")
        site.server.listener.jobs = False
        with pytest.raises(ControlError, match="uuid_kill: no answer within 5 s"):
            await site.session.hang_up(one.uuid)
        site.server.listener.jobs = True
        await site.session.hang_up(two.uuid)
        assert site.server.channels == {}

    simulate(main)


def test_commands_fail_at_once_when_the_session_is_lost() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        site.server.listener.mute = True
        waiting = asyncio.ensure_future(site.session.hang_up("u1"))
        await asyncio.sleep(0.01)
        site.network.kill(THERE)
        with pytest.raises(ControlError, match="was lost"):
            await waiting
        with pytest.raises(ControlError, match="not up"):
            await site.session.hang_up("u1")

    simulate(main)
