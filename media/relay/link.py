"""The plane's connection to its relay process: starts it, connects, notices its death at once, starts it again.

One that is frozen is killed: its sockets would keep the ports.

The relay is started in a session of its own and ends by itself when nobody uses it, for it must outlive the
process that started it. One that is found running at the socket is taken as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket as sockets
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from media.api import MediaError
from media.relay.heartbeat import Heartbeat
from media.relay.latch import LatchPolicy
from media.relay.protocol import VERSION, Command, Frames, ProtocolError, frame

log = logging.getLogger(__name__)

_CONNECT_INTERVAL_S = 0.01
_RETRY_S = 0.2
_PATIENCE_S = 1.0
_END_S = 1.0
_GREET_S = 2.0
_FRAME_COMMANDS = 500  # about a millisecond to write down
_CREDENTIALS = struct.Struct("3i")  # ucred: pid, uid, gid


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """How a relay is started. `hosts` are local addresses, each with "=" and what SDP shall say instead, if any."""

    socket: str
    hosts: tuple[str, ...]
    ports: tuple[int, int] = (30000, 39999)
    latch: LatchPolicy = LatchPolicy.ADDRESS
    orphan_s: float = 60.0
    start_timeout_s: float = 5.0
    prompt: str = ""  # a wav file that is heard instead of comfort noise

    def argv(self, hurry: bool = False) -> list[str]:
        """`hurry`: calls wait for this relay, so it loads nothing that it may never need."""
        command = [sys.executable, "-m", "media.relay", "--socket", self.socket]
        for host in self.hosts:
            command += ["--host", host]
        command += ["--ports", f"{self.ports[0]}-{self.ports[1]}", "--latch", self.latch.value]
        if self.prompt:
            command += ["--prompt", self.prompt]
        if not hurry:
            command.append("--prepare-mixing")
        return [*command, "--orphan-s", str(self.orphan_s), "--exit-when-idle"]


@dataclass(frozen=True, slots=True)
class Hello:
    instance: str
    addresses: tuple[tuple[bool, str, int], ...]  # IPv6?, as advertised, lines that its range has
    lines: int  # that it carries already
    suites: frozenset[str]  # of SRTP that it can terminate


class Mute(MediaError):
    """A relay took the connection and does not greet."""


class RelayLink(asyncio.Protocol):
    """`options` None: the relay is somebody else's to start. `on_lost` is called once per connection that ends."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        socket: str,
        options: RelayOptions | None,
        on_command: Callable[[Command], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._socket = socket
        self._options = options
        self._on_command = on_command
        self._on_lost = on_lost
        self._process: subprocess.Popen[bytes] | None = None
        self._peer: int | None = None  # process id of who is connected
        self._heartbeat = Heartbeat(loop, lambda: self.send(["ping"]), self._mute)
        self.killed = 0  # relays that were frozen
        self._transport: asyncio.Transport | None = None
        self._frames = Frames()
        self._batch: list[Command] = []
        self._greeting: asyncio.Future[Hello] | None = None
        self._up = False  # greeted
        self._closing = False
        self._closed: asyncio.Future[None] | None = None

    @property
    def connected(self) -> bool:
        return self._transport is not None

    @property
    def pid(self) -> int | None:
        """Of the relay that this link has started."""
        return self._process.pid if self._process else None

    @property
    def peer(self) -> int | None:
        """Process id of the relay that is connected, whoever started it."""
        return self._peer if self._transport is not None else None

    async def open(self) -> Hello:
        """Connect to the relay that runs, or start one. Raises MediaError."""
        try:
            if await self._connect():
                return await self._greet()
        except Mute:
            if self._options is None:
                raise
            self._kill(f"takes a connection and says nothing for {_GREET_S:.0f} s")
            await self._until_gone()
        if self._options is None:
            raise MediaError(f"no relay at {self._socket}")
        self._start(self._options)
        until = self._loop.time() + self._options.start_timeout_s
        while not await self._connect():
            if self._process is not None and self._process.poll() is not None:
                where, status = ", ".join(self._options.hosts), self._process.returncode
                raise MediaError(f"the media relay for {where} ended at once with status {status}; why, it says above")
            if self._loop.time() > until:
                raise MediaError(f"the relay did not listen at {self._socket} in time")
            await asyncio.sleep(_CONNECT_INTERVAL_S)
        return await self._greet()

    async def reopen(self, on_failure: Callable[[MediaError], None]) -> Hello:
        """After a loss: until it works. From when it has lasted a while, each attempt that fails is told."""
        lost_at = self._loop.time()
        while True:
            try:
                return await self.open()
            except MediaError as error:  # at first perhaps of the relay that is dying
                lasting = self._loop.time() - lost_at > _PATIENCE_S
                if lasting:
                    log.warning("media relay is down: %s", error)
                    on_failure(error)
                await asyncio.sleep(_RETRY_S if lasting else _CONNECT_INTERVAL_S)

    def send(self, command: Command) -> None:
        """Queue a command; those of one turn of the loop leave together. Without a connection it is forgotten."""
        if self._transport is None:
            return
        if not self._batch:
            self._loop.call_soon(self._flush)
        self._batch.append(command)

    async def close(self) -> None:
        """Hang up, when all that was queued has been said."""
        self._closing = True
        if self._transport is None:
            return
        while self._batch:
            self._flush()
        self._closed = self._loop.create_future()
        self._transport.close()
        try:
            await asyncio.wait_for(self._closed, _END_S)
        except TimeoutError:
            if self._transport is not None:
                self._transport.abort()

    async def ended(self) -> None:
        """Wait for the end of a relay that we have started and that nobody uses any more."""
        until = self._loop.time() + _END_S
        while self._process is not None and self._process.poll() is None and self._loop.time() < until:
            await asyncio.sleep(_CONNECT_INTERVAL_S)

    # -- within -----------------------------------------------------------------------------------------------

    def _start(self, options: RelayOptions) -> None:
        hurry = self._process is not None
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()  # it runs and does not listen
            self._process.wait()
        try:
            self._process = subprocess.Popen(options.argv(hurry), stdin=subprocess.DEVNULL, start_new_session=True)
        except OSError as error:
            raise MediaError(f"the relay cannot be started: {error}") from error

    async def _until_gone(self) -> None:
        """A dying process may take another connection."""
        until = self._loop.time() + _END_S
        while await self._connect() and self._loop.time() < until:
            if self._transport is not None:
                self._transport.abort()
            await asyncio.sleep(_CONNECT_INTERVAL_S)

    async def _connect(self) -> bool:
        self._frames = Frames()
        self._batch.clear()
        try:
            await self._loop.create_unix_connection(lambda: self, self._socket)
        except OSError:
            return False
        return True

    async def _greet(self) -> Hello:
        self._greeting = self._loop.create_future()
        self.send(["hello", VERSION])
        try:
            hello = await asyncio.wait_for(self._greeting, _GREET_S)
        except TimeoutError:
            if self._transport is not None:
                self._transport.abort()
            raise Mute("the relay does not greet") from None
        self._heartbeat.start()
        return hello

    def _mute(self, silent_s: float) -> None:
        self._kill(f"says nothing for {silent_s * 1000:.0f} ms")

    def _kill(self, why: str) -> None:
        """It cannot be told to end, and while it lives nobody else can have its ports."""
        if self._options is not None and self._peer:
            log.error("media relay %d %s: it is frozen, and killed", self._peer, why)
            self.killed += 1
            with contextlib.suppress(OSError):
                os.kill(self._peer, signal.SIGKILL)
        else:
            log.error("media relay %s", why)
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        """A successor tells of thousands of sessions at once: that is neither to be one frame nor one turn."""
        part, self._batch = self._batch[:_FRAME_COMMANDS], self._batch[_FRAME_COMMANDS:]
        if part and self._transport is not None:
            self._transport.write(frame(part))
        if self._batch:
            self._loop.call_soon(self._flush)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        sock = transport.get_extra_info("socket")
        self._peer, _, _ = _CREDENTIALS.unpack(
            sock.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, _CREDENTIALS.size)
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._heartbeat.stop()
        self._batch.clear()
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_exception(MediaError("the relay ended the connection"))
        elif self._up and not self._closing:
            self._up = False
            self._on_lost()

    def data_received(self, data: bytes) -> None:
        try:
            for command in self._frames.feed(data):
                if command[0] == "hello":
                    self._greeted(command)
                elif command[0] == "pong":
                    self._heartbeat.heard()
                else:
                    self._on_command(command)
        except (ProtocolError, TypeError, ValueError, IndexError) as error:
            log.error("media relay sent what is not understood: %s", error)
            if self._transport is not None:
                self._transport.abort()

    def _greeted(self, command: Command) -> None:
        _, version, instance, addresses, lines, *suites = command
        if self._greeting is None or self._greeting.done():
            return
        if version != VERSION:
            self._greeting.set_exception(
                MediaError(f"the relay (process {self._peer}) speaks version {version}, not {VERSION}")
            )
            return
        self._up = True
        rooms = tuple((v6, host, room) for v6, host, room in addresses)
        self._greeting.set_result(Hello(instance, rooms, lines, frozenset(suites[0])))
