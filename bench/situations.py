#!/usr/bin/env python3
"""Conferences, bridged pairs and single calls on one real Asterisk; it is killed; what became of each situation.

Everybody has a voice of his own, so who hears whom, and whether anybody heard a prompt, is measured from the audio.
In each conference a fifth are moderators and three tenths are muted, and it is recorded. In one more people speak
without ever saying the same twice, so that each 20 ms of it can be looked for in the recording afterwards. What
Asterisk thinks of its members is asked of its manager. A person is restored when both agree, and the proxy's report
says when that was.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import common
from bench.common import on_cpu, progress
from bench.failover import failover_report, spread
from bench.peers import AGENTS, LOAD_CPU, SLOW_PROBES, UAC, UAS, UAS_BACKUP, Server, aqueduct_settings, start_aqueduct
from bench.recorded import Recorded
from tests.testbed import ami
from tests.testbed.asterisk import Asterisk, pair
from tests.testbed.phone import Call, Phones
from tests.testbed.voices import Listener, Voices, frames

STARTED_PER_S = 40
SETTLE_S = 4.0
AFTER_S = 3.0  # a prompt would have come by then
LISTEN_S = 0.6
RECORDED_S = 4.0  # a writer holds back less than that
AGENT_ANSWERS_S = 5.0


@dataclass(slots=True)
class Person:
    call: Call
    listener: Listener
    hz: int
    muted: bool = False
    moderator: bool = False

    def hears(self, now: float) -> frozenset[int]:
        return self.listener.hears(now - LISTEN_S, now)


class Situations:
    def __init__(self, server: Server, customers: Phones, agents: Phones) -> None:
        self._server = server
        self._customers = customers
        self._agents = agents
        self.voices = Voices()
        self.conferences: dict[str, list[Person]] = {}
        self.pairs: list[tuple[Person, Person]] = []
        self.singles: list[Person] = []

    def everybody(self) -> list[Person]:
        members = [person for people in self.conferences.values() for person in people]
        return [*members, *(person for both in self.pairs for person in both), *self.singles]

    async def start(self, conferences: int, members: int, pairs: int, singles: int) -> None:
        for number in range(conferences):
            people = self.conferences[f"conf-{number}"] = []
            for place in range(members):
                muted, moderator = place < 3 * members // 10, place >= members - max(1, members // 5)
                people.append(await self._member(f"conf-{number}", muted=muted, moderator=moderator))
        for number in range(pairs):
            self.pairs.append(await self._pair(f"agent-{number}"))
        for _ in range(singles):
            self.singles.append(await self._call("echo"))

    async def _call(self, user: str, headers: dict[str, str] | None = None) -> Person:
        await asyncio.sleep(1 / STARTED_PER_S)
        hz = self.voices.new()
        call = await self._customers.call(user, self._server.address, headers=headers, say=frames(hz))
        return _person(call, hz)

    async def _member(self, conference: str, *, muted: bool, moderator: bool) -> Person:
        headers = (
            {"X-Record": "yes"} | ({"X-Muted": "yes"} if muted else {}) | ({"X-Role": "admin"} if moderator else {})
        )
        person = await self._call(conference, headers)
        person.muted, person.moderator = muted, moderator
        return person

    async def _pair(self, user: str) -> tuple[Person, Person]:
        customer = await self._call(user)
        async with asyncio.timeout(AGENT_ANSWERS_S):
            while not (found := [call for call in self._agents.calls if call.dialled == user]):
                await asyncio.sleep(0.01)
        hz = self.voices.new()
        found[0].say(frames(hz))
        return customer, _person(found[0], hz)

    # -- what is right

    def member_is_right(self, people: Sequence[Person], person: Person, now: float) -> bool:
        others = frozenset(each.hz for each in people if each is not person and not each.muted)
        return person.hears(now) == others

    def pair_is_right(self, both: tuple[Person, Person], now: float) -> bool:
        first, second = both
        return first.hears(now) == {second.hz} and second.hears(now) == {first.hz}

    def all_is_right(self, now: float) -> bool:
        return (
            all(self.member_is_right(people, each, now) for people in self.conferences.values() for each in people)
            and all(self.pair_is_right(both, now) for both in self.pairs)
            and all(each.hears(now) == {each.hz} for each in self.singles)
        )


def _person(call: Call, hz: int) -> Person:
    call.heard = listener = Listener()
    return Person(call, listener, hz)


def rosters(host: str, conferences: Sequence[str]) -> dict[str, set[ami.Member]]:
    with ami.Manager(host) as manager:
        return {name: set(manager.members(name)) for name in conferences}


def in_order(report: dict[str, Any]) -> bool:
    """Were conferences sent for first, then pairs, then the others?"""
    sent = sorted((result["sent_ms"], result["kind"]) for result in report["results"] if result["sent_ms"] is not None)
    places = [("conference", "pair", "talking").index(kind) for _, kind in sent]
    return places == sorted(places)


async def trial(server: Server, primary: Asterisk, backup: Asterisk, arguments: argparse.Namespace) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    async with Phones(UAC[0]) as customers, Phones(*AGENTS, frames(Voices().new())) as agents:
        there = Situations(server, customers, agents)
        await asyncio.sleep(1.0)  # the agents' phones answer probes by then
        await there.start(arguments.conferences, arguments.members, arguments.pairs, arguments.singles)
        recorded = Recorded(server, customers, primary.recordings)
        await recorded.start()
        await asyncio.sleep(SETTLE_S)
        recorded.listen()
        await asyncio.sleep(RECORDED_S)
        if not there.all_is_right(loop.time()):
            raise RuntimeError("not everybody heard before the fault whom he should")
        struck_at, struck_in = loop.time(), customers.tick
        primary.kill()
        report = await failover_report(server)
        await asyncio.sleep(AFTER_S)
        now = loop.time()
        found = await asyncio.to_thread(rosters, backup.address[0], list(there.conferences))
        listed = {name: {member.caller: member for member in members} for name, members in found.items()}
        restored = flags = prompts = 0
        for name, people in there.conferences.items():
            for person in people:
                member = listed[name].get(f"phone{customers.calls.index(person.call) + 1}")
                restored += member is not None and there.member_is_right(people, person, now)
                flags += member is not None and (member.moderator, member.muted) == (person.moderator, person.muted)
                prompts += person.listener.stranger(struck_at, now, there.voices) is not None
        known_ms = (report["detected_at"] - struck_at) * 1000
        done_ms = [known_ms + each["done_ms"] for each in report["results"] if each["result"] == "moved"]
        silences = [person.listener.silent_s(struck_at, now) * 1000 for person in there.everybody()]
        ended = [person for person in there.everybody() if person.call.ended.done()]
        result = {
            "members": arguments.conferences * arguments.members,
            "restored": restored,
            "flags_ok": flags,
            "heard_prompt": prompts,
            "pairs": arguments.pairs,
            "pairs_ok": sum(there.pair_is_right(both, now) for both in there.pairs),
            "singles": arguments.singles,
            "singles_ok": sum(person.hears(now) == {person.hz} for person in there.singles),
            "order_ok": in_order(report),
            "lost": len(ended),
            "detection_ms": round(known_ms, 1),
            "restored_ms": spread(done_ms),
            "silence_ms": spread(silences, worst=True),
            "recording_missing_ms": await recorded.missing_ms(struck_in),
        }  # fmt: skip
        for at_ms, text in report["timeline"]:
            progress(f"{at_ms:8.1f} ms  {text}")
        return result


def main() -> int:
    parser = argparse.ArgumentParser(description="conferences, pairs and single calls when their Asterisk is killed")
    parser.add_argument("--conferences", type=int, default=1, metavar="C")
    parser.add_argument("--members", type=int, default=10, metavar="M", help="of each conference")
    parser.add_argument("--pairs", type=int, default=0, metavar="P")
    parser.add_argument("--singles", type=int, default=0, metavar="S")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aqueduct-bench-") as work:
        folder = Path(work)
        with on_cpu(LOAD_CPU):
            primary, backup = pair(folder, (UAS[0], UAS_BACKUP[0]))
        try:
            settings = aqueduct_settings(folder, "relay")
            for backend in settings["pools"]["pbx"]["backends"].values():
                backend["control"] = {"protocol": "ami", "user": ami.USER, "secret": ami.SECRET}
            settings["recordings"] = {"folders": str(primary.recordings)}
            agents = {"agents": {"address": f"{AGENTS[0]}:{AGENTS[1]}"}}
            settings["pools"]["phones"] = {"recover": False, "backends": agents, "health": SLOW_PROBES}
            settings["routes"].insert(0, {"from_pool": "pbx", "pool": "phones"})
            server = start_aqueduct(folder, settings)
            try:
                result = asyncio.run(trial(server, primary, backup, arguments))
            finally:
                server.process.stop()
        finally:
            primary.kill()
            backup.kill()
    common.report(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
