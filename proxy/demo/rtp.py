"""Many RTP sockets in one process, cheaply: one epoll for all of them, one clock for sending.

The event loop watches only the epoll's own descriptor, so that a packet costs no callback of the loop. All times are
on CLOCK_MONOTONIC (the proxy's report uses it too), taken when a batch of packets is read. RFC 3550.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import select
import socket
import struct
import time
from collections.abc import Callable

from media.rtp.g711 import PACKET_SAMPLES
from media.rtp.packet import HEADER_SIZE
from proxy.net.api import Address

FRAME_S = 0.02
BATCH_MAX = 128  # packets a wake-up: then signalling has its turn
DATAGRAM_BYTES_MAX = 2048
LATE_TICKS_MAX = 5  # more are given up: a process that stood still does not send a burst
_HEADER = struct.Struct("!BBHII")
_RTCP_TYPES = range(72, 77)  # SR to APP without the marker bit (RFC 5761 §4)

OnPacket = Callable[[int, bytes, float], None]  # payload type, payload, time


class RtpPort:
    """One RTP socket: what arrives goes to `on_packet`, what is sent forms one stream."""

    __slots__ = ("_buffer", "_sequence", "_socket", "_ssrc", "_timestamp", "address", "on_packet")

    def __init__(self, sock: socket.socket, address: Address, rng: random.Random) -> None:
        self._socket = sock
        self._buffer = bytearray(HEADER_SIZE + PACKET_SAMPLES)
        self._sequence = rng.getrandbits(16)
        self._timestamp = rng.getrandbits(32)
        self._ssrc = rng.getrandbits(32)
        self.address = address
        self.on_packet: OnPacket = lambda payload_type, payload, at: None

    def fileno(self) -> int:
        return self._socket.fileno()

    def tick(self) -> None:
        """20 ms have passed on the clock of the stream (also while nothing is sent)."""
        self._timestamp = (self._timestamp + PACKET_SAMPLES) & 0xFFFFFFFF

    def send(self, payload_type: int, payload: bytes, to: Address) -> None:
        self._sequence = (self._sequence + 1) & 0xFFFF
        buffer = self._buffer
        _HEADER.pack_into(buffer, 0, 0x80, payload_type, self._sequence, self._timestamp, self._ssrc)
        buffer[HEADER_SIZE:] = payload
        with contextlib.suppress(OSError):  # lost, as on a wire
            self._socket.sendto(buffer, to)

    def read(self, at: float) -> None:
        """Take one packet: with many sockets there is seldom a second one, and the epoll tells."""
        try:
            data = self._socket.recv(DATAGRAM_BYTES_MAX)
        except OSError:
            return
        if len(data) <= HEADER_SIZE or data[0] & 0xEF != 0x80:  # extensions, CSRCs and padding are not for us
            return
        payload_type = data[1] & 0x7F
        if payload_type not in _RTCP_TYPES:
            self.on_packet(payload_type, data[HEADER_SIZE:], at)

    def close(self) -> None:
        self._socket.close()


class RtpPorts:
    """All RTP sockets of a process, on even ports of one host."""

    def __init__(self, host: str, ports: range, rng: random.Random) -> None:
        self._host = host
        self._even = ports[ports.start % 2 :: 2]
        self._rng = rng
        self._next = 0
        self._open: dict[int, RtpPort] = {}
        self._epoll = select.epoll()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._drain)

    def __len__(self) -> int:
        return len(self._open)

    def open(self) -> RtpPort:
        """Raises OSError when no port is free."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        for _ in self._even:
            address = (self._host, self._even[self._next % len(self._even)])
            self._next += 1
            try:
                sock.bind(address)
            except OSError:
                continue
            port = RtpPort(sock, address, self._rng)
            self._open[port.fileno()] = port
            self._epoll.register(port.fileno(), select.EPOLLIN)
            return port
        sock.close()
        raise OSError(f"no RTP port is free on {self._host}")

    def release(self, port: RtpPort) -> None:
        if self._open.pop(port.fileno(), None):
            self._epoll.unregister(port.fileno())
            port.close()

    def _drain(self) -> None:
        at = time.monotonic()
        for number, _ in self._epoll.poll(0, BATCH_MAX):
            port = self._open.get(number)
            if port is not None:
                port.read(at)

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        for port in list(self._open.values()):
            self.release(port)
        self._epoll.close()


async def every_frame(work: Callable[[], None]) -> None:
    """Call `work` once each 20 ms for ever; ticks that the process was late for are made up, within bounds."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        work()
        due = max(due + FRAME_S, loop.time() - LATE_TICKS_MAX * FRAME_S)
        await asyncio.sleep(due - loop.time())
