"""UDP sockets of simulated hosts: connected or not, with a receive buffer that a frozen process lets fill up."""

from __future__ import annotations

import contextvars
import errno
from typing import TYPE_CHECKING

from proxy.net.api import Address, OnDatagram, OnError
from tests.sim.loop import SimulationError

if TYPE_CHECKING:
    from tests.sim.network import SimHost

RECEIVE_BUFFER = 212_992  # net.core.rmem_default


def true_size(length: int) -> int:
    """What a datagram takes of a receive buffer: the kernel's bookkeeping and a power of two of data."""
    return 256 + (1 << (length + 384 - 1).bit_length())


class SimUdpPort:
    def __init__(
        self,
        host: SimHost,
        local: Address,
        on_datagram: OnDatagram,
        remote: Address | None,
        on_error: OnError | None,
    ) -> None:
        self._host = host
        self._loop = host.loop
        self._on_datagram = on_datagram
        self._remote = remote
        self._on_error = on_error
        self._context = contextvars.copy_context()
        self._unread = 0
        self.local = local
        self.lost = 0
        self.closed = False

    def send(self, data: bytes, to: Address) -> None:
        if self.closed:
            return
        if self._remote is not None and to != self._remote:
            raise SimulationError(f"{self.local}: connected to {self._remote}, told to send to {to}")
        self._host.network.send(self, bytes(data), to)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._host.udp_ports.pop(self.local[1], None)

    def arrive(self, data: bytes, source: Address) -> bool:
        """A datagram reached this socket; False when there was no room for it."""
        if self._remote is not None and source != self._remote:
            return True  # a connected socket does not see it
        size = 0
        if self._loop.halted:
            size = true_size(len(data))
            if self._unread + size > RECEIVE_BUFFER:
                return False
            self._unread += size
        self._loop.deliver(self._context, self._read, data, source, size)
        return True

    def refused(self) -> None:
        """An ICMP port unreachable came back: only a connected socket hears of it."""
        if self._remote is not None and self._on_error is not None and not self.closed:
            error = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
            self._loop.deliver(self._context, self._report, error)

    def _read(self, data: bytes, source: Address, size: int) -> None:
        self._unread -= size
        if not self.closed:
            self._on_datagram(data, source)

    def _report(self, error: OSError) -> None:
        if not self.closed and self._on_error is not None:
            self._on_error(error)
