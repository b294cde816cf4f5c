"""Encrypted media through the proxy and through a failover: the keys of the phone and of the backend that it talks to.

Whoever hears the right tone has the right keys. With SDES the phones are not told of the backup's: the relay stands
between. PJSIP's phones and real Asterisk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.conftest import BACKUP_HZ, ECHO, PRIMARY_HZ, TONE, Site, start_site, until_channels
from tests.integration.test_pjsua2 import GAP_S_MAX, hang_up, kill, until_heard, uri
from tests.testbed.hosts import CALLEE, CALLER
from tests.testbed.pjsua2 import unavailable
from tests.testbed.pjsua2.phones import Phones

SAYS_HZ, AGENT_HZ = 450, 620
PHONES = {"phones": {"recover": False, "backends": {"agents": {"address": f"{CALLEE}:5060"}}}}
MANDATORY = 2
SDES = "[sbc](+)\nmedia_encryption=sdes\n"
DTLS = "[sbc](+)\nmedia_encryption=dtls\ndtls_auto_generate_cert=yes\ndtls_verify=fingerprint\ndtls_setup=actpass\n"

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


@pytest.fixture(params=["sdes", "dtls"])
def secure(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Site, bool]]:
    with ExitStack() as stack:
        dtls = request.param == "dtls"
        yield start_site(stack, tmp_path, additions={"pjsip.conf": DTLS if dtls else SDES}), dtls


def test_encrypted_calls_go_on(secure: tuple[Site, bool]) -> None:
    site, dtls = secure

    async def scenario() -> None:
        async with Phones(CALLER, srtp=MANDATORY, dtls=dtls) as phones:
            tone = await phones.call(uri(site, TONE), says=SAYS_HZ, listens=[PRIMARY_HZ, BACKUP_HZ])
            echo = await phones.call(uri(site, ECHO), says=SAYS_HZ, listens=[SAYS_HZ])
            await until_heard(tone, [PRIMARY_HZ])
            await until_heard(echo, [SAYS_HZ])
            assert (await tone.secured())["srtp"], (await tone.secured())["dump"]
            told = [len(call.media) for call in (tone, echo)]
            struck_at = await kill(site)
            await until_heard(tone, [BACKUP_HZ])
            await until_heard(echo, [SAYS_HZ])  # both ways
            assert (await tone.secured())["srtp"]
            gaps_s = [
                await tone.longest_gap_s(struck_at, [PRIMARY_HZ, BACKUP_HZ]),
                await echo.longest_gap_s(struck_at, [SAYS_HZ]),
            ]
            print(f"gaps: {gaps_s}")
            assert max(gaps_s) < GAP_S_MAX
            assert dtls or [len(call.media) for call in (tone, echo)] == told  # no re-INVITE
            await hang_up(site, tone, echo)

    asyncio.run(scenario())


@pytest.fixture
def hot_site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield start_site(stack, tmp_path, pool={"standby": "hot"}, additions={"pjsip.conf": SDES})


def test_a_hot_standby_has_keys_of_its_own_and_takes_over_at_once(hot_site: Site) -> None:
    site = hot_site

    async def scenario() -> None:
        async with Phones(CALLER, srtp=MANDATORY) as phones:
            tone = await phones.call(uri(site, TONE), says=SAYS_HZ, listens=[PRIMARY_HZ, BACKUP_HZ])
            echo = await phones.call(uri(site, ECHO), says=SAYS_HZ, listens=[SAYS_HZ])
            await until_heard(tone, [PRIMARY_HZ])
            await until_heard(echo, [SAYS_HZ])
            await until_channels(site.backup, 2)
            told = [len(call.media) for call in (tone, echo)]
            struck_at = await kill(site)
            await until_heard(tone, [BACKUP_HZ])
            await until_heard(echo, [SAYS_HZ])
            gaps_s = [
                await tone.longest_gap_s(struck_at, [PRIMARY_HZ, BACKUP_HZ]),
                await echo.longest_gap_s(struck_at, [SAYS_HZ]),
            ]
            print(f"gaps: {gaps_s}")
            assert max(gaps_s) < GAP_S_MAX
            assert [len(call.media) for call in (tone, echo)] == told
            (report,) = site.proxy.ask("failovers")
            assert [result["standby"] for result in report["results"]] == [True, True]
            await hang_up(site, tone, echo)

    asyncio.run(scenario())


@pytest.fixture
def paired_site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        routes = [{"from_pool": "pbx", "pool": "phones"}]
        yield start_site(stack, tmp_path, pools=PHONES, routes=routes, additions={"pjsip.conf": SDES})


def test_customer_and_agent_talk_past_the_dead_backend_each_with_his_own_keys(paired_site: Site) -> None:
    site = paired_site

    async def scenario() -> None:
        async with (
            Phones(CALLEE, (41000, 41999), sip_port=5060, srtp=MANDATORY, answers=(AGENT_HZ, [SAYS_HZ])) as agents,
            Phones(CALLER, srtp=MANDATORY) as customers,
        ):
            await asyncio.to_thread(site.proxy.wait_for_backends)
            customer = await customers.call(uri(site, "agent-7"), says=SAYS_HZ, listens=[AGENT_HZ])
            (agent,) = agents.calls.values()
            await until_heard(customer, [AGENT_HZ])
            await until_heard(agent, [SAYS_HZ])
            assert (await agent.secured())["srtp"] and (await customer.secured())["srtp"]
            told = len(customer.media)
            struck_at = await kill(site)
            await until_channels(site.backup, 2)
            await asyncio.sleep(1.0)  # the backup connects them
            await until_heard(customer, [AGENT_HZ])
            await until_heard(agent, [SAYS_HZ])
            gaps_s = [
                await customer.longest_gap_s(struck_at, [AGENT_HZ]),
                await agent.longest_gap_s(struck_at, [SAYS_HZ]),
            ]
            print(f"gaps: {gaps_s}")
            assert max(gaps_s) < GAP_S_MAX
            assert len(customer.media) == told  # the agent, who was offered more codecs than one answers, is asked
            (report,) = site.proxy.ask("failovers")
            assert (report["moved"], report["lost"]) == (2, 0)
            assert all(result["bypassed_ms"] is not None for result in report["results"])
            await hang_up(site, customer, agent)

    asyncio.run(scenario())


def test_an_encrypted_call_is_held_resumed_and_carried_over_a_second_time(secure: tuple[Site, bool]) -> None:
    site, dtls = secure

    async def scenario() -> None:
        async with Phones(CALLER, srtp=MANDATORY, dtls=dtls) as phones:
            call = await phones.call(uri(site, TONE), says=SAYS_HZ, listens=[PRIMARY_HZ, BACKUP_HZ])
            await until_heard(call, [PRIMARY_HZ])
            await kill(site)
            await until_heard(call, [BACKUP_HZ])
            if not dtls:  # PJSIP and Asterisk do not find together again after a hold, without a proxy neither
                await call.hold()
                await until_heard(call, [])
                await call.resume()
                await until_heard(call, [BACKUP_HZ])

            await asyncio.to_thread(site.primary.start)
            await asyncio.to_thread(site.primary.wait_ready)
            await asyncio.to_thread(site.proxy.wait_for_backends, (), 60.0)
            site.backup.kill()
            await until_heard(call, [PRIMARY_HZ])
            assert (await call.secured())["srtp"]
            await call.hang_up()
            await until_channels(site.primary, 0)

    asyncio.run(scenario())
