"""Callers talk to a real Asterisk through real rtpengine; an rtpengine dies; all of them go on through the other one.

Both ends are re-INVITEd, once, with the next version of the description that they know; who was on hold stays so.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import BACKUP_HZ, ECHO, OWN_HZ, PRIMARY_HZ, TONE, Site, together, until, until_heard
from tests.testbed.aqueduct import Aqueduct, settings
from tests.testbed.asterisk import ROOT_FOLDER, Asterisk
from tests.testbed.audio import tone
from tests.testbed.hosts import BACKENDS, CALLER, PROXY, RTPENGINES
from tests.testbed.phone import Call, CallFailed, Phones
from tests.testbed.rtpengine import Rtpengine

CALLS = 20


@dataclass
class RtpSite(Site):
    engines: tuple[Rtpengine, Rtpengine]

    def busy(self) -> Rtpengine:
        """The one that has more calls."""
        return max(self.engines, key=lambda engine: len(engine.calls()))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[RtpSite]:
    if not (ROOT_FOLDER / "bin" / "asterisk").exists():
        pytest.fail("no Asterisk in .cache/asterisk-root; `make asterisk` puts one there")
    with ExitStack() as stack:
        engines = tuple(stack.enter_context(Rtpengine(host, tmp_path)) for host in RTPENGINES)
        primary, backup = (
            stack.enter_context(Asterisk(name, host, tmp_path / name, root=ROOT_FOLDER, rtp_ports=ports, tone_hz=hz))
            for name, host, ports, hz in (
                ("as1", BACKENDS[0], (12000, 13999), PRIMARY_HZ),
                ("as2", BACKENDS[1], (14000, 15999), BACKUP_HZ),
            )
        )
        for process in (*engines, primary, backup):
            process.wait_ready()
        configuration: dict[str, Any] = settings(
            PROXY, {each.name: each.address for each in (primary, backup)}, tmp_path, media="rtpengine"
        )
        configuration["media"]["nodes"] = [{"address": "{}:{}".format(*engine.address)} for engine in engines]
        proxy = stack.enter_context(Aqueduct(configuration, tmp_path))
        proxy.wait_ready()
        proxy.wait_for_backends()
        yield RtpSite(primary, backup, proxy, (engines[0], engines[1]))


async def call_up(phones: Phones, site: RtpSite, count: int = CALLS) -> tuple[list[Call], list[Call]]:
    """Half of the calls hear the tone of the primary, half their own echo."""
    tones, echoes = [], []
    for _ in range(count // 2):
        tones.append(await phones.call(TONE, site.proxy.address))
        echoes.append(await phones.call(ECHO, site.proxy.address, say=tone(OWN_HZ)))
    await together(*(until_heard(call, PRIMARY_HZ) for call in tones))
    await together(*(until_heard(call, OWN_HZ) for call in echoes))
    return tones, echoes


async def until_moved(site: RtpSite) -> dict[str, Any]:
    """The report of the one failover, once it is over."""
    reports: list[dict[str, Any]] = []

    async def look() -> bool:
        reports[:] = await asyncio.to_thread(site.proxy.ask, "failovers")
        return any(report["finished"] for report in reports)

    for _ in range(100):
        if await look():
            (report,) = reports
            return report
        await asyncio.sleep(0.1)
    raise AssertionError(f"no finished failover: {reports}\n{site.proxy.log_tail()}")


def test_calls_are_spread_over_the_engines_and_leave_nothing_behind(site: RtpSite) -> None:
    async def test() -> None:
        async with Phones(CALLER) as phones:
            await call_up(phones, site)
            assert [len(engine.calls()) for engine in site.engines] == [CALLS // 2, CALLS // 2]
            assert {await call.bye() for call in phones.calls} == {200}
            await until(lambda: not any(engine.calls() for engine in site.engines), lambda: "calls are left")

    asyncio.run(test())


def test_calls_of_a_dead_engine_go_on_through_the_other(site: RtpSite) -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with Phones(CALLER) as phones:
            tones, echoes = await call_up(phones, site)
            dead = site.engines[0]
            struck_at = loop.time()
            dead.kill()
            report = await until_moved(site)
            await together(*(until_heard(call, PRIMARY_HZ) for call in tones))
            await together(*(until_heard(call, OWN_HZ) for call in echoes))
            assert len(site.engines[1].calls()) == CALLS
            told = [call for call in phones.calls if call.requests == ["INVITE"]]
            assert len(told) == CALLS // 2 and all(not call.requests for call in phones.calls if call not in told)
            gaps = sorted(call.heard.longest_gap_s(struck_at, loop.time()) for call in told)
            print(f"gaps: {gaps[0]:.3f} to {gaps[-1]:.3f} s; all moved after {report['all_moved_ms']} ms")
            assert {await call.bye() for call in phones.calls} == {200}
        assert (report["cause"], report["backend"]) == ("media node lost", "{}:{}".format(*dead.address))
        assert (report["planned"], report["moved"], report["lost"]) == (CALLS // 2, CALLS // 2, 0)

    asyncio.run(test())


def test_a_call_on_hold_stays_on_hold(site: RtpSite) -> None:
    async def test() -> None:
        async with Phones(CALLER) as phones:
            call = await phones.call(ECHO, site.proxy.address, say=tone(OWN_HZ))
            await until_heard(call, OWN_HZ)
            assert await call.reinvite("sendonly") == "recvonly"
            site.busy().kill()
            report = await until_moved(site)
            assert (report["moved"], report["lost"]) == (1, 0)
            offer = call.offers[-1]
            assert re.search(r"a=recvonly", offer), offer
            assert await call.reinvite("sendrecv") == "sendrecv"
            await until_heard(call, OWN_HZ)
            assert await call.bye() == 200

    asyncio.run(test())


def test_a_frozen_engine_is_left_and_forgets_its_calls_when_it_is_back(site: RtpSite) -> None:
    async def test() -> None:
        async with Phones(CALLER) as phones:
            tones, echoes = await call_up(phones, site)
            frozen, other = site.engines
            frozen.freeze()
            report = await until_moved(site)
            assert (report["moved"], report["lost"]) == (CALLS // 2, 0)
            await together(*(until_heard(call, PRIMARY_HZ) for call in tones))
            frozen.thaw()
            await until(lambda: not frozen.calls(), lambda: frozen.calls())
            assert len(other.calls()) == CALLS
            await together(*(until_heard(call, OWN_HZ) for call in echoes))
            assert {await call.bye() for call in phones.calls} == {200}

    asyncio.run(test())


def test_an_engine_that_restarts_between_two_probes_is_found_out(site: RtpSite) -> None:
    async def test() -> None:
        async with Phones(CALLER) as phones:
            tones, echoes = await call_up(phones, site)
            await asyncio.sleep(2.5)  # it must have run for a while to be seen to have begun anew
            site.engines[0].kill()
            site.engines[0].wait(5.0)
            site.engines[0].start()
            report = await until_moved(site)
            assert (report["moved"], report["lost"]) == (CALLS // 2, 0)
            await together(*(until_heard(call, PRIMARY_HZ) for call in tones))
            await together(*(until_heard(call, OWN_HZ) for call in echoes))

    asyncio.run(test())


def test_calls_wait_for_an_engine_when_all_are_dead(site: RtpSite) -> None:
    async def test() -> None:
        async with Phones(CALLER) as phones:
            tones, echoes = await call_up(phones, site, 10)
            for engine in site.engines:
                engine.kill()
            await asyncio.sleep(1.0)
            with pytest.raises(CallFailed):
                await phones.call(ECHO, site.proxy.address)
            site.engines[0].start()
            await together(*(until_heard(call, PRIMARY_HZ) for call in tones))
            await together(*(until_heard(call, OWN_HZ) for call in echoes))
            assert len(site.engines[0].calls()) == 10
            assert {await call.bye() for call in (*tones, *echoes)} == {200}
        reports = site.proxy.ask("failovers")
        assert sum(report["moved"] for report in reports) == 10 and not any(report["lost"] for report in reports)

    asyncio.run(test())


def test_callers_are_not_told_when_a_backend_dies_behind_an_engine(site: RtpSite) -> None:
    async def test() -> None:
        async with Phones(CALLER) as phones:
            tones, echoes = await call_up(phones, site)
            site.primary.kill()
            report = await until_moved(site)
            await together(*(until_heard(call, BACKUP_HZ) for call in tones))
            await together(*(until_heard(call, OWN_HZ) for call in echoes))
            assert [call.requests for call in phones.calls] == [[]] * CALLS
            assert {await call.bye() for call in phones.calls} == {200}
            await until(lambda: not any(engine.calls() for engine in site.engines), lambda: "calls are left")
        assert (report["moved"], report["lost"]) == (CALLS, 0)
        assert {(result["audio"], result["gap_ms"]) for result in report["results"]} == {(True, None)}

    asyncio.run(test())


def test_a_backend_and_an_engine_that_die_together_cost_no_call(site: RtpSite) -> None:
    async def test() -> None:
        async with Phones(CALLER) as phones:
            tones, echoes = await call_up(phones, site)
            site.primary.kill()
            site.engines[0].kill()
            await together(*(until_heard(call, BACKUP_HZ) for call in tones))
            await together(*(until_heard(call, OWN_HZ) for call in echoes))
            assert len(site.engines[1].calls()) == CALLS
            assert {await call.bye() for call in phones.calls} == {200}

    asyncio.run(test())


def test_calls_outlive_the_proxy_and_their_engine_even_then(site: RtpSite) -> None:
    async def test() -> None:
        async with Phones(CALLER) as phones:
            tones, echoes = await call_up(phones, site)
            await asyncio.to_thread(site.proxy.stop)
            await together(*(until_heard(call, OWN_HZ) for call in echoes))
            site.engines[0].kill()
            await asyncio.to_thread(site.proxy.restart)
            report = await until_moved(site)
            assert (report["moved"], report["lost"]) == (CALLS // 2, 0)
            await together(*(until_heard(call, PRIMARY_HZ) for call in tones))
            await together(*(until_heard(call, OWN_HZ) for call in echoes))
            assert {await call.bye() for call in phones.calls} == {200}
            await until(lambda: not site.engines[1].calls(), lambda: site.engines[1].calls())

    asyncio.run(test())
