"""One recording, from its first segment to its end: its manifest, and how it is made whole when a backend died.

    segment cut -> what the relay has kept is collected, and goes on being collected
                -> until the next segment's beginning is on disk, or nobody is left, or it has taken too long
                -> the process that repairs -> manifest

What is done about one recording is done one thing after the other. Files are touched in threads and in that process,
never on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from proxy.recordings import manifest
from proxy.recordings.job import Job, Repaired, RepairFailed
from proxy.recordings.kinds import samples_in
from proxy.recordings.manifest import Manifest, ManifestError, Segment, wall_time
from proxy.recordings.speakers import Speakers

log = logging.getLogger(__name__)

GRACE_S = 1.0  # who ended a segment so shortly before his backend was found dead has not closed its file
POLL_S = 0.5
HEAD_BYTES = 32_768  # what a telephony server writes at a time
HEAD_PATIENCE_S = 6.0  # by then it has written that much, in any format that is known
STALE_S = 10.0  # what is written at the time is written to more often
RATE_HZ = 8000

Repair = Callable[[Job], Awaitable[Repaired]]


@dataclass(slots=True)
class Part:
    """A segment that is written, or was: its entry in the manifest, and what is known of it here. Clock times. `seek`
    finds the file where its backend did not tell what it is called; `before`: samples that were in it already."""

    entry: Segment
    file: Path
    began_at: float
    seek: Callable[[], Path | None] | None = None
    before: int = 0
    ended_at: float | None = None
    cut: bool = False
    following: Part | None = None


class Recording:
    def __init__(
        self, name: str, pool: str, conference: str | None, folder: Path, *, keep_s: float, wait_s: float,
        held: Counter[str], repair: Repair, counts: Counter[str], loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        self.name = name
        self.pool = pool
        self.conference = conference
        self.speakers = Speakers(keep_s, held)
        self.part: Part | None = None  # the latest
        self.file = folder / f"{name}.json"
        self.manifest = Manifest(name, pool, conference, [])
        self._known: list[Segment] = []  # that a predecessor saw begin
        self._wait_s = wait_s
        self._repair = repair
        self._counts = counts
        self._loop = loop
        self._work: asyncio.Task[None] | None = None  # the last thing to be done, which waits for those before it
        self._cuts: set[asyncio.Task[None]] = set()  # that are not whole yet
        self._do(self._take_up)

    @property
    def number(self) -> int:
        return self.part.entry.number if self.part is not None else 0

    @property
    def backend(self) -> str:
        return self.part.entry.backend if self.part is not None else ""

    @property
    def goes_on(self) -> bool:
        return self.part is not None and self.part.ended_at is None

    @property
    def cut(self) -> bool:
        """Its backend is dead, and nothing follows yet."""
        return self.part is not None and self.part.cut

    # -- what happens to it

    def begin(
        self, number: int, backend: str, file: Path, calls: list[str], began_at: float, *,
        seek: Callable[[], Path | None] | None = None,
    ) -> None:  # fmt: skip
        """A backend writes a segment of it. With `seek`, `file` is a guess."""
        if self.goes_on:
            self.end(began_at, cut=False)
        entry = Segment(number, self._relative(file), manifest.BACKEND, backend, self._wall(began_at))
        part = Part(entry, file, began_at, seek)
        if self.part is not None:
            self.part.following = part
        self.part = part
        self.manifest.segments.append(entry)
        self._do(lambda: self._look(part))
        self.belongs(calls)
        log.info("recording=%s backend=%s segment=%d file=%s", self.name, backend, number, file)

    def belongs(self, calls: list[str]) -> None:
        new = [call for call in calls if call not in self.manifest.calls]
        self.manifest.calls += new
        self._do(self._save)

    def end(self, ended_at: float, *, cut: bool) -> None:
        """The backend writes no more of it: it has closed the file or, if it was `cut`, died."""
        part = self.part
        if part is None or part.cut or (part.ended_at is not None and not (cut and ended_at < part.ended_at + GRACE_S)):
            return
        part.ended_at, part.cut = ended_at, cut
        part.entry.end = self._wall(ended_at)
        part.entry.state = "cut" if cut else "whole"
        if cut:
            self._counts["cut"] += 1
            log.warning("recording=%s backend=%s segment=%d is cut", self.name, part.entry.backend, part.entry.number)
            task = self._loop.create_task(self._make_whole(part))
            self._cuts.add(task)
            task.add_done_callback(self._made_whole)
        else:
            self._do(lambda: self._measure(part))

    def _relative(self, file: Path) -> str:
        return os.path.relpath(file, self.file.parent)

    async def close(self) -> None:
        """What is being repaired is waited for; what goes on is left as it is."""
        if self._cuts:
            await asyncio.wait(self._cuts)
        if self._work is not None:
            await asyncio.wait((self._work,))

    def rest(self) -> None:
        """Nobody is recorded any more."""
        self.speakers.end()

    # -- a cut

    async def _make_whole(self, part: Part) -> None:
        following = await self._await_next(part)
        await asyncio.wait((self._do(lambda: self._repaired(part, following)),))

    def _made_whole(self, task: asyncio.Task[None]) -> None:
        self._cuts.discard(task)
        if not self._cuts:
            self.speakers.clear()

    async def _await_next(self, part: Part) -> Part | None:
        """Collect, until the next segment can be read from, or there will be none."""
        until = self._loop.time() + self._wait_s
        while True:
            await self.speakers.collect()
            following = part.following
            if following is not None and await self._readable(following):
                return following
            nobody = all(each.left_at is not None for each in self.speakers)
            if (following is None and nobody) or self._loop.time() > until:
                return following
            await asyncio.sleep(POLL_S)

    async def _readable(self, part: Part) -> bool:
        await self._settle(part)
        if part.ended_at is not None or self._loop.time() - part.began_at > HEAD_PATIENCE_S:
            return True
        return await asyncio.to_thread(_size, part.file) >= HEAD_BYTES

    async def _repaired(self, part: Part, following: Part | None) -> None:
        entry = part.entry
        assert part.ended_at is not None
        await self._settle(part)
        job = Job(
            str(part.file), part.began_at, part.ended_at, await asyncio.to_thread(self._written_at, part),
            self.speakers.voices(self._loop.time()), piece_file=str(self._piece_file(part)),
        )  # fmt: skip
        if following is not None and following.file != part.file:
            job.next_file, job.next_at = str(following.file), following.began_at
            job.next_skip = following.before
        try:
            done = await self._repair(job)
        except RepairFailed as problem:
            self._counts["not_repaired"] += 1
            entry.problem = str(problem)
            log.error("recording=%s segment=%d is not repaired: %s", self.name, entry.number, problem)
        else:
            self._note(part, following, done)
        await self._save()

    def _note(self, part: Part, following: Part | None, done: Repaired) -> None:
        entry = part.entry
        entry.state = "repaired"
        entry.samples, entry.on_disk_samples = done.samples, done.on_disk
        entry.repaired_ms = (done.samples - done.on_disk) / RATE_HZ * 1000
        entry.end = self._wall(done.ended_at)
        entry.voices, entry.voices_found, entry.explained = done.voices, done.found, done.explained
        entry.problem = "; ".join(_problems(done))
        self._counts["repaired"] += 1
        place = self.manifest.segments.index(entry) + 1
        if done.piece:
            began_at = done.ended_at
            piece = Segment(
                entry.number, self._relative(self._piece_file(part)), manifest.RELAY, "", self._wall(began_at)
            )
            piece.end, piece.state = self._wall(began_at + done.piece / RATE_HZ), "whole"
            piece.samples = done.piece
            self.manifest.segments.insert(place, piece)
        if following is not None and done.next_at is not None:
            following.entry.start = self._wall(done.next_at)
            following.entry.from_sample = following.before + done.next_from
        log.warning(
            "recording=%s segment=%d repaired: %.0f ms added, %.0f ms until the next one, voices %d of %d found",
            self.name, entry.number, entry.repaired_ms, done.piece / RATE_HZ * 1000, done.found, done.voices,
        )  # fmt: skip

    def _piece_file(self, part: Part) -> Path:
        return part.file.with_name(f"{part.file.stem}.then{part.file.suffix}")

    def _written_at(self, part: Part) -> float:
        try:
            written = part.file.stat().st_mtime
        except OSError:
            return part.began_at
        return written - time.time() + time.monotonic()

    # -- one thing after the other

    def _do(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        self._work = self._loop.create_task(self._after_work(self._work, work))
        return self._work

    async def _after_work(self, before: asyncio.Task[None] | None, work: Callable[[], Awaitable[None]]) -> None:
        if before is not None:
            await asyncio.wait((before,))
        try:
            await work()
        except (OSError, ManifestError) as error:
            self._counts["manifest_errors"] += 1
            log.error("recording=%s manifest=%s: %r", self.name, self.file, error)

    async def _look(self, part: Part) -> None:
        """The name of a file may have been used before: what is in it then is not of this recording. But one that was
        begun under the eyes of a predecessor is."""
        entry = part.entry
        known = next((each for each in self._known if (each.number, each.file) == (entry.number, entry.file)), None)
        if known is not None:
            part.before = known.from_sample
        else:
            part.before = samples_in(part.file.name, await asyncio.to_thread(_size, part.file, STALE_S))
        entry.from_sample = part.before

    async def _settle(self, part: Part) -> None:
        """Where the file is, if that was a guess."""
        if part.seek is not None:
            found = await asyncio.to_thread(part.seek)
            if found is not None:
                part.seek, part.file, part.entry.file = None, found, self._relative(found)

    async def _take_up(self) -> None:
        """Another process may have begun it."""
        try:
            known = await asyncio.to_thread(manifest.load, self.file)
        except FileNotFoundError:
            return
        number = self.manifest.segments[0].number if self.manifest.segments else 1
        earlier = [each for each in known.segments if each.number < number]
        self._known = [each for each in known.segments if each.state == "open"]
        self.manifest.segments[:0] = earlier
        self.manifest.calls = list(dict.fromkeys(known.calls + self.manifest.calls))

    async def _save(self) -> None:
        await asyncio.to_thread(self.manifest.save, self.file)

    async def _measure(self, part: Part) -> None:
        await asyncio.sleep(GRACE_S)  # its backend says that it ends, and then closes the file
        await self._settle(part)
        size = await asyncio.to_thread(_size, part.file)
        part.entry.samples = samples_in(part.file.name, size) - part.before
        await self._save()

    def _wall(self, at: float) -> str:
        return wall_time(time.time() - (self._loop.time() - at))


def _size(file: Path, unless_younger_s: float = 0.0) -> int:
    try:
        state = file.stat()
    except OSError:
        return 0
    return state.st_size if not unless_younger_s or time.time() - state.st_mtime > unless_younger_s else 0


def _problems(done: Repaired) -> list[str]:
    problems = [done.problem] if done.problem else []
    if done.hole:
        problems.append(f"{done.hole / RATE_HZ * 1000:.0f} ms were not kept")
    if done.undecoded:
        problems.append(f"{done.undecoded} packets were not G.711")
    return problems
