"""The journal of live calls: what a successor needs to take them up, however this process ends.

A call that changed is appended a fraction of a second later, as a msgpack record, and so is its end. A few calls at a
time, and what writes to the disk is a thread of its own, so that the event loop stands still for neither. When a file
has grown to several times what lives, the next one is begun: all live calls are written to it, then the one before is
removed. So at any moment the files that are there, read in order, tell what lived.

Owns `calls.N.journal` in the state directory, and who is in them; `left` knows what is in such a file. Knows nothing
of SIP or media.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgpack

from proxy.backends import Backends
from proxy.calls import TALKING, Call, Calls
from proxy.calls.snapshot import SnapshotError, restore
from proxy.conferences import Conference, Conferences
from proxy.conferences.snapshot import RosterError, snapshot
from proxy.journal.left import HEAD, Left, file_of
from proxy.text import counted

log = logging.getLogger(__name__)

INTERVAL_S = 0.05  # so much a successor may not know
CALLS_A_SLICE = 30  # about a millisecond
SLICES_APART_S = 0.01
GROWTH_MAX = 3  # times what lives
BYTES_MIN = 4 << 20  # below which nobody cares
RETRY_S = 1.0

Key = tuple[str, str]  # pool and name of a conference


class Journal:
    """`wall_clock`: seconds since 1970, comparable to those of the process before. `disk` writes, in order."""

    def __init__(
        self,
        folder: Path,
        calls: Calls,
        backends: Backends,
        conferences: Conferences,
        loop: asyncio.AbstractEventLoop,
        wall_clock: Callable[[], float],
        disk: Executor | None = None,
    ) -> None:
        self._folder = folder
        self._calls = calls
        self._backends = backends
        self._conferences = conferences
        self._loop = loop
        self._wall_clock = wall_clock
        self._disk = disk or ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._writing: Future[None] | None = None
        self._problem: OSError | None = None  # of the thread; not yet seen here
        self._failing = False
        self._alarm: asyncio.TimerHandle | None = None
        self._changed: dict[str, None] = {}  # call ids, in order
        self._rosters: dict[Key, Conference] = {}  # conferences that changed, in order
        self._rosters_written: set[Key] = set()
        self._again: dict[str, None] = {}  # those that are still to be written to the file that has just been begun
        self._written: dict[str, int] = {}  # who is in the journal: bytes of the last record
        self._told_of_backends: dict[str, Any] = {}
        self._live_bytes = 0
        self._file_bytes = 0
        self._number = 0
        self._older: list[Path] = []  # to be removed when nobody is left in `_again`

    # -- what a predecessor left

    def load(self) -> tuple[int, list[str]]:
        """Take up what a predecessor left, but for what is wrong with it. Returns (calls restored, problems)."""
        left = Left(self._folder)
        problems = left.problems
        try:
            if left.backends is not None:
                self._backends.restore(left.backends)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problems.append(f"backends: {error!r}")
        now = self._wall_clock()
        restored = 0
        strangers: Counter[str] = Counter()
        for written_at, state in left.calls.values():
            try:
                call = restore(self._calls, state, max(0.0, now - written_at), complete=left.closed)
                restored += 1
                strangers.update(_strangers(call, state))
            except SnapshotError as error:
                self._calls.counts["not_restored"] += 1
                problems.append(str(error))
        for written_at, state in left.conferences.values():
            try:
                self._conferences.restore(state, max(0.0, now - written_at))
            except RosterError as error:
                problems.append(str(error))
        for name, count in strangers.items():
            problems.append(f"{counted(count, 'call')} on {name}, which is not configured: cannot be moved from there")
        self._older = left.survived()
        self._number = left.number
        return restored, problems

    # -- as calls go on

    def start(self) -> None:
        """Write from now on, after `load`. Raises OSError."""
        self._begin_file()
        self._calls.on_changed = self._note
        self._conferences.follow(self._note_roster)
        self._alarm = self._loop.call_later(INTERVAL_S, self._tick)

    def _note(self, call: Call) -> None:
        self._changed[call.id] = None

    def _note_roster(self, conference: Conference) -> None:
        self._rosters[conference.pool, conference.name] = conference

    def _tick(self) -> None:
        pause_s = INTERVAL_S
        if self._problem is not None:
            self._start_over(self._problem)
            pause_s = RETRY_S
        elif self._writing is None or self._writing.done():  # else the disk is slow: changes gather meanwhile
            data = self._records(CALLS_A_SLICE)
            if data:
                self._append(data)
            self._turn_over()
            if self._changed or self._again or self._rosters:
                pause_s = SLICES_APART_S
        self._alarm = self._loop.call_later(pause_s, self._tick)

    def _records(self, most: int) -> bytes:
        """Of what is to be written, as much as a slice may hold."""
        records = bytearray()
        backends = self._backends.snapshot()
        if backends != self._told_of_backends:
            self._told_of_backends = backends
            records += msgpack.packb(["backends", backends])
        while self._rosters and most > 0:
            key = next(iter(self._rosters))
            records += self._roster_record(key, self._rosters.pop(key))
            most -= 1
        for queue in (self._changed, self._again):
            while queue and most > 0:
                call_id = next(iter(queue))
                del queue[call_id]
                record = self._record(call_id)
                records += record
                most -= bool(record)
        return bytes(records)

    def _roster_record(self, key: Key, conference: Conference) -> bytes:
        if conference.participants:
            self._rosters_written.add(key)
            written: bytes = msgpack.packb(["conference", self._wall_clock(), snapshot(conference, self._calls.now())])
            return written
        if key not in self._rosters_written:
            return b""
        self._rosters_written.discard(key)
        emptied: bytes = msgpack.packb(["emptied", *key])
        return emptied

    def _record(self, call_id: str) -> bytes:
        call = self._calls.live.get(call_id)
        before = self._written.get(call_id)
        if call is None or call.state != TALKING:
            if before is None:
                return b""
            del self._written[call_id]
            self._live_bytes -= before
            ended: bytes = msgpack.packb(["ended", call_id])
            return ended
        try:
            state = call.snapshot()
        except Exception as error:  # the trouble of one call must not cost the others
            self._calls.counts["not_saved"] += 1
            log.warning("call=%s not written down: %r", call_id, error)
            return b""
        record: bytes = msgpack.packb(["call", self._wall_clock(), state])
        self._written[call_id] = len(record)
        self._live_bytes += len(record) - (before or 0)
        return record

    # -- files

    def _begin_file(self) -> None:
        self._number += 1
        path = file_of(self._folder, self._number)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._path = path
        self._file_bytes = 0
        self._told_of_backends = {}
        self._again = dict.fromkeys(self._calls.live)
        self._rosters.update({(each.pool, each.name): each for each in self._conferences})
        self._append(HEAD)

    def _turn_over(self) -> None:
        if self._older and not self._again:
            self._submit(_remove, self._older)
            self._older = []
            if self._failing:
                self._failing = False
                log.warning("the journal of calls can be written again")
        elif not self._older and self._file_bytes > max(BYTES_MIN, GROWTH_MAX * self._live_bytes):
            self._next_file()

    def _next_file(self) -> None:
        full, path = self._descriptor, self._path
        try:
            self._begin_file()
        except OSError as error:
            self._problem = error
            return
        self._older.append(path)
        self._submit(os.close, full)

    def _start_over(self, problem: OSError) -> None:
        """The file may end in half a record: nothing can follow that. What lives goes to another one."""
        if not self._failing:
            log.error("the journal of calls cannot be written: %s", problem)
        self._failing, self._problem = True, None
        self._next_file()

    def _append(self, data: bytes) -> None:
        self._file_bytes += len(data)
        self._submit(_write, self._descriptor, data)

    def _submit(self, work: Callable[..., None], *arguments: Any) -> None:
        self._writing = self._disk.submit(self._do, work, *arguments)

    def _do(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except OSError as error:
            self._problem = error

    def close(self) -> int:
        """Write what is left; returns how many calls a successor will find."""
        if self._alarm is not None:
            self._alarm.cancel()
        data = self._records(len(self._changed) + len(self._again) + len(self._rosters))
        self._append(data + msgpack.packb(["closed"]))
        self._turn_over()
        self._submit(os.close, self._descriptor)
        self._disk.shutdown()
        if self._problem is not None:  # a full disk
            log.error("the journal of calls cannot be written: %s", self._problem)
        return len(self._written)


def _strangers(call: Call, state: dict[str, Any]) -> list[str]:
    """Backends of the call that are gone from the configuration."""
    sides = ((call.a, state["a"]), (call.b, state["b"]))
    return [told["backend"] for leg, told in sides if leg is not None and told["backend"] and leg.backend is None]


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
