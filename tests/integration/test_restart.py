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
from tests.testbed.phone import Heard, Phones
from tests.testbed.process import Process
from tests.testbed.sip_ping import wait_for_options

CALLS = 100
AWAY_S = 1.0
MARK = bytes(range(156))
SAID = [tick.to_bytes(4, "big") + MARK for tick in range(50 * 60)]


class Echoed(Heard):
    """The ticks that the backend sent back; not what the relay fills a silence with."""

    def __init__(self) -> None:
        super().__init__()
        self.ticks: set[int] = set()

    def take(self, packet: bytes, now: float) -> None:
        super().take(packet, now)
        if packet.endswith(MARK):
            self.ticks.add(int.from_bytes(packet[12:16], "big"))


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


@pytest.mark.parametrize("end", [killed, stopped])
def test_no_packet_is_lost_by_the_end_of_the_proxy(tmp_path: Path, end: Callable[[Aqueduct], None]) -> None:
    async def scene(proxy: Aqueduct, primary: Process) -> None:
        async with Phones(CALLER) as phones:
            calls = [await phones.call("echo", proxy.address, say=SAID) for _ in range(CALLS)]
            heard = [Echoed() for _ in calls]
            for call, echoed in zip(calls, heard, strict=True):
                call.heard = echoed
            await asyncio.sleep(1.0)
            relay, began = proxy.relay_pid(), phones.tick
            await asyncio.to_thread(end, proxy)
            await asyncio.sleep(AWAY_S)
            await asyncio.to_thread(proxy.restart)
            await asyncio.sleep(1.0)
            phones.hush()
            await asyncio.sleep(0.3)
            said = set(range(began, phones.tick))
            phones.speak()  # a long silence of everybody would be a fault of the backend
            lost = sum(len(said - echoed.ticks) for echoed in heard)
            print(f"{end.__name__}: {CALLS} calls, {CALLS * len(said)} packets sent, {lost} lost")
            assert len(said) > 50 * (1 + AWAY_S)
            assert (lost, sum(echoed.backward for echoed in heard)) == (0, 0)
            assert proxy.relay_pid() == relay
            assert [row["state"] for row in await asyncio.to_thread(proxy.ask, "calls")] == ["talking"] * CALLS
            assert [await call.bye() for call in calls[:10]] == [200] * 10
            await asyncio.to_thread(proxy.wait_for_backends)
            primary.kill()
            going_on = calls[10:]
            had = [len(echoed.ticks) for echoed in heard[10:]]
            await until(
                lambda: all(len(echoed.ticks) > before + 50 for echoed, before in zip(heard[10:], had, strict=True)),
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
