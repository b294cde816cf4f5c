"""All nodes: which one a session is put on, what is asked of the one that carries it, and which sessions were lost.

A session that is lost stays with its node, marked so, until something is to be done about it: then it is put on another
one, or on the same again if there is no other.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from media.api import MediaError, NodeLost
from media.rtpengine.channel import Connect
from media.rtpengine.commands import Command
from media.rtpengine.exchanges import NgError, NodeGoneError, Reply
from media.rtpengine.node import Node, NodeOptions, Watch
from media.rtpengine.session import Session

T = TypeVar("T")

UNKNOWN_CALL = "Unknown call-id"


class Nodes:
    """`on_begun`: a node is there, perhaps without the calls that it had. `on_lost` gets every loss, once."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        options: Sequence[NodeOptions],
        watch: Watch,
        connect: Connect,
        on_begun: Callable[[Node], None],
        on_lost: Callable[[NodeLost], None],
    ) -> None:
        self._loop = loop
        self._rng = rng
        self._on_lost = on_lost
        self._losses: dict[str, list[str]] = {}  # to be told at the end of this turn of the loop
        self.all = [Node(loop, rng, each, watch, on_begun, self._down, connect) for each in options]

    def named(self, name: object) -> Node | None:
        return next((node for node in self.all if node.name == name), None)

    async def placed(self, session: Session, work: Callable[[], Awaitable[T]]) -> T:
        """Do it on the node of the session; on another one when that is gone, or has forgotten it."""
        problem = "no rtpengine is up"
        for _ in range(len(self.all) + 1):
            if session.node is None or session.lost or session.node.up is False:
                self._put(session, problem)
            try:
                return await work()
            except NodeGoneError as error:
                problem = str(error)
        raise MediaError(problem)

    async def ask(self, session: Session, command: Command) -> Reply:
        """Raises MediaError when the node refuses, NodeGoneError when the session is not on it any more."""
        node = session.node
        assert node is not None
        try:
            return await node.ask(command)
        except NgError as error:
            if UNKNOWN_CALL not in str(error):
                raise MediaError(f"{node.name}: {error}") from error
            if not session.lost:
                self._lose(node, [session])
            raise NodeGoneError(f"{node.name} does not know the call") from error
        except NodeGoneError as error:
            raise NodeGoneError(f"{node.name}: {error}") from error

    def tell_lost(self, node: str, sessions: Iterable[Session]) -> None:
        """One event for all that is lost in this turn of the loop: a successor may restore a thousand dead sessions."""
        names = [session.name for session in sessions]
        if not names:
            return
        if not self._losses:
            self._loop.call_soon(self._tell)
        self._losses.setdefault(node, []).extend(names)

    def close(self) -> None:
        for node in self.all:
            node.close()

    def _put(self, session: Session, problem: str) -> None:
        """On the least loaded. A node that has just been restarted hands out its first ports again, to which peers of
        its lost calls still send: another one is better."""
        up = [node for node in self.all if node.up]
        if not up:
            raise MediaError(problem)
        up = [node for node in up if node is not session.node] or up
        least = min(node.load for node in up)
        node = self._rng.choice([node for node in up if node.load == least])
        if session.node is not None:
            session.node.forget(session.call)
        session.put(node)

    def _down(self, node: Node) -> None:
        self._lose(node, node.sessions.values())

    def _lose(self, node: Node, sessions: Iterable[Session]) -> None:
        gone = [session for session in sessions if session.node is node and not session.deleted]
        for session in gone:
            session.lost = True
        self.tell_lost(node.name, gone)

    def _tell(self) -> None:
        losses, self._losses = self._losses, {}
        for node, names in losses.items():
            self._on_lost(NodeLost(node, tuple(names), self._loop.time()))
