"""The ports to the network. `proxy.net.asyncio_network` implements them on real sockets, `tests.sim.network`
in memory and in virtual time. Addresses are (host, port) pairs with numeric hosts, for IPv4 and IPv6 alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Address = tuple[str, int]
OnDatagram = Callable[[bytes, Address], None]
OnError = Callable[[OSError], None]


class UdpPort(Protocol):
    """A bound UDP socket. `send` never blocks and never raises: a datagram that cannot leave is lost, as on a wire,
    and counted in `lost`."""

    lost: int

    @property
    def local(self) -> Address: ...

    def send(self, data: bytes, to: Address) -> None:
        """Send one datagram. On a port opened with `remote`, `to` must be that address."""
        ...

    def close(self) -> None: ...


class TcpStream(Protocol):
    """A connected TCP socket. `on_data(chunk)` and `on_close(error or None)` are set by who takes it."""

    on_data: Callable[[bytes], None]
    on_close: Callable[[OSError | None], None]

    @property
    def local(self) -> Address: ...

    @property
    def remote(self) -> Address: ...

    @property
    def backlog(self) -> int:
        """Bytes written and not yet taken by the kernel."""
        ...

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class TcpListener(Protocol):
    @property
    def local(self) -> Address: ...

    def close(self) -> None: ...


class Network(Protocol):
    def udp(
        self,
        local: Address,
        on_datagram: OnDatagram,
        *,
        remote: Address | None = None,
        on_error: OnError | None = None,
    ) -> UdpPort:
        """Bind a UDP port (port 0: any). With `remote` the socket is connected, so that an ICMP unreachable comes
        back as `on_error(ConnectionRefusedError)`. Raises OSError when it cannot be bound."""
        ...

    async def connect_tcp(self, remote: Address, local_host: str | None = None) -> TcpStream:
        """Open a TCP connection. Raises OSError."""
        ...

    async def listen_tcp(self, local: Address, on_accept: Callable[[TcpStream], None]) -> TcpListener:
        """Listen; `on_accept` must set `on_data` and `on_close` of the stream before it returns. Raises OSError."""
        ...
