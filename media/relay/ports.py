"""Pairs of UDP sockets out of a port range: RTP on an even port, RTCP on the next (RFC 3550 §11).

A port that was given back goes to the end of the queue: late packets of the call that had it should have died
out by the time it is used again.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator

Pair = tuple[socket.socket, socket.socket]


class PortRange:
    """The ports `low`-`high` (inclusive) of one local address. Raises OSError when it is not one of ours."""

    def __init__(self, host: str, low: int, high: int) -> None:
        if not 1024 <= low < high <= 65535:
            raise ValueError(f"port range {low}-{high}: must lie within 1024-65535 and hold a pair")
        self.host = host
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._ports = range(low + (low & 1), high, 2)
        self._free = deque(self._ports)
        try:
            socket.inet_pton(self.family, host)
            self._socket(0).close()
        except OSError as error:
            raise OSError(f"local address {host}: {error}") from error

    def __len__(self) -> int:
        return len(self._free)

    @property
    def capacity(self) -> int:
        return len(self._ports)

    def take(self, count: int) -> Iterator[tuple[int, Pair]]:
        """Up to `count` bound pairs; fewer when no more can be had. Ports that others hold are passed over."""
        for _ in range(len(self._free)):
            if count == 0:
                return
            port = self._free.popleft()
            try:
                pair = self._bind(port)
            except OSError:
                self._free.append(port)
                continue
            count -= 1
            yield port, pair

    def take_port(self, port: int) -> Pair:
        """This very port. Raises OSError."""
        pair = self._bind(port)
        if port in self._free:
            self._free.remove(port)
        return pair

    def give_back(self, port: int) -> None:
        if port in self._ports:  # a line that was restored may be of an earlier configuration
            self._free.append(port)

    def _bind(self, port: int) -> Pair:
        rtp = self._socket(port)
        try:
            return rtp, self._socket(port + 1)
        except OSError:
            rtp.close()
            raise

    def _socket(self, port: int) -> socket.socket:
        sock = socket.socket(self.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if self.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((self.host, port))
        except OSError:
            sock.close()
            raise
        return sock
