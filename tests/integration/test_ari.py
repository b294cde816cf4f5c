"""The ARI session with a real Asterisk: what it tells of calls, rooms and pairs, and of the end of Asterisk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from random import Random

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
    Resources,
    Synced,
    Up,
)
from proxy.backends.control.ari import AriSession
from proxy.demo.asterisk.instance import ARI_PORT, SIP_PORT
from proxy.net.asyncio_network import AsyncioNetwork
from tests.integration.conftest import until
from tests.testbed.asterisk import ROOT_FOLDER, Asterisk
from tests.testbed.audio import SILENCE
from tests.testbed.hosts import BACKENDS, CALLER
from tests.testbed.phone import Phones

THERE = BACKENDS[0]
ROOM = "7001"


@pytest.fixture
def asterisk(tmp_path: Path) -> Iterator[Asterisk]:
    with Asterisk("as1", THERE, tmp_path / "as1", root=ROOT_FOLDER) as asterisk:
        asterisk.wait_ready()
        yield asterisk


class Told(list[Event]):
    async def synced(self) -> None:
        await until(lambda: Synced() in self, lambda: self)

    def of(self, *kinds: type) -> list[Event]:
        return [event for event in self if isinstance(event, kinds)]

    def call_ids(self) -> dict[str, str]:
        """Call-ID by channel, as it was told last."""
        return {event.channel: event.sip for event in self if isinstance(event, ChannelUp)}


def run(
    main: Callable[[AriSession, Told, Phones], Awaitable[None]],
    password: str = "lab-secret",
    answers: list[bytes] | None = None,
) -> None:
    async def whole() -> None:
        network = AsyncioNetwork(asyncio.get_running_loop())
        session = AriSession(network, (THERE, ARI_PORT), "lab", password, Random())
        told = Told()
        async with Phones(CALLER, answers=answers) as phones:
            session.start(told.append)
            try:
                await main(session, told, phones)
            finally:
                await session.stop()

    asyncio.run(whole())


def test_a_call_is_told_with_its_call_id_before_it_is_answered(asterisk: Asterisk) -> None:
    async def main(session: AriSession, told: Told, phones: Phones) -> None:
        await told.synced()
        up = told[0]
        assert isinstance(up, Up) and up.version.startswith("Asterisk 22.") and up.boot
        ringing = asyncio.ensure_future(phones.call("605", (THERE, SIP_PORT)))  # two seconds
        await until(lambda: any(told.call_ids().values()), lambda: told, 1.5)
        assert not ringing.done()
        call = await ringing
        assert list(told.call_ids().values()) == [call.call_id]
        await call.bye()
        (channel,) = told.call_ids()
        await until(lambda: ChannelDown(channel, 16) in told, lambda: told)
        assert session.counters["malformed"] == 0

    run(main)


def test_a_room_is_told_as_it_comes_and_goes(asterisk: Asterisk) -> None:
    async def main(session: AriSession, told: Told, phones: Phones) -> None:
        await told.synced()
        one, two = [await phones.call(ROOM, (THERE, SIP_PORT), headers={"X-Quiet": "yes"}) for _ in range(2)]
        await until(lambda: len(told.of(ConferenceJoined)) == 2, lambda: told)
        channels = {sip: channel for channel, sip in told.call_ids().items()}
        assert set(told.of(ConferenceJoined)) == {
            ConferenceJoined(ROOM, channels[call.call_id], moderator=False, muted=False, deaf=False)
            for call in (one, two)
        }
        for call in (one, two):
            await call.bye()
            await until(lambda call=call: ChannelDown(channels[call.call_id], 16) in told, lambda: told)  # type: ignore[misc]
        await until(lambda: ConferenceEnded(ROOM) in told, lambda: told)
        assert told.of(ConferenceLeft) == [ConferenceLeft(ROOM, channels[call.call_id]) for call in (one, two)]
        assert len(told.call_ids()) == 2  # the machinery of the room is nobody

    run(main)


def test_who_was_there_before_us_is_told_between_up_and_synced(asterisk: Asterisk) -> None:
    async def main(session: AriSession, told: Told, phones: Phones) -> None:
        await told.synced()
        calls = [await phones.call(ROOM, (THERE, SIP_PORT)) for _ in range(3)]
        alone = await phones.call("600", (THERE, SIP_PORT))
        await until(lambda: len(told.of(ConferenceJoined)) == 3, lambda: told)
        await session.stop()
        told.clear()
        session.start(told.append)
        await told.synced()
        told = Told(told[: told.index(Synced())])
        assert set(told.call_ids().values()) == {call.call_id for call in (*calls, alone)}
        assert len(told.of(ConferenceJoined)) == 3

    run(main)


def test_two_whom_dial_connects_are_a_pair(asterisk: Asterisk) -> None:
    async def main(session: AriSession, told: Told, phones: Phones) -> None:
        await told.synced()
        customer = await phones.call("agent-7", (THERE, SIP_PORT))
        await until(lambda: len(told.of(BridgeEntered)) == 2, lambda: told)
        one, other = told.of(BridgeEntered)
        assert one.bridge == other.bridge and one.channel != other.channel
        assert customer.call_id in {told.call_ids()[event.channel] for event in (one, other)}
        assert all(told.call_ids()[event.channel] for event in (one, other))
        await customer.bye()
        await until(lambda: len(told.of(BridgeLeft)) == len(told.of(ChannelDown)) == 2, lambda: told)

    run(main, answers=[SILENCE])


def test_who_is_originated_answers_or_not(asterisk: Asterisk) -> None:
    async def main(session: AriSession, told: Told, phones: Phones) -> None:
        await told.synced()
        channel = await session.originate("Local/600@app", {"X": "a b"}, context="app", extension="600")
        assert channel in told.call_ids()
        await session.hang_up(channel)
        await until(lambda: len(told.of(ChannelDown)) == 2, lambda: told)
        with pytest.raises(ControlError, match="not answered: User busy"):
            await session.originate("Local/606@app/n", {}, context="app", extension="600")

    run(main)


def test_what_ari_cannot_do_is_refused_and_what_fails_says_why(asterisk: Asterisk) -> None:
    async def main(session: AriSession, told: Told, phones: Phones) -> None:
        await told.synced()
        assert session.abilities == {"originate", "hangup"}
        with pytest.raises(ControlError, match="ARI cannot mute"):
            await session.mute(ROOM, "x", True)
        with pytest.raises(ControlError, match="404 Not Found: Channel not found"):
            await session.hang_up("nobody")
        with pytest.raises(ControlError, match="500 Internal Server Error"):
            await session.originate("PJSIP/nowhere", {}, context="app", extension="600")
        assert session.up

    run(main)


def test_a_kill_is_told_within_milliseconds_and_the_next_start_is_followed(asterisk: Asterisk) -> None:
    async def main(session: AriSession, told: Told, phones: Phones) -> None:
        await told.synced()
        boot = told.of(Up)[0].boot
        loop = asyncio.get_running_loop()
        began = loop.time()
        asterisk.kill()
        await until(lambda: bool(told.of(Lost)), lambda: told)
        assert loop.time() - began < 0.2
        lost = told.of(Lost)[0]
        assert (lost.loss, lost.was_up) == (Loss.CLOSED, True)
        told.clear()
        await asyncio.to_thread(asterisk.start)
        await told.synced()
        assert told.of(Up)[0].boot != boot
        losses = [lost.loss for lost in told.of(Lost)]
        assert not any(lost.was_up for lost in told.of(Lost))
        assert Loss.REFUSED in losses and set(losses) <= {Loss.REFUSED, Loss.PROTOCOL, Loss.CLOSED}
        assert losses.count(Loss.CLOSED) <= 1  # a kernel that ends a process may take one connection before it refuses

    run(main)


def test_a_hung_asterisk_is_silent(asterisk: Asterisk) -> None:
    async def main(session: AriSession, told: Told, phones: Phones) -> None:
        await told.synced()
        asterisk.freeze()
        await until(lambda: bool(told.of(Lost)), lambda: told, 5)
        assert told.of(Lost)[0].loss is Loss.SILENT
        asterisk.thaw()

    run(main)


def test_a_wrong_password_is_denied(asterisk: Asterisk) -> None:
    async def main(session: AriSession, told: Told, phones: Phones) -> None:
        await until(lambda: bool(told), lambda: told)
        assert told == [Lost(Loss.DENIED, "401 Unauthorized", False)]

    run(main, password="wrong")


def test_how_loaded_it_is(asterisk: Asterisk) -> None:
    async def main(session: AriSession, told: Told, phones: Phones) -> None:
        await until(lambda: bool(told.of(Resources)), lambda: told)
        resources = told.of(Resources)[0]
        assert resources.channels == 0
        assert 0 <= resources.uptime_s < 60

    run(main)


def test_two_sessions_with_one_name_are_said_to_be_so(asterisk: Asterisk) -> None:
    async def main(session: AriSession, told: Told, phones: Phones) -> None:
        await told.synced()
        other = AriSession(AsyncioNetwork(asyncio.get_running_loop()), (THERE, ARI_PORT), "lab", "lab-secret", Random())
        other.start(lambda _: None)
        await until(lambda: bool(told.of(Lost)), lambda: told)
        await other.stop()
        assert "another session has taken the application's name 'aqueduct'" in told.of(Lost)[0].why

    run(main)
