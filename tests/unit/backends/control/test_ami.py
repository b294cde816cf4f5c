"""The AMI session against a manager that can misbehave, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from proxy.backends.control.ami import BACKLOG_BYTES_MAX, AmiSession
from proxy.backends.control.api import (
    BridgeEntered,
    BridgeLeft,
    ChannelDown,
    ChannelUp,
    ConferenceChanged,
    ConferenceJoined,
    ConferenceLeft,
    ControlError,
    Event,
    Loss,
    Lost,
    MemberChanged,
    RecordingChanged,
    Resources,
    Stopping,
    Synced,
    Up,
)
from tests.sim.loop import VirtualLoop
from tests.sim.network import SimNetwork
from tests.testbed.manager.manager import SECRET, Bridge, Channel, Manager, event

US, THERE = "10.0.0.1", ("10.0.0.2", 5038)
UP = Up("Asterisk 22.10.1", "as1 2026-11-24 10:00:00")
ANNA, BERT, CARA = (f"as1-{number}.0" for number in (1, 2, 3))


def channel(unique: str, **more: Any) -> Channel:
    number = unique[4]
    return Channel(unique, f"PJSIP/sbc-0000000{number}", f"call{number}-b1", **more)


class Site:
    def __init__(self, network: SimNetwork, secret: str) -> None:
        self.network = network
        self.host = network.host(THERE[0], network.loop)
        self.manager = Manager(self.host, THERE)
        self.session = AmiSession(network.host(US, network.loop), THERE, "lab", secret, Random(7))
        self.told: list[Event] = []
        self.at: list[float] = []
        self.most_in_a_turn = 0  # told in one turn of the loop
        self._in_this_turn = 0

    @property
    def now(self) -> float:
        return self.network.loop.time()

    def hear(self, event: Event) -> None:
        self.told.append(event)
        self.at.append(self.now)
        if not self._in_this_turn:
            self.network.loop.call_soon(self._turn_over)
        self._in_this_turn += 1

    def _turn_over(self) -> None:
        self.most_in_a_turn = max(self.most_in_a_turn, self._in_this_turn)
        self._in_this_turn = 0

    async def synced(self) -> list[Event]:
        """What was told until then; it is forgotten."""
        await self.until(lambda: Synced() in self.told)
        return self.take()

    async def until(self, condition: Callable[[], bool], limit_s: float = 60.0) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():
                await asyncio.sleep(0.001)

    async def settle(self, seconds: float = 0.1) -> list[Event]:
        await asyncio.sleep(seconds)
        return self.take()

    def take(self) -> list[Event]:
        told = [each for each in self.told if not isinstance(each, Resources)]
        self.told.clear()
        self.at.clear()
        return told

    def losses(self) -> list[tuple[Loss, bool]]:
        return [(each.loss, each.was_up) for each in self.told if isinstance(each, Lost)]


def simulate(
    main: Callable[[Site], Coroutine[Any, Any, None]],
    prepare: Callable[[Manager], None] = lambda manager: None,
    secret: str = SECRET,
) -> None:
    loop = VirtualLoop()

    async def whole() -> None:
        site = Site(SimNetwork(loop, Random(1)), secret)
        prepare(site.manager)
        await site.manager.start()
        site.session.start(site.hear)
        try:
            await main(site)
        finally:
            await site.session.stop()

    loop.run(whole())


def alive(manager: Manager) -> None:
    """Anna and Bert in a conference, she a moderator and he muted; Cara alone, known by her variable."""
    manager.add(channel(ANNA))
    manager.add(channel(BERT))
    manager.add(channel(CARA, variable="call3"))
    manager.join("7001", ANNA, admin=True)
    manager.join("7001", BERT, muted=True)


# Log-in


@pytest.mark.parametrize("md5", [True, False])
def test_it_logs_in_and_the_secret_is_not_sent_where_md5_is_there(md5: bool) -> None:
    def prepare(manager: Manager) -> None:
        manager.md5 = md5

    async def main(site: Site) -> None:
        assert await site.synced() == [UP, Synced()]
        assert any(SECRET in action.values() for action in site.manager.actions) is not md5

    simulate(main, prepare)


def test_a_wrong_secret_is_denied_and_not_tried_often() -> None:
    async def main(site: Site) -> None:
        await asyncio.sleep(300)
        assert set(site.losses()) == {(Loss.DENIED, False)}
        assert site.manager.attempts <= 14

    simulate(main, secret="wrong")


def test_a_user_who_may_not_ask_is_denied() -> None:
    def prepare(manager: Manager) -> None:
        manager.reads = False

    async def main(site: Site) -> None:
        await site.until(lambda: bool(site.losses()))
        (lost,) = (each for each in site.told if isinstance(each, Lost))
        assert lost.loss is Loss.DENIED and "BridgeList: Permission denied" in lost.why
        assert Synced() not in site.told

    simulate(main, prepare)


# What lives


def test_what_lives_already_is_told() -> None:
    async def main(site: Site) -> None:
        told = await site.synced()
        assert told[0] == UP and told[-1] == Synced()
        assert ChannelUp(ANNA, "call1-b1", "PJSIP/sbc-00000001", "600") in told
        assert ChannelUp(CARA, "call3", "PJSIP/sbc-00000003", "600") in told
        joined = [each for each in told if isinstance(each, ConferenceJoined)]
        assert joined == [
            ConferenceJoined("7001", ANNA, moderator=True, muted=False, deaf=False),
            ConferenceJoined("7001", BERT, moderator=False, muted=True, deaf=False),
        ]
        assert ConferenceChanged("7001", locked=False) in told
        assert ConferenceChanged("7001", recording="") in told
        assert not any(isinstance(each, BridgeEntered) for each in told)  # a conference is no pair

    simulate(main, alive)


def test_a_recorded_conference_has_one_more_in_its_bridge_than_are_shown() -> None:
    def prepare(manager: Manager) -> None:
        alive(manager)
        manager.rooms["7001"].bridge.hidden = 2
        manager.rooms["7001"].locked = True

    async def main(site: Site) -> None:
        told = await site.synced()
        assert ConferenceChanged("7001", recording="?") in told
        assert ConferenceChanged("7001", locked=True) in told

    simulate(main, prepare)


def test_news_that_come_between_the_lists_are_true_in_the_end() -> None:
    def prepare(manager: Manager) -> None:
        alive(manager)
        manager.bridge(Bridge("pair"), CARA)
        gone = manager.channels[CARA]
        manager.between = [
            event("Newchannel", channel("as1-9.0").fields()),  # and gone before the list was made
            event("Hangup", [*channel("as1-9.0").fields(), ("Cause", "16")]),
            event("BridgeEnter", [*manager.bridges["pair"].fields(1), *gone.fields()]),  # older than the list
        ]

    async def main(site: Site) -> None:
        await site.synced()
        site.manager.hang_up(ANNA)
        site.manager.depart("7001", BERT)
        told = await site.settle()
        assert told == [ConferenceLeft("7001", ANNA), ChannelDown(ANNA, 16), ConferenceLeft("7001", BERT)]

    simulate(main, prepare)


# News


def test_a_channel_is_tied_by_its_variable_or_a_question() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        site.manager.add(channel(ANNA, up=False))
        assert await site.settle() == [ChannelUp(ANNA, "", "PJSIP/sbc-00000001", "600")]
        site.manager.channels[ANNA].up = True
        site.manager.tell("Newstate", site.manager.channels[ANNA].fields())
        site.manager.tell("Newstate", site.manager.channels[ANNA].fields())
        assert await site.settle() == [ChannelUp(ANNA, "call1-b1", "PJSIP/sbc-00000001", "600")]
        site.manager.add(channel(CARA, up=False, variable=""))
        site.manager.channels[CARA].variable = "call3"
        site.manager.tell("Newstate", site.manager.channels[CARA].fields())
        ups = await site.settle()
        assert [each.sip for each in ups if isinstance(each, ChannelUp)] == ["", "call3"]
        asked = [action["Channel"] for action in site.manager.actions if "Channel" in action]
        assert asked == [ANNA]

    simulate(main)


def test_a_pair_comes_and_goes() -> None:
    async def main(site: Site) -> None:
        for unique in (ANNA, BERT):
            site.manager.add(channel(unique, variable="x"))
        await site.synced()
        site.manager.bridge(Bridge("pair"), ANNA, BERT)
        site.manager.leave(BERT)
        told = await site.settle()
        assert told == [BridgeEntered("pair", ANNA), BridgeEntered("pair", BERT), BridgeLeft("pair", BERT)]
        site.manager.bridge(Bridge("parking", technology="holding_bridge"), BERT)
        assert await site.settle() == []

    simulate(main)


def test_what_befalls_a_conference() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        conference = [("Conference", "7001")]
        anna = [*conference, *site.manager.channels[ANNA].fields()]
        site.manager.tell("ConfbridgeTalking", [*anna, ("TalkingStatus", "on")])
        site.manager.tell("ConfbridgeRecord", conference)
        site.manager.tell("ConfbridgeStopRecord", conference)
        site.manager.tell("MixMonitorStart", site.manager.channels[CARA].fields())
        told = await site.settle()
        assert told == [
            MemberChanged("7001", ANNA, talking=True),
            ConferenceChanged("7001", recording="?"),
            ConferenceChanged("7001", recording=""),
            RecordingChanged(CARA, "?"),
            RecordingChanged(CARA, f"/rec/{CARA}.wav"),
        ]

    simulate(main, alive)


def test_how_loaded_it_is_and_that_a_conference_was_locked_is_asked_for() -> None:
    async def main(site: Site) -> None:
        await site.until(lambda: any(isinstance(each, Resources) for each in site.told))
        assert site.told[-1] == Resources(channels=3, channels_max=500, load=0.5)
        site.take()
        site.manager.rooms["7001"].locked = True
        await site.until(lambda: ConferenceChanged("7001", locked=True) in site.told, limit_s=15.0)

    simulate(main, alive)


# Commands


def test_commands_say_what_became_of_them() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        await site.session.mute("7001", ANNA, True)
        assert await site.settle() == [MemberChanged("7001", ANNA, muted=True)]
        with pytest.raises(ControlError, match="No Channel by that name"):
            await site.session.mute("7001", CARA, True)
        await site.session.record("7001", "/rec/x.2.wav")
        assert await site.settle() == [ConferenceChanged("7001", recording="/rec/x.2.wav")]
        await site.session.hang_up(ANNA)
        assert await site.settle() == [ConferenceLeft("7001", ANNA), ChannelDown(ANNA, 16)]
        await site.session.join(CARA, "7001")
        assert [each["Action"] for each in site.manager.actions[-2:]] == ["Setvar", "Redirect"]
        made = await site.session.originate("PJSIP/600@sbc", {"A": "b"}, context="x", extension="y")
        assert site.manager.actions[-1]["ChannelId"] == made
        before = len(site.manager.actions)
        with pytest.raises(ControlError, match="more than one line"):
            await site.session.lock("7001\r\nAction: Originate", True)
        assert len(site.manager.actions) == before

    simulate(main, alive)


def test_a_command_that_is_not_answered_ends_by_itself_and_with_the_session() -> None:
    async def main(site: Site) -> None:
        with pytest.raises(ControlError, match="not up"):
            await site.session.hang_up(ANNA)
        await site.synced()
        site.manager.answers = False
        began = site.now
        with pytest.raises(ControlError):
            await site.session.hang_up(ANNA)
        assert site.now - began <= 5.0

    simulate(main, alive)


# Losses


def test_a_killed_process_is_refused_within_milliseconds_and_the_next_one_is_another() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        await asyncio.sleep(2)
        site.take()
        began = site.now
        site.manager.end()
        await site.until(lambda: len(site.losses()) == 2)
        assert site.losses() == [(Loss.CLOSED, True), (Loss.REFUSED, False)]
        assert site.now - began < 0.01
        site.manager.started = "10:05:00"
        await site.manager.start()
        site.take()
        told = await site.synced()
        assert Up(UP.version, "as1 2026-11-24 10:05:00") in told

    simulate(main)


def test_attempts_grow_rarer() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        await asyncio.sleep(2)
        site.take()
        site.manager.end()
        await asyncio.sleep(60)
        pauses = [after - before for before, after in pairwise(site.at)]
        assert len(pauses) <= 25 and min(pauses[-3:]) > 3.5

    simulate(main)


def test_one_that_takes_the_session_and_closes_it_at_once_is_no_storm() -> None:
    async def main(site: Site) -> None:
        for _ in range(60_000):
            await asyncio.sleep(0.001)
            if site.session.up:
                for connection in site.manager.connections:
                    connection.stream.close()
        assert site.manager.attempts <= 30

    simulate(main)


def test_one_that_does_not_greet_or_answer_is_silent() -> None:
    def prepare(manager: Manager) -> None:
        manager.answers = manager.greets = False

    async def main(site: Site) -> None:
        await asyncio.sleep(60)
        assert set(site.losses()) == {(Loss.SILENT, False)}

    simulate(main, prepare)


def test_one_that_hangs_is_silent_within_seconds() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        await asyncio.sleep(3)
        site.take()
        site.manager.answers = False
        began = site.now
        await site.until(lambda: bool(site.losses()))
        assert site.losses()[0] == (Loss.SILENT, True) and site.now - began <= 2.1

    simulate(main)


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 70_000, b"x" * 200_000, b"\r\n\r\n" * 20])
def test_garbage_ends_the_session_and_says_where(garbage: bytes) -> None:
    async def main(site: Site) -> None:
        await site.synced()
        site.manager.connections[0].stream.write(garbage * 20)
        await site.until(lambda: bool(site.losses()))
        (lost,) = (each for each in site.told if isinstance(each, Lost))
        assert lost.loss is Loss.PROTOCOL and "byte" in lost.why
        await site.until(lambda: Synced() in site.told)  # and begins anew

    simulate(main)


# Floods


def test_ten_thousand_events_at_once_are_taken_in_slices() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        flood = b"".join(
            event("Newchannel", Channel(f"as1-{number + 10}.0", "Local/x", "").fields()) for number in range(10_000)
        )
        site.manager.connections[0].stream.write(flood)
        await site.until(lambda: len(site.told) >= 10_000)
        assert len({each.channel for each in site.told if isinstance(each, ChannelUp)}) == 10_000
        assert site.most_in_a_turn <= AmiSession.slice_messages

    simulate(main)


def test_more_than_can_be_taken_is_dropped_and_what_lives_is_told_anew() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        one = event("Newchannel", Channel("as1-10.0", "Local/" + "x" * 60, "").fields())
        site.manager.connections[0].stream.write(one * (2 * BACKLOG_BYTES_MAX // len(one)))
        site.manager.hang_up(ANNA)
        await site.until(lambda: site.session.counters["fell_behind"] > 0)
        command = asyncio.ensure_future(site.session.lock("7001", True))
        told = await site.synced()
        assert site.losses() == []
        assert told[0] != UP and UP in told  # anew, and without having been lost
        anew = told[told.index(UP) :]
        there = {each.channel for each in anew if isinstance(each, ChannelUp)}
        assert there == {BERT, CARA}
        await command
        site.manager.hang_up(BERT)
        assert ChannelDown(BERT, 16) in await site.settle()

    simulate(main, alive)


# Shutdown


def hung_up_for_shutdown(site: Site, unique: str) -> None:
    site.manager.tell("SoftHangupRequest", [*site.manager.channels[unique].fields(), ("Cause", "4")])


def test_one_that_shuts_down_says_so_and_nothing_of_what_it_does_to_its_calls() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        site.manager.stopping = True
        hung_up_for_shutdown(site, ANNA)
        site.manager.depart("7001", ANNA)
        site.manager.hang_up(ANNA)
        await asyncio.sleep(0.05)
        site.manager.hang_up(BERT)
        assert await site.settle() == [Stopping(hangs_up=True)]
        site.manager.tell("Shutdown", [("Shutdown", "Cleanly")])
        site.manager.end()
        await site.until(lambda: bool(site.losses()))
        assert site.losses()[0] == (Loss.STOPPING, True)

    simulate(main, alive)


def test_a_caller_who_has_his_channel_hung_up_with_that_cause_is_no_shutdown() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        hung_up_for_shutdown(site, ANNA)
        site.manager.depart("7001", ANNA)
        site.manager.hang_up(ANNA)
        assert await site.settle() == [ConferenceLeft("7001", ANNA), ChannelDown(ANNA, 16)]
        site.manager.hang_up(BERT)
        assert await site.settle() == [ConferenceLeft("7001", BERT), ChannelDown(BERT, 16)]

    simulate(main, alive)


def test_one_that_stops_when_its_calls_have_ended_hangs_nobody_up() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        site.manager.stopping = True
        await asyncio.sleep(3)
        site.manager.hang_up(ANNA)
        told = await site.settle()
        assert told == [Stopping(hangs_up=False), ConferenceLeft("7001", ANNA), ChannelDown(ANNA, 16)]

    simulate(main, alive)
