"""Phones of another make (PJSIP's) through the proxy to real Asterisk, each through the death of the primary.

What is measured is decoded audio at the phone, after its jitter buffer of 60 ms and without loss concealment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from tests.integration.conftest import (
    BACKUP_HZ,
    ECHO,
    KEY_HZ,
    KEYS,
    PRIMARY_HZ,
    TONE,
    Site,
    until_channels,
)
from tests.testbed.hosts import CALLER
from tests.testbed.pjsua2 import unavailable
from tests.testbed.pjsua2.phones import Call, CallFailed, Phones

GAP_S_MAX = 2.0
SAYS = (450, 550, 650)

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


def uri(site: Site, user: str) -> str:
    host, port = site.proxy.address
    return f"sip:{user}@{host}:{port}"


async def until_heard(call: Call, tones: Sequence[int], within_s: float = 10.0) -> None:
    """Until exactly these tones are in the phone's audio."""
    end = time.monotonic() + within_s
    while (heard := await call.hears()) != sorted(tones):
        assert time.monotonic() < end, f"it hears {heard}, not {sorted(tones)}"
        await asyncio.sleep(0.05)


async def kill(site: Site) -> float:
    struck_at = time.monotonic()
    site.primary.kill()
    await asyncio.to_thread(site.primary.wait, 5.0)
    return struck_at


async def hang_up(site: Site, *calls: Call) -> None:
    for call in calls:
        await call.hang_up()
        assert call.ended.result() == 200
    await until_channels(site.backup, 0)
    await asyncio.to_thread(site.proxy.wait_for_calls, 0)


def test_a_call_goes_on(site: Site) -> None:
    async def scenario() -> None:
        async with Phones(CALLER) as phones:
            tone = await phones.call(uri(site, TONE), says=SAYS[0], listens=[PRIMARY_HZ, BACKUP_HZ])
            echo = await phones.call(uri(site, ECHO), says=SAYS[1], listens=SAYS)
            await until_heard(tone, [PRIMARY_HZ])
            await until_heard(echo, [SAYS[1]])
            struck_at = await kill(site)
            await until_heard(tone, [BACKUP_HZ])
            await until_heard(echo, [SAYS[1]])  # both ways
            gaps_s = [
                await tone.longest_gap_s(struck_at, [PRIMARY_HZ, BACKUP_HZ]),
                await echo.longest_gap_s(struck_at, SAYS),
            ]
            print(f"gaps: {gaps_s}")
            assert max(gaps_s) < GAP_S_MAX
            assert not tone.ended.done() and not echo.ended.done()
            await hang_up(site, tone, echo)

    asyncio.run(scenario())


def test_a_call_on_hold_is_moved_and_resumed(site: Site) -> None:
    async def scenario() -> None:
        async with Phones(CALLER) as phones:
            call = await phones.call(uri(site, TONE), says=SAYS[0], listens=[PRIMARY_HZ, BACKUP_HZ])
            await until_heard(call, [PRIMARY_HZ])
            await call.hold()
            await until_heard(call, [])
            await kill(site)
            await until_channels(site.backup, 1)
            assert await call.hears() == []  # still on hold
            await call.resume()
            await until_heard(call, [BACKUP_HZ])
            await call.hold()  # and with the new backend the same
            await until_heard(call, [])
            await call.resume()
            await until_heard(call, [BACKUP_HZ])
            await hang_up(site, call)

    asyncio.run(scenario())


def test_keys_that_are_pressed_afterwards_arrive(site: Site) -> None:
    async def scenario() -> None:
        async with Phones(CALLER) as phones:
            call = await phones.call(uri(site, KEYS), says=SAYS[0], listens=[KEY_HZ])
            await kill(site)
            await until_channels(site.backup, 1)
            await call.press("5")
            await until_heard(call, [KEY_HZ])
            await hang_up(site, call)

    asyncio.run(scenario())


def test_three_in_a_conference_go_on_hearing_each_other(site: Site) -> None:
    async def scenario() -> None:
        async with Phones(CALLER) as phones:
            calls = [await phones.call(uri(site, "conf-x"), says=hz, listens=SAYS) for hz in SAYS]
            others = [[hz for hz in SAYS if hz != own] for own in SAYS]
            for call, heard in zip(calls, others, strict=True):
                await until_heard(call, heard)
            struck_at = await kill(site)
            await until_channels(site.backup, 3)
            for call, heard in zip(calls, others, strict=True):
                await until_heard(call, heard)
            gaps_s = [await call.longest_gap_s(struck_at, heard) for call, heard in zip(calls, others, strict=True)]
            print(f"gaps: {gaps_s}")
            assert max(gaps_s) < GAP_S_MAX
            await hang_up(site, *calls)

    asyncio.run(scenario())


def test_a_refusal_reaches_the_phone(site: Site) -> None:
    async def scenario() -> None:
        async with Phones(CALLER) as phones:
            with pytest.raises(CallFailed) as refused:
                await phones.call(uri(site, "606"), says=SAYS[0], listens=[])
            assert refused.value.status == 486

    asyncio.run(scenario())
