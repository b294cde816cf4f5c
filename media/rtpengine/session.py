"""What the plane remembers of a session: its legs, what their peers said last, which node carries it.

With that a session can be built anew on another node, or be taken up in another process (`pack`, `unpack`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from media.api import MediaError
from media.rtpengine.node import Node
from media.sdp import Origin

SNAPSHOT_VERSION = 1

Job = Callable[[], Awaitable[None]]


class Leg(Origin):
    """Its name is its tag on the node. `sdp` is the last description of its peer that is in force, `offered` one that
    has no answer yet (RFC 3264 §8: until then, or if it is refused, the old one holds)."""

    __slots__ = ("blocked", "comforted", "known", "name", "offered", "sdp")

    def __init__(self, name: str, id: int, version: int = 0, digest: bytes = b"") -> None:
        super().__init__(id, version, digest)
        self.name = name
        self.sdp = b""
        self.offered = b""
        self.known = False  # to the node that carries the session
        self.blocked = False  # the node drops what it sends
        self.comforted = False  # its peer is played something


class Session:
    __slots__ = (
        "actual", "connected", "deleted", "groups", "jobs", "legs", "lost", "name", "node", "placed", "worker",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.legs: dict[str, Leg] = {}
        self.groups: dict[str, str] = {}  # of peers, by leg
        self.connected: tuple[str, str] | None = None  # as it was asked for
        self.actual: frozenset[str] = frozenset()  # as the node has it; empty: not known
        self.node: Node | None = None
        self.lost = False  # the node that carried it is gone, or has forgotten it
        self.placed = 0  # times that it was put on a node
        self.deleted = False
        self.jobs: deque[Job] = deque()  # one after the other
        self.worker: asyncio.Task[None] | None = None

    @property
    def call(self) -> str:
        """Its call-id. Another one each time that it is placed: a node that was given up may still have the old."""
        return f"{self.name}-{self.placed}"

    def put(self, node: Node) -> None:
        """From now on `node` is to carry it; that one knows nothing of it yet."""
        self.leave()
        self.placed += 1
        self.node = node
        self.lost = False
        self.actual = frozenset()
        for leg in self.legs.values():
            leg.known = leg.blocked = leg.comforted = False
        node.sessions[self.name] = self

    def leave(self) -> None:
        if self.node is not None:
            self.node.sessions.pop(self.name, None)
            self.node = None

    def pack(self) -> dict[str, object]:
        return {
            "version": SNAPSHOT_VERSION,
            "node": self.node.name if self.node is not None and not self.lost else None,
            "placed": self.placed,
            "connected": list(self.connected) if self.connected else None,
            "legs": [
                [leg.name, leg.id, leg.version, leg.digest, leg.sdp, leg.offered, leg.known, leg.blocked]
                for leg in self.legs.values()
            ],
        }


def unpack(name: str, snapshot: dict[str, Any]) -> Session:
    """All but the node. Raises MediaError for what `pack` did not make."""
    if snapshot.get("version") != SNAPSHOT_VERSION:
        raise MediaError(f"snapshot version {snapshot.get('version')!r} is not known")
    session = Session(name)
    try:
        session.placed = int(snapshot["placed"])
        for leg_name, id, version, digest, sdp, offered, known, blocked in snapshot["legs"]:
            leg = session.legs[leg_name] = Leg(leg_name, id, version, digest)
            leg.sdp, leg.offered, leg.known, leg.blocked = sdp, offered, known, blocked
        if snapshot["connected"] is not None:
            first, second = snapshot["connected"]
            if first not in session.legs or second not in session.legs:
                raise ValueError("legs that are not there are connected")
            session.connected = (first, second)
            session.actual = frozenset(session.connected)
    except (KeyError, TypeError, ValueError) as error:
        raise MediaError(f"bad snapshot: {error!r}") from error
    return session
