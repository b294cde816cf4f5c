"""`media.api.MediaPlane` over rtpengine. State of sessions is here; the nodes carry them.

What is asked of a session is done in order, one thing after the other, by its worker, which lives only as long as there
is something to do. What is done then is in `carriage`, and on which node in `nodes`.

A node that dies takes its sessions with it: `NodeLost` says which. They are put on another node by the next offer or
answer, whose description names the new ports.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

from media.api import Capability, Kept, MediaError, MediaEvent, SessionStats
from media.rtpengine import commands
from media.rtpengine.carriage import Carriage
from media.rtpengine.channel import Connect, UdpChannel
from media.rtpengine.exchanges import NgError
from media.rtpengine.node import Node, NodeOptions, Watch
from media.rtpengine.nodes import Nodes
from media.rtpengine.session import Session, unpack

log = logging.getLogger(__name__)

T = TypeVar("T")

CLOSING_S = 1.0

Latch = Literal["strict", "address", "any"]
_FLAGS: dict[Latch, tuple[str, ...]] = {
    "strict": ("asymmetric", "strict source"),
    "address": ("asymmetric",),
    "any": (),
}


class RtpenginePlane:
    """`host` is the address that our o= lines bear. `latch` "any": a node learns where a peer is from what it sends
    (NAT). Else it believes the SDP, and with "strict" takes media from nowhere else. A node that learns can be led
    astray: when it was restarted it hands out the same ports again, and peers of its lost calls still send there."""

    anchors = True
    capabilities: frozenset[Capability] = frozenset({"comfort"})

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        host: str,
        nodes: Sequence[NodeOptions],
        *,
        latch: Latch = "address",
        watch: Watch | None = None,
        connect: Connect = UdpChannel,
    ) -> None:
        self._loop = loop
        self._sessions: dict[str, Session] = {}
        self._listeners: list[Callable[[MediaEvent], None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._nodes = Nodes(loop, rng, nodes, watch or Watch(), connect, self._look_for_sessions, self._tell)
        address = b"IN IP%d %b" % (6 if ":" in host else 4, host.encode())
        self._carriage = Carriage(self._nodes, rng, address, _FLAGS[latch])

    @classmethod
    async def start(
        cls,
        host: str,
        nodes: Sequence[NodeOptions],
        rng: random.Random,
        *,
        latch: Latch = "address",
        watch: Watch | None = None,
        patience_s: float = 1.0,
    ) -> RtpenginePlane:
        """Returns when each node has answered, or been silent for too long. None need be up: calls wait for none."""
        loop = asyncio.get_running_loop()
        plane = cls(loop, rng, host, nodes, latch=latch, watch=watch)
        until = loop.time() + patience_s
        while any(node.up is None for node in plane.nodes) and loop.time() < until:
            await asyncio.sleep(0.01)
        return plane

    @property
    def nodes(self) -> list[Node]:
        return self._nodes.all

    @property
    def counters(self) -> Mapping[str, int]:
        total: Counter[str] = Counter()
        for node in self.nodes:
            total.update(node.exchanges.counters)
        return total

    def __len__(self) -> int:
        return len(self._sessions)

    def sessions(self) -> list[str]:
        return list(self._sessions)

    def node_of(self, session: str) -> str | None:
        """The name of the node that carries it; None: none does."""
        state = self._sessions.get(session)
        return state.node.name if state is not None and state.node is not None and not state.lost else None

    # -- the contract -------------------------------------------------------------------------------------------

    def offer(
        self, session: str, source: str, target: str, sdp: bytes, *, preview: bool = False
    ) -> asyncio.Future[bytes]:
        state = self._sessions.get(session)
        if state is None:
            state = self._sessions[session] = Session(session)
        return self._do(state, lambda: self._carriage.offer(state, source, target, sdp, not preview))

    def answer(
        self, session: str, source: str, target: str, sdp: bytes, *, preview: bool = False
    ) -> asyncio.Future[bytes]:
        state = self._sessions.get(session)
        if state is None:
            return self._failed(f"session {session}: answer of leg {source}, but the session is not known")
        return self._do(state, lambda: self._carriage.answer(state, source, target, sdp, not preview))

    def switch(self, session: str, leg: str, other: str) -> asyncio.Future[None]:
        state = self._sessions.get(session)
        if state is None:
            return self._failed(f"session {session}: not known")
        return self._do(state, lambda: self._carriage.switch(state, leg, other))

    def fork(self, session: str, source: str, standby: str | None) -> asyncio.Future[None]:
        return self._failed(f"session {session}: rtpengine does not fork here")

    def bridge(self, session: str, leg: str, other_session: str, other_leg: str) -> asyncio.Future[None]:
        return self._failed(f"session {session}: rtpengine does not bridge sessions here")

    def mix(
        self, parties: Sequence[tuple[str, str]], muted: Collection[tuple[str, str]] = ()
    ) -> asyncio.Future[None]:  # fmt: skip
        return self._failed("rtpengine does not mix here")

    def delete(self, session: str, leg: str | None = None) -> None:
        state = self._sessions.get(session)
        if state is None:
            return
        if leg is not None:
            self._do(state, lambda: self._delete_leg(state, leg))
            return
        self._forget(state)
        self._do(state, lambda: self._delete(state))

    def watch(self, session: str, leg: str, group: str, timeout_s: float = 0.0) -> None:
        """No node says how its streams flow while they do: the group only tells whom `comfort` means."""
        state = self._sessions.get(session)
        if state is not None:
            state.groups[leg] = group

    def comfort(self, group: str, on: bool) -> None:
        """Who hears a peer of `group` hears noise instead, until it is taken back or he is connected to another one."""
        groups = self._carriage.silent_groups
        (groups.add if on else groups.discard)(group)
        for session in list(self._sessions.values()):
            if group in session.groups.values():
                self._do(session, partial(self._carriage.settle, session))

    def keep(self, session: str, leg: str | None, seconds: float) -> None:
        raise MediaError(f"session {session}: rtpengine keeps nothing")

    async def kept(self, session: str, since: float = 0.0) -> tuple[Kept, ...]:
        raise MediaError(f"session {session}: rtpengine keeps nothing")

    def query(self, session: str) -> asyncio.Future[SessionStats]:
        state = self._sessions.get(session)
        if state is None:
            return self._failed(f"session {session}: not known")
        return self._do(state, lambda: self._query(state))

    def snapshot(self, session: str) -> dict[str, object]:
        state = self._sessions.get(session)
        if state is None:
            raise MediaError(f"session {session}: not known")
        return state.pack()

    def restore(self, session: str, snapshot: dict[str, object]) -> None:
        """Whether its node still carries it is looked up; if not, `NodeLost` says so."""
        try:
            state = unpack(session, snapshot)
        except MediaError as error:
            raise MediaError(f"session {session}: {error}") from error
        former = self._nodes.named(snapshot.get("node"))
        self._sessions[session] = state
        if former is None or former.up is False:
            state.lost = True
            self._nodes.tell_lost(str(snapshot.get("node") or "none"), [state])
            return
        state.node = former
        former.sessions[session] = state
        self._spawn(self._look_for(former, [state]))

    def subscribe(self, listener: Callable[[MediaEvent], None]) -> None:
        self._listeners.append(listener)

    async def close(self) -> None:
        """The nodes go on. What is still to be done or to be deleted there is waited for, but not for long."""
        until = self._loop.time() + CLOSING_S
        while (self._tasks or any(node.up and node.unwanted for node in self.nodes)) and self._loop.time() < until:
            await asyncio.sleep(0.01)
        self._nodes.close()
        for task in list(self._tasks):
            task.cancel()

    # -- one thing after the other -------------------------------------------------------------------------------

    def _do(self, session: Session, work: Callable[[], Awaitable[T]]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()

        async def job() -> None:
            error: Exception | None = None
            try:
                result = await work()
            except MediaError as problem:
                error = problem
            except Exception as problem:  # the fault of one session stays with it
                log.exception("session %s", session.name)
                error = problem
            if future.done():  # who asked has gone
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(MediaError(f"session {session.name}: {error}"))
                future.exception()  # nobody need look at what became of a `delete`

        session.jobs.append(job)
        if session.worker is None:
            session.worker = self._spawn(self._work(session))
        return future

    async def _work(self, session: Session) -> None:
        try:
            while True:
                while session.jobs:
                    await session.jobs.popleft()()
                await asyncio.sleep(0)  # who waited for the last one may want more: a switch after an answer
                if session.jobs:
                    continue
                try:
                    await self._carriage.settle(session)
                except MediaError as error:
                    log.info("session %s: %s", session.name, error)
                if not session.jobs:
                    return
        finally:
            session.worker = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            log.error("rtpengine: task failed", exc_info=task.exception())

    def _failed(self, problem: str) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        future.set_exception(MediaError(problem))
        return future

    async def _delete_leg(self, session: Session, name: str) -> None:
        await self._carriage.delete_leg(session, name)
        if not session.legs and not session.deleted:
            self._forget(session)
            self._carriage.delete(session)

    async def _delete(self, session: Session) -> None:
        self._carriage.delete(session)

    def _forget(self, session: Session) -> None:
        if self._sessions.get(session.name) is session:
            del self._sessions[session.name]
        session.deleted = True

    async def _query(self, session: Session) -> SessionStats:
        reply = await self._carriage.query(session)
        streams = commands.stats(reply, session.legs, self._loop.time()) if reply is not None else ()
        return SessionStats(session.name, session.connected, streams)

    # -- what nodes have lost ------------------------------------------------------------------------------------

    def _look_for_sessions(self, node: Node) -> None:
        """It has been away, or was restarted: does it still carry what it should?"""
        if node.sessions:
            self._spawn(self._look_for(node, list(node.sessions.values())))

    async def _look_for(self, node: Node, sessions: Sequence[Session]) -> None:
        asked = [self._do(session, partial(self._is_missing, session, node)) for session in sessions]
        missing = await asyncio.gather(*asked, return_exceptions=True)
        news = [session for session, result in zip(sessions, missing, strict=True) if result is True]
        self._nodes.tell_lost(node.name, news)

    async def _is_missing(self, session: Session, node: Node) -> bool:
        """In its turn, for until its offer is answered the node does not know it yet. True: that is news."""
        if session.node is not node or session.deleted:
            return False
        known_as_lost = session.lost
        try:
            await node.ask(commands.query(session.call))
            session.lost = False
        except NgError:
            session.lost = True
        return session.lost and not known_as_lost

    def _tell(self, event: MediaEvent) -> None:
        for listener in self._listeners:
            listener(event)
