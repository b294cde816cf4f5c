"""The site that every test here gets anew: two real Asterisks, the proxy before them, phones with real RTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.testbed import ami
from tests.testbed.aqueduct import Aqueduct, settings
from tests.testbed.asterisk import ROOT_FOLDER, Asterisk
from tests.testbed.audio import share_of
from tests.testbed.hosts import BACKENDS, PROXY
from tests.testbed.phone import Call

ECHO, TONE, KEYS, RINGS_2_S = "600", "tone", "609", "605"
PRIMARY_HZ, BACKUP_HZ, OWN_HZ, KEY_HZ = 700, 1100, 440, 1000


@dataclass
class Site:
    primary: Asterisk
    backup: Asterisk
    proxy: Aqueduct


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield start_site(stack, tmp_path)


def start_site(
    stack: ExitStack,
    folder: Path,
    *,
    pool: Mapping[str, Any] | None = None,
    pools: Mapping[str, Any] | None = None,
    routes: Sequence[Mapping[str, Any]] = (),
    additions: Mapping[str, str] | None = None,
    control: bool = False,
) -> Site:
    """`pool` are more settings of the pool, `pools` and `routes` more of those (routes come first), `additions` go to
    the end of Asterisk's files. With `control` the proxy has a session with the manager of each."""
    if not (ROOT_FOLDER / "bin" / "asterisk").exists():
        pytest.fail("no Asterisk in .cache/asterisk-root; `make asterisk` puts one there")
    primary, backup = (
        stack.enter_context(
            Asterisk(
                name,
                host,
                folder / name,
                root=ROOT_FOLDER,
                rtp_ports=ports,
                tone_hz=hz,
                additions=additions,
                recordings=folder / "recordings",
            )
        )
        for name, host, ports, hz in (
            ("as1", BACKENDS[0], (12000, 13999), PRIMARY_HZ),
            ("as2", BACKENDS[1], (14000, 15999), BACKUP_HZ),
        )
    )
    primary.wait_ready()
    backup.wait_ready()
    addresses = {asterisk.name: asterisk.address for asterisk in (primary, backup)}
    configuration = settings(PROXY, addresses, folder)
    for backend in configuration["pools"]["pbx"]["backends"].values() if control else ():
        backend["control"] = {"protocol": "ami", "user": ami.USER, "secret": ami.SECRET}
    configuration["pools"]["pbx"].update(pool or {})
    configuration["pools"].update(pools or {})
    configuration["routes"][:0] = routes
    proxy = stack.enter_context(Aqueduct(configuration, folder))
    proxy.wait_ready()
    proxy.wait_for_backends(addresses)
    return Site(primary, backup, proxy)


async def until(condition: Callable[[], bool], what: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait for a condition; AssertionError says `what()` was there instead."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    while not condition():
        assert loop.time() < end, what()
        await asyncio.sleep(0.02)


async def until_heard(call: Call, hz: float, timeout_s: float = 10.0) -> None:
    """Wait until the last half second at a phone is that tone and still comes."""
    loop = asyncio.get_running_loop()

    def heard() -> bool:
        fresh = bool(call.heard.arrivals) and loop.time() - call.heard.arrivals[-1] < 0.1
        return fresh and share_of(hz, call.heard.last_half_second()) > 0.9

    await until(heard, lambda: f"{call.call_id} hears {hearing(call)}, not {hz} Hz", timeout_s)


def hearing(call: Call) -> dict[int, float]:
    last = call.heard.last_half_second()
    return {hz: round(share_of(hz, last), 2) for hz in (PRIMARY_HZ, BACKUP_HZ, OWN_HZ, KEY_HZ)}


async def until_channels(asterisk: Asterisk, count: int, timeout_s: float = 10.0) -> None:
    """Wait until an Asterisk has exactly so many SIP channels (asked in a thread: phones must go on meanwhile)."""
    end = time.monotonic() + timeout_s
    while (there := len(await asyncio.to_thread(asterisk.channels))) != count:
        assert time.monotonic() < end, f"{asterisk.name} has {there} channels, not {count}"
        await asyncio.sleep(0.1)


async def together(*work: Awaitable[object]) -> None:
    await asyncio.gather(*work)
