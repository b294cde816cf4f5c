"""A real relay process, a plane in front of it, and peers with real sockets on loopback addresses."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from media.api import SessionStats
from media.relay.client import RelayPlane
from media.relay.latch import LatchPolicy
from media.relay.link import RelayOptions
from media.rtp import packet, rtcp
from tests.unit.media.descriptions import audio

RELAY = "127.0.1.1"
CALLER = "127.0.1.5"
BACKEND = "127.0.1.6"
BACKUP = "127.0.1.7"
STRANGER = "127.0.1.66"
PATIENCE_S = 5.0
_ssrcs = itertools.count(0x1000)

T = TypeVar("T")


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


class Peer:
    """Who sends and receives media: RTP on a port, RTCP on the next."""

    def __init__(self, host: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        while True:
            self.rtp = socket.socket(family, socket.SOCK_DGRAM)
            self.rtcp = socket.socket(family, socket.SOCK_DGRAM)
            self.rtp.bind((host, 0))
            try:
                self.rtcp.bind((host, self.rtp.getsockname()[1] + 1))
                break
            except OSError:
                self.close()
        self.host, self.port = self.rtp.getsockname()[:2]
        self.sequence = 0
        self.ssrc = next(_ssrcs)
        for sock in (self.rtp, self.rtcp):
            sock.settimeout(PATIENCE_S)

    def sdp(self, *lines: bytes, formats: bytes = b"0") -> bytes:
        return audio(self.host, self.port, *lines, formats=formats)

    def say(self, to: tuple[str, int], words: bytes) -> None:
        self.sequence += 1
        self.rtp.sendto(packet.pack(0, self.sequence, self.sequence * 160, self.ssrc, words), to)

    def hear(self) -> bytes:
        return self.hear_packet().payload

    def hear_packet(self) -> packet.RtpPacket:
        return packet.parse(self.rtp.recv(2048))

    def report(self, to: tuple[str, int], name: bytes) -> None:
        self.rtcp.sendto(rtcp.receiver_report(1, name), (to[0], to[1] + 1))

    def hear_report(self) -> bytes:
        return self.rtcp.recv(2048)

    def has_heard_nothing(self) -> bool:
        self.rtp.settimeout(0)
        try:
            self.rtp.recv(2048)
        except BlockingIOError:
            return True
        finally:
            self.rtp.settimeout(PATIENCE_S)
        return False

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()


class Bed:
    def __init__(self, options: RelayOptions) -> None:
        self.options = options
        self.plane: RelayPlane
        self.peers: list[Peer] = []

    def peer(self, host: str) -> Peer:
        peer = Peer(host)
        self.peers.append(peer)
        return peer

    async def settle(self) -> dict[str, int]:
        """The relay executes commands in order: what it was told before is done when it answers this."""
        return await self.plane.relay_counters()

    async def successor(self) -> None:
        """The proxy is gone, and another one takes up the relay."""
        await self.plane.close()
        self.plane = await RelayPlane.start(self.options, random.Random(8))

    async def call(self, caller: Peer, backend: Peer, name: str = "c") -> tuple[tuple[str, int], tuple[str, int]]:
        """A connected session; returns where the caller and where the backend must send."""
        towards_backend = await self.plane.offer(name, "a", "b1", caller.sdp())
        towards_caller = await self.plane.answer(name, "b1", "a", backend.sdp())
        await self.settle()
        return address(towards_caller), address(towards_backend)

    async def stats_when(self, condition: Callable[[SessionStats], bool], name: str = "c") -> SessionStats:
        async def look() -> SessionStats | None:
            stats = await self.plane.query(name)
            return stats if condition(stats) else None

        return await when(look)


async def when(look: Callable[[], Awaitable[T | None]]) -> T:
    """Look until there is something to be seen."""
    until = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        seen = await look()
        if seen is not None:
            return seen
        assert asyncio.get_running_loop().time() < until, "it did not come"
        await asyncio.sleep(0.002)


@asynccontextmanager
async def relay_bed(
    tmp_path: Path,
    *,
    hosts: tuple[str, ...] = (RELAY,),
    ports: tuple[int, int] = (31000, 31999),
    latch: LatchPolicy = LatchPolicy.ADDRESS,
    orphan_s: float = 60.0,
) -> AsyncIterator[Bed]:
    bed = Bed(RelayOptions(str(tmp_path / "relay.sock"), hosts, ports, latch, orphan_s))
    bed.plane = await RelayPlane.start(bed.options, random.Random(7))
    await bed.settle()
    try:
        yield bed
    finally:
        for name in bed.plane.sessions():
            bed.plane.delete(name)
        await bed.plane.close()
        for peer in bed.peers:
            peer.close()


def address(sdp: bytes) -> tuple[str, int]:
    """Where a description wants the media of its first line."""
    host = sdp.split(b"c=IN IP")[1].split(b"\r\n")[0].split()[1].decode()
    return host, port(sdp)


def port(sdp: bytes, line: int = 0) -> int:
    return int(sdp.split(b"\r\nm=")[line + 1].split()[1])


def version(sdp: bytes) -> int:
    return int(sdp.split(b"\r\n")[1].split()[2])


def heard(stats: SessionStats, leg: str) -> int:
    return sum(stream.packets for stream in stats.streams if stream.leg == leg)


def lost(stats: SessionStats, leg: str) -> int:
    return sum(stream.lost_to_fence for stream in stats.streams if stream.leg == leg)
