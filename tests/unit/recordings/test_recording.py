"""A recording from its first segment over the death of its backend to the end, and its manifest at each step."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from media.api import Kept
from proxy.recordings import files, manifest
from proxy.recordings import recording as module
from proxy.recordings.job import Job, Repaired, RepairFailed
from proxy.recordings.join import joined
from proxy.recordings.recording import HEAD_BYTES, Recording
from proxy.recordings.repair import repair as work
from tests.testbed.recorded import missing
from tests.unit.recordings.voices import Mixer, Speaker, speech

BUFFER = 32768


class Relay:
    """Keeps what its speakers say: what has been said by now."""

    capabilities = frozenset({"keep"})

    def __init__(self, *speakers: Speaker) -> None:
        self.speakers = {speaker.name: speaker for speaker in speakers}
        self.asked: dict[str, float] = {}

    def keep(self, session: str, leg: str | None, seconds: float) -> None:
        self.asked[f"{session} {leg}"] = seconds

    async def kept(self, session: str, since: float = 0.0) -> tuple[Kept, ...]:
        now = asyncio.get_running_loop().time()
        result = []
        for name in self.asked:
            call, leg = name.split()
            if call == session and name in self.speakers:
                said = self.speakers[name].packets()
                result.append(Kept(leg, 0, tuple(each for each in said if max(since, now - 10) < each[0] <= now)))
        return tuple(result)


async def in_process(job: Job) -> Repaired:
    return await asyncio.to_thread(work, job)


class Bed:
    def __init__(self, folder: Path, *speakers: Speaker, repair: module.Repair = in_process) -> None:
        self.folder = folder
        self.relay = Relay(*speakers)
        self.counts: Counter[str] = Counter()
        self.recording = Recording(
            "room", "pbx", "7001", folder, keep_s=10.0, wait_s=2.0, held=Counter(), repair=repair, counts=self.counts,
            loop=asyncio.get_running_loop(),
        )  # fmt: skip
        for speaker in speakers:
            call, leg = speaker.name.split()
            self.recording.speakers.listen(self.relay, call, leg)  # type: ignore[arg-type]

    def manifest(self) -> manifest.Manifest:
        return manifest.load(self.folder / "room.json")


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


def broken(file: Path, samples: files.Samples) -> None:
    data = files.wav_header(0) + samples.tobytes()
    file.write_bytes(data[: len(data) // BUFFER * BUFFER])


def test_it_is_made_whole_and_goes_on_in_the_next_segment(tmp_path: Path) -> None:
    async def test() -> None:
        now = asyncio.get_running_loop().time()
        people = [Speaker(f"c{number} a", speech(number, 20.0), now - 9.5) for number in (1, 2)]
        bed = Bed(tmp_path, *people)
        began, died, again = now - 9.0, now - 3.0, now - 2.5
        first, second = tmp_path / "room.wav", tmp_path / "room.2.wav"
        broken(first, Mixer(began).record(people, 6.0))
        bed.recording.begin(1, "as1", first, ["c1", "c2"], began)
        bed.recording.end(died, cut=True)
        assert bed.recording.cut
        broken(second, Mixer(again).record(people, 2.5))
        bed.recording.begin(2, "as2", second, ["c1", "c2"], again)
        await bed.recording.close()

        told = bed.manifest()
        assert (told.recording, told.pool, told.conference, told.calls) == ("room", "pbx", "7001", ["c1", "c2"])
        assert [(each.number, each.file, each.by, each.state) for each in told.segments] == [
            (1, "room.wav", "backend", "repaired"),
            (1, "room.then.wav", "relay", "whole"),
            (2, "room.2.wav", "backend", "open"),
        ]
        one, piece, two = told.segments
        assert (one.voices, one.voices_found, one.problem) == (2, 2, "")
        assert one.repaired_ms == pytest.approx(6000 - one.on_disk_samples / 8, abs=100)  # type: ignore[operator]
        assert piece.samples == pytest.approx(0.5 * 8000, abs=800)
        assert one.end == piece.start
        assert one.start < one.end < two.start  # type: ignore[operator]
        whole = Mixer(began).record(people, 9.0)
        together = joined(tmp_path / "room.json")
        assert len(together) == pytest.approx(6.5 * 8000 + len(files.read(second)), abs=800)
        same = len(files.read(first))
        assert (together[:same] == whole[:same]).all()
        assert bed.counts == {"cut": 1, "repaired": 1}

    run(test())


def test_nobody_is_left_so_nothing_follows(tmp_path: Path) -> None:
    async def test() -> None:
        now = asyncio.get_running_loop().time()
        bed = Bed(tmp_path, Speaker("c1 a", speech(1, 20.0), now - 9.5))
        file = tmp_path / "room.wav"
        broken(file, Mixer(now - 9.0).record(list(bed.relay.speakers.values()), 8.9))
        bed.recording.begin(1, "as1", file, ["c1"], now - 9.0)
        bed.recording.end(now - 0.1, cut=True)
        bed.recording.speakers.only(set(), now)
        began = time.monotonic()
        await bed.recording.close()
        assert time.monotonic() - began < 1.5
        (segment,) = bed.manifest().segments
        assert segment.state == "repaired"
        assert segment.samples == pytest.approx(8.9 * 8000, abs=400)
        bed.recording.rest()
        assert bed.relay.asked == {"c1 a": 0.0}

    run(test())


def test_who_ended_just_before_his_backend_was_found_dead_was_cut(tmp_path: Path) -> None:
    async def test() -> None:
        now = asyncio.get_running_loop().time()
        bed = Bed(tmp_path, Speaker("c1 a", speech(1, 20.0), now - 9.5))
        file = tmp_path / "room.wav"
        broken(file, Mixer(now - 9.0).record(list(bed.relay.speakers.values()), 9.0))
        bed.recording.begin(1, "as1", file, ["c1"], now - 9.0)
        bed.recording.end(now - 0.05, cut=False)
        bed.recording.speakers.only(set(), now)
        bed.recording.end(now - 0.07, cut=True)
        await bed.recording.close()
        assert [each.state for each in bed.manifest().segments] == ["repaired"]

    run(test())


def test_what_one_says_who_has_left_is_not_added(tmp_path: Path) -> None:
    """His line may go on, in another conference: after the last sample on disk, and before the death."""

    async def test() -> None:
        now = asyncio.get_running_loop().time()
        people = [Speaker(f"c{number} a", speech(number, 20.0), now - 9.5) for number in (1, 2)]
        bed = Bed(tmp_path, *people)
        file = tmp_path / "room.wav"
        began, left, died = now - 9.0, now - 0.5, now - 0.1
        broken(file, Mixer(began).record(people, 8.9))
        on_disk = len(files.read(file))
        assert began + on_disk / 8000 < left - 0.1
        bed.recording.begin(1, "as1", file, ["c1", "c2"], began)
        bed.recording.speakers.only({"c1 a"}, left)
        bed.recording.end(died, cut=True)
        bed.recording.speakers.only(set(), now)
        await bed.recording.close()
        added = files.read(file)[on_disk:].astype(int)
        alone, both = (Mixer(began).record(who, 8.9)[on_disk:].astype(int) for who in (people[:1], people))
        until = round((left - began) * 8000) - on_disk
        assert (added[: until - 320] == both[: until - 320]).all()
        assert (added[until + 800 : len(alone)] == alone[until + 800 : len(added)]).all()
        assert (alone != both)[until + 800 :].any()

    run(test())


def test_what_cannot_be_repaired_is_said_in_the_manifest(tmp_path: Path) -> None:
    async def broken_worker(job: Job) -> Repaired:
        raise RepairFailed("the disk is full")

    async def test() -> None:
        now = asyncio.get_running_loop().time()
        bed = Bed(tmp_path, Speaker("c1 a", speech(1, 2.0), now - 1.0), repair=broken_worker)
        bed.recording.begin(1, "as1", tmp_path / "room.wav", ["c1"], now - 1.0)
        bed.recording.end(now, cut=True)
        bed.recording.speakers.only(set(), now)
        await bed.recording.close()
        (segment,) = bed.manifest().segments
        assert (segment.state, segment.problem) == ("cut", "the disk is full")
        assert bed.counts["not_repaired"] == 1

    run(test())


def test_the_backup_dies_while_the_first_one_is_made_whole_and_all_hang_up(tmp_path: Path) -> None:
    async def test() -> None:
        now = asyncio.get_running_loop().time()
        people = [Speaker(f"c{number} a", speech(number, 20.0), now - 9.5) for number in (1, 2)]
        bed = Bed(tmp_path, *people)
        began, died, again, died_too = now - 9.0, now - 3.0, now - 2.5, now - 0.1
        first, second = tmp_path / "room.wav", tmp_path / "room.2.wav"
        broken(first, Mixer(began).record(people, 6.0))
        bed.recording.begin(1, "as1", first, ["c1", "c2"], began)
        bed.recording.end(died, cut=True)
        broken(second, Mixer(again).record(people, 2.4))
        assert second.stat().st_size < HEAD_BYTES + 44  # the first one waits for more of it
        bed.recording.begin(2, "as2", second, ["c1", "c2"], again)
        await asyncio.sleep(0.05)
        bed.recording.end(died_too, cut=True)
        bed.recording.speakers.only(set(), now)
        await bed.recording.close()
        bed.recording.rest()

        assert [(each.number, each.by, each.state) for each in bed.manifest().segments] == [
            (1, "backend", "repaired"),
            (1, "relay", "whole"),
            (2, "backend", "repaired"),
        ]
        together = joined(tmp_path / "room.json").astype(float)
        said = {each.name: each.said[8000 : round(9.3 * 8000)].astype(float) for each in people}
        assert missing(together, said).most_ms == 0.0
        assert len(together) == pytest.approx(8.9 * 8000, abs=800)

    run(test())


def test_a_third_segment_does_not_follow_the_first(tmp_path: Path) -> None:
    """The backup dies before the next look at its file, and another one is there already."""

    async def test() -> None:
        now = asyncio.get_running_loop().time()
        jobs: list[Job] = []

        async def watched(job: Job) -> Repaired:
            jobs.append(job)
            return await in_process(job)

        people = [Speaker("c1 a", speech(1, 20.0), now - 9.5)]
        bed = Bed(tmp_path, *people, repair=watched)
        times = {1: (now - 9.0, now - 4.0), 2: (now - 3.8, now - 1.6), 3: (now - 1.4, now)}
        for number, (began, ended) in times.items():
            file = tmp_path / f"room.{number}.wav"
            broken(file, Mixer(began).record(people, ended - began))
            bed.recording.begin(number, f"as{number}", file, ["c1"], began)
            if number < 3:
                bed.recording.end(ended, cut=True)
        bed.recording.end(now, cut=False)
        bed.recording.speakers.only(set(), now)
        await bed.recording.close()
        assert [(Path(job.file).name, Path(job.next_file).name) for job in jobs] == [
            ("room.1.wav", "room.2.wav"),
            ("room.2.wav", "room.3.wav"),
        ]

    run(test())


def test_a_successor_goes_on_with_the_manifest(tmp_path: Path) -> None:
    async def test() -> None:
        now = asyncio.get_running_loop().time()
        bed = Bed(tmp_path)
        bed.recording.begin(1, "as1", tmp_path / "room.wav", ["c1"], now)
        bed.recording.end(now, cut=False)
        await bed.recording.close()
        bed = Bed(tmp_path)
        bed.recording.begin(2, "as2", tmp_path / "room.2.wav", ["c2"], now)
        await bed.recording.close()
        told = bed.manifest()
        assert [(each.number, each.backend) for each in told.segments] == [(1, "as1"), (2, "as2")]
        assert told.calls == ["c1", "c2"]

    run(test())


def test_a_manifest_that_is_none_is_told_and_replaced(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "room.json").write_text('{"version": 1, "segments": [{}]}')
        bed = Bed(tmp_path)
        bed.recording.begin(1, "as1", tmp_path / "room.wav", ["c1"], 0.0)
        await bed.recording.close()
        assert [each.number for each in bed.manifest().segments] == [1]
        assert bed.counts["manifest_errors"] == 1

    run(test())


def test_the_folder_may_be_gone(tmp_path: Path) -> None:
    """It is told, and nothing else follows from it."""

    async def test() -> None:
        bed = Bed(tmp_path / "nowhere")
        bed.recording.begin(1, "as1", tmp_path / "nowhere" / "room.wav", ["c1"], 0.0)
        bed.recording.end(1.0, cut=False)
        await bed.recording.close()
        assert bed.counts["manifest_errors"] == 2

    run(test())


def test_a_name_that_was_used_before_does_not_bring_back_what_was_said_then(tmp_path: Path) -> None:
    """A backend that appends to a file of another day."""

    async def test() -> None:
        now = asyncio.get_running_loop().time()
        people = [Speaker("c1 a", speech(1, 20.0), now - 9.5)]
        bed = Bed(tmp_path, *people)
        began, died, again = now - 9.0, now - 3.0, now - 2.5
        first, second = tmp_path / "room.wav", tmp_path / "room.2.wav"
        old = speech(77, 3.0)
        for file in (first, second):
            file.write_bytes(files.wav_header(2 * len(old)) + old.tobytes())
            os.utime(file, (time.time() - 3600, time.time() - 3600))
        bed.recording.begin(1, "as1", first, ["c1"], began)
        await until_told(bed, 1)
        broken(first, np.concatenate((old, Mixer(began).record(people, 6.0))))
        bed.recording.end(died, cut=True)
        bed.recording.begin(2, "as2", second, ["c1"], again)
        await until_told(bed, 2)
        broken(second, np.concatenate((old, Mixer(again).record(people, 2.5))))
        await bed.recording.close()
        together = joined(tmp_path / "room.json")
        whole = Mixer(began).record(people, 9.0)
        same = len(files.read(first)) - len(old)
        assert same > 5.5 * 8000
        assert (together[:same] == whole[:same]).all()
        assert missing(together, {"c1": people[0].said[8000:60_000].astype(float)}).most_ms == 0.0

    run(test())


async def until_told(bed: Bed, segments: int) -> None:
    while not (bed.folder / "room.json").exists() or len(bed.manifest().segments) < segments:
        await asyncio.sleep(0.005)
