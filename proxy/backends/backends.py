"""All pools and backends of this node, found by name and by address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from proxy.backends.backend import Backend
from proxy.backends.pool import Pool
from proxy.config import Settings
from proxy.net.api import Address


class Backends:
    def __init__(self, settings: Settings) -> None:
        self.pools = {name: Pool(name, pool, settings.media.mode) for name, pool in settings.pools.items()}
        self._by_name = {backend.name: backend for pool in self.pools.values() for backend in pool.members}
        self._by_address = {backend.address: backend for backend in self}
        self._by_host: dict[str, list[Backend]] = {}
        for backend in self:
            self._by_host.setdefault(backend.address[0], []).append(backend)

    def __iter__(self) -> Iterator[Backend]:
        return iter(self._by_name.values())

    def get(self, name: str) -> Backend | None:
        return self._by_name.get(name)

    def pool_of(self, backend: Backend) -> Pool:
        return self.pools[backend.pool]

    def from_source(self, source: Address) -> Backend | None:
        """The backend that sends from `source`.

        A request over TCP, or from a backend with several sockets, has a port that is not its listening one:
        the host decides then, if only one backend lives there.
        """
        backend = self._by_address.get(source)
        if backend is not None:
            return backend
        on_host = self._by_host.get(source[0])
        return on_host[0] if on_host is not None and len(on_host) == 1 else None

    def snapshot(self) -> dict[str, Any]:
        return {"v": 1, "backends": {backend.name: backend.snapshot() for backend in self}}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take up what `snapshot` says of the backends that still exist."""
        if snapshot.get("v") != 1:
            raise ValueError(f"snapshot of backends: version {snapshot.get('v')!r} is not known")
        for name, state in snapshot["backends"].items():
            backend = self._by_name.get(name)
            if backend is not None:
                backend.restore(state)
