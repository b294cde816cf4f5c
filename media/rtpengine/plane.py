"""`media.api.MediaPlane` over rtpengine. State of sessions is here; the nodes carry them.

What is asked of a session is done in order, one thing after the other, by its worker. rtpengine connects two legs with
each offer and answer between them, and knows no third leg beside them. So after an exchange with a third one the
worker puts things back as the contract wants them (`_settle`): the connected legs are connected again, out of their
last descriptions, and what any other leg sends is blocked. Our ports stay the same ("port latching").

A node that dies takes its sessions with it: `NodeLost` says which. They are put on another node by the next offer or
answer, whose description names the new ports.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from media.api import Capability, MediaError, MediaEvent, NodeLost, SessionStats
from media.rtpengine import commands
from media.rtpengine.channel import Connect, UdpChannel
from media.rtpengine.exchanges import Reply
from media.rtpengine.node import NgError, Node, NodeGoneError, NodeOptions, Watch
from media.rtpengine.session import Leg, Session, unpack
from media.sdp import SdpError, after_origin

log = logging.getLogger(__name__)

T = TypeVar("T")

UNKNOWN_CALL = "Unknown call-id"


class RtpenginePlane:
    """`host` is the address that our o= lines bear; `strict`: media is taken only from where its SDP says."""

    anchors = True
    capabilities: frozenset[Capability] = frozenset()

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        host: str,
        nodes: Sequence[NodeOptions],
        *,
        strict: bool = False,
        watch: Watch | None = None,
        connect: Connect = UdpChannel,
    ) -> None:
        self._loop = loop
        self._rng = rng
        self._address = b"IN IP%d %b" % (6 if ":" in host else 4, host.encode())
        self._flags = ("asymmetric", "strict source") if strict else ()
        self._sessions: dict[str, Session] = {}
        self._listeners: list[Callable[[MediaEvent], None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self.counters: Counter[str] = Counter()
        watch = watch or Watch()
        self.nodes = [
            Node(loop, rng, options, watch, self._node_up, self._node_down, self._look_for_sessions, connect)
            for options in nodes
        ]

    @classmethod
    async def start(
        cls,
        host: str,
        nodes: Sequence[NodeOptions],
        rng: random.Random,
        *,
        strict: bool = False,
        watch: Watch | None = None,
        patience_s: float = 1.0,
    ) -> RtpenginePlane:
        """Returns when each node has answered, or been silent for too long. None need be up: calls wait for none."""
        loop = asyncio.get_running_loop()
        plane = cls(loop, rng, host, nodes, strict=strict, watch=watch)
        until = loop.time() + patience_s
        while any(node.up is None for node in plane.nodes) and loop.time() < until:
            await asyncio.sleep(0.01)
        return plane

    def __len__(self) -> int:
        return len(self._sessions)

    def sessions(self) -> list[str]:
        return list(self._sessions)

    def node_of(self, session: str) -> str | None:
        """The name of the node that carries it; None: none does."""
        state = self._sessions.get(session)
        return state.node.name if state is not None and state.node is not None and not state.lost else None

    # -- the contract -------------------------------------------------------------------------------------------

    def offer(self, session: str, source: str, target: str, sdp: bytes) -> asyncio.Future[bytes]:
        state = self._sessions.get(session)
        if state is None:
            state = self._sessions[session] = Session(session)
        return self._do(state, lambda: self._offer(state, source, target, sdp))

    def answer(
        self, session: str, source: str, target: str, sdp: bytes, *, preview: bool = False
    ) -> asyncio.Future[bytes]:
        state = self._sessions.get(session)
        if state is None:
            return self._failed(f"session {session}: answer of leg {source}, but the session is not known")
        return self._do(state, lambda: self._answer(state, source, target, sdp, not preview))

    def switch(self, session: str, leg: str, other: str) -> asyncio.Future[None]:
        state = self._sessions.get(session)
        if state is None:
            return self._failed(f"session {session}: not known")
        return self._do(state, lambda: self._switch(state, leg, other))

    def fork(self, session: str, source: str, standby: str | None) -> asyncio.Future[None]:
        return self._failed(f"session {session}: rtpengine does not fork here")

    def bridge(self, session: str, leg: str, other_session: str, other_leg: str) -> asyncio.Future[None]:
        return self._failed(f"session {session}: rtpengine does not bridge sessions here")

    def mix(self, parties: Sequence[tuple[str, str]]) -> asyncio.Future[None]:
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
        """No node says how its streams flow while they do."""

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
        former = next((node for node in self.nodes if node.name == snapshot.get("node")), None)
        self._sessions[session] = state
        if former is None or former.up is False:
            state.lost = True
            self._loop.call_soon(self._tell_lost, str(snapshot.get("node") or "none"), [state])
            return
        state.node = former
        former.sessions[session] = state
        self._spawn(self._look_for(former, [state]))

    def subscribe(self, listener: Callable[[MediaEvent], None]) -> None:
        self._listeners.append(listener)

    async def close(self) -> None:
        """The nodes go on. What is still to be deleted on them is waited for."""
        while workers := [task for task in self._tasks if not task.done()]:
            _, left = await asyncio.wait(workers, timeout=1.0)
            if left:
                break
        for node in self.nodes:
            node.close()
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
                    await self._settle(session)
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

    # -- offer and answer ----------------------------------------------------------------------------------------

    async def _offer(self, session: Session, source: str, target: str, sdp: bytes) -> bytes:
        _check(source, sdp)
        self._alive(session)
        giver, taker = self._leg(session, source), self._leg(session, target)
        rest = await self._placed(session, lambda: self._ask_offer(session, giver, taker, sdp))
        giver.offered = sdp
        return taker.stamp(rest, self._address)

    async def _answer(self, session: Session, source: str, target: str, sdp: bytes, record: bool) -> bytes:
        _check(source, sdp)
        self._alive(session)
        taker = session.legs.get(target)
        if taker is None:
            raise MediaError(f"answer for leg {target}, which is not known")
        giver = self._leg(session, source)

        async def ask() -> bytes:
            if not taker.known or not giver.known:  # this node has not heard the offer
                await self._ask_offer(session, taker, giver, taker.offered or taker.sdp)
            return await self._ask_answer(session, taker, giver, sdp)

        rest = await self._placed(session, ask)
        giver.sdp, giver.offered = sdp, b""
        taker.sdp, taker.offered = taker.offered or taker.sdp, b""
        if session.connected is None:
            session.connected = (target, source)
        return taker.stamp(rest, self._address, record)

    async def _ask_offer(self, session: Session, offerer: Leg, answerer: Leg, sdp: bytes) -> bytes:
        make = commands.offer(session.call, offerer.name, answerer.name, sdp, self._flags)
        return await self._exchange(session, offerer, answerer, make)

    async def _ask_answer(self, session: Session, offerer: Leg, answerer: Leg, sdp: bytes) -> bytes:
        make = commands.answer(session.call, offerer.name, answerer.name, sdp, self._flags)
        return await self._exchange(session, offerer, answerer, make)

    async def _exchange(self, session: Session, offerer: Leg, answerer: Leg, command: commands.Command) -> bytes:
        session.actual = frozenset()  # until we know what came of it
        reply = await self._ask(session, command)
        session.actual = frozenset((offerer.name, answerer.name))
        offerer.known = answerer.known = True
        sdp = reply.get("sdp")
        try:
            return after_origin(sdp if isinstance(sdp, bytes) else b"")
        except SdpError as error:
            raise MediaError(f"description of the node: {error}") from error

    def _leg(self, session: Session, name: str) -> Leg:
        leg = session.legs.get(name)
        if leg is None:
            leg = session.legs[name] = Leg(name, self._rng.getrandbits(48))
        return leg

    def _alive(self, session: Session) -> None:
        if session.deleted:
            raise MediaError("deleted")

    # -- the connected legs --------------------------------------------------------------------------------------

    async def _switch(self, session: Session, leg: str, other: str) -> None:
        self._alive(session)
        for name in (leg, other):
            if name not in session.legs or not session.legs[name].sdp:
                raise MediaError(f"no legs {leg} and {other} to connect")
        session.connected = (leg, other)
        await self._placed(session, lambda: self._settle(session))

    async def _settle(self, session: Session) -> None:
        """Make it so that on the node the connected legs are connected and no other one is heard."""
        if session.connected is None or session.deleted or session.lost or session.node is None:
            return
        first, second = (session.legs[name] for name in session.connected)
        if session.actual != frozenset(session.connected):
            await self._ask_offer(session, first, second, first.sdp)
            await self._ask_answer(session, first, second, second.sdp)
        for leg in list(session.legs.values()):
            blocked = leg is not first and leg is not second
            if leg.known and leg.blocked != blocked:
                command = "block media" if blocked else "unblock media"
                await self._ask(session, commands.of_leg(command, session.call, leg.name))
                leg.blocked = blocked

    async def _delete_leg(self, session: Session, name: str) -> None:
        leg = session.legs.pop(name, None)
        if leg is None or session.deleted:
            return
        if not session.legs:
            self._forget(session)
            await self._delete(session)
            return
        if session.connected is not None and name in session.connected:
            session.connected = None
        if leg.known and session.node is not None and not session.lost:
            await self._ask(session, commands.delete(session.call, name))

    def _forget(self, session: Session) -> None:
        if self._sessions.get(session.name) is session:
            del self._sessions[session.name]
        session.deleted = True

    async def _delete(self, session: Session) -> None:
        node, call = session.node, session.call
        session.leave()
        if node is None:
            return
        if session.lost or not node.up:
            node.abandon(call)
            return
        try:
            await node.ask(commands.delete(call))
        except (NgError, NodeGoneError) as error:
            log.info("session %s: not deleted at %s: %s", session.name, node.name, error)

    async def _query(self, session: Session) -> SessionStats:
        self._alive(session)
        if session.node is None or session.lost:
            return SessionStats(session.name, session.connected, ())
        await self._settle(session)
        reply = await self._ask(session, commands.query(session.call))
        return SessionStats(session.name, session.connected, commands.stats(reply, session.legs, self._loop.time()))

    # -- nodes ---------------------------------------------------------------------------------------------------

    async def _placed(self, session: Session, work: Callable[[], Awaitable[T]]) -> T:
        """Do it on the node of the session; on another one when that is gone, or has forgotten it."""
        problem = "no rtpengine is up"
        for _ in range(len(self.nodes) + 1):
            if session.node is None or session.lost or session.node.up is False:
                self._put(session, problem)
            try:
                return await work()
            except NodeGoneError as error:
                problem = str(error)
        raise MediaError(problem)

    def _put(self, session: Session, problem: str) -> None:
        up = [node for node in self.nodes if node.up]
        if not up:
            raise MediaError(problem)
        least = min(node.load for node in up)
        node = self._rng.choice([node for node in up if node.load == least])
        if session.node is not None:
            session.node.abandon(session.call)
        session.put(node)

    async def _ask(self, session: Session, command: commands.Command) -> Reply:
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

    def _node_up(self, node: Node) -> None:
        abandoned, node.abandoned = node.abandoned, {}
        for call in abandoned:
            node.ask(commands.delete(call))
        self._look_for_sessions(node)

    def _look_for_sessions(self, node: Node) -> None:
        """It has been away, or was restarted: does it still carry what it should?"""
        if node.sessions:
            self._spawn(self._look_for(node, list(node.sessions.values())))

    async def _look_for(self, node: Node, sessions: Sequence[Session]) -> None:
        asked = [self._do(session, partial(self._is_missing, session, node)) for session in sessions]
        missing = await asyncio.gather(*asked, return_exceptions=True)
        self._lose(node, [session for session, result in zip(sessions, missing, strict=True) if result is True])

    async def _is_missing(self, session: Session, node: Node) -> bool:
        """In its turn, for until its offer is answered the node does not know it yet."""
        if session.node is not node or session.deleted:
            return False
        try:
            await node.ask(commands.query(session.call))
        except NgError:
            return True
        session.lost = False
        return False

    def _node_down(self, node: Node) -> None:
        self._lose(node, node.sessions.values())

    def _lose(self, node: Node, sessions: Iterable[Session]) -> None:
        gone = [session for session in sessions if session.node is node and not session.deleted]
        for session in gone:
            session.lost = True
        self._tell_lost(node.name, gone)

    def _tell_lost(self, node: str, sessions: list[Session]) -> None:
        if sessions:
            self.counters["nodes_lost"] += 1
            event = NodeLost(node, tuple(session.name for session in sessions), self._loop.time())
            for listener in self._listeners:
                listener(event)


def _check(leg: str, sdp: bytes) -> None:
    try:
        after_origin(sdp)
    except SdpError as error:
        raise MediaError(f"leg {leg}: {error}") from error
