"""Routing: which pool takes a request, by where it comes from, whom it calls and what its headers say.

Rules are tried in the order of the configuration; the first whose every given condition holds decides. Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import lru_cache

from proxy.backends.backends import Backends
from proxy.backends.pool import Pool
from proxy.config import RouteSettings
from proxy.net.api import Address

Header = Callable[[str], str | None]


@lru_cache(maxsize=4096)
def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(host.partition("%")[0])
    # A dual-stack socket shows IPv4 peers as ::ffff:192.0.2.1.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


class Router:
    def __init__(self, routes: tuple[RouteSettings, ...], backends: Backends) -> None:
        self._routes = [(route, backends.pools[route.pool]) for route in routes]
        self._backends = backends

    def route(self, source: Address, user: str, header: Header) -> Pool | None:
        """The pool for a request from `source` to `user`; `header(name)` is its first value, or None."""
        for route, pool in self._routes:
            if self._matches(route, source, user, header):
                return pool
        return None

    def _matches(self, route: RouteSettings, source: Address, user: str, header: Header) -> bool:
        if route.from_pool is not None:
            backend = self._backends.from_source(source)
            if backend is None or backend.pool != route.from_pool:
                return False
        if route.source is not None and _ip(source[0]) not in route.source:
            return False
        if route.user is not None and route.user.search(user) is None:
            return False
        for name, pattern in route.header.items():
            value = header(name)
            if value is None or pattern.search(value) is None:
                return False
        return True
