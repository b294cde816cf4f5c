"""The network on real sockets, for asyncio and uvloop alike.

UDP does without asyncio's datagram endpoint, which takes one datagram an iteration of the loop: a plain
socket with `add_reader`, drained up to 32 datagrams a wake-up. A plain `recvfrom(65535)` is the fastest way
to read (0.9 µs; `recvfrom_into` and a copy 1.1 µs): below malloc's mmap threshold the buffer costs nothing
and is shrunk in place. TCP is asyncio's own. Who may speak over a port is the business of who opened it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any, cast

from proxy.net.api import Address, OnDatagram, OnError

DRAIN_MAX = 32  # datagrams a wake-up, 2 ms of work: then timers and the other sockets have their turn
DATAGRAM_BYTES_MAX = 65535
RECEIVE_BUFFER_BYTES = 4 << 20
ACCEPTS_MAX = 16  # a wake-up, for the same reason
LISTEN_BACKLOG = 1024
LINGER_S = 5.0  # how long a closed stream may go on writing what its peer does not take

_SO_RCVBUFFORCE = 33  # Linux; not in the socket module
# What our own side did not take; all else that a connected socket raises is news of the way to the peer.
_LOCAL_ERRORS = {
    errno.EAGAIN,
    errno.EINTR,
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.EMSGSIZE,
    errno.EPERM,
    errno.EBADF,
}
_FAULTS = (OSError, ValueError, OverflowError)  # an impossible port or host must not raise either


class AsyncioNetwork:
    """Implements `proxy.net.api.Network`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def udp(
        self,
        local: Address,
        on_datagram: OnDatagram,
        *,
        remote: Address | None = None,
        on_error: OnError | None = None,
    ) -> UdpSocket | ConnectedUdpSocket:
        sock = socket.socket(_family(local[0]), socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _ask_receive_buffer(sock)
            sock.bind(local)
            if remote is None:
                return UdpSocket(self._loop, sock, on_datagram, on_error)
            sock.connect(remote)
            return ConnectedUdpSocket(self._loop, sock, on_datagram, on_error)
        except BaseException:
            sock.close()
            raise

    async def connect_tcp(self, remote: Address, local_host: str | None = None) -> TcpConnection:
        _, connection = await self._loop.create_connection(
            lambda: TcpConnection(self._loop),
            remote[0],
            remote[1],
            local_addr=(local_host, 0) if local_host else None,
        )
        return connection

    async def listen_tcp(self, local: Address, on_accept: Callable[[TcpConnection], None]) -> TcpServer:
        sock = socket.socket(_family(local[0]), socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(local)
            # asyncio accepts `backlog` connections a wake-up; the kernel may queue more than that.
            server = await self._loop.create_server(
                lambda: TcpConnection(self._loop, on_accept), sock=sock, backlog=ACCEPTS_MAX
            )
            sock.listen(LISTEN_BACKLOG)
        except BaseException:
            sock.close()
            raise
        return TcpServer(server, _address(sock.getsockname()))


class UdpSocket:
    """A bound socket that talks to anybody. `lost` counts datagrams that could not leave."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_datagram: OnDatagram,
        on_error: OnError | None,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._on_datagram = on_datagram
        self._on_error = on_error
        self._inet6 = sock.family == socket.AF_INET6
        self.local = _address(sock.getsockname())
        self.lost = 0
        loop.add_reader(sock, self._drain)

    def send(self, data: bytes, to: Address) -> None:
        try:
            self._sock.sendto(data, to)
        except _FAULTS:
            self.lost += 1

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _drain(self) -> None:
        receive = self._sock.recvfrom
        on_datagram = self._on_datagram
        try:
            for _ in range(DRAIN_MAX):
                data, source = receive(DATAGRAM_BYTES_MAX)
                if self._inet6:
                    source = _address(source)
                try:
                    on_datagram(data, source)
                except Exception as error:  # one datagram's fault must not cost the others
                    _report(self._loop, "on_datagram", error)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        """Told in a later iteration of the loop: who sends need not be ready to hear of it at that moment."""
        if self._sock.fileno() < 0:
            return
        # uvloop gives up watching a socket on which an error is pending (libuv on POLLERR): a port that was refused
        # once would be deaf for ever. Whoever takes the error, `recv` or `send`, begins the watch anew.
        self._loop.remove_reader(self._sock)
        self._loop.add_reader(self._sock, self._drain)
        if self._on_error is not None:
            self._loop.call_soon(self._tell, error)

    def _tell(self, error: OSError) -> None:
        if self._on_error is not None and self._sock.fileno() >= 0:
            self._on_error(error)


class ConnectedUdpSocket(UdpSocket):
    """A socket with one peer: the kernel turns its ICMP errors into `on_error`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_datagram: OnDatagram,
        on_error: OnError | None,
    ) -> None:
        super().__init__(loop, sock, on_datagram, on_error)
        self.remote = _address(sock.getpeername())

    def send(self, data: bytes, to: Address) -> None:
        try:
            self._sock.send(data)
        except OSError as error:
            if error.errno in _LOCAL_ERRORS:
                self.lost += 1
                return
            self._failed(error)
            try:  # what was reported is the fate of an earlier datagram; this one has not been tried
                self._sock.send(data)
            except OSError:
                self.lost += 1

    def _drain(self) -> None:
        receive = self._sock.recv  # recvfrom would make the same address again for each (0.9 against 0.57 µs)
        on_datagram = self._on_datagram
        remote = self.remote
        try:
            for _ in range(DRAIN_MAX):
                data = receive(DATAGRAM_BYTES_MAX)
                try:
                    on_datagram(data, remote)
                except Exception as error:
                    _report(self._loop, "on_datagram", error)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._failed(error)


class TcpConnection(asyncio.Protocol):
    """Implements `proxy.net.api.TcpStream`. `on_close` is called once, whoever ended the connection, with
    None when it ended in order. What comes before somebody listens is kept for him."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_accept: Callable[[TcpConnection], None] | None = None,
    ) -> None:
        self._loop = loop
        self._on_accept = on_accept
        self._on_data: Callable[[bytes], None] | None = None
        self._on_close: Callable[[OSError | None], None] | None = None
        self._transport: asyncio.Transport | None = None
        self._early = bytearray()
        self._linger: asyncio.TimerHandle | None = None
        self._ended: tuple[OSError | None] | None = None
        self.local: Address = ("", 0)
        self.remote: Address = ("", 0)

    @property
    def on_data(self) -> Callable[[bytes], None]:
        return self._on_data or _nobody

    @on_data.setter
    def on_data(self, callback: Callable[[bytes], None]) -> None:
        self._on_data = callback
        if self._early:
            self._loop.call_soon(self._tell_early)

    @property
    def on_close(self) -> Callable[[OSError | None], None]:
        return self._on_close or _nobody

    @on_close.setter
    def on_close(self, callback: Callable[[OSError | None], None]) -> None:
        first = self._on_close is None
        self._on_close = callback
        if first and self._ended is not None:
            self._loop.call_soon(self._tell_end)

    @property
    def backlog(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size():
            self._linger = self._loop.call_later(LINGER_S, transport.abort)
        transport.close()

    # asyncio.Protocol

    def connection_made(self, base: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, base)  # uvloop's is not registered as one
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.local = _address(transport.get_extra_info("sockname"))
        peer = transport.get_extra_info("peername")
        if peer is None:  # it was gone before it was accepted
            transport.abort()
            return
        self.remote = _address(peer)
        if self._on_accept is not None:
            try:
                self._on_accept(self)
            except Exception as error:
                _report(self._loop, "on_accept", error)
                transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._early or self._on_data is None:
            self._early += data
            self._pause(True)
        else:
            self._on_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._linger is not None:
            self._linger.cancel()
        self._transport = None
        self._ended = (exc if isinstance(exc, OSError) else None,)
        if self._on_close is not None:
            self._tell_end()

    def _pause(self, pause: bool) -> None:
        if self._transport is not None and not self._transport.is_closing():
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _tell_early(self) -> None:
        data, self._early = bytes(self._early), bytearray()
        if data:
            self.on_data(data)
            self._pause(False)

    def _tell_end(self) -> None:
        assert self._ended is not None
        self._tell_early()
        on_close = self.on_close
        self._on_data = self._on_close = _nobody  # leave no reference cycle: nobody collects it in production
        on_close(self._ended[0])


class TcpServer:
    """Implements `proxy.net.api.TcpListener`. Closing it leaves the connections that it accepted open."""

    def __init__(self, server: asyncio.AbstractServer, local: Address) -> None:
        self._server = server
        self.local = local

    def close(self) -> None:
        self._server.close()


def _nobody(_: object) -> None:
    """The callback of a stream before and after somebody listens."""


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _address(sockaddr: tuple[Any, ...]) -> Address:
    """(host, port), for IPv6 with the zone of a link-local address, without which it names nobody."""
    if len(sockaddr) == 4 and sockaddr[3] and "%" not in sockaddr[0]:
        return (f"{sockaddr[0]}%{sockaddr[3]}", sockaddr[1])
    return (sockaddr[0], sockaddr[1])


def _ask_receive_buffer(sock: socket.socket) -> None:
    """A wish: a default buffer holds 92 messages of 1,000 bytes, and a failover brings a storm of more."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except OSError:  # not root: as much as net.core.rmem_max allows
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)


def _report(loop: asyncio.AbstractEventLoop, what: str, error: Exception) -> None:
    loop.call_exception_handler({"message": f"{what} failed", "exception": error})
