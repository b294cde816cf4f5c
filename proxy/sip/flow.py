"""A flow: the way that a message came in on and that its answers go back on (RFC 5626 §1); a transport has many."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

from proxy.net.address import host_port as text
from proxy.net.api import Address


class NoTransport(LookupError):
    """Nothing listens on the transport, or in the address family, that an address is reached by."""


class Flow(Protocol):
    """`transport` is `b"UDP"`, `b"TCP"`, … as it stands in a Via; `local` is what we show in Via and Contact, `bound`
    where its transport listens."""

    transport: bytes
    reliable: bool
    local: Address
    bound: Address
    remote: Address

    @property
    def open(self) -> bool: ...

    def send(self, data: bytes) -> None:
        """Send one message. Never raises: what cannot leave is lost (UDP), or closes the flow (TCP)."""
        ...


class Transport(Protocol):
    """`name` is `b"UDP"`, …; `bound` is where it listens."""

    name: bytes
    bound: Address

    def flow(self, remote: Address) -> Flow: ...

    def figures(self) -> dict[str, int | str]:
        """What has gone wrong on it, and how much of it there is, by name."""
        ...

    async def close(self) -> None: ...


@lru_cache(maxsize=4096)
def host_port(address: Address) -> bytes:
    """`host:port` as it stands in a header."""
    return text(address).encode()
