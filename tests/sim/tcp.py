"""TCP between simulated hosts: bytes arrive in order or not at all.

What the paths lose is sent again with a growing time-out, so loss is delay and a cut is silence until the
connection times out. A killed process's kernel closes its connections; a machine without power does not.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.net.api import Address

if TYPE_CHECKING:
    from tests.sim.network import SimHost

KERNEL_BUFFERS = 2 * 212_992  # what both kernels take before a writer has a backlog
RTO_S = 0.2  # Linux: the least retransmission time-out, doubled at each loss …
RTO_MAX_S = 120.0
RETRIES_MAX = 15  # … this many times (net.ipv4.tcp_retries2): about 15 minutes
SYN_RETRIES_MAX = 6  # after 1, 2, 4 … s: 127 s


class SimStream:
    """One end of a connection. What comes before somebody listens waits for him; `on_close` is called once,
    whoever ended the connection."""

    def __init__(self, host: SimHost, local: Address, remote: Address) -> None:
        self._host = host
        self._loop = host.loop
        self._context = contextvars.copy_context()
        self._on_data: Callable[[bytes], None] | None = None
        self._on_close: Callable[[OSError | None], None] | None = None
        self._early: list[bytes] = []
        self._ended: tuple[OSError | None] | None = None
        self._outgoing: deque[bytes | None] = deque()  # None: FIN
        self._retries = 0
        self._latest_arrival = 0.0
        self._under_way = 0  # bytes written here and not yet read there
        self._open = True  # we may write
        self._listening = True  # we did not close
        self.local = local
        self.remote = remote
        self.peer: SimStream | None = None
        host.streams[self] = None

    @property
    def on_data(self) -> Callable[[bytes], None]:
        return self._on_data or self._early.append

    @on_data.setter
    def on_data(self, callback: Callable[[bytes], None]) -> None:
        self._on_data = callback
        early, self._early = self._early, []
        for data in early:
            self._loop.call_soon(callback, data)

    @property
    def on_close(self) -> Callable[[OSError | None], None]:
        return self._on_close or (lambda _: None)

    @on_close.setter
    def on_close(self, callback: Callable[[OSError | None], None]) -> None:
        self._on_close = callback
        if self._ended is not None:
            self._loop.call_soon(callback, *self._ended)

    @property
    def backlog(self) -> int:
        return max(0, self._under_way - KERNEL_BUFFERS)

    def write(self, data: bytes) -> None:
        if self._open and data:
            self._under_way += len(data)
            self._queue(bytes(data))

    def close(self) -> None:
        """We are done: what was written still goes out, then FIN."""
        if self._open:
            self._listening = False
            self._queue(None)
            self._end(None)

    def _queue(self, item: bytes | None) -> None:
        self._outgoing.append(item)
        if len(self._outgoing) == 1:
            self.pump()

    def pump(self) -> None:
        """Send what waits; what is lost is tried again later, for a while."""
        network, peer = self._host.network, self.peer
        while self._outgoing and peer is not None and self._host.powered:
            arrivals = network.link(self.local[0], self.remote[0]).arrivals(network.loop.time())
            if not arrivals or not peer._host.powered:
                self._retries += 1
                if self._retries > RETRIES_MAX:
                    self._outgoing.clear()
                    self._end(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))
                else:
                    network.after(min(RTO_S * 2 ** (self._retries - 1), RTO_MAX_S), self.pump)
                return
            self._retries = 0
            # A packet may overtake another on the path, never in the stream.
            self._latest_arrival = max(self._latest_arrival, arrivals[0])
            network.at(self._latest_arrival, peer._arrive, self._outgoing.popleft())

    def _arrive(self, item: bytes | None) -> None:
        if not self._host.powered:
            return
        if item is None:
            self._end(None)
        elif self._open:
            self._loop.deliver(self._context, self._read, item)
        elif self.peer is not None:
            # RFC 9293 §3.10.7.1: data for a connection that is no more is answered with a reset.
            reset = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
            self._host.network.carry(self.local[0], self.remote[0], self.peer._end, reset)

    def _read(self, data: bytes) -> None:
        if self.peer is not None:
            self.peer._under_way -= len(data)
        if self._listening:
            self.on_data(data)

    def _end(self, error: OSError | None) -> None:
        if self._open:
            self._open = False
            self._host.streams.pop(self, None)
            self._loop.deliver(self._context, self._report, error)

    def _report(self, error: OSError | None) -> None:
        self._ended = (error,)
        self.on_close(error)


class SimListener:
    def __init__(self, host: SimHost, local: Address, on_accept: Callable[[SimStream], None]) -> None:
        self._host = host
        self._context = contextvars.copy_context()
        self.local = local
        self.on_accept = on_accept

    def close(self) -> None:
        if self._host.listeners.get(self.local[1]) is self:
            del self._host.listeners[self.local[1]]

    def accept(self, remote: Address) -> SimStream:
        """The kernel shakes hands; the process hears of it when it runs."""
        stream = SimStream(self._host, self.local, remote)
        self._host.loop.deliver(self._context, self._accepted, stream)
        return stream

    def _accepted(self, stream: SimStream) -> None:
        self.on_accept(stream)


async def dial(host: SimHost, remote: Address, local_host: str | None) -> SimStream:
    """The three-way handshake of `host` with whoever listens at `remote`."""
    network, context = host.network, contextvars.copy_context()
    local = host.claim((local_host or host.address, 0), host.listeners)
    connected: asyncio.Future[SimStream] = host.loop.create_future()
    accepted: list[SimStream] = []

    def syn(attempt: int) -> None:
        if connected.done():
            return
        if attempt > SYN_RETRIES_MAX:
            host.loop.deliver(context, fail, TimeoutError(errno.ETIMEDOUT, f"{remote}: connection timed out"))
            return
        network.carry(local[0], remote[0], syn_arrives)
        network.after(2.0**attempt, syn, attempt + 1)

    def syn_arrives() -> None:
        there = network.hosts.get(remote[0])
        if there is None or not there.powered:
            return
        listener = there.listeners.get(remote[1])
        if not accepted and listener is not None:
            accepted.append(listener.accept(local))
        network.carry(remote[0], local[0], answered, bool(accepted))

    def answered(accepted_there: bool) -> None:
        if accepted_there:
            host.loop.deliver(context, succeed)
        else:
            error = ConnectionRefusedError(errno.ECONNREFUSED, f"{remote}: connection refused")
            host.loop.deliver(context, fail, error)

    def succeed() -> None:
        if not connected.done():
            stream = SimStream(host, local, remote)
            stream.peer, accepted[0].peer = accepted[0], stream
            accepted[0].pump()
            connected.set_result(stream)

    def fail(error: OSError) -> None:
        if not connected.done():
            connected.set_exception(error)

    syn(0)
    return await connected
