"""What a session with FreeSWITCH tells: what lives already, and the news."""

from __future__ import annotations

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
    MemberChanged,
    RecordingChanged,
    Resources,
    Synced,
)
from tests.testbed.freeswitch.server import Channel, Room
from tests.unit.backends.control.esl_site import THERE, UP, Site, alive, simulate


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


def test_the_end_of_a_recording_after_its_conference_is_nothing_new() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        room = Room("3000")
        site.server.maintenance(room, "stop-recording", Path="/rec/a.wav", Other_Recordings="false")
        site.server.maintenance(room, "conference-destroy")
        assert await site.settle() == []

    simulate(main)
