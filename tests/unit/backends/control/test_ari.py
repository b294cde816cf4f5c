"""The ARI session where a real Asterisk cannot be made to misbehave, in virtual time. The rest of it is tested with a
real one, in tests/integration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from proxy.backends.control.api import (
    BridgeEntered,
    BridgeLeft,
    ChannelDown,
    ChannelUp,
    ConferenceEnded,
    ConferenceJoined,
    ConferenceLeft,
    ControlError,
    Event,
    Loss,
    Lost,
    RecordingChanged,
    Resources,
    Synced,
    Up,
)
from proxy.backends.control.ari import AriSession
from tests.sim.loop import VirtualLoop
from tests.sim.network import SimNetwork
from tests.testbed.asterisk.ari import Ari, bridge, channel

US, THERE, PORT = "10.0.0.1", "10.0.0.2", 8088
ANNA, BERT, CARL, DORA = (channel(number, f"{number}@192.0.2.1") for number in range(4))


class Site:
    def __init__(self, network: SimNetwork) -> None:
        self.network = network
        self.server = Ari(network.host(THERE), (THERE, PORT))
        self.session = AriSession(network.host(US, network.loop), (THERE, PORT), "lab", "geheim", Random(7))
        self.told: list[Event] = []

    async def until(self, condition: Callable[[], bool], limit_s: float = 60.0) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():
                await asyncio.sleep(0.001)

    async def synced(self) -> None:
        await self.until(lambda: any(isinstance(event, Resources) for event in self.told))
        self.told.clear()

    async def settle(self) -> list[Event]:
        await asyncio.sleep(0.1)
        told = self.told.copy()
        self.told.clear()
        return told

    def lost(self) -> list[Lost]:
        return [event for event in self.told if isinstance(event, Lost)]


def simulate(
    main: Callable[[Site], Coroutine[Any, Any, None]], prepare: Callable[[Ari], None] = lambda _: None
) -> None:
    loop = VirtualLoop()

    async def whole() -> None:
        site = Site(SimNetwork(loop, Random(1)))
        prepare(site.server)
        await site.network.host(THERE).process.spawn(site.server.start())
        site.session.start(site.told.append)
        try:
            await main(site)
        finally:
            await site.session.stop()

    loop.run(whole())


def up(of: dict[str, Any]) -> ChannelUp:
    return ChannelUp(of["id"], of["protocol_id"], of["name"], "join")


def alive(server: Ari) -> None:
    voice = channel(9, name="CBAnn/7001")
    server.channels = [ANNA, BERT, CARL, DORA, voice]
    server.bridges = [bridge("7001", ANNA, BERT, voice), bridge("pair", CARL, DORA, creator="")]


PAIR = bridge("pair")["id"]


def test_what_lives_is_told_between_up_and_synced() -> None:
    async def main(site: Site) -> None:
        await site.until(lambda: len(site.told) >= 11)
        assert site.told == [
            Up("Asterisk 22.10.1", "2026-11-23T20:20:00.000+0000"),
            *(up(each) for each in (ANNA, BERT, CARL, DORA)),
            ConferenceJoined("7001", ANNA["id"], moderator=False, muted=False, deaf=False),
            ConferenceJoined("7001", BERT["id"], moderator=False, muted=False, deaf=False),
            BridgeEntered(PAIR, CARL["id"]),
            BridgeEntered(PAIR, DORA["id"]),
            Synced(),
            Resources(channels=4, channels_max=500, uptime_s=60.5),
        ]

    simulate(main, alive)


def test_events_that_are_older_than_the_list_are_told_once() -> None:
    async def main(site: Site) -> None:
        await site.until(lambda: "GET channels" in site.server.requests)
        site.server.connection.event("ChannelStateChange", channel=ANNA)
        site.server.connection.event("ChannelEnteredBridge", bridge=bridge("7001", ANNA), channel=ANNA)
        site.server.connection.event("ChannelLeftBridge", bridge=bridge("7001"), channel=BERT)
        site.server.connection.event("ChannelDestroyed", channel=BERT, cause=16, cause_txt="Normal Clearing")
        await site.until(lambda: Synced() in site.told)
        assert site.told.count(up(ANNA)) == 1
        of_bert = [event for event in site.told if getattr(event, "channel", "") == BERT["id"]]
        assert of_bert[-2:] == [ConferenceLeft("7001", BERT["id"]), ChannelDown(BERT["id"], 16)]
        assert site.told.index(ChannelDown(BERT["id"], 16)) < site.told.index(Synced())

    simulate(main, alive)


def test_news_are_told() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        say = site.server.connection.event
        recording = {"name": "r", "format": "wav", "state": "recording", "target_uri": f"channel:{ANNA['id']}"}
        say("RecordingStarted", recording=recording)
        say("RecordingFinished", recording=recording)
        say("RecordingStarted", recording={**recording, "target_uri": "bridge:x"})
        say("ChannelLeftBridge", bridge=bridge("pair", creator=""), channel=CARL)
        say("ChannelEnteredBridge", bridge=bridge("7001"), channel=CARL)
        say("ChannelLeftBridge", bridge=bridge("7001"), channel=ANNA)
        say("BridgeDestroyed", bridge=bridge("7001"))
        assert await site.settle() == [
            RecordingChanged(ANNA["id"], "r.wav"),
            RecordingChanged(ANNA["id"], ""),
            BridgeLeft(PAIR, CARL["id"]),
            ConferenceJoined("7001", CARL["id"], moderator=False, muted=False, deaf=False),
            ConferenceLeft("7001", ANNA["id"]),
            ConferenceLeft("7001", BERT["id"]),
            ConferenceLeft("7001", CARL["id"]),
            ConferenceEnded("7001"),
        ]

    simulate(main, alive)


def test_a_call_id_that_is_not_known_at_first_is_asked_for() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        site.server.channels = [channel(5, "5@192.0.2.1", state="Ring")]
        site.server.connection.event("ChannelCreated", channel=channel(5, state="Ring"))
        site.server.connection.event("ChannelCreated", channel=channel(6, state="Ring"))  # gone before we ask
        told = await site.settle()
        assert [(event.channel[-1], event.sip) for event in told if isinstance(event, ChannelUp)] == [
            ("5", ""),
            ("6", ""),
            ("5", "5@192.0.2.1"),
        ]

    simulate(main)


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"type": "ChannelCreated"}',
        b'{"type": "ChannelCreated", "channel": 5}',
        b'{"type": "ChannelDestroyed", "channel": {"id": []}, "cause": 1}',
        b'{"type": "ChannelLeftBridge", "channel": {"id": "x"}, "bridge": null}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_an_event_that_cannot_be_read_is_counted_and_the_next_one_is_good(text: bytes) -> None:
    async def main(site: Site) -> None:
        await site.synced()
        site.server.connection.send(1, text)
        site.server.connection.event("ChannelStateChange", channel=ANNA)
        assert (await site.settle())[-1] == up(ANNA)
        assert site.session.counters["malformed"] == 1

    simulate(main)


def test_a_handshake_that_stays_unanswered_is_tried_again() -> None:
    async def main(site: Site) -> None:
        await site.until(lambda: Synced() in site.told)
        assert site.lost() == [Lost(Loss.SILENT, "no answer to the log-in within 2 s", False)] * 2
        assert "Authorization: Basic bGFiOmdlaGVpbQ==" in site.server.connection.head
        assert "geheim" not in site.server.connection.head

    simulate(main, lambda server: setattr(server, "unanswered", 2))


def test_an_asterisk_that_takes_no_requests_on_its_websocket_is_silent() -> None:
    async def main(site: Site) -> None:
        await site.until(lambda: bool(site.told))
        assert site.told == [Lost(Loss.SILENT, "no answer to the log-in within 2 s", False)]

    simulate(main, lambda server: setattr(server, "mute", True))


@pytest.mark.parametrize(
    ("refusal", "loss", "why"),
    [
        ("401 Unauthorized", Loss.DENIED, "401 Unauthorized"),
        ("503 Service Unavailable", Loss.PROTOCOL, "no websocket: 503 Service Unavailable"),
        ("404 Not Found", Loss.PROTOCOL, "no websocket: 404 Not Found"),
    ],
)
def test_a_refused_handshake_says_why(refusal: str, loss: Loss, why: str) -> None:
    async def main(site: Site) -> None:
        await site.until(lambda: bool(site.told))
        assert site.told == [Lost(loss, why, False)]

    simulate(main, lambda server: setattr(server, "refusal", refusal))


def test_a_half_open_connection_is_found_by_the_sign_of_life() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        site.network.power_off(THERE)
        await site.until(lambda: bool(site.lost()), 2.2)
        assert site.lost() == [Lost(Loss.SILENT, "no answer to the sign of life within 1 s", True)]

    simulate(main)


@pytest.mark.parametrize(
    ("frame", "loss"),
    [
        (b"\x88\x02\x03\xe9", Loss.STOPPING),  # 1001: going away
        (b"\x88\x02\x03\xe8", Loss.CLOSED),
        (b"\x88\x00", Loss.CLOSED),
        (b"\xff\xff\xff\xff", Loss.PROTOCOL),
    ],
)
def test_the_end_of_the_websocket_is_told(frame: bytes, loss: Loss) -> None:
    async def main(site: Site) -> None:
        await site.synced()
        site.server.connection.write(frame)
        await site.until(lambda: bool(site.lost()))
        assert (site.lost()[0].loss, site.lost()[0].was_up) == (loss, True)

    simulate(main)


def test_a_ping_of_the_server_is_answered() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        site.server.connection.send(9, b"are you there")
        await site.until(lambda: site.server.connection.pongs == [b"are you there"])

    simulate(main)


def test_a_call_that_asterisk_refuses_to_originate_says_why() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        calling = asyncio.ensure_future(site.session.originate("PJSIP/600@trunk", {}, context="app", extension="600"))
        with pytest.raises(ControlError, match="404 Not Found: Channel not found"):
            await calling

    simulate(main)


def test_commands_fail_at_once_when_the_session_is_lost() -> None:
    async def main(site: Site) -> None:
        await site.synced()
        site.server.mute = True
        waiting = asyncio.ensure_future(site.session.hang_up("x"))
        await asyncio.sleep(0.01)
        site.network.kill(THERE)
        with pytest.raises(ControlError, match="was lost"):
            await waiting
        with pytest.raises(ControlError, match="not up"):
            await site.session.hang_up("x")

    simulate(main)
