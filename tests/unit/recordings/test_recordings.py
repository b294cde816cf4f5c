"""What backends say of recordings in SIP, over the death of one of them. Calls are made by hand, files are real."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import numpy as np
import pytest

from proxy.backends import Backends, Verdict
from proxy.calls import TALKING, Call, Calls, Leg
from proxy.config import Settings
from proxy.health import VerdictChanged
from proxy.net.timers import Timers
from proxy.recordings import Recordings, manifest
from proxy.recordings.join import joined
from proxy.sip.message import Request, field
from proxy.sip.stack import Stack
from tests.testbed.recorded import missing
from tests.unit.recordings.test_recording import Relay, broken, in_process, run
from tests.unit.recordings.voices import Mixer, Speaker, speech
from tests.unit.sip.hand_stack import FakeFlow


class Site:
    def __init__(self, folder: Path, *speakers: Speaker) -> None:
        self.folder = folder
        backends = {name: {"address": f"192.0.2.{n}"} for n, name in enumerate(("as1", "as2"), 1)}
        settings = Settings.model_validate(
            {
                "pools": {"pbx": {"backends": backends}},
                "routes": [{"pool": "pbx"}],
                "recordings": {"folders": str(folder)},
            }
        )
        loop = asyncio.get_running_loop()
        self.relay = Relay(*speakers)
        self.backends = Backends(settings)
        stack = Stack(Timers(loop), random.Random(1))
        self.calls = Calls(settings, stack, self.backends, self.relay, self.relay, random.Random(1))  # type: ignore[arg-type]
        self.recordings = Recordings(self.calls, self.backends, in_process, loop)
        self.recordings.hear_of_calls()

    def call(self, name: str) -> Call:
        made = Call(self.calls, name, self.calls.relay, 0.0)
        made.state = TALKING
        made.uri = b"sip:100@192.0.2.9"
        made.a = Leg(made, "a", b"a" + name.encode(), FakeFlow(), None)
        self.calls.live[name] = made
        self.place(made, "b1", "as1")
        return made

    def place(self, call: Call, leg: str, backend: str) -> None:
        call.b = Leg(call, leg, leg.encode() + call.id.encode(), FakeFlow(), self.backends.get(backend))

    def says(self, call: Call, **headers: str) -> bool:
        """The backend that has the call, in an INFO of its own."""
        assert call.b is not None
        fields = [field(f"X-Aqueduct-{name.title()}".encode(), value.encode()) for name, value in headers.items()]
        return self.calls.pairs.hear(call, call.b, Request(b"INFO", b"sip:100@192.0.2.9", fields))

    def dies(self, name: str, at: float) -> None:
        backend = self.backends.get(name)
        assert backend is not None
        backend.fenced = True
        now = asyncio.get_running_loop().time()
        self.recordings.verdict_changed(
            VerdictChanged(backend, Verdict.UP, Verdict.DOWN, None, "it was killed", now, at, ())
        )

    def told(self, call: Call) -> list[bytes]:
        return [line for _, line in self.calls.recorded(call)]

    def segments(self, name: str) -> list[tuple[int, str, str, str]]:
        told = manifest.load(self.folder / f"{name}.json")
        return [(each.number, each.by, each.backend, each.state) for each in told.segments]


def said(speaker: Speaker, first: float, last: float) -> np.ndarray:
    """Between two times."""
    return speaker.said[round((first - speaker.at) * 8000) : round((last - speaker.at) * 8000)].astype(np.float64)


REPAIRED = [(1, "backend", "as1", "repaired"), (1, "relay", "", "whole"), (2, "backend", "as2", "whole")]


@pytest.mark.parametrize("name", ["case-17", "case-17.wav", "{folder}/case-17.wav"])
def test_a_backend_says_in_sip_what_it_records_and_it_goes_on_at_the_backup(tmp_path: Path, name: str) -> None:
    async def test() -> None:
        now = asyncio.get_running_loop().time()
        began, died, again = now - 9.0, now - 3.0, now - 2.4
        caller = Speaker("c a", speech(1, 20.0), now - 9.5)
        first = Speaker("c b1", speech(2, died - now + 9.4), now - 9.4, delay_s=0.001)
        second = Speaker("c b2", speech(3, 20.0), again - 0.1, delay_s=0.001)
        site = Site(tmp_path, caller, first, second)
        call = site.call("c")
        assert site.says(call, recording=name.format(folder=tmp_path))
        assert site.relay.asked == {"c a": 10.0, "c b1": 10.0, "c None": 10.0}
        assert site.told(call) == [b"X-Aqueduct-Recording: case-17;segment=2"]
        broken(tmp_path / "case-17.wav", Mixer(began).record([caller, first], 6.0))
        site.dies("as1", died)
        assert site.told(call) == [b"X-Aqueduct-Recording: case-17;segment=2"]
        site.place(call, "b2", "as2")
        broken(tmp_path / "case-17.2.wav", Mixer(again).record([caller, second], 2.4))
        assert site.says(call, recording="case-17.2")
        assert site.told(call) == [b"X-Aqueduct-Recording: case-17;segment=3"]
        assert site.says(call, recording="")
        assert site.told(call) == [] and not len(site.recordings)
        await site.recordings.close()

        assert site.segments("case-17") == REPAIRED
        recording = joined(tmp_path / "case-17.json").astype(np.float64)
        everything = {
            "caller": said(caller, now - 8.0, now - 0.5),
            "as1": said(first, now - 8.0, died - 0.1),
            "as2": said(second, again + 0.1, now - 0.5),
        }
        assert missing(recording, everything).most_ms == 0.0
        assert {name for name, seconds in site.relay.asked.items() if seconds} == set()

    run(test())


@pytest.mark.parametrize("value", ["../case-17", "/etc/case-17.wav", ""])
def test_what_is_in_no_folder_of_recordings_is_none(tmp_path: Path, value: str) -> None:
    async def test() -> None:
        site = Site(tmp_path)
        call = site.call("c")
        site.says(call, recording=value)
        assert not len(site.recordings)
        assert site.told(call) == []
        assert site.relay.asked == {}
        assert site.recordings.counts["elsewhere"] == bool(value)

    run(test())


@pytest.mark.parametrize("transit_s", [0.005, 0.06])
def test_the_other_one_of_a_pair_is_in_it_while_they_talk_past_the_dead_backend(
    tmp_path: Path, transit_s: float
) -> None:
    """The customer's call is recorded; the agent is heard through the leg of the backend, then by himself, then through
    the leg of the backup. Nothing of him is missing; if something were there twice, it would hide what others say."""

    async def test() -> None:
        now = asyncio.get_running_loop().time()
        began, died, again = now - 9.0, now - 4.0, now - 2.4
        customer = Speaker("c a", speech(1, 20.0), now - 9.5)
        agent = Speaker("m a", speech(2, 20.0), now - 9.3)
        words = agent.samples
        first = Speaker("c b1", words[: round((died - agent.at - transit_s) * 8000)], agent.at + transit_s)
        heard_again = round((again - 0.8 - agent.at) / 0.02) * 160  # the backup connects them, and then records
        second = Speaker("c b2", words[heard_again:], agent.at + heard_again / 8000 + 0.02)
        site = Site(tmp_path, customer, agent, first, second)
        call, other = site.call("c"), site.call("m")
        for each in (call, other):
            site.says(each, pair="17")
        assert site.says(call, recording="case-17")
        broken(tmp_path / "case-17.wav", Mixer(began).record([customer, first], died - began))
        site.dies("as1", died)
        for each in (call, other):
            site.place(each, "b2", "as2")
        broken(tmp_path / "case-17.2.wav", Mixer(again).record([customer, second], 2.4))
        assert site.says(call, recording="case-17.2")
        await asyncio.sleep(0.3)
        assert site.says(call, recording="")
        await site.recordings.close()

        assert site.segments("case-17") == REPAIRED
        recording = joined(tmp_path / "case-17.json").astype(np.float64)
        spoken = {who.name: said(who, now - 8.0, now - 0.5) for who in (customer, agent)}
        # Of 375 frames: beside the first and last of one are words of the other that are not looked for.
        assert missing(recording, spoken).between(10, 365).most_ms == 0.0

    run(test())
