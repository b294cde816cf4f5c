"""Losses of a session with FreeSWITCH, garbage, floods and faults of our own."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from random import Random

import pytest

from proxy.backends.control.api import (
    ChannelUp,
    Event,
    Loss,
    Lost,
    Synced,
    Up,
)
from proxy.backends.control.session import SLICE
from tests.sim.loop import VirtualLoop
from tests.sim.network import SimNetwork
from tests.unit.backends.control.esl_site import THERE, UP, Site, alive, simulate


def test_a_wrong_password_is_denied_and_tried_again_much_later() -> None:
    async def main(site: Site) -> None:
        await site.until(lambda: len(site.lost()) == 2, 100)
        assert site.lost() == [Lost(Loss.DENIED, "-ERR invalid", False)] * 2
        assert len(site.server.listeners) == 2
        assert not site.session.up

    simulate(main, password="wrong")


def test_an_address_that_is_not_in_the_acl_is_denied() -> None:
    async def main(site: Site) -> None:
        await site.until(lambda: bool(site.told))
        assert site.told == [Lost(Loss.DENIED, "Access Denied, go away.", False)]

    simulate(main, acl=False)


def test_nobody_listens() -> None:
    async def main(site: Site) -> None:
        site.server.stop_listening()
        await site.until(lambda: bool(site.told))
        (lost,) = site.lost()
        assert (lost.loss, lost.was_up) == (Loss.REFUSED, False)

    simulate(main)


def test_no_greeting_is_silence() -> None:
    async def main(site: Site) -> None:
        await site.until(lambda: bool(site.told))
        assert site.told == [Lost(Loss.SILENT, "no answer to the log-in within 2 s", False)]

    simulate(main, greets=False)


def test_a_kill_is_told_as_soon_as_its_kernel_closes_the_connection() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        began = site.network.loop.time()
        site.network.kill(THERE)
        await site.until(lambda: bool(site.told))
        assert site.network.loop.time() - began < 0.01
        (lost,) = site.lost()
        assert (lost.loss, lost.was_up) == (Loss.CLOSED, True)

    simulate(main)


def test_a_half_open_connection_is_found_by_the_sign_of_life() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        began = site.network.loop.time()
        site.network.power_off(THERE)
        await site.until(lambda: bool(site.told))
        assert site.told == [Lost(Loss.SILENT, "no answer to the sign of life within 1 s", True)]
        assert 1.0 <= site.network.loop.time() - began <= 2.1

    simulate(main)


def test_a_quiet_freeswitch_is_asked_and_kept() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        await asyncio.sleep(10)
        assert site.told == []
        assert 9 <= site.server.apis.count("echo alive") <= 10

    simulate(main)


def test_a_freeswitch_that_shuts_down_says_so() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        site.server.shutdown()
        await site.until(lambda: bool(site.told))
        assert site.told == [Lost(Loss.STOPPING, "System Shutting Down", True)]

    simulate(main)


def test_a_disconnect_notice_is_told_with_its_text() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        site.server.listener.disconnect("killed listener because of lost events\n")
        await site.until(lambda: bool(site.told))
        assert site.told == [Lost(Loss.CLOSED, "killed listener because of lost events", True)]

    simulate(main)


def test_after_a_restart_it_begins_anew_and_says_that_it_is_another_process() -> None:
    async def main(site: Site) -> None:
        alive(site.server)
        await site.synced()
        site.server.shutdown()
        site.server.channels.clear()
        site.server.rooms.clear()
        site.server.bridges.clear()
        await site.until(lambda: len(site.lost()) == 2)
        site.server.core = "another"
        await site.server.start()
        await site.until(lambda: Synced() in site.told)
        assert site.told[-2:] == [Up(UP.version, "another"), Synced()]
        losses = [(lost.loss, lost.was_up) for lost in site.lost()]
        assert losses[0] == (Loss.STOPPING, True)
        assert set(losses[1:]) == {(Loss.REFUSED, False)}

    simulate(main)


def test_attempts_grow_rarer() -> None:
    async def main(site: Site) -> None:
        site.server.stop_listening()
        at: list[float] = []
        before = 0
        while site.network.loop.time() < 1024 + 60:
            await asyncio.sleep(0.01)
            if len(site.lost()) > before:
                before = len(site.lost())
                at.append(site.network.loop.time())
        pauses = [after - before for before, after in pairwise(at)]
        assert 15 <= len(at) <= 25
        assert pauses[0] < 0.02 and min(pauses[-3:]) >= 3.7 and max(pauses) <= 6.3
        assert len({round(pause, 1) for pause in pauses[-3:]}) > 1  # spread

    simulate(main)


# What is not this protocol


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("HTTP/1.1 400 Bad Request\nServer: x\n\n", "no event socket"),
        ("\x00\x01\x02\n\n", "no header in"),
        ("Content-Type: api/response\nContent-Length: -1\n\n", "Content-Length '-1'"),
        ("Content-Type: api/response\nContent-Length: 99999999999\n\n", "Content-Length '99999999999'"),
        ("Content-Type: api/response\nContent-Length: 900000000\n\n", "a body of 900000000 bytes"),
        ("Content-Type: command/reply\nReply-Text: +OK\n\n", "an answer that nobody asked for"),
        ("x" * 70_000, "a head of more than 65536 bytes"),
    ],
)
def test_garbage_is_located_and_ends_the_session(words: str, why: str) -> None:
    async def main(site: Site) -> None:
        await site.until(lambda: bool(site.server.listeners))
        site.server.listener.write(words)
        await site.until(lambda: bool(site.told))
        (lost,) = site.lost()[:1]
        assert lost.loss is Loss.PROTOCOL
        assert why in lost.why

    simulate(main, greets=False)


def test_an_event_that_cannot_be_read_is_counted_and_the_next_one_is_good() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        for body in ("{", "[]", '"x"', ""):
            site.server.listener.write(f"Content-Length: {len(body)}\nContent-Type: text/event-json\n\n{body}")
        site.server.listener.write("Content-Type: log/data\nContent-Length: 3\nLog-Level: 7\n\nabc")
        channel = site.server.call("u1", "one@192.0.2.1")
        assert await site.settle() == [ChannelUp("u1", "one@192.0.2.1", channel.name, "3000")]
        assert site.session.counters["malformed"] == 4
        assert site.session.counters["ignored"] == 1

    simulate(main)


def test_more_than_a_session_may_hold_ends_it() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        one = "Content-Length: 2\nContent-Type: text/event-json\n\n{}"
        site.server.listener.write(one * 100_000)
        await site.until(lambda: bool(site.told))
        (lost,) = site.lost()[:1]
        assert lost.loss is Loss.PROTOCOL
        assert "bytes wait to be taken" in lost.why

    simulate(main)


def test_a_secret_is_never_told() -> None:
    async def main(site: Site) -> None:
        await site.until(lambda: bool(site.told))
        assert "geheim" not in repr(site.told)

    simulate(main, password="geheim\nexit")


# Much at once


def test_a_flood_is_taken_in_slices_so_that_calls_have_their_turn() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        site.server.listener.corked = bytearray()
        for number in range(1000):
            site.server.call(f"u{number}", f"{number}@192.0.2.1")
        turns = [0]

        def turn() -> None:
            turns.append(len(site.told))
            if len(site.told) < 1000:
                site.network.loop.call_soon(turn)

        site.at_first = turn
        site.server.listener.uncork()
        await site.until(lambda: len(site.told) == 1000)
        most = max(after - before for before, after in pairwise(turns))
        assert 0 < most <= SLICE
        assert site.session.up

    simulate(main)


def test_events_are_a_sign_of_life_while_an_answer_is_awaited() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        site.server.listener.held = []  # a long `api` of somebody else holds the answers up
        for _ in range(10):
            await asyncio.sleep(1.5)
            site.server.heartbeat()
        assert site.lost() == []

    simulate(main)


def test_a_fault_of_our_own_begins_anew_instead_of_being_deaf() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        site.session.fault = KeyError("what")
        site.server.heartbeat()
        await site.until(lambda: Synced() in site.told)
        assert site.lost() == [Lost(Loss.PROTOCOL, "our own fault: KeyError('what')", True)]

    simulate(main)


def test_a_listener_that_fails_costs_the_session_nothing() -> None:
    loop = VirtualLoop()
    failed: list[str] = []

    async def main() -> None:
        site = Site(SimNetwork(loop, Random(1)))
        loop.set_exception_handler(lambda _, context: failed.append(str(context["exception"])))
        await site.network.host(THERE).process.spawn(site.server.start())

        def listener(event: Event) -> None:
            site.told.append(event)
            raise ValueError(type(event).__name__)

        site.session.start(listener)
        await site.until(lambda: Synced() in site.told)
        assert site.session.up
        await site.session.stop()

    loop.run(main())
    assert failed == ["Up", "Synced"]
