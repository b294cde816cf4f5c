"""`aqueduct status`: what is counted anywhere of things that should not be is told, and nothing when all is well."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from proxy.admin.orders import handlers
from proxy.cli.look import troubles
from tests.sim.loop import VirtualLoop
from tests.sim.world import ENGINES, NODE, World


def status_of(mode: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Before and after a call, a datagram that is no SIP and a description that is none."""
    loop = VirtualLoop()
    world = World(loop, 1, mode=mode)

    async def run() -> tuple[dict[str, Any], dict[str, Any]]:
        await world.start()
        await asyncio.sleep(5.0)
        before = await handlers(world.node)["status"]({})
        world.phones[0].stack.flow("udp", (NODE, 5060)).send(b"nonsense")
        world.node.calls.direct.offer("s", "a", "b", b"nonsense").exception()
        await asyncio.sleep(1.0)
        return before, await handlers(world.node)["status"]({})

    try:
        return loop.run(run())
    finally:
        world.stop()


@pytest.mark.parametrize("mode", ["relay", "direct"])
def test_status_has_the_figures_of_transports_and_media(mode: str) -> None:
    before, after = status_of(mode)
    assert json.loads(json.dumps(before)) == before
    assert before["transports"] == [{"transport": "udp", "address": f"{NODE}:5060", "lost": 0}]
    assert list(before["media"]) == [mode]
    assert list(troubles(before)) == []
    told = list(troubles(after))
    assert told[0] == "messages refused or not understood: end 1"
    assert ("media direct: bad sdp 1" in told) is (mode == "direct")


def test_status_has_the_rtpengines() -> None:
    before, _ = status_of("rtpengine")
    assert before["rtpengines"] == [{"name": f"{host}:2223", "up": True, "sessions": 0} for host in ENGINES]


def test_each_trouble_has_its_place() -> None:
    row = {"transport": "tcp", "address": "192.0.2.1:5060", "connections": 4, "refused": 2, "framing_errors": 1}
    status = {"errors": {}, "transports": [row | {"last_framing_error": "x: y"}], "media": {"relay": {"bad_sdp": 0}}}
    assert list(troubles(status)) == ["tcp:192.0.2.1:5060: refused 2, framing errors 1, last framing error x: y"]
