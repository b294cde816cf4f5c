"""Real Asterisk records and is killed: in the joined recording is everything that was said, to the sample.

What is recorded is told by the control sessions (AMI). The node runs in this process.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import numpy as np

from media.direct import DirectPlane
from media.relay.client import RelayPlane
from proxy.backends import Verdict
from proxy.config import Settings
from proxy.net.asyncio_network import AsyncioNetwork
from proxy.node import Node
from proxy.recordings import manifest
from proxy.recordings.join import joined
from proxy.recordings.worker import repair
from proxy.serve import relay_options
from tests.integration.conftest import until
from tests.testbed.aqueduct import settings
from tests.testbed.asterisk import ROOT_FOLDER, Asterisk
from tests.testbed.hosts import BACKENDS, CALLER, PROXY
from tests.testbed.phone import Call, Phones
from tests.testbed.recorded import around, missing, speech, spoken

TALK_BEFORE_S, TALK_AFTER_S = 7.3, 6.0
ROOM = "7001"
LATE = 25  # ticks: a recorder is there a little later than the first word
MEMBERS = 6  # the last one muted


ANNOUNCED = {"as1": speech(101), "as2": speech(102)}  # what each backend tells a caller
DIALPLAN = """
[app](+)
exten => announced,1,Answer()
 same => n,Set(F=${{XSESSION}})
 same => n,Set(XREC=${{PJSIP_HEADER(read,X-Aqueduct-Recording)}})
 same => n,ExecIf($["${{XREC}}" != ""]?Set(F=${{CUT(XREC,\\;,1)}}.${{CUT(XREC,=,2)}}))
 same => n,MixMonitor(${{REC}}/${{F}}.wav)
 same => n,Playback({words})
 same => n,Wait(60)
"""


class Site:
    def __init__(self, node: Node, primary: Asterisk, backup: Asterisk, folder: Path) -> None:
        self.node = node
        self.primary = primary
        self.backup = backup
        self.folder = folder
        self.address = (PROXY, 5060)
        assert node.recordings is not None
        self.recordings = node.recordings

    def file(self, name: str) -> Path:
        return self.folder / name


@asynccontextmanager
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    loop, rng = asyncio.get_running_loop(), random.Random(4)
    folder = tmp_path / "recordings"
    async with AsyncExitStack() as stack:
        backends = [
            stack.enter_context(
                Asterisk(
                    name, host, tmp_path / name, root=ROOT_FOLDER, rtp_ports=ports, recordings=folder,
                    additions={"extensions.conf": DIALPLAN.format(words=words(tmp_path, name))},
                )
            )
            for name, host, ports in (
                ("as1", BACKENDS[0], (12000, 13999)), ("as2", BACKENDS[1], (14000, 15999))
            )
        ]  # fmt: skip
        for backend in backends:
            await asyncio.to_thread(backend.wait_ready)
        configuration = settings(PROXY, {each.name: each.address for each in backends}, tmp_path)
        for member in configuration["pools"]["pbx"]["backends"].values():
            member["control"] = {"protocol": "ami", "user": "lab", "secret": "lab-secret"}
        configuration["recordings"] = {"folders": str(folder)}
        built = Settings.model_validate(configuration)
        (tmp_path / "state").mkdir()
        relay = await RelayPlane.start(relay_options(built), rng)
        node = Node(built, loop, AsyncioNetwork(loop), relay, DirectPlane(loop, rng, PROXY), rng, None, repair)
        await node.start()
        stack.push_async_callback(node.stop)
        await until(lambda: all(each.verdict is Verdict.UP for each in node.backends), lambda: list(node.backends))
        await until(lambda: all(each.up for each in node.controls.of.values()), lambda: node.controls.of)
        yield Site(node, *backends, folder)
        for call in list(node.calls.live.values()):
            node.calls.end(call, "the test is over")


def words(folder: Path, name: str) -> Path:
    """A file of what that backend tells its callers, as a dialplan names it: without its suffix."""
    file = folder / f"words-{name}"
    file.with_suffix(".ulaw").write_bytes(b"".join(ANNOUNCED[name]))
    return file


async def hears(seconds: float, condition: Callable[[], bool]) -> None:
    await until(condition, lambda: "it did not happen", seconds)


def said_by(calls: Sequence[Call], first: int, last: int) -> dict[str, np.ndarray]:
    return {call.call_id: spoken(call.said, first, last) for call in calls}


def test_a_conference_is_recorded_as_if_nothing_had_happened(tmp_path: Path) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with site(tmp_path) as here, Phones(CALLER) as phones:
            began_at = loop.time()
            for number in range(MEMBERS):
                headers = {"X-Record": "yes", "X-Room": ROOM}
                if number == MEMBERS - 1:
                    headers["X-Muted"] = "yes"
                await phones.call("7001", here.address, headers=headers, say=speech(number))
            conferences = here.node.conferences
            await hears(5.0, lambda: len(conferences) == 1 and len(next(iter(conferences))) == MEMBERS)
            await hears(5.0, lambda: len(here.recordings) == 1)
            await asyncio.sleep(0.5)
            since = phones.tick
            await asyncio.sleep(TALK_BEFORE_S)
            here.primary.kill()
            killed = phones.tick - since
            await hears(10.0, here.file(f"{ROOM}.2.wav").exists)
            await asyncio.sleep(TALK_AFTER_S)
            until_tick = phones.tick
            await asyncio.sleep(0.3)
            assert {await call.bye() for call in phones.calls} == {200}
            await hears(5.0, lambda: len(here.recordings) == 0)
            await here.recordings.close()

            told = manifest.load(here.file(f"{ROOM}.json"))
            assert [(each.number, each.by, each.backend, each.state) for each in told.segments] == [
                (1, "backend", "as1", "repaired"),
                (1, "relay", "", "whole"),
                (2, "backend", "as2", "whole"),
            ]
            broken = told.segments[0]
            assert (broken.voices, broken.voices_found, broken.problem) == (MEMBERS, MEMBERS - 1, "")
            assert broken.explained is not None and broken.explained > 0.99
            recording = joined(here.file(f"{ROOM}.json")).astype(np.float64)
            assert len(recording) / 8000 < (loop.time() - began_at) + 0.1  # nothing is in it twice
            found = missing(recording, said_by(phones.calls[: MEMBERS - 1], since, until_tick))
            assert found.between(*around(killed)).most_ms == 0.0, found
            assert found.most_ms < 100.0, found  # by Asterisk itself, elsewhere
            muted = missing(recording, said_by(phones.calls[MEMBERS - 1 :], since, until_tick))
            assert muted.most_ms > 5000

    asyncio.run(scenario())


def test_a_call_is_recorded_both_ways_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """MixMonitor: what the caller says, and what each backend tells him."""

    async def scenario() -> None:
        async with site(tmp_path) as here, Phones(CALLER) as phones:
            headers = {"X-Session-ID": "case-17"}
            caller = await phones.call("announced", here.address, headers=headers, say=speech(1))
            answered = phones.tick
            await hears(5.0, lambda: len(here.recordings) == 1)
            await asyncio.sleep(0.5)
            since = phones.tick
            await asyncio.sleep(TALK_BEFORE_S)
            here.primary.kill()
            killed = phones.tick
            await hears(10.0, here.file("case-17.2.wav").exists)
            await asyncio.sleep(TALK_AFTER_S)
            until_tick = phones.tick
            await asyncio.sleep(0.3)
            assert await caller.bye() == 200
            await hears(5.0, lambda: len(here.recordings) == 0)
            await here.recordings.close()

            told = manifest.load(here.file("case-17.json"))
            written = [each for each in told.segments if each.by == "backend"]  # the backup may have been there at once
            assert [(each.number, each.backend, each.state) for each in written] == [
                (1, "as1", "repaired"),
                (2, "as2", "whole"),
            ]
            broken = told.segments[0]
            assert broken.explained is not None and broken.explained > 0.99
            recording = joined(here.file("case-17.json")).astype(np.float64)
            said = {
                "caller": spoken(caller.said, since, until_tick),
                "as1": spoken(ANNOUNCED["as1"], LATE, killed - answered - 2),  # two packets may have been on their way
                "as2": spoken(ANNOUNCED["as2"], 0, until_tick - killed - 50),
            }
            found = missing(recording, said)
            assert found.between(*around(killed - since)).frames["caller"] == [], found
            assert found.between(*around(killed - answered - LATE)).frames["as1"] == [], found
            assert len(found.frames["as2"]) < 5, found

    asyncio.run(scenario())
