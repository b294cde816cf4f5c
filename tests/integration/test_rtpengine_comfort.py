"""Comfort noise out of a real rtpengine: who hears a silent backend hears a quiet room, until somebody speaks again."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from media.rtp import packet
from media.rtpengine import NodeOptions, RtpenginePlane
from tests.testbed.hosts import host
from tests.testbed.rtpengine import Rtpengine
from tests.unit.media.relay_bed import Peer, address

CALLER, BACKEND, BACKUP, ENGINE = (host(number) for number in (51, 52, 53, 55))
SILENCE = 0xFF  # of G.711 mu-law


async def packets(peer: Peer, seconds: float) -> list[bytes]:
    """The payloads that a peer is sent within that time."""
    await asyncio.sleep(seconds)
    peer.rtp.setblocking(False)
    heard = []
    try:
        while True:
            heard.append(packet.parse(peer.rtp.recv(2048)).payload)
    except BlockingIOError:
        return heard
    finally:
        peer.rtp.settimeout(5.0)


def test_a_listener_is_comforted_until_he_is_connected_to_another_one(tmp_path: Path) -> None:
    async def test() -> None:
        with Rtpengine(ENGINE, tmp_path) as daemon:
            daemon.wait_ready()
            plane = await RtpenginePlane.start(ENGINE, [NodeOptions(daemon.address)], random.Random(1))
            assert "comfort" in plane.capabilities
            caller, backend, backup = Peer(CALLER), Peer(BACKEND), Peer(BACKUP)
            try:
                for_backend = address(await plane.offer("c", "a", "b1", caller.sdp()))
                await plane.answer("c", "b1", "a", backend.sdp())
                plane.watch("c", "b1", "as1")
                assert await packets(caller, 0.2) == []

                plane.comfort("as1", True)
                noise = await packets(caller, 0.5)
                assert len(noise) >= 15 and all(len(each) == 160 for each in noise)
                assert any(byte not in (SILENCE, SILENCE - 0x80) for each in noise for byte in each)
                assert backend.has_heard_nothing()

                plane.comfort("as1", False)
                await plane.query("c")
                await packets(caller, 0.1)
                assert await packets(caller, 0.2) == []
                backend.say(for_backend, b"back")
                assert caller.hear() == b"back"

                plane.comfort("as1", True)
                for_backup = address(await plane.offer("c", "a", "b2", caller.sdp()))
                await plane.answer("c", "b2", "a", backup.sdp(), preview=True)
                plane.watch("c", "b2", "as2")
                await plane.switch("c", "a", "b2")
                await packets(caller, 0.1)
                assert await packets(caller, 0.2) == []
                backup.say(for_backup, b"here I am")
                assert caller.hear() == b"here I am"
            finally:
                for peer in (caller, backend, backup):
                    peer.close()
                plane.delete("c")
                await plane.close()

    asyncio.run(asyncio.wait_for(test(), 30))
