"""The control sessions of a node: one with each backend that has one in the configuration, and who hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from random import Random

from proxy.backends.backend import Backend
from proxy.backends.backends import Backends
from proxy.backends.control.ami import AmiSession
from proxy.backends.control.api import ControlSession, Event
from proxy.backends.control.ari import AriSession
from proxy.backends.control.esl import EslSession
from proxy.config import BackendSettings, ControlSettings
from proxy.net.api import Network

PORTS = {"ami": 5038, "ari": 8088, "esl": 8021}

Listener = Callable[[Backend, Event], None]


class Sessions:
    def __init__(self, backends: Backends, network: Network, rng: Random, node: str) -> None:
        self.of: dict[str, ControlSession] = {}  # by backend
        self._listeners: list[Listener] = []
        self._backends = backends
        for pool in backends.pools.values():
            for name, settings in pool.settings.backends.items():
                if settings.control is not None:
                    self.of[name] = _session(settings, settings.control, network, rng, node)

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def start(self) -> None:
        for name, session in self.of.items():
            backend = self._backends.get(name)
            assert backend is not None
            session.start(partial(self._tell, backend))

    def _tell(self, backend: Backend, event: Event) -> None:
        for listener in self._listeners:
            listener(backend, event)

    async def stop(self) -> None:
        await asyncio.gather(*(session.stop() for session in self.of.values()))


def _session(
    backend: BackendSettings, settings: ControlSettings, network: Network, rng: Random, node: str
) -> ControlSession:  # fmt: skip
    remote = (settings.host or backend.address[0], settings.port or PORTS[settings.protocol])
    secret = settings.secret.get_secret_value()
    if settings.protocol == "ami":
        return AmiSession(network, remote, settings.user, secret, rng)
    if settings.protocol == "ari":
        return AriSession(network, remote, settings.user, secret, rng, application=node)
    return EslSession(network, remote, secret, rng, user=settings.user or None, conference_profile="aqueduct")
