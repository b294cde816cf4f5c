"""The proxy process ends under talking calls, by force or politely, and is started again: nobody hears of it.

Every packet of every caller comes back from the backend's echo, those of the time without a proxy too; and the calls
are calls as before: they end, and they are carried over when their backend dies.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.integration.conftest import until
from tests.testbed.aqueduct import Aqueduct, settings
from tests.testbed.hosts import BACKENDS, CALLER, PROXY
from tests.testbed.phone import Phones
from tests.testbed.process import Process
from tests.testbed.sip_ping import wait_for_options

CALLS = 100
AWAY_S = 1.0


def killed(proxy: Aqueduct) -> None:
    proxy.kill()
    proxy.wait(5.0)


def stopped(proxy: Aqueduct) -> None:
    proxy.signal(signal.SIGTERM)
    assert proxy.wait(5.0) == 0


def is_running(process: Process) -> bool:
    return process.running


def backend(host: str, folder: Path) -> Process:
    argv = [sys.executable, "-m", "proxy.demo.backend", "--address", f"{host}:5060"]
    process = Process(argv, folder / f"{host}.log")
    wait_for_options((host, 5060), timeout_s=15.0, alive=partial(is_running, process))
    return process


async def missing(phones: Phones) -> int:
    """Everybody falls silent; packets that were sent and have not come back."""
    phones.hush()
    await asyncio.sleep(0.5)
    return sum(call.sent - len(call.heard.arrivals) for call in phones.calls)


@pytest.mark.parametrize("end", [killed, stopped])
def test_no_packet_is_lost_by_the_end_of_the_proxy(tmp_path: Path, end: Callable[[Aqueduct], None]) -> None:
    async def scene(proxy: Aqueduct, primary: Process) -> None:
        async with Phones(CALLER) as phones:
            calls = [await phones.call("echo", proxy.address) for _ in range(CALLS)]
            await asyncio.sleep(1.0)
            before = await missing(phones)  # who speaks as soon as he is answered may be ahead of the relay
            phones.speak()
            relay = proxy.relay_pid()
            await asyncio.to_thread(end, proxy)
            await asyncio.sleep(AWAY_S)
            await asyncio.to_thread(proxy.restart)
            await asyncio.sleep(1.0)
            lost = await missing(phones) - before
            phones.speak()  # a long silence of everybody would be a fault of the backend
            sent = sum(call.sent for call in calls)
            print(f"{end.__name__}: {CALLS} calls, {sent} packets sent, {lost} lost")
            assert sent > CALLS * 50 * (2 + AWAY_S)
            assert (lost, sum(call.heard.backward for call in calls)) == (0, 0)
            assert proxy.relay_pid() == relay
            assert [row["state"] for row in await asyncio.to_thread(proxy.ask, "calls")] == ["talking"] * CALLS
            assert [await call.bye() for call in calls[:10]] == [200] * 10
            await asyncio.to_thread(proxy.wait_for_backends)
            primary.kill()
            going_on = calls[10:]
            heard = [len(call.heard.arrivals) for call in going_on]
            await until(
                lambda: all(len(call.heard.arrivals) > had + 50 for call, had in zip(going_on, heard, strict=True)),
                lambda: f"silent after the failover\n{proxy.log_tail()}",
            )
            assert [await call.bye() for call in going_on] == [200] * len(going_on)
            await asyncio.to_thread(proxy.wait_for_calls, 0)

    with (
        backend(BACKENDS[0], tmp_path) as primary,
        backend(BACKENDS[1], tmp_path) as second,
        Aqueduct(
            settings(PROXY, {"one": (BACKENDS[0], 5060), "two": (BACKENDS[1], 5060)}, tmp_path), tmp_path
        ) as proxy,
    ):
        proxy.wait_ready()
        proxy.wait_for_backends()
        asyncio.run(scene(proxy, primary))
        assert second.running
