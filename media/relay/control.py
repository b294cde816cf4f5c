"""The control connections of the relay: who may drive it, and what each command does.

A command that cannot be done is answered (`failed`); one that is not understood ends its connection, and only
that. Lines belong to the connection that opened them last; when it goes they are orphans, which go on relaying
until somebody opens them again or their time is over.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from sys import intern
from time import monotonic
from typing import TYPE_CHECKING, Any

from media.relay.guard import SUITES
from media.relay.protocol import VERSION, Command, Frames, ProtocolError, frame
from media.rtp.formats import read

if TYPE_CHECKING:
    from media.relay.relay import Relay

_READ_SIZE = 65536
_BACKLOG_MAX = 16 * 1024 * 1024
_STOCK_MAX = 64  # lines bound at one command: about a millisecond


class Control:
    """One connection. Has `out` like a stream, so that the loop need not ask what a descriptor is."""

    out = None

    def __init__(self, relay: Relay, sock: socket.socket) -> None:
        self.sock = sock
        self.commands: deque[Command] = deque()
        self.greeted = False
        self._relay = relay
        self._frames = Frames()
        self._unsent = b""

    def ready(self, now: float) -> None:
        """The descriptor has something for us, or room for what we have."""
        try:
            if self._unsent:
                self._flush()
            try:
                data = self.sock.recv(_READ_SIZE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                if not self.commands:  # else this comes again, when the last words have been heard
                    self._relay.drop(self)
                return
            for command in self._frames.feed(data):
                if command[0] == "ping":  # a sign of life does not wait for its turn
                    self.send(["pong"])
                else:
                    self.commands.append(command)
            if self.commands:
                self._relay.has_commands(self)
        except ProtocolError:
            self._relay.counters["protocol_errors"] += 1
            self._relay.drop(self)
        except OSError:
            self._relay.drop(self)

    def execute(self) -> None:
        """The next command that came in."""
        command = self.commands.popleft()
        name = command[0]
        try:
            if name == "hello":
                self._hello(*command[1:])
            elif not self.greeted or name not in _HANDLERS:
                raise ProtocolError(f"unexpected command {name!r}")
            else:
                _HANDLERS[name](self, *command[1:])
        except (ProtocolError, TypeError, ValueError, KeyError, IndexError, OverflowError):
            self._relay.counters["protocol_errors"] += 1
            self._relay.drop(self)
        except OSError:  # of the connection; those of media sockets have been dealt with
            self._relay.drop(self)

    def send(self, *commands: list[Any]) -> None:
        self._unsent += frame(list(commands))
        self._flush()

    def tell(self, command: list[Any]) -> None:
        """What nobody asked for."""
        try:
            self.send(command)
        except OSError:
            self._relay.drop(self)

    def _flush(self) -> None:
        try:
            sent = self.sock.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:  # it hears us no more; what it said before it went still counts
            self._unsent = b""
            return
        self._unsent = self._unsent[sent:]
        if len(self._unsent) > _BACKLOG_MAX:
            raise OSError("the client does not read")
        self._relay.watch(self.sock.fileno(), writable=bool(self._unsent))

    # -- commands -------------------------------------------------------------------------------------------

    def _hello(self, version: int) -> None:
        relay = self._relay
        self.greeted = version == VERSION
        addresses = [[host.family == socket.AF_INET6, host.advertised, host.capacity] for host in relay.hosts]
        self.send(["hello", VERSION, relay.instance, addresses, len(relay.lines), list(SUITES)])
        if not self.greeted:
            raise ProtocolError(f"client speaks version {version}")

    def _stock(self, host: int, count: int) -> None:
        self.send(["spares", host, count, self._relay.stock(self, host, min(count, _STOCK_MAX))])

    def _open(self, number: int) -> None:
        reason = self._relay.open(self, number)
        if reason:
            self.send(["failed", number, reason])

    def _remote(
        self,
        number: int,
        host: str,
        port: int,
        rtcp_host: str,
        rtcp_port: int,
        opaque: bool,
        sends: bool,
        formats: str,
        suite: str = "",
        own: bytes = b"",
        told: bytes = b"",
    ) -> None:
        rtp, rtcp = (intern(host), port), (intern(rtcp_host), rtcp_port)  # kept for as long as the call, by many
        keys = (str(suite), bytes(own), bytes(told))
        reason = self._relay.set_remote(number, rtp, rtcp, bool(opaque), bool(sends), str(formats), keys)
        if reason:
            self.send(["failed", number, reason])

    def _link(self, number: int, other: int) -> None:
        line, second = self._relay.lines.get(number), self._relay.lines.get(other)
        if line is not None and second is not None and line is not second:
            line.link(second)

    def _bridge(self, number: int, other: int, spoken: str, other_spoken: str) -> None:
        line, second = self._relay.lines.get(number), self._relay.lines.get(other)
        if line is not None and second is not None and line is not second:
            line.bridge(second, read(str(spoken)), read(str(other_spoken)))

    def _mix(self, parties: list[list[Any]]) -> None:
        self._relay.mix([(number, str(spoken)) for number, spoken in parties])

    def _fork(self, number: int, standby: int) -> None:
        line, second = self._relay.lines.get(number), self._relay.lines.get(standby)
        if line is not None and line is not second and (second is not None or not standby):
            line.fork(second)

    def _fence(self, number: int) -> None:
        line = self._relay.lines.get(number)
        if line is not None:
            line.fence()

    def _watch(self, number: int, group: str, timeout_s: float) -> None:
        line = self._relay.lines.get(number)
        if line is not None:
            self._relay.liveness.watch(self, line, str(group), float(timeout_s), monotonic())

    def _comfort(self, group: str, on: bool) -> None:
        if on:
            self._relay.comfort.on(str(group), self._relay.liveness.lines(str(group)), monotonic())
        else:
            self._relay.comfort.off(str(group))

    def _close(self, number: int) -> None:
        self._relay.close(number)

    def _keep(self, number: int, session: str, place: str, seconds: float) -> None:
        line = self._relay.lines.get(number)
        if line is not None:
            self._relay.keeps.keep(line.rtp, str(session), str(place), float(seconds))

    def _kept(self, token: int, session: str, since: float, after: dict[str, float]) -> None:
        self.send(["kept", token, self._relay.keeps.read(session, since, after)])

    def _query(self, token: int, numbers: list[int]) -> None:
        rows = []
        for number in numbers:
            line = self._relay.lines.get(number)
            if line is not None:
                rtp = line.rtp
                host, port = rtp.source or (None, 0)
                rows.append([number, rtp.packets, rtp.octets, rtp.last, host, port, rtp.lost, rtp.first])
        self.send(["stats", token, rows])

    def _counters(self, token: int) -> None:
        self.send(["counters", token, self._relay.report()])

    def _sync(self, token: int) -> None:
        self.send(["sync", token])

    def _release(self, token: int) -> None:
        self.send(["released", token, self._relay.release_orphans()])


_HANDLERS: dict[str, Callable[..., None]] = {
    "stock": Control._stock,
    "open": Control._open,
    "remote": Control._remote,
    "link": Control._link,
    "bridge": Control._bridge,
    "mix": Control._mix,
    "fork": Control._fork,
    "fence": Control._fence,
    "watch": Control._watch,
    "comfort": Control._comfort,
    "close": Control._close,
    "keep": Control._keep,
    "kept": Control._kept,
    "query": Control._query,
    "counters": Control._counters,
    "sync": Control._sync,
    "release": Control._release,
}
