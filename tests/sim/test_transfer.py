"""Transfer with consultation: a dialog that a phone names reaches the backend under the name that it has there."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import quote, unquote

import pytest

from proxy.sip.dialog import Dialog
from proxy.sip.message import Request
from proxy.sip.user_agent import Incoming, Session
from tests.sim.acting import both_modes, end_at, moved_to
from tests.sim.agents import Conversation
from tests.sim.scenario import FIRST, SECOND, hears, play
from tests.sim.world import World


def session_of(call: Conversation) -> Session:
    assert call.session is not None
    return call.session


def name_of(dialog: Dialog) -> str:
    """The dialog as whoever holds it names it to its peer (RFC 3891 §3)."""
    parts = dialog.call_id, dialog.remote_tag, dialog.local_tag
    return "{};to-tag={};from-tag={}".format(*(part.decode() for part in parts))


def holds(call: Conversation, value: str) -> bool:
    """`value` is the name that the holder of this end knows its own dialog by."""
    dialog = session_of(call).dialog
    parts = dialog.call_id, dialog.local_tag, dialog.remote_tag
    return value.startswith("{};to-tag={};from-tag={}".format(*(part.decode() for part in parts)))


def noting(call: Conversation) -> list[Request]:
    heard: list[Request] = []

    def note(request: Request) -> int:
        heard.append(request)
        return 202

    session_of(call).on_request = note
    return heard


def replaced_in(request: Request) -> str:
    found = re.search(r"\?Replaces=([^&>]+)", (request.get(b"refer-to") or b"").decode())
    assert found
    return unquote(found[1])


async def refer(call: Conversation, value: str) -> int:
    headers = [(b"Refer-To", f"<sip:200@10.0.0.1?Replaces={quote(value, safe='')}&X=1>".encode())]
    return (await session_of(call).request(b"REFER", headers=headers)).status


@both_modes
def test_a_phone_refers_to_its_other_call(mode: str) -> None:
    async def script(world: World) -> None:
        customer, consulted = await world.place(1), await world.place(2)
        heard = noting(end_at(world, FIRST, b"1"))
        assert await refer(customer, name_of(session_of(consulted).dialog)) == 202
        (request,) = heard
        assert holds(end_at(world, FIRST, b"2"), replaced_in(request))
        assert (request.get(b"refer-to") or b"").endswith(b"&X=1>")

    assert play(script, mode=mode) == []


def test_a_backend_refers_to_the_other_call_of_a_phone() -> None:
    async def script(world: World) -> None:
        first, second = await world.place(1), await world.place(2)
        heard = noting(first)
        named = name_of(session_of(end_at(world, FIRST, b"2")).dialog)
        assert await world.on_server(FIRST, refer(end_at(world, FIRST, b"1"), named)) == 202
        assert holds(second, replaced_in(heard[0]))

    assert play(script) == []


def test_after_a_failover_the_name_is_that_on_the_backup() -> None:
    async def script(world: World) -> None:
        customer, consulted = await world.place(1), await world.place(2)
        world.network.kill(FIRST)
        await moved_to(world, customer, SECOND)
        await moved_to(world, consulted, SECOND)
        heard = noting(end_at(world, SECOND, b"1"))
        assert await refer(customer, name_of(session_of(consulted).dialog) + ";early-only") == 202
        assert holds(end_at(world, SECOND, b"2"), replaced_in(heard[0]))
        assert replaced_in(heard[0]).endswith(";early-only")

    assert play(script) == []


@pytest.mark.parametrize("change", ["call-id", "tag"])
def test_what_names_none_of_our_dialogs_crosses_as_it_came(change: str) -> None:
    async def script(world: World) -> None:
        customer, consulted = await world.place(1), await world.place(2)
        heard = noting(end_at(world, FIRST, b"1"))
        named = name_of(session_of(consulted).dialog)
        wrong = "x" + named if change == "call-id" else named + "x"
        assert await refer(customer, wrong) == 202
        assert replaced_in(heard[0]) == wrong

    assert play(script) == []


def test_an_invite_that_replaces_a_dialog_goes_where_that_dialog_is() -> None:
    async def script(world: World) -> None:
        call = await world.place(1)
        world.network.kill(FIRST)
        await moved_to(world, call, SECOND)
        world.restart(FIRST)
        await asyncio.sleep(5.0)  # it is well again, and takes what is new
        asked: list[Request] = []
        takes = world.servers[SECOND].ua.on_invite

        async def noted(incoming: Incoming) -> None:
            asked.append(incoming.request)
            await takes(incoming)

        world.servers[SECOND].ua.on_invite = noted
        await world.place(2)
        named = name_of(session_of(call).dialog).encode()
        taken = await world.place(3, headers=[(b"Replaces", named)])
        (request,) = asked
        assert holds(end_at(world, SECOND, b"1"), (request.get(b"replaces") or b"").decode())
        assert hears(taken, SECOND)

    assert play(script) == []
