"""Fifty callers talk to a real Asterisk; it dies in one of three ways; all of them go on talking to the other one.

`cut` needs root for a network of its own. How fast it went is printed (`pytest -s`) and measured by
`bench/failover.py`; the limits here are only there to catch what is broken.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
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
from tests.testbed import network
from tests.testbed.audio import tone
from tests.testbed.hosts import CALLER
from tests.testbed.phone import Call, Phones

CALLS = 50


async def fail_over(site: Site, fault: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    async with Phones(CALLER) as phones:
        calls: list[Call] = []
        for _ in range(CALLS // 2):
            calls.append(await phones.call(TONE, site.proxy.address))
            calls.append(await phones.call(ECHO, site.proxy.address, say=tone(OWN_HZ)))
        tones, echoes = calls[::2], calls[1::2]
        await together(*(until_heard(call, PRIMARY_HZ) for call in tones))
        await together(*(until_heard(call, OWN_HZ) for call in echoes))
        assert len(site.primary.channels()) == CALLS

        struck_at = loop.time()
        fault()
        await together(*(until_heard(call, BACKUP_HZ) for call in tones))
        await until_channels(site.backup, CALLS)
        await together(*(until_heard(call, OWN_HZ) for call in echoes))

        assert not [call for call in calls if call.ended.done()]
        assert [call.requests for call in calls] == [[]] * CALLS  # anchored: nobody was bothered with SIP
        gaps_s = sorted(call.heard.longest_gap_s(struck_at, loop.time()) for call in calls)
        print(f"gaps: median {statistics.median(gaps_s):.3f} s, longest {gaps_s[-1]:.3f} s")
        assert gaps_s[-1] < 5.0

        assert {await call.bye() for call in calls} == {200}
        await until_channels(site.backup, 0)
        site.proxy.wait_for_calls(0)
    (report,) = site.proxy.ask("failovers")
    print(f"detected after {report['detection_ms']} ms, all moved after {report['all_moved_ms']} ms")
    assert (report["backend"], report["moved"], report["lost"]) == ("as1", CALLS, 0)


def test_fifty_callers_go_on_when_the_primary_is_killed(site: Site) -> None:
    asyncio.run(fail_over(site, site.primary.kill))


def test_fifty_callers_go_on_when_the_primary_freezes(site: Site) -> None:
    asyncio.run(fail_over(site, site.primary.freeze))


def test_fifty_callers_go_on_when_the_primary_is_cut_off(tmp_path: Path) -> None:
    reason = network.unavailable()
    if reason is not None:
        pytest.skip(reason)
    with network.own_network(), ExitStack() as stack:
        site = start_site(stack, tmp_path)
        asyncio.run(fail_over(site, lambda: network.cut(site.primary.address[0])))
