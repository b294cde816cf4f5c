"""Real Asterisk dies and nobody hears it: hot standby, and a customer and an agent whom it had connected.

Its zombie stays silent: what was stopped, and is continued after its calls are elsewhere, reaches no caller any more.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.conftest import (
    BACKUP_HZ,
    ECHO,
    OWN_HZ,
    PRIMARY_HZ,
    TONE,
    Site,
    start_site,
    together,
    until_channels,
    until_heard,
)
from tests.testbed.audio import share_of, tone
from tests.testbed.hosts import CALLEE, CALLER
from tests.testbed.phone import Call, Phones

AGENT_HZ = 620
CALLS = 10
PHONES = {"phones": {"recover": False, "backends": {"agents": {"address": f"{CALLEE}:5060"}}}}


def longest_gap_s(calls: list[Call], since: float) -> float:
    now = asyncio.get_running_loop().time()
    return max(call.heard.longest_gap_s(since, now) for call in calls)


@pytest.fixture
def hot_site(tmp_path: Path) -> object:
    with ExitStack() as stack:
        yield start_site(stack, tmp_path, pool={"standby": "hot"})


def test_a_hot_standby_is_heard_at_once_and_the_zombie_never_again(hot_site: Site) -> None:
    async def scenario() -> None:
        loop, site = asyncio.get_running_loop(), hot_site
        async with Phones(CALLER) as phones:
            tones = [await phones.call(TONE, site.proxy.address) for _ in range(CALLS)]
            echoes = [await phones.call(ECHO, site.proxy.address, say=tone(OWN_HZ)) for _ in range(CALLS)]
            await together(*(until_heard(call, PRIMARY_HZ) for call in tones))
            await until_channels(site.backup, 2 * CALLS)  # its standbys

            struck_at = loop.time()
            site.primary.freeze()
            await together(*(until_heard(call, BACKUP_HZ) for call in tones))
            await together(*(until_heard(call, OWN_HZ) for call in echoes))
            assert longest_gap_s(phones.calls, struck_at) < 1.0
            assert len(site.backup.channels()) == 2 * CALLS

            site.primary.thaw()
            for _ in range(150):
                await asyncio.sleep(0.02)
                assert not any(share_of(PRIMARY_HZ, call.heard.recent[-1]) > 0.1 for call in tones)
            assert [call.requests for call in phones.calls] == [[]] * 2 * CALLS
            await until_channels(site.primary, 2 * CALLS)  # the calls that it had were ended; these are new standbys
            assert {await call.bye() for call in phones.calls} == {200}
            await until_channels(site.primary, 0)
            await until_channels(site.backup, 0)
            site.proxy.wait_for_calls(0)

    asyncio.run(scenario())


@pytest.fixture
def paired_site(tmp_path: Path) -> object:
    with ExitStack() as stack:
        routes = [{"from_pool": "pbx", "pool": "phones"}]
        yield start_site(stack, tmp_path, pools=PHONES, routes=routes)


def test_customer_and_agent_talk_on_and_are_taken_over_and_the_zombie_is_not_heard(paired_site: Site) -> None:
    async def scenario() -> None:
        loop, site = asyncio.get_running_loop(), paired_site
        async with Phones(CALLEE, 5060, tone(AGENT_HZ)) as agents, Phones(CALLER) as customers:
            await asyncio.to_thread(site.proxy.wait_for_backends)
            for number in range(CALLS):
                await customers.call(f"agent-{number}", site.proxy.address, say=tone(OWN_HZ))
            await together(*(until_heard(call, AGENT_HZ) for call in customers.calls))
            await together(*(until_heard(call, OWN_HZ) for call in agents.calls))
            everybody = [*customers.calls, *agents.calls]
            assert len(everybody) == 2 * CALLS

            asked = [
                call.requests.copy() for call in customers.calls
            ]  # Asterisk may ask for one codec when it connects
            struck_at = loop.time()
            site.primary.freeze()
            await until_channels(site.backup, 2 * CALLS)
            await together(*(until_heard(call, AGENT_HZ) for call in customers.calls))
            await together(*(until_heard(call, OWN_HZ) for call in agents.calls))
            assert longest_gap_s(everybody, struck_at) < 1.0

            site.primary.thaw()
            thawed_at = loop.time()
            await until_channels(site.primary, 0)
            await asyncio.sleep(1.0)
            assert longest_gap_s(everybody, thawed_at) < 0.5
            assert [call.requests for call in customers.calls] == asked
            assert not [call for call in everybody if call.ended.done()]
            await together(*(until_heard(call, AGENT_HZ) for call in customers.calls))
            (report,) = site.proxy.ask("failovers")
            assert (report["moved"], report["lost"]) == (2 * CALLS, 0)
            assert all(result["bypassed_ms"] is not None for result in report["results"])
            assert {await call.bye() for call in customers.calls} == {200}
            async with asyncio.timeout(5.0):  # as the bridge would have: one hangs up, and the other one is free
                assert {await call.ended for call in agents.calls} == {"hung up"}
            await until_channels(site.backup, 0)

    asyncio.run(scenario())
