"""The control sessions of a node: one with each backend that has one in the configuration, and who hears of it.

Who wants the news says so before `start`; listeners are told in that order, and the fault of one costs the others
nothing. A loss is logged once for each kind, not at each attempt.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from proxy.backends.backend import Backend
from proxy.backends.backends import Backends
from proxy.backends.control.ami import AmiSession
from proxy.backends.control.api import ControlSession, Event, Loss, Lost, Resources, Stopping, Synced, Up
from proxy.backends.control.ari import AriSession
from proxy.backends.control.esl import EslSession
from proxy.backends.control.session import Times
from proxy.config import BackendSettings, ControlSettings
from proxy.net.api import Network

LOCKS_S = 2.0  # Asterisk tells by no event that a conference was locked
PORTS = {"ami": 5038, "ari": 8088, "esl": 8021}

Listener = Callable[[Backend, Event], None]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _State:
    """For people."""

    since: float
    name: str = "lost"
    version: str = ""
    why: str = ""  # it is not up
    resources: Resources | None = None
    told: Loss | None = None  # what the log has told already


class Sessions:
    def __init__(
        self, backends: Backends, network: Network, loop: asyncio.AbstractEventLoop, rng: Random, node: str
    ) -> None:
        self.of: dict[str, ControlSession] = {}  # by backend
        self._listeners: list[Listener] = []
        self._loop = loop
        self._backends = backends
        self._states: dict[str, _State] = {}
        for pool in backends.pools.values():
            for name, settings in pool.settings.backends.items():
                if settings.control is not None:
                    self.of[name] = _session(settings, settings.control, network, rng, node)
                    self._states[name] = _State(loop.time())

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def start(self) -> None:
        for name, session in self.of.items():
            backend = self._backends.get(name)
            assert backend is not None
            session.start(partial(self._tell, backend))

    def _tell(self, backend: Backend, event: Event) -> None:
        for listener in self._listeners:
            try:
                listener(backend, event)
            except Exception as error:
                text = f"listener {listener!r} failed on {event} of {backend.name}"
                self._loop.call_exception_handler({"message": text, "exception": error})
        if isinstance(event, Up | Lost):
            backend.announces = isinstance(event, Up) and "stopping" in self.of[backend.name].abilities
        self._note(backend.name, event)

    async def stop(self) -> None:
        await asyncio.gather(*(session.stop() for session in self.of.values()))

    # For people

    def explain(self, backend: Backend) -> dict[str, Any] | None:
        """None: this backend has no control session."""
        state = self._states.get(backend.name)
        if state is None:
            return None
        resources = state.resources or Resources()
        return {
            "state": state.name,
            "since": state.since,
            "version": state.version,
            "why": state.why,
            "channels": resources.channels,
            "channels_max": resources.channels_max,
            "load": resources.load,
            "counters": dict(self.of[backend.name].counters),
        }

    def _note(self, name: str, event: Event) -> None:
        state, now = self._states[name], self._loop.time()
        match event:
            case Up():
                state.name, state.since, state.version, state.why, state.told = "up", now, event.version, "", None
                log.info("backend=%s control session up: %s", name, event.version)
            case Synced():
                state.name = "synced"
            case Stopping():
                state.name, state.since = "stopping", now
                log.warning("backend=%s says that it shuts down", name)
            case Resources():
                state.resources = event
            case Lost():
                if event.was_up:
                    state.since = now
                state.name, state.why = "lost", f"{event.loss}: {event.why}"
                if event.loss is not state.told:
                    state.told = event.loss
                    log.warning("backend=%s control session lost, %s: %s", name, event.loss, event.why)
            case _:
                pass


def _session(
    backend: BackendSettings, settings: ControlSettings, network: Network, rng: Random, node: str
) -> ControlSession:  # fmt: skip
    remote = (settings.host or backend.address[0], settings.port or PORTS[settings.protocol])
    secret = settings.secret.get_secret_value()
    if settings.protocol == "ami":
        return AmiSession(network, remote, settings.user, secret, rng, times=Times(report_s=LOCKS_S))
    if settings.protocol == "ari":
        return AriSession(network, remote, settings.user, secret, rng, application=node)
    return EslSession(network, remote, secret, rng, user=settings.user or None, conference_profile="aqueduct")
