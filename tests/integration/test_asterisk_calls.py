"""Single calls through the proxy to real Asterisk, before, during and after the death of the primary."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tests.integration.conftest import (
    BACKUP_HZ,
    ECHO,
    KEY_HZ,
    KEYS,
    OWN_HZ,
    PRIMARY_HZ,
    RINGS_2_S,
    TONE,
    Site,
    until,
    until_channels,
    until_heard,
)
from tests.testbed.audio import tone
from tests.testbed.hosts import CALLER
from tests.testbed.phone import CallFailed, Phones


def test_a_refusal_of_asterisk_reaches_the_caller(site: Site) -> None:
    async def scenario() -> None:
        async with Phones(CALLER) as phones:
            for user, status in (("606", 486), ("999", 404)):
                with pytest.raises(CallFailed) as refused:
                    await phones.call(user, site.proxy.address)
                assert refused.value.status == status

    asyncio.run(scenario())
    site.proxy.wait_for_calls(0)


def test_hold_and_dtmf_work_after_the_call_was_moved(site: Site) -> None:
    async def scenario() -> None:
        async with Phones(CALLER) as phones:
            echo = await phones.call(ECHO, site.proxy.address, say=tone(OWN_HZ))
            keys = await phones.call(KEYS, site.proxy.address)
            await until_heard(echo, OWN_HZ)
            site.primary.kill()
            await until_channels(site.backup, 2)
            await until_heard(echo, OWN_HZ)

            assert await echo.reinvite("sendonly") == "recvonly"
            assert await echo.reinvite("sendrecv") == "sendrecv"
            await until_heard(echo, OWN_HZ)
            keys.press(5)
            await until_heard(keys, KEY_HZ)
            assert (await echo.bye(), await keys.bye()) == (200, 200)
            await until_channels(site.backup, 0)

    asyncio.run(scenario())


def test_a_held_call_is_moved_and_can_be_resumed(site: Site) -> None:
    async def scenario() -> None:
        async with Phones(CALLER) as phones:
            call = await phones.call(TONE, site.proxy.address)
            await until_heard(call, PRIMARY_HZ)
            assert await call.reinvite("sendonly") == "recvonly"
            site.primary.kill()
            await until_channels(site.backup, 1)
            assert await call.reinvite("sendrecv") == "sendrecv"
            await until_heard(call, BACKUP_HZ)
            assert await call.bye() == 200
            await until_channels(site.backup, 0)

    asyncio.run(scenario())


def test_a_ringing_call_is_placed_again_at_the_backup(site: Site) -> None:
    async def scenario() -> None:
        async with Phones(CALLER) as phones:
            ringing = asyncio.create_task(phones.call(RINGS_2_S, site.proxy.address, say=tone(OWN_HZ), timeout_s=20.0))
            await until_channels(site.primary, 1)
            site.primary.kill()
            call = await ringing
            await until_heard(call, OWN_HZ)
            await until_channels(site.backup, 1)
            assert await call.bye() == 200

    asyncio.run(scenario())


def test_a_caller_who_hangs_up_during_the_failover_leaves_nothing_behind(site: Site) -> None:
    async def scenario() -> None:
        async with Phones(CALLER) as phones:
            calls = [await phones.call(TONE, site.proxy.address) for _ in range(10)]
            site.primary.kill()
            # One after the other, so that some hang up before, some in the middle of and some after their recovery.
            for call in calls:
                await asyncio.sleep(0.04)
                assert await call.bye() == 200
            await until_channels(site.backup, 0)

    asyncio.run(scenario())
    site.proxy.wait_for_calls(0)


def test_the_backup_can_hang_up_a_moved_call(site: Site) -> None:
    async def scenario() -> None:
        async with Phones(CALLER) as phones:
            call = await phones.call(TONE, site.proxy.address)
            site.primary.kill()
            await until_heard(call, BACKUP_HZ)
            site.backup.cli("channel request hangup all")
            assert await asyncio.wait_for(call.ended, 5.0) == "hung up"

    asyncio.run(scenario())
    site.proxy.wait_for_calls(0)


def test_calls_survive_a_second_failover_back_to_the_first_machine(site: Site) -> None:
    async def scenario() -> None:
        async with Phones(CALLER) as phones:
            calls = [await phones.call(TONE, site.proxy.address) for _ in range(5)]
            site.primary.kill()
            await asyncio.gather(*(until_heard(call, BACKUP_HZ) for call in calls))
            site.primary.wait(5.0)
            site.primary.start()
            await asyncio.to_thread(site.primary.wait_ready)
            await asyncio.to_thread(site.proxy.wait_for_backends, (), 60.0)
            site.backup.kill()
            await asyncio.gather(*(until_heard(call, PRIMARY_HZ) for call in calls))
            assert [call.requests for call in calls] == [[]] * 5
            assert {await call.bye() for call in calls} == {200}
            await until_channels(site.primary, 0)

    asyncio.run(scenario())


def test_drain_moves_live_calls_without_a_gap(site: Site) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with Phones(CALLER) as phones:
            calls = [await phones.call(TONE, site.proxy.address) for _ in range(10)]
            await asyncio.gather(*(until_heard(call, PRIMARY_HZ) for call in calls))
            began = loop.time()
            await asyncio.to_thread(site.proxy.order, "drain", "as1", "--move")
            await asyncio.gather(*(until_heard(call, BACKUP_HZ) for call in calls))
            await until_channels(site.primary, 0)
            assert max(call.heard.longest_gap_s(began, loop.time()) for call in calls) < 1.0
            assert {await call.bye() for call in calls} == {200}

    asyncio.run(scenario())


def test_audio_goes_on_while_the_proxy_is_restarted_and_takes_its_calls_up_again(site: Site) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with Phones(CALLER) as phones:
            calls = [await phones.call(TONE, site.proxy.address) for _ in range(5)]
            await asyncio.gather(*(until_heard(call, PRIMARY_HZ) for call in calls))
            began = loop.time()
            site.proxy.signal(signal.SIGTERM)
            await asyncio.to_thread(site.proxy.wait, 10.0)
            await asyncio.to_thread(site.proxy.restart)
            await asyncio.gather(*(until_heard(call, PRIMARY_HZ) for call in calls))
            assert max(call.heard.longest_gap_s(began, loop.time()) for call in calls) < 1.0
            await asyncio.to_thread(site.proxy.wait_for_calls, 5)
            assert {await call.bye() for call in calls} == {200}
            await until_channels(site.primary, 0)

    asyncio.run(scenario())


def test_audio_goes_on_when_the_proxy_is_killed(site: Site) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with Phones(CALLER) as phones:
            calls = [await phones.call(TONE, site.proxy.address) for _ in range(5)]
            await asyncio.gather(*(until_heard(call, PRIMARY_HZ) for call in calls))
            began = loop.time()
            site.proxy.kill()
            await asyncio.to_thread(site.proxy.wait, 10.0)
            await asyncio.to_thread(site.proxy.restart)
            await asyncio.gather(*(until_heard(call, PRIMARY_HZ) for call in calls))
            assert max(call.heard.longest_gap_s(began, loop.time()) for call in calls) < 1.0
            assert not [call for call in calls if call.ended.done()]

    asyncio.run(scenario())


def test_rtp_stays_one_stream_over_a_failover(site: Site) -> None:
    async def scenario() -> None:
        async with Phones(CALLER) as phones:
            call = await phones.call(TONE, site.proxy.address)
            await until_heard(call, PRIMARY_HZ)
            site.primary.kill()
            await until_heard(call, BACKUP_HZ)
            assert (len(call.heard.ssrcs), call.heard.backward) == (1, 0)

    asyncio.run(scenario())


def test_audio_comes_back_when_the_relay_is_killed(site: Site) -> None:
    async def scenario() -> None:
        async with Phones(CALLER) as phones:
            calls = [await phones.call(ECHO, site.proxy.address, say=tone(OWN_HZ)) for _ in range(5)]
            await asyncio.gather(*(until_heard(call, OWN_HZ) for call in calls))
            relay = site.proxy.relay_pid()
            assert relay is not None
            os.kill(relay, signal.SIGKILL)
            await until(lambda: site.proxy.relay_pid() not in (None, relay), lambda: "no new relay was started")
            await asyncio.gather(*(until_heard(call, OWN_HZ) for call in calls))
            assert {await call.bye() for call in calls} == {200}

    asyncio.run(scenario())
