"""The plane in front of the embedded relay: `media.api.MediaPlane` with anchored media.

The relay binds lines in advance and tells which, so an offer needs no round trip: it takes a spare line, rewrites
the description, sends a command and is done. Only when the stock has run out does a future wait for more.

All state of sessions is here; the relay can die and be built anew from it on the same ports (`MediaRestarted`
tells of it), or outlive this process and be taken up again with `restore`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

from media.api import (
    Capability,
    FlowsSilent,
    Kept,
    LegSilent,
    MediaError,
    MediaEvent,
    MediaFull,
    MediaRestarted,
    SessionStats,
    StreamStats,
)
from media.relay.link import Hello, RelayLink, RelayOptions
from media.relay.protocol import Command
from media.relay.questions import ANSWERS, Questions
from media.relay.sessions import Sessions
from media.relay.stock import Stock
from media.sdp import SdpError, parse

log = logging.getLogger(__name__)

_REPLAY = 100  # sessions between two turns of the loop when a relay is built anew

_ALWAYS: frozenset[Capability] = frozenset({"liveness", "comfort", "fork", "bridge", "mix", "keep"})

_Job = tuple[str, str, str, bytes, bool, bool]


class _Waiting:
    """An offer or answer for which there was no spare line."""

    __slots__ = ("asked", "future", "job")

    def __init__(self, future: asyncio.Future[bytes], job: _Job) -> None:
        self.future = future
        self.job = job
        self.asked = False  # the relay has been asked for lines since


class RelayPlane:
    anchors = True

    def __init__(
        self, loop: asyncio.AbstractEventLoop, rng: random.Random, socket: str, options: RelayOptions | None
    ) -> None:
        self._loop = loop
        self._link = RelayLink(loop, socket, options, self._on_command, self._on_lost)
        self._questions = Questions(loop, self._link)
        self._instance = ""
        self.capabilities: frozenset[Capability] = _ALWAYS
        self._stock = Stock(self._link.send)
        self._sessions = Sessions(rng, self._stock, self._link.send)
        self._waiting: deque[_Waiting] = deque()
        self._failed: set[int] = set()  # lines that a fresh relay could not bind
        self._listeners: list[Callable[[MediaEvent], None]] = []
        self._recovery: asyncio.Task[None] | None = None
        self.counters = {"relay_restarts": 0, "exhausted": 0, "full": 0, "bad_sdp": 0}

    @classmethod
    async def start(cls, options: RelayOptions, rng: random.Random) -> RelayPlane:
        """Take up the relay that runs at `options.socket`, or start one; start it again whenever it dies."""
        plane = cls(asyncio.get_running_loop(), rng, options.socket, options)
        await plane._open()
        return plane

    @classmethod
    async def connect(cls, socket: str, rng: random.Random) -> RelayPlane:
        """Attach to a relay that somebody else keeps running."""
        plane = cls(asyncio.get_running_loop(), rng, socket, None)
        await plane._open()
        return plane

    @property
    def relay_pid(self) -> int | None:
        """Of the relay process, when this plane has started it."""
        return self._link.pid

    def __len__(self) -> int:
        return len(self._sessions.by_name)

    def sessions(self) -> list[str]:
        return list(self._sessions.by_name)

    # -- the contract -------------------------------------------------------------------------------------------

    def offer(
        self, session: str, source: str, target: str, sdp: bytes, *, preview: bool = False
    ) -> asyncio.Future[bytes]:
        """Errors are in the future that is returned."""
        return self._exchange((session, source, target, sdp, True, not preview))

    def answer(
        self, session: str, source: str, target: str, sdp: bytes, *, preview: bool = False
    ) -> asyncio.Future[bytes]:
        """With `preview` what is returned is not recorded as sent on the leg (`offer` it later if it must be)."""
        return self._exchange((session, source, target, sdp, False, not preview))

    def switch(self, session: str, leg: str, other: str) -> asyncio.Future[None]:
        return self._at_once(session, lambda: self._sessions.switch(session, leg, other))

    def fork(self, session: str, source: str, standby: str | None) -> asyncio.Future[None]:
        return self._at_once(session, lambda: self._sessions.fork(session, source, standby))

    def bridge(self, session: str, leg: str, other_session: str, other_leg: str) -> asyncio.Future[None]:
        return self._at_once(session, lambda: self._sessions.bridge(session, leg, other_session, other_leg))

    def mix(
        self, parties: Sequence[tuple[str, str]], muted: Collection[tuple[str, str]] = ()
    ) -> asyncio.Future[None]:  # fmt: skip
        return self._at_once(parties[0][0] if parties else "", lambda: self._sessions.mix(parties, muted))

    def _at_once(self, session: str, act: Callable[[], None]) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        try:
            act()
            future.set_result(None)
        except MediaError as error:
            future.set_exception(_of(session, error))
        return future

    def delete(self, session: str, leg: str | None = None) -> None:
        if self._sessions.delete(session, leg):
            for waiting in self._waiting:
                if waiting.job[0] == session and not waiting.future.done():
                    waiting.future.set_exception(_of(session, "deleted"))

    def watch(self, session: str, leg: str, group: str, timeout_s: float = 0.0) -> None:
        self._sessions.watch(session, leg, group, timeout_s)

    def comfort(self, group: str, on: bool) -> None:
        self._link.send(["comfort", group, on])

    def keep(self, session: str, leg: str | None, seconds: float) -> None:
        self._sessions.keep(session, leg, seconds)

    async def kept(self, session: str, since: float = 0.0) -> tuple[Kept, ...]:
        return await self._questions.kept(session, since)

    def query(self, session: str) -> asyncio.Future[SessionStats]:
        future: asyncio.Future[SessionStats] = self._loop.create_future()
        try:
            state = self._sessions.get(session)
        except MediaError as error:
            future.set_exception(_of(session, error))
            return future
        first = list(state.connected) if state.connected else []
        places = state.places()
        connected = (first[0].name, first[1].name) if first else None

        def done(rows: asyncio.Future[Any]) -> None:
            if future.done():
                return
            if error := rows.exception():
                future.set_exception(error)
                return
            future.set_result(SessionStats(session, connected, _streams(places, rows.result())))

        self._questions.ask("query", list(places)).add_done_callback(done)
        return future

    def snapshot(self, session: str) -> dict[str, object]:
        try:
            return self._sessions.get(session).pack()
        except MediaError as error:
            raise _of(session, error) from error

    def restore(self, session: str, snapshot: dict[str, object]) -> None:
        try:
            lines = self._sessions.restore(session, snapshot)
        except MediaError as error:
            raise _of(session, error) from error

        def known(reply: asyncio.Future[Any]) -> None:
            if reply.exception() is None:  # else the next connection's stock is a new one
                self._stock.unreserve(lines)

        self._questions.ask("sync").add_done_callback(known)

    def subscribe(self, listener: Callable[[MediaEvent], None]) -> None:
        self._listeners.append(listener)

    async def close(self) -> None:
        if self._recovery is not None:
            self._recovery.cancel()
        await self._link.close()
        error = MediaError("the media plane is closed")
        self._questions.fail(error)
        self._fail_waiting(error)
        if not self._sessions.by_name:
            await self._link.ended()

    async def relay_counters(self) -> dict[str, int]:
        """Of the relay process: lines, spares, orphans, protocol_errors, packet_errors, …"""
        counters: dict[str, int] = await self._questions.ask("counters")
        return counters

    async def figures(self) -> dict[str, int | None]:
        """For people: the relay process and what it carries. Raises MediaError."""
        counters = await self.relay_counters()
        names = ("lines", "spares", "orphans", "packets", "packet_errors", "late_packets", "srtp_refused")
        return {
            "pid": self._link.peer,
            "sessions": len(self),
            "restarts": self.counters["relay_restarts"],
            "frozen": self._link.killed,
            **{name: counters.get(name, 0) for name in names},
        }

    async def release_orphans(self) -> int:
        """End what the relay carries for a predecessor and nobody has restored; how many lines. Raises MediaError."""
        count: int = await self._questions.ask("release")
        return count

    # -- offer and answer ---------------------------------------------------------------------------------------

    def _exchange(self, job: _Job) -> asyncio.Future[bytes]:
        future: asyncio.Future[bytes] = self._loop.create_future()
        if self._waiting or not self._try(future, job):
            self._waiting.append(_Waiting(future, job))
            if self._recovery is None or self._recovery.done():  # else a fresh relay might give us a line of a session
                self._stock.top_up(len(self._waiting))
        return future

    def _try(self, future: asyncio.Future[bytes], job: _Job) -> bool:
        """False when there are too few spare lines; then nothing has happened."""
        session, source, target, sdp, is_offer, record = job
        try:
            body = self._sessions.exchange(session, source, target, parse(sdp), is_offer, record)
        except SdpError as error:
            self.counters["bad_sdp"] += 1
            future.set_exception(_of(session, f"leg {source}: {error}"))
        except MediaError as error:
            self.counters["full"] += isinstance(error, MediaFull)
            future.set_exception(_of(session, error))
        else:
            if body is None:
                return False
            future.set_result(body)
        return True

    # -- spare lines --------------------------------------------------------------------------------------------

    def _serve(self, exhausted: bool) -> None:
        """Take up who waits for lines, in order. When there will be no more they are told so."""
        while self._waiting:
            waiting = self._waiting[0]
            if not waiting.future.done() and not self._try(waiting.future, waiting.job):
                if self._stock.asking:
                    return
                if not exhausted or not waiting.asked:
                    # What the relay has just said may be older than the last line that was given back.
                    for each in self._waiting:
                        each.asked = True
                    self._stock.top_up(len(self._waiting))
                    return
                self.counters["exhausted"] += 1
                waiting.future.set_exception(_of(waiting.job[0], MediaFull("no free media ports")))
            self._waiting.popleft()

    # -- the relay ----------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        self._greeted(await self._link.open())
        self._stock.top_up()

    def _greeted(self, hello: Hello) -> None:
        self._instance = hello.instance
        self._sessions.suites = hello.suites
        self.capabilities = _ALWAYS | {"srtp"} if hello.suites else _ALWAYS
        self._sessions.addresses = [
            (v6, b"IN IP%d %b" % (6 if v6 else 4, host.encode())) for v6, host, _ in hello.addresses
        ]
        self._stock.reset([lines for _, _, lines in hello.addresses])

    def _on_command(self, command: Command) -> None:
        name, *arguments = command
        if name == "spares":
            host, asked, numbers = arguments
            self._stock.arrived(host, asked, numbers)
            self._serve(exhausted=len(numbers) < asked)
        elif name in ANSWERS:
            self._questions.answered(*arguments)
        elif name == "flows":
            self._tell(FlowsSilent(*arguments))
        elif name == "silent":
            self._leg_silent(*arguments)
        elif name == "failed":
            number, reason = arguments
            log.warning("media relay: line %d (port %d): %s", number, number & 0xFFFF, reason)
            self._failed.add(number)

    def _leg_silent(self, line: int, silent_s: float) -> None:
        for name in self._sessions.with_lines({line}):
            leg, _ = self._sessions.get(name).places()[line]
            self._tell(LegSilent(name, leg, silent_s))

    def _tell(self, event: MediaEvent) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception as error:  # one listener's fault must not cost the connection, nor the others
                self._loop.call_exception_handler({"message": f"{listener!r} failed on {event}", "exception": error})

    def _on_lost(self) -> None:
        """The relay is gone (or has dropped us): start it again and build its sessions anew."""
        self._questions.fail(MediaError("the media relay is down"))
        self._stock.lost()
        if self._recovery is None or self._recovery.done():
            self._recovery = self._loop.create_task(self._recover())

    async def _recover(self) -> None:
        former = self._instance
        self._failed.clear()
        while True:
            self._greeted(await self._link.reopen(self._fail_waiting))
            names = list(self._sessions.by_name)
            for start in range(0, len(names), _REPLAY):
                for name in names[start : start + _REPLAY]:
                    state = self._sessions.by_name.get(name)
                    if state is not None:
                        for command in state.commands():
                            self._link.send(command)
                await asyncio.sleep(0)
            try:
                await self._questions.ask("sync")
                break
            except MediaError:
                continue  # it died again
        self._stock.top_up(len(self._waiting))
        if self._instance == former:
            return  # only the connection was lost; the relay went on
        self.counters["relay_restarts"] += 1
        lost = self._sessions.without_lines(self._failed)
        self._tell(MediaRestarted(self._loop.time(), lost))

    def _fail_waiting(self, error: MediaError) -> None:
        while self._waiting:
            future = self._waiting.popleft().future
            if not future.done():
                future.set_exception(error)


def _of(session: str, problem: object) -> MediaError:
    kind = type(problem) if isinstance(problem, MediaError) else MediaError
    return kind(f"session {session}: {problem}")


def _streams(places: dict[int, tuple[str, int]], rows: list[list[Any]]) -> tuple[StreamStats, ...]:
    result = []
    for line, packets, octets, last, host, port, lost, first in rows:
        leg, number = places[line]
        source = None if host is None else (host, port)
        result.append(StreamStats(leg, number, packets, octets, last, source, lost, first))
    return tuple(result)
