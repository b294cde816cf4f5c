"""The AMI session with a real Asterisk, and what follows from it: calls that survive its shutdown, and its death seen
within milliseconds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest

from proxy.backends.control.ami import AmiSession
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
from proxy.demo.asterisk.instance import AMI_PORT, SIP_PORT
from proxy.net.asyncio_network import AsyncioNetwork
from tests.integration.conftest import ECHO, OWN_HZ, start_site, until, until_channels, until_heard
from tests.testbed.ami import USER
from tests.testbed.asterisk import ROOT_FOLDER, Asterisk
from tests.testbed.audio import tone
from tests.testbed.hosts import BACKENDS, CALLER, PROXY
from tests.testbed.phone import Phones

READY_FILE = Path(__file__).parents[2] / "docs" / "asterisk" / "manager_aqueduct.conf"
THERE = BACKENDS[0]
ROOM = "7001"
KILLS = 3  # bench/detection.py --control does more
SLOW_PROBES = {"interval_ms": 5000, "silence_min_ms": 10000, "silence_max_ms": 10000, "rise": 1, "flaps_max": 100}


@pytest.fixture
def asterisk(tmp_path: Path) -> Iterator[Asterisk]:
    additions = {"manager.conf": READY_FILE.read_text(encoding="utf-8")}
    with Asterisk("as1", THERE, tmp_path / "as1", root=ROOT_FOLDER, additions=additions) as asterisk:
        asterisk.wait_ready()
        yield asterisk


class Told(list[Event]):
    async def synced(self) -> None:
        await until(lambda: Synced() in self, lambda: self)

    async def of(self, event: Event) -> None:
        await until(lambda: event in self, lambda: self)

    def channel(self, call_id: str) -> str:
        return next(each.channel for each in self if isinstance(each, ChannelUp) and each.sip == call_id)

    async def tied(self, call_id: str) -> str:
        await until(lambda: any(isinstance(each, ChannelUp) and each.sip == call_id for each in self), lambda: self)
        return self.channel(call_id)


def losses(told: Told) -> list[tuple[Loss, bool]]:
    return [(each.loss, each.was_up) for each in told if isinstance(each, Lost)]


def session(told: Told, secret: str = "change-me") -> AmiSession:
    """With the user of the ready file."""
    network = AsyncioNetwork(asyncio.get_running_loop())
    made = AmiSession(network, (THERE, AMI_PORT), "aqueduct", secret, Random())
    made.start(told.append)
    return made


def run(main: Callable[[AmiSession, Told, Phones], Awaitable[None]], secret: str = "change-me") -> None:
    async def whole() -> None:
        told = Told()
        async with Phones(CALLER) as phones:
            control = session(told, secret)
            try:
                await main(control, told, phones)
            finally:
                await control.stop()

    asyncio.run(whole())


# What it tells


def test_a_call_is_told_with_its_call_id_and_its_end(asterisk: Asterisk) -> None:
    async def main(control: AmiSession, told: Told, phones: Phones) -> None:
        await told.synced()
        up = told[0]
        assert isinstance(up, Up) and up.version.startswith("Asterisk 22.") and up.boot.startswith("as1 ")
        call = await phones.call(ECHO, (THERE, SIP_PORT))
        channel = await told.tied(call.call_id)
        await call.bye()
        await told.of(ChannelDown(channel, 16))
        assert control.counters.get("malformed", 0) == 0

    run(main)


def test_a_conference_is_told_and_ordered(asterisk: Asterisk) -> None:
    async def main(control: AmiSession, told: Told, phones: Phones) -> None:
        await told.synced()
        anna = await phones.call(ROOM, (THERE, SIP_PORT), headers={"X-Role": "admin"})
        bert = await phones.call(ROOM, (THERE, SIP_PORT), headers={"X-Muted": "yes"})
        a, b = await told.tied(anna.call_id), await told.tied(bert.call_id)
        await told.of(ConferenceJoined(ROOM, a, moderator=True, muted=False, deaf=False))
        await told.of(ConferenceJoined(ROOM, b, moderator=False, muted=True, deaf=False))
        await control.mute(ROOM, b, False)
        await told.of(MemberChanged(ROOM, b, muted=False))
        with pytest.raises(ControlError, match="No Channel by that name"):
            await control.mute(ROOM, "nobody", True)
        file = str(asterisk.folder / "room.wav")
        await control.record(ROOM, file)
        await told.of(ConferenceChanged(ROOM, recording=file))
        await control.lock(ROOM, True)

        other = Told()  # who comes later is told the same
        second = session(other)
        await other.synced()
        assert ConferenceJoined(ROOM, a, moderator=True, muted=False, deaf=False) in other
        assert ConferenceJoined(ROOM, b, moderator=False, muted=False, deaf=False) in other
        assert ConferenceChanged(ROOM, locked=True) in other
        assert ConferenceChanged(ROOM, recording="?") in other
        assert other.channel(anna.call_id) == a  # before Synced
        await second.stop()

        await control.record(ROOM, None)
        await told.of(ConferenceChanged(ROOM, recording=""))
        await control.hang_up(a)
        await told.of(ConferenceLeft(ROOM, a))
        await bert.bye()
        await told.of(ConferenceEnded(ROOM))
        assert not any(isinstance(each, BridgeEntered) for each in told)

    run(main)


def test_a_caller_is_put_into_a_conference_by_command(asterisk: Asterisk) -> None:
    async def main(control: AmiSession, told: Told, phones: Phones) -> None:
        await told.synced()
        call = await phones.call(ECHO, (THERE, SIP_PORT))
        channel = await told.tied(call.call_id)
        await control.join(channel, "another")
        await told.of(ConferenceJoined("another", channel, moderator=False, muted=False, deaf=False))
        made = await control.originate("Local/600@app", {"X": "y"}, context="app", extension="600")
        await until(lambda: any(isinstance(each, ChannelUp) and each.channel == made for each in told), lambda: told)

    run(main)


def test_a_pair_and_a_recording_are_told(asterisk: Asterisk) -> None:
    async def main(control: AmiSession, told: Told, phones: Phones) -> None:
        await told.synced()
        one, two = [await phones.call(ECHO, (THERE, SIP_PORT)) for _ in range(2)]
        a, b = await told.tied(one.call_id), await told.tied(two.call_id)
        await control._command("Bridge", ("Channel1", a), ("Channel2", b), ("Tone", "no"))
        await until(lambda: sum(isinstance(each, BridgeEntered) for each in told) == 2, lambda: told)
        bridge = next(each.bridge for each in told if isinstance(each, BridgeEntered))

        other = Told()
        second = session(other)
        await other.synced()
        assert {each.channel for each in other if isinstance(each, BridgeEntered) and each.bridge == bridge} == {a, b}
        await second.stop()

        await one.bye()
        await told.of(BridgeLeft(bridge, b))
        recorded = await phones.call("603", (THERE, SIP_PORT), headers={"X-Session-ID": "rec1"})
        channel = await told.tied(recorded.call_id)
        await told.of(RecordingChanged(channel, str(asterisk.recordings / "rec1.wav")))
        await until(lambda: any(isinstance(each, Resources) for each in told), lambda: told)

    run(main)


def test_a_wrong_secret_is_denied(asterisk: Asterisk) -> None:
    async def main(control: AmiSession, told: Told, phones: Phones) -> None:
        await until(lambda: bool(told), lambda: told)
        await asyncio.sleep(1.0)
        (lost,) = told
        assert isinstance(lost, Lost) and lost.loss is Loss.DENIED and "Authentication failed" in lost.why

    run(main, secret="wrong")


def test_its_death_and_its_return_are_told(asterisk: Asterisk) -> None:
    async def main(control: AmiSession, told: Told, phones: Phones) -> None:
        await told.synced()
        boot = next(each.boot for each in told if isinstance(each, Up))
        await asyncio.sleep(1.2)
        asterisk.kill()
        await until(lambda: (Loss.REFUSED, False) in losses(told), lambda: told, 0.2)
        taken = (Loss.CLOSED, False)  # a kernel that ends a process may take one connection before it refuses
        assert losses(told).count(taken) <= 1
        assert list(dict.fromkeys(each for each in losses(told) if each != taken)) == [
            (Loss.CLOSED, True),
            (Loss.REFUSED, False),
        ]
        await asyncio.to_thread(asterisk.wait, 5.0)
        told.clear()
        asterisk.start()
        await told.synced()
        assert next(each.boot for each in told if isinstance(each, Up)) != boot

    run(main)


# What follows for calls


def stop_by_signal(asterisk: Asterisk) -> None:
    asterisk.signal(signal.SIGTERM)


def stop_by_command(asterisk: Asterisk) -> None:
    asterisk.cli("core stop now")


@pytest.mark.parametrize("stop", [stop_by_signal, stop_by_command])
def test_no_call_ends_because_its_asterisk_is_stopped(tmp_path: Path, stop: Callable[[Asterisk], None]) -> None:
    with ExitStack() as stack:
        site = start_site(stack, tmp_path, control=True)

        async def scenario() -> None:
            async with Phones(CALLER) as phones:
                calls = [await phones.call(ECHO, site.proxy.address, say=tone(OWN_HZ)) for _ in range(20)]
                await until_channels(site.primary, 20)
                await asyncio.to_thread(stop, site.primary)
                await until_channels(site.backup, 20)
                await asyncio.gather(*(until_heard(call, OWN_HZ) for call in calls))
                assert not any(call.ended.done() for call in calls)
                await asyncio.gather(*(call.bye() for call in calls))

        asyncio.run(scenario())
        (report,) = site.proxy.ask("failovers")
        assert (report["cause"], report["moved"]) == ("Dead", 20)


def test_calls_end_as_ever_and_a_manager_that_is_reloaded_moves_none(tmp_path: Path) -> None:
    with ExitStack() as stack:
        site = start_site(stack, tmp_path, control=True)

        async def scenario() -> None:
            async with Phones(CALLER) as phones:
                call = await phones.call(ECHO, site.proxy.address, say=tone(OWN_HZ))
                await until_heard(call, OWN_HZ)
                await asyncio.to_thread(site.primary.cli, "manager reload")
                await asyncio.to_thread(site.primary.cli, "manager kick session " + _session_id(site.primary))
                await until(lambda: _ups(site.proxy) == 2, lambda: site.proxy.ask("status"))
                await until_heard(call, OWN_HZ)
                await asyncio.to_thread(site.primary.cli, f"channel request hangup {site.primary.channels()[0]}")
                await asyncio.wait_for(call.ended, 1.0)  # the backend's own BYE

        asyncio.run(scenario())
        assert site.proxy.ask("failovers") == []


def _session_id(asterisk: Asterisk) -> str:
    """The file descriptor by which the console names the session of a manager."""
    line = next(each for each in asterisk.cli("manager show connected").splitlines() if each.split()[:1] == [USER])
    return line.split()[4]


def _ups(proxy: Any) -> int:
    row = next(row for row in proxy.ask("status")["backends"] if row["name"] == "as1")
    ups: int = row["control"]["counters"]["ups"]
    return ups


def test_a_control_port_that_is_wrong_has_no_effect_on_calls(tmp_path: Path) -> None:
    """A wrong secret at the primary, garbage at the backup; then nobody answers there."""
    backends: dict[str, Any] = {
        name: {
            "address": f"{host}:{SIP_PORT}",
            "role": role,
            "control": {"protocol": "ami", "user": USER, "secret": "x"},
        }
        for name, host, role in (("as1", BACKENDS[0], "primary"), ("as2", BACKENDS[1], "backup"))
    }
    backends["as2"]["control"]["host"] = PROXY
    with ExitStack() as stack:
        nasty = stack.enter_context(socket.create_server((PROXY, AMI_PORT)))
        said = iter([os.urandom(1 << 20), b"Asterisk Call Manager/11.0.0\r\n" + b"a" * 100_000, b"\r\n" * 1000])

        def speak() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = nasty.accept()
                    stack.callback(peer.close)
                    with contextlib.suppress(OSError):
                        peer.sendall(next(said, b""))

        threading.Thread(target=speak, daemon=True).start()
        site = start_site(stack, tmp_path, pool={"backends": backends})

        async def scenario() -> None:
            async with Phones(CALLER) as phones:
                call = await phones.call(ECHO, site.proxy.address, say=tone(OWN_HZ))
                await until_heard(call, OWN_HZ)
                await asyncio.sleep(4.0)
                assert call.heard.longest_gap_s(call.heard.arrivals[0], call.heard.arrivals[-1]) < 0.2
                assert await call.bye() == 200

        asyncio.run(scenario())
        rows = {row["name"]: row for row in site.proxy.ask("status")["backends"]}
        assert rows["as1"]["verdict"] == "up" and rows["as1"]["control"]["why"].startswith("denied")
        assert rows["as2"]["control"]["counters"]["lost_protocol"] >= 2
        assert site.proxy.ask("failovers") == []


def test_a_kill_is_known_by_the_session_alone(tmp_path: Path) -> None:
    with ExitStack() as stack:
        site = start_site(stack, tmp_path, control=True, pool={"health": SLOW_PROBES})
        took = []
        for _ in range(KILLS):
            _until_synced(site.proxy)
            time.sleep(1.2)
            struck = time.monotonic()
            site.primary.kill()
            site.primary.wait(5.0)
            took.append(_down_at(site.proxy) - struck)
            site.primary.start()
        print(f"kill -9 to down, ms: {[round(each * 1000, 1) for each in took]}")
        assert statistics.median(took) < 0.05


def _until_synced(proxy: Any) -> None:
    end = time.monotonic() + 30.0
    while True:
        rows = proxy.ask("status")["backends"]
        if all(row["verdict"] == "up" and row["control"]["state"] == "synced" for row in rows):
            return
        assert time.monotonic() < end, rows
        time.sleep(0.1)


def _down_at(proxy: Any) -> float:
    end = time.monotonic() + 5.0
    while True:
        row = next(row for row in proxy.ask("status")["backends"] if row["name"] == "as1")
        if row["verdict"] == "down":
            at: float = next(change["at"] for change in reversed(row["changes"]) if change["verdict"] == "down")
            return at
        assert time.monotonic() < end, row
        time.sleep(0.02)
