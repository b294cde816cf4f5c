"""The session with FreeSWITCH, against a server that shows what its source says, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from proxy.backends.control.api import (
    BridgeEntered,
    BridgeLeft,
    ChannelDown,
    ChannelUp,
    ConferenceChanged,
    ConferenceEnded,
    ConferenceJoined,
    ConferenceLeft,
    ControlError,
    Event,
    Loss,
    Lost,
    MemberChanged,
    RecordingChanged,
    Resources,
    Synced,
    Up,
)
from proxy.backends.control.esl import EslSession
from proxy.backends.control.esl_codec import Frame
from proxy.backends.control.session import SLICE
from tests.sim.loop import VirtualLoop
from tests.sim.network import SimNetwork
from tests.testbed.freeswitch.server import CORE, Channel, FreeSwitch, Room

US, THERE, PORT = "10.0.0.1", "10.0.0.2", 8021
UP = Up("FreeSWITCH 1.10.11-release+git~20231222T180831Z~f24064f7c9~64bit", CORE)


class Session(EslSession):
    """Fails once when it is told to."""

    fault: Exception | None = None

    def _take(self, message: Frame) -> None:
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        super()._take(message)


class Site:
    """A session on one host, FreeSWITCH on another; `told` is what the session said."""

    def __init__(self, network: SimNetwork, password: str = "ClueCon", **server: Any) -> None:
        self.network = network
        self.server = FreeSwitch(network.host(THERE), (THERE, PORT), **server)
        self.session = Session(network.host(US, network.loop), (THERE, PORT), password, Random(7))
        self.told: list[Event] = []
        self.at_first: Callable[[], None] | None = None  # called once, in the turn after the next event

    async def begin(self) -> None:
        await self.network.host(THERE).process.spawn(self.server.start())
        self.session.start(self._hear)

    def _hear(self, event: Event) -> None:
        self.told.append(event)
        if self.at_first is not None:
            call, self.at_first = self.at_first, None
            self.network.loop.call_soon(call)

    async def synced(self) -> None:
        await self.until(lambda: Synced() in self.told)
        self.told.clear()

    async def until(self, condition: Callable[[], bool], limit_s: float = 60.0) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():
                await asyncio.sleep(0.001)

    async def settle(self) -> list[Event]:
        """What was told until now, a moment later."""
        await asyncio.sleep(0.1)
        told = self.told.copy()
        self.told.clear()
        return told

    def lost(self) -> list[Lost]:
        return [event for event in self.told if isinstance(event, Lost)]


def simulate(main: Callable[[Site], Coroutine[Any, Any, None]], **site: Any) -> None:
    loop = VirtualLoop()

    async def whole() -> None:
        place = Site(SimNetwork(loop, Random(1)), **site)
        await place.begin()
        try:
            await main(place)
        finally:
            await place.session.stop()

    loop.run(whole())


# What lives already


def alive(server: FreeSwitch) -> None:
    """Two in a conference, a pair that is recorded."""
    anna, bert, carl, dora = (server.call(f"uuid-{name}", f"{name}@192.0.2.1") for name in "abcd")
    server.join("3000", anna, moderator=True)
    server.join("3000", bert, speak=False, hear=False)
    server.api("conference 3000 lock")
    server.api("conference 3000 record /rec/3000.wav")
    server.bridge(carl, dora)
    server.record_call(carl, "/rec/pair.wav")


@pytest.mark.parametrize("chunk_bytes", [None, 1, 7, 1000])
def test_what_lives_is_told_between_up_and_synced_however_it_is_cut(chunk_bytes: int | None) -> None:
    async def main(site: Site) -> None:
        alive(site.server)
        await site.until(lambda: Synced() in site.told)
        name = f"sofia/internal/3000@{THERE}"
        assert site.told == [
            UP,
            ChannelUp("uuid-a", "a@192.0.2.1", name, "3000"),
            ChannelUp("uuid-b", "b@192.0.2.1", name, "3000"),
            ChannelUp("uuid-c", "c@192.0.2.1", name, "3000"),
            RecordingChanged("uuid-c", "/rec/pair.wav"),
            ChannelUp("uuid-d", "d@192.0.2.1", name, "3000"),
            BridgeEntered("uuid-c", "uuid-c"),
            BridgeEntered("uuid-c", "uuid-d"),
            ConferenceChanged("3000", locked=True),
            ConferenceChanged("3000", recording="/rec/3000.wav"),
            ConferenceJoined("3000", "uuid-a", moderator=True, muted=False, deaf=False),
            ConferenceJoined("3000", "uuid-b", moderator=False, muted=True, deaf=True),
            Synced(),
        ]

    simulate(main, chunk_bytes=chunk_bytes)


def test_an_idle_freeswitch_has_nothing_to_tell() -> None:
    async def main(site: Site) -> None:
        await site.until(lambda: Synced() in site.told)
        assert site.told == [UP, Synced()]

    simulate(main)


def test_events_that_are_older_than_the_list_are_not_told_twice() -> None:
    async def main(site: Site) -> None:
        alive(site.server)
        await site.until(lambda: bool(site.server.listeners))
        site.server.listener.held = []  # the answers wait, the events go on
        await site.until(lambda: any(line.startswith("api version") for line in site.server.listener.commands))
        listener = site.server.listener
        listener.write("".join(listener.held or []))
        listener.held = None
        await site.until(lambda: "api show channels as json" in listener.commands)
        anna = site.server.channels["uuid-a"]
        listener.events |= {"CHANNEL_CREATE"}
        site.server.fire("CHANNEL_CREATE", site.server.full(anna))
        await site.until(lambda: Synced() in site.told)
        assert [event for event in site.told if isinstance(event, ChannelUp) and event.channel == "uuid-a"] == [
            ChannelUp("uuid-a", "a@192.0.2.1", anna.name, "3000")
        ]

    simulate(main)


def test_who_hangs_up_while_channels_are_listed_is_nobody() -> None:
    async def main(site: Site) -> None:
        alive(site.server)
        server = site.server
        await site.until(lambda: bool(server.listeners) and "api show channels as json" in server.listener.commands)
        server.hang_up(server.channels["uuid-a"])
        await site.until(lambda: Synced() in site.told)
        assert [event for event in await site.settle() if "uuid-a" in repr(event)] == []

    simulate(main)


def test_who_hangs_up_after_he_was_listed_is_told_up_and_down() -> None:
    async def main(site: Site) -> None:
        alive(site.server)
        server = site.server
        await site.until(lambda: bool(server.listeners) and "api conference xml_list" in server.listener.commands)
        server.hang_up(server.channels["uuid-a"])
        of_anna = [event for event in await site.settle() if "uuid-a" in repr(event)]
        assert isinstance(of_anna[0], ChannelUp)
        assert of_anna[-2:] == [ConferenceLeft("3000", "uuid-a"), ChannelDown("uuid-a", 16)]

    simulate(main)


def test_who_was_not_in_the_list_yet_is_found_in_his_conference() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        channel = Channel("uuid-a", "a@192.0.2.1", "3000", "sofia/internal/a")
        site.server.channels["uuid-a"] = channel  # no event: it was made before we listened
        site.server.join("3000", channel)
        assert await site.settle() == [
            ChannelUp("uuid-a", "", "sofia/internal/a", "3000"),
            ConferenceJoined("3000", "uuid-a", moderator=False, muted=False, deaf=False),
            ChannelUp("uuid-a", "a@192.0.2.1", "sofia/internal/a", "3000"),
        ]

    simulate(main)


# News


def test_calls_pairs_and_recordings_are_told() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        server = site.server
        one, two = server.call("u1", "one@192.0.2.1", "600"), server.call("u2", "two@192.0.2.1", "601")
        server.bridge(one, two)
        server.record_call(one, "/rec/1.wav")
        server.record_call(one, "")
        server.unbridge(one)
        server.hang_up(two, q850=31)
        assert await site.settle() == [
            ChannelUp("u1", "one@192.0.2.1", one.name, "600"),
            ChannelUp("u2", "two@192.0.2.1", two.name, "601"),
            BridgeEntered("u1", "u1"),
            BridgeEntered("u1", "u2"),
            RecordingChanged("u1", "/rec/1.wav"),
            RecordingChanged("u1", ""),
            BridgeLeft("u1", "u1"),
            BridgeLeft("u1", "u2"),
            ChannelDown("u2", 31),
        ]

    simulate(main)


def test_an_outbound_leg_gets_its_call_id_when_it_has_one() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        channel = site.server.call("u1", "")
        channel.call_id = "late@192.0.2.1"
        site.server.fire("CHANNEL_ANSWER", site.server.full(channel))
        assert await site.settle() == [
            ChannelUp("u1", "", channel.name, "3000"),
            ChannelUp("u1", "late@192.0.2.1", channel.name, "3000"),
        ]

    simulate(main)


def test_a_conference_is_told_from_its_first_member_to_its_end() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        server = site.server
        anna, bert = server.call("ua", "a@192.0.2.1"), server.call("ub", "b@192.0.2.1")
        await site.settle()
        member = server.join("3000", anna, moderator=True)
        server.join("3000", bert)
        server.member_event("3000", "start-talking", member)
        server.member_event("3000", "stop-talking", member)
        server.api(f"conference 3000 deaf {member.number}")
        server.api(f"conference 3000 undeaf {member.number}")
        server.api("conference 3000 record /rec/a.wav")
        server.api("conference 3000 record /rec/b.wav")
        server.api("conference 3000 record /nowhere/c.wav")
        server.api("conference 3000 norecord all")
        server.hang_up(anna)
        server.hang_up(bert)
        assert await site.settle() == [
            ConferenceJoined("3000", "ua", moderator=True, muted=False, deaf=False),
            ConferenceJoined("3000", "ub", moderator=False, muted=False, deaf=False),
            MemberChanged("3000", "ua", talking=True),
            MemberChanged("3000", "ua", talking=False),
            MemberChanged("3000", "ua", deaf=True),
            MemberChanged("3000", "ua", deaf=False),
            ConferenceChanged("3000", recording="/rec/a.wav"),
            ConferenceChanged("3000", recording="/rec/b.wav"),
            ConferenceChanged("3000", recording=""),
            ConferenceLeft("3000", "ua"),
            ChannelDown("ua", 16),
            ConferenceLeft("3000", "ub"),
            ConferenceEnded("3000"),
            ChannelDown("ub", 16),
        ]

    simulate(main)


def test_who_came_in_silently_is_found_by_the_next_event_about_him() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        channel = site.server.call("ua", "a@192.0.2.1")
        await site.settle()
        member = site.server.join("3000", channel, silently=True)
        site.server.api(f"conference 3000 mute {member.number}")
        assert await site.settle() == [ConferenceJoined("3000", "ua", moderator=False, muted=True, deaf=False)]

    simulate(main)


def test_a_name_in_another_charset_costs_nothing() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        fields = {"Unique-ID": "u1", "Channel-Name": "sofia/J\udcfcrgen", "Caller-Destination-Number": "6\n0\t0"}
        site.server.fire("CHANNEL_CREATE", fields)
        assert await site.settle() == [ChannelUp("u1", "", "sofia/J�rgen", "6\n0\t0")]

    simulate(main)


def test_a_heartbeat_says_how_loaded_it_is() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        site.server.heartbeat()
        assert await site.settle() == [Resources(channels=0, channels_max=1000, cpu_idle=0.875, uptime_s=3601.5)]

    simulate(main)


# Commands


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


# Losses


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


def test_the_end_of_a_recording_after_its_conference_is_nothing_new() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        room = Room("3000")
        site.server.maintenance(room, "stop-recording", Path="/rec/a.wav", Other_Recordings="false")
        site.server.maintenance(room, "conference-destroy")
        assert await site.settle() == []

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
