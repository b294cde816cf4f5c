"""Liveness: which streams are overdue, told by group (a group is a backend), so that its death is heard of in 50 ms.

The relay's loop keeps `packets` and `last` of each stream; here they are only read. A *visit* to each watched
stream, twice a second, learns its packet interval and whether it flows steadily; only then is it *active*. A stream
that stops by itself (mute, silence suppression, hold) is active no longer at the next visit, and one that does so
often must flow steadily for longer and longer before it counts again. A *sweep* looks at a few active streams of each
group, and at all of them only when half of those are overdue: it costs the same for ten streams as for ten thousand.

RTCP counts as life. Silence while the relay itself stood still is nobody's. Pure but for the commands that it sends.
"""

from __future__ import annotations

import math
from typing import Protocol

from media.relay.line import Line

SWEEP_S = 0.005
STALL_S = 0.03  # sweeps further apart: we stood still
VISIT_S = 0.5
REPORT_S = 0.01
BEAT_S = 0.1
LASTS_S = 5.0  # then what is silent has stopped, and is active no longer

USUAL_INTERVAL_S = 0.02
INTERVAL_MIN_S, INTERVAL_MAX_S = 0.01, 0.07  # else it is comfort noise, or no audio
SILENT_S = 0.045  # at the usual interval; at longer ones accordingly longer
SHARE = 0.8  # of the active streams
FEW = 5  # fewer than this: all of them

SAMPLE = 16
FULL = 0.6  # a visit that finds so much of what was expected finds a steady stream
PROBATION = 2  # visits in a row to become active …
PROBATION_MAX = 128  # … for one that stops again and again
FORGIVEN = 128  # visits in a row that halve the probation


class Client(Protocol):
    """A control connection."""

    def tell(self, command: list[object]) -> None: ...


class Watch:
    """What is known of the steadiness of one stream."""

    __slots__ = (
        "active", "full", "group", "interval", "line", "packets", "patience", "probation", "seen_at", "since",
        "timeout_s", "told",
    )  # fmt: skip

    def __init__(self, line: Line, group: Group | None, timeout_s: float, now: float) -> None:
        self.line = line
        self.group = group
        self.timeout_s = timeout_s
        self.since = now  # audio is expected
        self.seen_at = now
        self.packets = line.rtp.packets
        self.interval = 0.0
        self.patience = 1.0  # interval in usual ones
        self.full = 0  # visits in a row that found it steady
        self.probation = PROBATION
        self.active = False
        self.told = False  # of its own silence

    @property
    def expected(self) -> bool:
        """Neither side has put the other on hold, and nobody has fenced it."""
        line = self.line
        peer = line.rtp.peer
        return line.sends and not line.fenced and (peer is None or peer.line is None or peer.line.sends)

    def last(self) -> float:
        return max(self.line.rtp.last, self.line.rtcp.last)

    def begin(self, now: float) -> None:
        """What is counted begins anew."""
        self.seen_at = now
        self.packets = self.line.rtp.packets

    def measure(self, now: float) -> None:
        """Is it steady? Counts the packets since the last visit."""
        elapsed, count = now - self.seen_at, self.line.rtp.packets - self.packets
        self.begin(now)
        interval = max(INTERVAL_MIN_S, round(elapsed / count, 2)) if count else math.inf
        if self.full == 0:
            self.full = 1 if interval <= INTERVAL_MAX_S else 0
            self.interval = interval
        elif interval * FULL <= self.interval:
            self.full += 1
            self.interval = min(self.interval, interval)
            if self.full % FORGIVEN == 0:
                self.probation = max(PROBATION, self.probation // 2)
        else:
            self.full = 0
            if self.active:
                self.probation = min(PROBATION_MAX, self.probation * 4)
        self.patience = max(1.0, self.interval / USUAL_INTERVAL_S)


class Group:
    """The active streams of one backend, and the silence that many of them have fallen into."""

    __slots__ = ("_order", "_turn", "active", "began_at", "members", "name", "told", "told_at")

    def __init__(self, name: str) -> None:
        self.name = name
        self.members = 0
        self.active: dict[Watch, None] = {}
        self.began_at = 0.0  # of the silence; 0: they flow
        self.told_at = 0.0
        self.told = 0  # active ones, last time
        self._order: list[Watch] | None = []  # the active ones; None: they have changed
        self._turn = 0  # whose turn it is to be looked at

    def sweep(self, now: float, floor: float) -> list[object] | None:
        """The report that is due now. `floor`: until then we stood still."""
        if not self.active:
            if not self.told and not self.began_at:
                return None
            return self._report(now, 0, 0.0, 0.0)
        if not self.began_at:
            some = self._some()
            if self._falter(some, now, floor):
                silent, silent_s, last = self._look(now, floor)
                if silent_s >= SILENT_S:
                    self.began_at = now
                    return self._report(now, silent, silent_s, last)
            if now - self.told_at < BEAT_S:
                return None
            return self._report(now, 0, 0.0, max(watch.last() for watch in some))
        if now - self.told_at < REPORT_S - SWEEP_S / 4:
            return None
        if self._is_over():
            last = max(watch.last() for watch in self.active)
            self.end(now)
            return self._report(now, 0, 0.0, last)
        if now - self.began_at > LASTS_S:
            self._give_up(now)
            return None
        return self._report(now, *self._look(now, floor))

    def _report(self, now: float, silent: int, silent_s: float, last: float) -> list[object]:
        self.told_at = now
        self.told = len(self.active)
        if not self.active:
            self.began_at = 0.0
        return ["flows", self.name, self.told, silent, silent_s, last, now]

    def _some(self) -> list[Watch]:
        """Others each time, from all over the group."""
        if self._order is None:
            self._order = list(self.active)
        step = 1 + (len(self._order) - 1) // SAMPLE
        self._turn = (self._turn + 1) % step
        return self._order[self._turn :: step]

    def _falter(self, some: list[Watch], now: float, floor: float) -> bool:
        """Are half of them overdue?"""
        overdue = 0
        for watch in some:
            if now - max(watch.line.rtp.last, floor) >= SILENT_S * watch.patience:
                overdue += 1
        return overdue * 2 >= len(some)

    def _look(self, now: float, floor: float) -> tuple[int, float, float]:
        """Of all: how many are silent, for how long the share that counts is, and when the last packet came."""
        lasts = [watch.last() for watch in self.active]
        silences = [
            (now - (last if last > floor else floor)) / watch.patience
            for watch, last in zip(self.active, lasts, strict=True)
        ]
        silences.sort(reverse=True)
        silent = sum(silence >= SILENT_S for silence in silences)
        return silent, silences[quorum(len(silences)) - 1], max(lasts)

    def _is_over(self) -> bool:
        heard = sum(watch.last() > self.began_at for watch in self.active)
        return heard > len(self.active) - quorum(len(self.active))

    def _give_up(self, now: float) -> None:
        """They stopped long ago: they are not overdue any more."""
        for watch in list(self.active):
            if watch.last() <= self.began_at:
                self.leave(watch)
                watch.full = 0
        self.end(now)

    def end(self, now: float) -> None:
        self.began_at = 0.0
        for watch in self.active:
            watch.begin(now)

    def join(self, watch: Watch) -> None:
        watch.active = True
        self.active[watch] = None
        self._order = None

    def leave(self, watch: Watch) -> None:
        watch.active = False
        if self.active.pop(watch, self) is None:
            self._order = None


def quorum(active: int) -> int:
    """How many of them must be silent for it to mean something."""
    return active if active < FEW else math.ceil(active * SHARE)


class Liveness:
    """All watched lines. `due`: when to `sweep` next."""

    def __init__(self) -> None:
        self.due = math.inf
        self.stalls = 0
        self._floor = 0.0
        self._swept_at = 0.0
        self._visited_at = 0.0
        self._groups: dict[tuple[Client, str], Group] = {}
        self._watches: dict[Line, tuple[Watch, Client]] = {}
        self._round: list[Line] = []  # lines that wait for their visit

    def watch(self, client: Client, line: Line, name: str, timeout_s: float, now: float) -> None:
        """The peer of `line` belongs to that group ("": to none); reports go to `client`."""
        known = self._watches.get(line)
        if known is not None:
            watch, owner = known
            if owner is client and name == (watch.group.name if watch.group else ""):
                watch.timeout_s = timeout_s
                return
            self.forget(line)
        group = None
        if name:
            group = self._groups.setdefault((client, name), Group(name))
            group.members += 1
        self._watches[line] = (Watch(line, group, timeout_s, now), client)
        if self.due == math.inf:
            self._swept_at = self._visited_at = now
            self.due = now + SWEEP_S

    def forget(self, line: Line) -> None:
        known = self._watches.pop(line, None)
        if known is None:
            return
        watch, client = known
        group = watch.group
        if group is not None:
            group.leave(watch)
            group.members -= 1
            if group.members == 0 and not group.told:
                del self._groups[client, group.name]
        if not self._watches:
            self._round.clear()

    def drop(self, client: Client) -> None:
        """A connection is gone; who takes its lines over watches them anew."""
        for line in [line for line, (_, owner) in self._watches.items() if owner is client]:
            self.forget(line)
        for key in [key for key in self._groups if key[0] is client]:
            del self._groups[key]

    def lines(self, name: str) -> list[Line]:
        """The lines whose peers belong to a group."""
        return [line for line, (watch, _) in self._watches.items() if watch.group and watch.group.name == name]

    def sweep(self, now: float) -> None:
        """Look at the streams, and tell what is to be told."""
        if now - self._swept_at > STALL_S:
            self.stalls += 1
            self._floor = now
        self._swept_at = now
        self.due = now + SWEEP_S if self._groups or self._watches else math.inf
        for (client, name), group in list(self._groups.items()):
            report = group.sweep(now, self._floor)
            if report is not None:
                client.tell(report)
                if not group.members:
                    self._groups.pop((client, name), None)
        self._visit_some(now)

    def _visit_some(self, now: float) -> None:
        if not self._round:
            if now - self._visited_at < VISIT_S:
                return
            self._visited_at = now
            self._round = list(self._watches)
        # Spread over half of the time, so that the round is over when the next one begins.
        count = 1 + int(len(self._watches) * 2 * SWEEP_S / VISIT_S)
        for line in self._round[-count:]:
            known = self._watches.get(line)
            if known is not None:
                self._visit(*known, now)
        del self._round[-count:]

    def _visit(self, watch: Watch, client: Client, now: float) -> None:
        group = watch.group
        if not watch.expected:
            watch.since = now
            watch.full = 0
            watch.told = False
            watch.begin(now)
            if group is not None:
                group.leave(watch)
            return
        if watch.timeout_s:
            self._time(watch, client, now)
        if group is None or (watch.active and group.began_at):
            return
        watch.measure(now)
        if watch.active and not watch.full:
            group.leave(watch)
        elif not watch.active and watch.full >= watch.probation:
            group.join(watch)

    def _time(self, watch: Watch, client: Client, now: float) -> None:
        silence = now - max(watch.last(), watch.since)
        if silence < watch.timeout_s:
            watch.told = False
        elif not watch.told:
            watch.told = True
            client.tell(["silent", watch.line.number, silence])
