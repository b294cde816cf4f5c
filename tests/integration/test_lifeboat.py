"""A conference of three dies on the reference backend: its parties hear each other until the backup has them."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path

from proxy.demo.tones import Ear, frame
from tests.testbed.aqueduct import Aqueduct, settings
from tests.testbed.hosts import BACKENDS, CALLER, PROXY
from tests.testbed.phone import Heard, Phones
from tests.testbed.process import Process
from tests.testbed.sip_ping import wait_for_options

TONES = (450, 650, 850)


class Others(Heard):
    """Only what carries the voices of both others."""

    def __init__(self, ear: Ear, own: int) -> None:
        super().__init__()
        self._ear, self._wanted = ear, frozenset(TONES) - {own}

    def take(self, packet: bytes, now: float) -> None:
        if self._ear.hear(packet[12:]) >= self._wanted:
            super().take(packet, now)


def test_three_parties_go_on_talking_while_their_conference_is_rebuilt(tmp_path: Path) -> None:
    addresses = {name: (host, 5060) for name, host in zip(("one", "two"), BACKENDS, strict=True)}

    async def scenario(proxy: Aqueduct, primary: Process) -> None:
        loop = asyncio.get_running_loop()
        async with Phones(CALLER) as phones:
            for hz in TONES:
                call = await phones.call("conf-sale", proxy.address, say=[frame(hz)])
                call.heard = Others(Ear(TONES), hz)
            await asyncio.sleep(1.0)
            assert all(call.heard.arrivals for call in phones.calls)
            struck_at = loop.time()
            primary.kill()
            await asyncio.sleep(2.0)
            gaps_s = [call.heard.longest_gap_s(struck_at, loop.time()) for call in phones.calls]
            print(f"longest gap {max(gaps_s) * 1000:.0f} ms")
            assert max(gaps_s) < 0.5
            assert {await call.bye() for call in phones.calls} == {200}
        (report,) = proxy.ask("failovers")
        assert (report["moved"], report["lost"]) == (3, 0)
        assert all(result["bypassed_ms"] is not None for result in report["results"])

    with ExitStack() as stack:
        backends = []
        for name, (host, port) in addresses.items():
            command = [sys.executable, "-m", "proxy.demo.backend", "--address", f"{host}:{port}"]
            backends.append(Process(command, tmp_path / f"{name}.log"))
            stack.callback(backends[-1].kill)
        for backend, address in zip(backends, addresses.values(), strict=True):
            wait_for_options(address, timeout_s=15.0, alive=lambda backend=backend: backend.running)  # type: ignore[misc]
        proxy = stack.enter_context(Aqueduct(settings(PROXY, addresses, tmp_path), tmp_path))
        proxy.wait_ready()
        proxy.wait_for_backends()
        asyncio.run(scenario(proxy, backends[0]))
