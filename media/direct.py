"""`direct` mode: no relay. SDP passes through and media flows between the endpoints.

Only the o= line is ours, one id per leg: after a failover the caller gets the description of another backend,
and must see it as the next version of the session that it already has (RFC 3264 §8).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Sequence
from typing import Any

from media.api import Capability, Kept, MediaError, MediaEvent, SessionStats
from media.sdp import Origin, SdpError, after_origin

SNAPSHOT_VERSION = 1


class _Session:
    __slots__ = ("connected", "origins")

    def __init__(self) -> None:
        self.origins: dict[str, Origin] = {}
        self.connected: tuple[str, str] | None = None


class DirectPlane:
    """Implements `media.api.MediaPlane`. `host` is the address that our o= lines bear."""

    anchors = False
    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, loop: asyncio.AbstractEventLoop, rng: random.Random, host: str) -> None:
        self._loop = loop
        self._rng = rng
        self._address = b"IN IP%d %b" % (6 if ":" in host else 4, host.encode())
        self._sessions: dict[str, _Session] = {}
        self.counters = {"bad_sdp": 0}

    def __len__(self) -> int:
        return len(self._sessions)

    def offer(
        self, session: str, source: str, target: str, sdp: bytes, *, preview: bool = False
    ) -> asyncio.Future[bytes]:
        return self._pass(session, target, sdp, not preview)

    def answer(
        self, session: str, source: str, target: str, sdp: bytes, *, preview: bool = False
    ) -> asyncio.Future[bytes]:
        """With `preview` what is returned is not recorded as sent on the leg."""
        future = self._pass(session, target, sdp, not preview)
        state = self._sessions.get(session)
        if state is not None and state.connected is None and not future.exception():
            state.connected = (source, target)
        return future

    def _pass(self, session: str, target: str, sdp: bytes, record: bool) -> asyncio.Future[bytes]:
        future: asyncio.Future[bytes] = self._loop.create_future()
        try:
            rest = after_origin(sdp)
        except SdpError as error:
            self.counters["bad_sdp"] += 1
            future.set_exception(MediaError(f"session {session}: leg {target}: {error}"))
            return future
        state = self._sessions.get(session)
        if state is None:
            state = self._sessions[session] = _Session()
        origin = state.origins.get(target)
        if origin is None:
            origin = state.origins[target] = Origin(self._rng.getrandbits(48))
        future.set_result(origin.stamp(rest, self._address, record))
        return future

    def switch(self, session: str, leg: str, other: str) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        state = self._sessions.get(session)
        if state is None:
            future.set_exception(MediaError(f"session {session}: not known"))
        else:
            state.connected = (leg, other)
            future.set_result(None)
        return future

    def delete(self, session: str, leg: str | None = None) -> None:
        state = self._sessions.get(session)
        if state is None:
            return
        if leg is None:
            del self._sessions[session]
            return
        state.origins.pop(leg, None)
        if state.connected is not None and leg in state.connected:
            state.connected = None

    def fork(self, session: str, source: str, standby: str | None) -> asyncio.Future[None]:
        return self._impossible(session, "fork")

    def bridge(self, session: str, leg: str, other_session: str, other_leg: str) -> asyncio.Future[None]:
        return self._impossible(session, "bridge")

    def mix(
        self, parties: Sequence[tuple[str, str]], muted: Collection[tuple[str, str]] = ()
    ) -> asyncio.Future[None]:  # fmt: skip
        return self._impossible(parties[0][0], "mix")

    def _impossible(self, session: str, what: str) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        future.set_exception(MediaError(f"session {session}: no media passes here to {what}"))
        return future

    def watch(self, session: str, leg: str, group: str, timeout_s: float = 0.0) -> None:
        """Media does not pass here: there is nothing to be seen."""

    def comfort(self, group: str, on: bool) -> None:
        raise MediaError("no media passes here to be heard")

    def keep(self, session: str, leg: str | None, seconds: float) -> None:
        raise MediaError(f"session {session}: no media passes here to be kept")

    async def kept(self, session: str, since: float = 0.0) -> tuple[Kept, ...]:
        raise MediaError(f"session {session}: no media passes here to be kept")

    def query(self, session: str) -> asyncio.Future[SessionStats]:
        """No media passes here, so there are no streams."""
        future: asyncio.Future[SessionStats] = self._loop.create_future()
        state = self._sessions.get(session)
        if state is None:
            future.set_exception(MediaError(f"session {session}: not known"))
        else:
            future.set_result(SessionStats(session, state.connected, ()))
        return future

    def snapshot(self, session: str) -> dict[str, object]:
        state = self._sessions.get(session)
        if state is None:
            raise MediaError(f"session {session}: not known")
        return {
            "version": SNAPSHOT_VERSION,
            "connected": list(state.connected) if state.connected else None,
            "legs": [[name, origin.id, origin.version, origin.digest] for name, origin in state.origins.items()],
        }

    def restore(self, session: str, snapshot: dict[str, object]) -> None:
        if snapshot.get("version") != SNAPSHOT_VERSION:
            raise MediaError(f"session {session}: snapshot version {snapshot.get('version')!r} is not known")
        fields: dict[str, Any] = snapshot
        state = _Session()
        try:
            for name, id, version, digest in fields["legs"]:
                state.origins[name] = Origin(id, version, digest)
            state.connected = (fields["connected"][0], fields["connected"][1]) if fields["connected"] else None
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise MediaError(f"session {session}: bad snapshot: {error!r}") from error
        self._sessions[session] = state

    def subscribe(self, listener: Callable[[MediaEvent], None]) -> None:
        """Nothing ever happens to media that is not here."""

    async def close(self) -> None:
        self._sessions.clear()
