"""A ConfBridge of real Asterisk dies: the same ten are in the same conference on the backup, as what they were, and
nobody has heard a prompt.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

from tests.integration.conftest import Site, start_site, together, until, until_channels, until_heard
from tests.testbed.ami import SECRET, USER, Manager, Member
from tests.testbed.hosts import BACKENDS, CALLEE, CALLER
from tests.testbed.phone import Call, Phones
from tests.testbed.voices import Listener, Voices, frames

MEMBERS, MODERATORS, MUTED = 10, (8, 9), (0, 1, 2)
NAME = "conf-sales"
LOUD = {"confbridge.conf": "\n[aqueduct_participant](+)\nquiet = no\nannounce_only_user = yes\n"}


class Room:
    def __init__(self) -> None:
        self.voices = Voices()
        self.calls: list[Call] = []
        self.heard: list[Listener] = []
        self.tones: list[int] = []

    async def join(self, phones: Phones, site: Site) -> None:
        for number in range(MEMBERS):
            headers = {"X-Role": "admin"} if number in MODERATORS else {}
            headers |= {"X-Muted": "yes"} if number in MUTED else {}
            headers |= {"X-Record": "yes"}
            hz = self.voices.new()
            call = await phones.call(NAME, site.proxy.address, headers=headers, say=frames(hz))
            call.heard = listener = Listener()
            self.calls.append(call)
            self.heard.append(listener)
            self.tones.append(hz)

    def expected(self, number: int) -> frozenset[int]:
        return frozenset(hz for each, hz in enumerate(self.tones) if each not in (number, *MUTED))

    def said(self) -> list[list[int]]:
        return [sorted(each.hears(each.times[-1] - 0.3, each.times[-1])) for each in self.heard]

    async def until_all_hear(self, timeout_s: float = 10.0) -> None:
        """Looks now and then only: phones that are kept waiting stutter."""
        end = asyncio.get_running_loop().time() + timeout_s
        while not self.all_hear(now := asyncio.get_running_loop().time()):
            assert now < end, self.said()
            await asyncio.sleep(0.2)

    def all_hear(self, now: float, muted: tuple[int, ...] = MUTED) -> bool:
        return all(heard.hears(now - 0.3, now) == self.expected(number) for number, heard in enumerate(self.heard))


def roster(site: Site, host: str) -> set[Member]:
    with Manager(host) as manager:
        return set(manager.members(NAME))


def expected_roster() -> set[Member]:
    return {Member(f"phone{number + 1}", number in MODERATORS, number in MUTED) for number in range(MEMBERS)}


async def killed(site: Site, room: Room, *, within_s: float) -> float:
    """Kill the primary; when it was."""
    loop = asyncio.get_running_loop()
    await room.until_all_hear()
    assert roster(site, site.primary.address[0]) == expected_roster()
    struck_at = loop.time()
    site.primary.kill()
    while await asyncio.to_thread(roster, site, site.backup.address[0]) != expected_roster():
        assert loop.time() < struck_at + within_s, roster(site, site.backup.address[0])
        await asyncio.sleep(0.02)
    print(f"same ten after {(loop.time() - struck_at) * 1000:.0f} ms")
    return struck_at


def test_the_same_ten_are_in_the_same_conference_and_nobody_hears_a_prompt(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        loop, room = asyncio.get_running_loop(), Room()
        async with Phones(CALLER) as phones:
            await room.join(phones, site)
            await room.until_all_hear()
            with Manager(site.primary.address[0]) as manager:
                manager.order("ConfbridgeLock", Conference=NAME)
            await asyncio.sleep(2.5)  # no event tells of it: the proxy asks each 2 s
            struck_at = await killed(site, room, within_s=1.5)
            await room.until_all_hear()
            await asyncio.sleep(3.0)  # prompts would have come by now
            assert [each.stranger(struck_at, loop.time(), room.voices) for each in room.heard] == [None] * MEMBERS
            assert room.all_hear(loop.time())
            with Manager(site.backup.address[0]) as manager:
                assert manager.conferences() == {NAME: True}  # locked again
            (report,) = site.proxy.ask("failovers")
            assert (report["moved"], report["lost"]) == (MEMBERS, 0)
            print([text for _, text in report["timeline"]])
            assert (site.backup.recordings / f"{NAME}.2.wav").stat().st_size > 44
            assert {await call.bye() for call in room.calls} == {200}

    with ExitStack() as stack:
        asyncio.run(scenario(start_site(stack, tmp_path, control=True)))


def test_a_prompt_of_the_backup_would_have_been_noticed(tmp_path: Path) -> None:
    """The same with a backup that announces who comes: the measure is able to fail."""

    async def scenario(site: Site) -> None:
        loop, room = asyncio.get_running_loop(), Room()
        async with Phones(CALLER) as phones:
            await room.join(phones, site)
            struck_at = await killed(site, room, within_s=3.0)
            await asyncio.sleep(3.0)
            assert any(each.stranger(struck_at, loop.time(), room.voices) is not None for each in room.heard)

    with ExitStack() as stack:
        asyncio.run(scenario(start_site(stack, tmp_path, control=True, additions=LOUD)))


def test_a_pair_that_only_the_control_session_tells_of_is_carried_over_as_one(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        voices = Voices()
        mine, theirs = voices.new(), voices.new()
        async with Phones(CALLEE, 5060, frames(theirs)) as agents, Phones(CALLER) as customers:
            await asyncio.to_thread(site.proxy.wait_for_backends)
            customer = await customers.call("dial-7", site.proxy.address, say=frames(mine))
            await until(lambda: len(agents.calls) == 1, lambda: agents.calls)
            (agent,) = agents.calls
            people = ((customer, theirs), (agent, mine))
            await together(*(until_heard(call, hz) for call, hz in people))
            site.primary.kill()
            await until_channels(site.backup, 2)
            await together(*(until_heard(call, hz) for call, hz in people))
            async with asyncio.timeout(5.0):
                while not (report := (await asyncio.to_thread(site.proxy.ask, "failovers"))[0])["finished"]:
                    await asyncio.sleep(0.1)
            assert [each["kind"] for each in report["results"]] == ["pair", "pair"]
            assert all(each["bypassed_ms"] is not None for each in report["results"])
            assert await customer.bye() == 200
            async with asyncio.timeout(5.0):
                assert await agent.ended == "hung up"

    phones = {"phones": {"recover": False, "backends": {"agents": {"address": f"{CALLEE}:5060"}}}}
    with ExitStack() as stack:
        routes = [{"from_pool": "pbx", "pool": "phones"}]
        asyncio.run(scenario(start_site(stack, tmp_path, control=True, pools=phones, routes=routes)))


def test_a_conference_that_was_split_over_two_backends_is_one_again(tmp_path: Path) -> None:
    """Six numbers lead to one room, so nothing tells where a caller belongs before he is in it."""

    async def scenario(site: Site) -> None:
        loop, voices = asyncio.get_running_loop(), Voices()
        async with Phones(CALLER) as phones:
            heard, tones = [], []
            for number in range(6):
                tones.append(voices.new())
                say = frames(tones[-1])
                call = await phones.call(f"60{number}", site.proxy.address, headers={"X-Room": "nine"}, say=say)
                call.heard = listener = Listener()
                heard.append(listener)
            counts = [len(each.channels()) for each in (site.primary, site.backup)]
            assert min(counts) > 0, counts  # else there is nothing to show: each came to a backend by chance

            def one_again() -> bool:
                now = loop.time()
                return all(
                    each.hears(now - 0.3, now) == set(tones) - {hz} for each, hz in zip(heard, tones, strict=True)
                )

            async with asyncio.timeout(8.0):
                while not one_again():
                    await asyncio.sleep(0.2)
            assert not [call for call in phones.calls if call.ended.done()]
            async with asyncio.timeout(5.0):
                while sorted([len(each.channels()) for each in (site.primary, site.backup)]) != [0, 6]:
                    await asyncio.sleep(0.1)
            assert [each["cause"] for each in site.proxy.ask("failovers")] == ["split conference"]

    control = {"protocol": "ami", "user": USER, "secret": SECRET}
    both = {
        name: {"address": f"{host}:5060", "control": control}
        for name, host in zip(("as1", "as2"), BACKENDS, strict=True)
    }
    with ExitStack() as stack:
        asyncio.run(scenario(start_site(stack, tmp_path, pool={"backends": both})))
