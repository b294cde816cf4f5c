"""The probe process and its owner: what it is asked, what it measures, and what is made of its own death."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from media.probe.call import Caller, CallerFailed, SyntheticCall
from media.probe.client import ProbeCaller, ProbeOptions
from proxy.config import PortRange
from proxy.health.caller import BuiltInCaller
from proxy.net.asyncio_network import AsyncioNetwork
from tests.testbed.asterisk import ROOT_FOLDER, Asterisk
from tests.testbed.hosts import BACKENDS, PROXY
from tests.testbed.pjsua2 import unavailable
from tests.testbed.process import Process
from tests.testbed.sip_ping import wait_for_options

TONE_HZ = 700
ROOT = Path(__file__).resolve().parents[2]

OWNER = """
import asyncio, sys
from tests.integration.test_probe import ProbeCaller, ProbeOptions, call

async def own(backend, host):
    probe = ProbeCaller(ProbeOptions((host,), host, (29968, 29999)))
    assert (await probe.place(call(f"echo@{backend}"))).heard
    print(probe.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(own(*sys.argv[1:]))
"""

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[str]:
    """The address of a reference backend."""
    address = f"{BACKENDS[0]}:5060"
    argv = [sys.executable, "-m", "proxy.demo.backend", "--address", address, "--tone-hz", str(TONE_HZ)]
    with Process(argv, tmp_path / "log", cwd=ROOT) as process:
        wait_for_options((BACKENDS[0], 5060), timeout_s=10.0, alive=lambda: process.running, accept=lambda pong: True)
        yield address


def call(to: str, hears_hz: int = 850, listen_s: float = 0.2) -> SyntheticCall:
    return SyntheticCall(f"sip:{to};transport=udp", hears_hz, answer_s=1.0, hear_s=1.0, listen_s=listen_s)


def caller() -> ProbeCaller:
    return ProbeCaller(ProbeOptions((PROXY,), PROXY, (29968, 29999)))


def test_many_calls_at_once_each_get_their_own_outcome(backend: str) -> None:
    async def scenario() -> None:
        probe = caller()
        outcomes = await asyncio.gather(
            probe.place(call(f"echo@{backend}")),
            probe.place(call(f"tone@{backend}", TONE_HZ)),
            probe.place(call(f"tone@{backend}")),
            probe.place(call(f"busy@{backend}")),
            probe.place(call(f"nobody@{backend}")),
            probe.place(call(f"echo@{BACKENDS[1]}:5060")),  # nobody is there
        )
        assert [outcome.status for outcome in outcomes] == [200, 200, 200, 486, 404, 408]
        assert [outcome.heard for outcome in outcomes] == [True, True, False, False, False, False]
        assert outcomes[2].packets > 20  # one way
        await probe.close()

    asyncio.run(scenario())


def test_its_death_is_not_blamed_on_the_backend_and_another_one_is_started(backend: str) -> None:
    async def scenario() -> None:
        probe = caller()
        talking = asyncio.create_task(probe.place(call(f"echo@{backend}", listen_s=30.0)))
        while probe.pid is None:
            await asyncio.sleep(0.02)
        first = probe.pid
        await asyncio.sleep(0.2)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(CallerFailed, match="ended with status -9"):
            await talking
        assert (await probe.place(call(f"echo@{backend}"))).heard
        assert probe.pid not in (None, first)
        await probe.close()

    asyncio.run(scenario())


def test_it_ends_with_its_owner(backend: str) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, backend, PROXY], cwd=ROOT, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        probe = Path(f"/proc/{int(owner.stdout.readline())}/cmdline")
        assert b"media.probe" in probe.read_bytes()
        owner.kill()
    end = time.monotonic() + 5.0
    while probe.exists() and b"media.probe" in probe.read_bytes():
        assert time.monotonic() < end, "it lives on"
        time.sleep(0.05)


async def heard_by_both(host: str, uri: str, *others: str) -> list[str]:
    """What comes of that call when pjsua2 places it, and when the built-in caller does."""
    network = AsyncioNetwork(asyncio.get_running_loop())
    callers: list[Caller] = [
        ProbeCaller(ProbeOptions((*others, host), host, (29968, 29999))),
        BuiltInCaller(
            network, asyncio.get_running_loop(), Random(), (*others, host), host, PortRange(29968, 29999), "aqueduct"
        ),
    ]
    troubles = []
    for each in callers:
        outcome = await each.place(SyntheticCall(uri, 850, answer_s=1.0, hear_s=1.0, listen_s=0.2))
        troubles += [] if outcome.heard else [f"{type(each).__name__}: {outcome}"]
        await each.close()
    return troubles


def test_both_callers_speak_ipv6(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "proxy.demo.backend", "--address", "[::1]:15099"]
    with Process(argv, tmp_path / "log", cwd=ROOT) as process:
        wait_for_options(("::1", 15099), timeout_s=10.0, alive=lambda: process.running, accept=lambda pong: True)
        assert asyncio.run(heard_by_both("::1", "sip:echo@[::1]:15099;transport=udp", PROXY)) == []


def test_both_callers_speak_tcp(tmp_path: Path) -> None:
    with Asterisk("as1", BACKENDS[0], tmp_path, root=ROOT_FOLDER) as asterisk:
        asterisk.wait_ready()
        assert asyncio.run(heard_by_both(PROXY, f"sip:600@{BACKENDS[0]}:5060;transport=tcp")) == []


def test_where_it_cannot_have_its_address_it_says_so() -> None:
    async def scenario() -> None:
        probe = ProbeCaller(ProbeOptions(("192.0.2.1",), "192.0.2.1", (29968, 29999)))
        with pytest.raises(CallerFailed, match="ended with status"):
            await probe.place(call("echo@192.0.2.2:5060"))

    asyncio.run(scenario())
