"""A connected UDP socket to one daemon. Connected, so that the kernel tells us of an ICMP refusal at once."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)

Address = tuple[str, int]
DATAGRAM_MAX = 65536
BURST = 256


class Channel(Protocol):
    def send(self, datagram: bytes) -> None: ...

    def drain(self) -> None:
        """Take in what has come and was not looked at yet."""
        ...

    def close(self) -> None: ...


Received = Callable[[bytes], object]
Refused = Callable[[], None]
Connect = Callable[[asyncio.AbstractEventLoop, Address, Received, Refused], Channel]


class UdpChannel:
    """Raises OSError when there is no way to such an address."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, remote: Address, on_datagram: Received, on_refused: Refused
    ) -> None:
        self._loop = loop
        self._on_datagram = on_datagram
        self._on_refused = on_refused
        self._socket = socket.socket(socket.AF_INET6 if ":" in remote[0] else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.connect(remote)
        except OSError:
            self._socket.close()
            raise
        loop.add_reader(self._socket, self.drain)

    def send(self, datagram: bytes) -> None:
        try:
            self._socket.send(datagram)
        except ConnectionRefusedError:
            self._on_refused()
        except OSError as error:  # like a datagram that was lost: it is sent again
            log.debug("ng: %s", error)

    def drain(self) -> None:
        for _ in range(BURST):
            if self._socket.fileno() < 0:
                return
            try:
                datagram = self._socket.recv(DATAGRAM_MAX)
            except ConnectionRefusedError:
                self._on_refused()
            except OSError:
                return
            else:
                self._on_datagram(datagram)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()
