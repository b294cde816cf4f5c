"""The relay's loop: one epoll, one packet at a time, no allocation on the way.

Every descriptor has an entry in a table. An entry whose `out` is set is a stream with both ends known: receive,
count, send. All else (latching, fenced lines, control connections) takes the slow way. Commands are executed
between rounds, for at most a millisecond each time, so that a thousand of them do not hold up the media.
"""

from __future__ import annotations

import os
import random
import select
import socket
from collections import Counter
from math import inf
from time import monotonic
from typing import Any

from media.relay.comfort import Comfort
from media.relay.control import Control
from media.relay.keeping import Keeps
from media.relay.latch import Address, LatchPolicy
from media.relay.line import Line
from media.relay.liveness import Liveness
from media.relay.pace import Pace
from media.relay.ports import Pair, PortRange
from media.relay.stream import Buffer, Stream
from media.rtp.continuity import HEAD_SIZE
from media.rtp.filling import Sound, noise
from media.rtp.formats import read

_ROUND_EVENTS = 256
_COMMANDS_S = 0.001
_CLOSED_MAX = 32  # orphans a round: less than a millisecond
_READ = select.EPOLLIN

Keys = tuple[str, bytes, bytes]  # suite, own, told: see `media.relay.guard`


class Host(PortRange):
    """A local address. `advertised` is what SDP says of it (another one behind NAT)."""

    def __init__(self, bind: str, advertised: str, low: int, high: int) -> None:
        super().__init__(bind, low, high)
        self.advertised = advertised


class _Listener:
    out = None

    def __init__(self, relay: Relay, sock: socket.socket) -> None:
        self.sock = sock
        self._relay = relay

    def ready(self, now: float) -> None:
        try:
            sock, _ = self.sock.accept()
        except OSError:
            return
        sock.setblocking(False)
        self._relay.attach(Control(self._relay, sock))


class Relay:
    def __init__(
        self,
        hosts: list[Host],
        listener: socket.socket,
        rng: random.Random,
        *,
        policy: LatchPolicy = LatchPolicy.ADDRESS,
        orphan_s: float = 60.0,
        exit_when_idle: bool = False,
        prompt: Sound | None = None,
    ) -> None:
        self.hosts = hosts
        self.lines: dict[int, Line] = {}
        self.counters: Counter[str] = Counter()
        self.liveness = Liveness()
        self.keeps = Keeps()
        self.pace = Pace()
        self.comfort = Comfort(self.pace, self.counters, noise(), prompt)
        self.instance = f"{os.getpid()}-{monotonic():.6f}"
        self._rng = rng
        self._policy = policy
        self._orphan_s = orphan_s
        self._exit_when_idle = exit_when_idle
        self._buffer = Buffer()
        self._epoll = select.epoll()
        self._table: list[Any] = []  # by descriptor: Stream, Control, _Listener or None
        self._spares: dict[int, tuple[Pair, Control]] = {}
        self._controls: set[Control] = set()
        self._busy: list[Control] = []  # with commands to execute
        self._orphans: dict[int, float] = {}  # line -> when its time is over
        self._stopping = False
        listener.setblocking(False)
        self._enter(listener.fileno(), _Listener(self, listener))

    # -- the loop -------------------------------------------------------------------------------------------

    def run(self) -> None:
        poll = self._epoll.poll
        table = self._table
        buffer = self._buffer
        data, views, shared = buffer.data, buffer.views, len(buffer.views)
        liveness = self.liveness
        pace = self.pace
        head = views[HEAD_SIZE].tobytes
        while not self._stopping:
            events = poll(self._timeout(), _ROUND_EVENTS)
            now = monotonic()
            for descriptor, _ in events:
                entry = table[descriptor]
                if entry is None:
                    continue
                out = entry.out
                if out is None:
                    self._slow(entry, now)
                    continue
                try:
                    length = entry.sock.recv_into(data)
                    entry.packets += 1
                    entry.octets += length
                    entry.last = now
                    if length > 11:  # whoever listens must be able to go on from here with another source
                        entry.head = head()
                    out.send(views[length] if length < shared else buffer.view(length))
                except BlockingIOError:
                    pass
                except OSError:  # ICMP error of an earlier packet, or a full buffer: lost, as on a wire
                    buffer.errors += 1
            if self._busy:
                self._execute()
            if now >= liveness.due:
                liveness.sweep(now)
            if now >= pace.due:
                pace.run(now)
            if self._orphans:
                self._remove_orphans(now)

    def _timeout(self) -> float:
        if self._busy:
            return 0.0
        due = min(self.liveness.due, self.pace.due)
        if self._orphans:
            due = min(due, next(iter(self._orphans.values())))
        return max(0.0, due - monotonic()) if due < inf else -1.0

    def _slow(self, entry: Stream | Control | _Listener, now: float) -> None:
        if not isinstance(entry, Stream):
            entry.ready(now)
            return
        try:
            entry.receive(self._buffer, now, self._policy)
        except BlockingIOError:
            pass
        except OSError:
            self._buffer.errors += 1

    def _execute(self) -> None:
        until = monotonic() + _COMMANDS_S
        while self._busy and monotonic() < until:
            control = self._busy[0]
            if control.commands:
                control.execute()
            if not control.commands and self._busy and self._busy[0] is control:
                del self._busy[0]

    def _remove_orphans(self, now: float) -> None:
        # Times of orphans are ascending: the first that is still to live ends the search.
        for _ in range(min(_CLOSED_MAX, len(self._orphans))):
            number, until = next(iter(self._orphans.items()))
            if until > now:
                return
            self.counters["orphans_removed"] += 1
            self.close(number)
        self._check_idle()

    def release_orphans(self) -> int:
        """Nobody will take them up any more: their time is over. Returns how many there were."""
        self._orphans = dict.fromkeys(self._orphans, 0.0)
        return len(self._orphans)

    def _check_idle(self) -> None:
        if self._exit_when_idle and not self._controls and not self.lines:
            self._stopping = True

    # -- descriptors ----------------------------------------------------------------------------------------

    def _enter(self, descriptor: int, entry: Stream | Control | _Listener) -> None:
        if descriptor >= len(self._table):
            self._table.extend([None] * (descriptor + 256 - len(self._table)))
        self._table[descriptor] = entry
        self._epoll.register(descriptor, _READ)

    def watch(self, descriptor: int, writable: bool) -> None:
        self._epoll.modify(descriptor, _READ | select.EPOLLOUT if writable else _READ)

    def attach(self, control: Control) -> None:
        self.counters["connections"] += 1
        self._controls.add(control)
        self._enter(control.sock.fileno(), control)

    def has_commands(self, control: Control) -> None:
        if control not in self._busy:
            self._busy.append(control)

    def drop(self, control: Control) -> None:
        """A connection is gone: its spare lines are given back, those in use become orphans."""
        if control not in self._controls:
            return
        self._controls.discard(control)
        self._busy = [other for other in self._busy if other is not control]
        control.commands.clear()
        self.liveness.drop(control)
        self._table[control.sock.fileno()] = None
        control.sock.close()
        for number in [number for number, (_, owner) in self._spares.items() if owner is control]:
            pair, _ = self._spares.pop(number)
            for sock in pair:
                sock.close()
            self.hosts[number >> 16].give_back(number & 0xFFFF)
        until = monotonic() + self._orphan_s
        for line in self.lines.values():
            if line.owner is control:
                line.owner = None
                self._orphans[line.number] = until
        self._check_idle()

    # -- lines ----------------------------------------------------------------------------------------------

    def stock(self, control: Control, host: int, count: int) -> list[int]:
        """Bind lines in advance, for this connection to use without asking."""
        numbers = []
        if not 0 <= host < len(self.hosts):
            raise ValueError(f"no host {host}")
        for port, pair in self.hosts[host].take(count):
            number = host << 16 | port
            self._spares[number] = (pair, control)
            numbers.append(number)
        return numbers

    def open(self, control: Control, number: int) -> str | None:
        """Take a line into use: a spare, one that is in use already, or else this very port is bound."""
        line = self.lines.get(number)
        if line is not None:
            line.owner = control
            self._orphans.pop(number, None)
            return None
        spare = self._spares.get(number)
        if spare is not None:
            if spare[1] is not control:
                return "in stock of another client"
            pair = spare[0]
            del self._spares[number]
        else:
            try:
                pair = self.hosts[number >> 16].take_port(number & 0xFFFF)
            except OSError as error:
                return str(error)
        line = self.lines[number] = Line(number, pair, control)
        for stream in (line.rtp, line.rtcp):
            self._enter(stream.sock.fileno(), stream)
        return None

    def set_remote(
        self, number: int, rtp: Address, rtcp: Address, opaque: bool, sends: bool, formats: str, keys: Keys
    ) -> str | None:
        line = self.lines.get(number)
        if line is None:
            return "not open"
        family = self.hosts[number >> 16].family
        try:
            for host, port in (rtp, rtcp):
                socket.inet_pton(family, host)  # nothing else: a name would make the kernel's resolver wait
                if not 0 < port < 65536:
                    raise OSError(f"port {port}")
            line.set_keys(*keys)
            line.set_remote(rtp, rtcp, opaque, read(formats), self._policy)
            line.sends = sends
        except OSError as error:
            return f"remote {rtp[0]}: {error}"
        return None

    def mix(self, parties: list[tuple[int, str]]) -> None:
        from media.relay.mixer import Mix  # loads numpy

        now = monotonic()
        lines = [(self.lines[number], read(spoken)) for number, spoken in parties if number in self.lines]
        if len(lines) > 1:
            self.pace.add(now, Mix(lines, self._rng, self.counters, now))

    def close(self, number: int) -> None:
        line = self.lines.pop(number, None)
        self._orphans.pop(number, None)
        if line is None:
            return
        for stream in (line.rtp, line.rtcp):
            self._table[stream.sock.fileno()] = None
        self.liveness.forget(line)
        self.keeps.closed(line.rtp)
        self.counters["packets"] += line.packets
        self.counters["srtp_refused"] += line.refused
        line.close()
        self.hosts[number >> 16].give_back(number & 0xFFFF)

    def report(self) -> dict[str, int]:
        return dict(
            self.counters,
            lines=len(self.lines),
            spares=len(self._spares),
            orphans=len(self._orphans),
            kept=len(self.keeps),
            packet_errors=self._buffer.errors + self.counters["packet_errors"],
            packets=self.counters["packets"] + sum(line.packets for line in self.lines.values()),
            late_packets=sum(line.late for line in self.lines.values()),
            srtp_refused=self.counters["srtp_refused"] + sum(line.refused for line in self.lines.values()),
        )
