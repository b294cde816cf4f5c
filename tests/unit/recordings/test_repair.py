"""A file without its last seconds is completed, sample by sample, and the time until the next one is filled."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from media.rtp import g711
from proxy.recordings import files
from proxy.recordings.disk import write
from proxy.recordings.files import RATE_HZ, AudioFileError, Samples
from proxy.recordings.job import Job, Voice
from proxy.recordings.repair import repair
from tests.unit.recordings.voices import Mixer, Speaker, kept, speech

BUFFER = 32768  # bytes, of the writer
BEGAN = 5000.0
DIED = BEGAN + 9.3


def broken_wav(whole: Samples) -> bytes:
    """What is on disk of a wav file whose writer was killed."""
    data = files.wav_header(0) + whole.astype("<i2").tobytes()
    return data[: len(data) // BUFFER * BUFFER]


def speakers(count: int, **options: object) -> list[Speaker]:
    return [
        Speaker(f"call{number} a", speech(number, 20.0), BEGAN - 1.0 + 0.0037 * number, seed=number, **options)  # type: ignore[arg-type]
        for number in range(1, count + 1)
    ]


def voices(people: list[Speaker], now: float = DIED + 0.1) -> list[Voice]:
    return [Voice(each.name, kept(each.packets(), now), []) for each in people]


def job(file: Path, heard: list[Voice]) -> Job:
    return Job(str(file), began_at=BEGAN, died_at=DIED, written_at=BEGAN + 1.0, voices=heard)


def samples_of(file: Path) -> Samples:
    with wave.open(str(file)) as source:  # a reader that believes the header
        assert (source.getframerate(), source.getnchannels(), source.getsampwidth()) == (RATE_HZ, 1, 2)
        return np.frombuffer(source.readframes(source.getnframes()), dtype="<i2").astype(np.int16)


@pytest.mark.parametrize("count", [1, 2, 5, 10])
@pytest.mark.parametrize("jitter_s", [0.0, 0.008])
def test_a_conference_is_completed_to_the_sample(tmp_path: Path, count: int, jitter_s: float) -> None:
    file = tmp_path / "room.wav"
    people = speakers(count, jitter_s=jitter_s)
    whole = Mixer(BEGAN).record(people, 9.3)
    file.write_bytes(broken_wav(whole))
    done = repair(job(file, voices(people)))
    repaired = samples_of(file)
    assert done.on_disk == (4 * BUFFER - 44) // 2
    assert len(repaired) == done.samples
    assert abs(len(repaired) - len(whole)) <= 400  # the death is not known to the sample
    both = min(len(repaired), len(whole)) - 2 * 160 * (jitter_s > 0)
    wrong = np.flatnonzero(repaired[:both] != whole[:both])
    assert not len(wrong), (wrong[0], len(wrong))
    assert done.found == count
    assert done.explained is not None and done.explained > 0.999


@pytest.mark.parametrize("suffix", [".ulaw", ".alaw", ".sln"])
def test_raw_files_are_completed_too(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"call{suffix}"
    people = speakers(1)
    whole = Mixer(BEGAN).record(people, 9.3)
    data = files.encoded(file, whole)
    file.write_bytes(data[: len(data) // BUFFER * BUFFER])
    done = repair(job(file, voices(people)))
    repaired = file.read_bytes()
    assert done.samples - done.on_disk > 0.1 * RATE_HZ
    both = min(len(repaired), len(data))
    assert abs(len(repaired) - len(data)) <= 2 * 400
    assert repaired[:both] == data[:both]


def test_both_sides_of_a_call_are_in_it(tmp_path: Path) -> None:
    """MixMonitor writes what the caller says and what he is told."""
    file = tmp_path / "call.wav"
    caller = Speaker("c a", speech(1, 20.0), BEGAN - 1.0)
    told = Speaker("c b1", speech(2, 20.0), BEGAN - 0.9, law=g711.PCMA, delay_s=0.001)
    whole = Mixer(BEGAN).record([caller, told], 9.3)
    file.write_bytes(broken_wav(whole))
    done = repair(job(file, voices([caller, told])))
    repaired = samples_of(file)
    both = min(len(repaired), len(whole))
    assert (repaired[:both] == whole[:both]).all()
    assert done.found == 2


def test_who_was_muted_is_not_in_it(tmp_path: Path) -> None:
    """Whether the control session knew it or not: what he said is not in the file either."""
    file = tmp_path / "room.wav"
    people = speakers(4)
    whole = Mixer(BEGAN).record(people[:3], 9.3)
    file.write_bytes(broken_wav(whole))
    done = repair(job(file, voices(people)))
    repaired = samples_of(file)
    both = min(len(repaired), len(whole))
    assert (repaired[:both] == whole[:both]).all()
    assert done.found == 3


def test_who_was_muted_and_begins_to_speak_after_the_last_sample_is_not_in_it(tmp_path: Path) -> None:
    file = tmp_path / "room.wav"
    people = speakers(3)
    whole = Mixer(BEGAN).record(people[:2], 9.3)
    file.write_bytes(broken_wav(whole))
    late = people[2]
    late.samples[: round((1.0 + 8.6) * RATE_HZ)] = 0
    late.__post_init__()
    heard = voices(people)
    heard[2].hushed.append((BEGAN, DIED + 10))
    repair(job(file, heard))
    repaired = samples_of(file)
    both = min(len(repaired), len(whole))
    assert (repaired[:both] == whole[:both]).all()


def test_who_begins_to_speak_after_the_last_sample_is_in_it_within_a_packet(tmp_path: Path) -> None:
    file = tmp_path / "room.wav"
    people = speakers(3)
    late = people[2]
    late.samples[: round((1.0 + 8.6) * RATE_HZ)] = 0
    late.__post_init__()
    whole = Mixer(BEGAN).record(people, 9.3)
    file.write_bytes(broken_wav(whole))
    repair(job(file, voices(people)))
    repaired = samples_of(file)
    both = min(len(repaired), len(whole))
    others = Mixer(BEGAN).record(people[:2], 9.3)[:both]
    mine, real = (each[:both].astype(int) - others for each in (repaired, whole))
    shifts = [int(np.abs(mine[400:-400] - np.roll(real, shift)[400:-400]).max()) for shift in range(-320, 321)]
    assert min(shifts) == 0
    assert np.abs(mine).max() > 500


@pytest.mark.parametrize("before_s", [3.0, 0.9, 0.6])
def test_a_mixer_that_was_given_a_packet_too_late_is_followed(tmp_path: Path, before_s: float) -> None:
    """From then on that speaker is a turn later in the recording; `before_s` before its last sample on disk."""
    file = tmp_path / "room.wav"
    people = speakers(5)
    whole = Mixer(BEGAN).record(people, 9.3)
    slow = Mixer(BEGAN).record(people[2:3], 9.3)
    at = round((65_514 / RATE_HZ - before_s) / 0.02) * 160
    shifted = np.concatenate((slow[:at], np.zeros(160, dtype=np.int16), slow[at:-160]))
    whole = (whole.astype(int) - slow + shifted).astype(np.int16)
    file.write_bytes(broken_wav(whole))
    repair(job(file, voices(people)))
    repaired = samples_of(file)
    both = min(len(repaired), len(whole)) - 160
    assert (repaired[:both] == whole[:both]).all()


def test_tones_are_placed_by_the_time_of_the_last_write(tmp_path: Path) -> None:
    file = tmp_path / "room.wav"
    hz = (440, 620)
    turns = np.arange(160_000) / RATE_HZ
    people = [
        Speaker(f"{each} a", (6000 * np.sin(2 * np.pi * each * turns)).astype(np.int16), BEGAN - 1.0) for each in hz
    ]
    whole = Mixer(BEGAN).record(people, 9.3)
    file.write_bytes(broken_wav(whole))
    on_disk = len(files.read(file))
    work = job(file, voices(people))
    work.written_at = BEGAN + on_disk / RATE_HZ
    done = repair(work)
    repaired = samples_of(file)
    assert abs(len(repaired) - len(whole)) <= 400
    assert done.found == 0
    end = repaired[on_disk : len(whole) - 800].astype(float)
    for each in hz:
        wave_of = np.exp(-2j * np.pi * each * np.arange(len(end)) / RATE_HZ)
        assert 2 * abs(np.dot(end, wave_of)) / len(end) == pytest.approx(6000, rel=0.05)


def test_a_file_of_which_nothing_was_on_disk_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "call.wav"
    file.touch()
    people = [Speaker("c a", speech(1, 20.0), BEGAN - 1.0)]
    died = BEGAN + 1.6
    done = repair(Job(str(file), BEGAN, died, BEGAN, voices(people, died + 0.1)))
    whole = Mixer(BEGAN).record(people, 1.6)
    repaired = samples_of(file)
    assert done.on_disk == 0
    assert abs(len(repaired) - len(whole)) <= 400
    likeness = np.correlate(repaired[800:8800].astype(float), whole[:9600].astype(float), mode="valid")
    assert len(likeness) and max(abs(likeness)) > 0.99 * float(repaired[800:8800].astype(float) @ repaired[800:8800])


def test_what_nobody_has_kept_is_a_hole_and_is_said(tmp_path: Path) -> None:
    file = tmp_path / "room.wav"
    people = speakers(2)
    whole = Mixer(BEGAN).record(people, 9.3)
    file.write_bytes(broken_wav(whole))
    on_disk = len(files.read(file))
    since = BEGAN + on_disk / RATE_HZ + 0.5
    heard = [Voice(each.name, [p for p in each.packets() if since < p[0] < DIED], []) for each in people]
    work = job(file, heard)
    work.written_at = BEGAN + on_disk / RATE_HZ
    done = repair(work)
    assert done.hole == pytest.approx(0.5 * RATE_HZ, abs=400)
    assert not files.read(file)[on_disk : on_disk + done.hole].any()


def test_a_whole_file_gets_nothing_but_its_header(tmp_path: Path) -> None:
    file = tmp_path / "room.wav"
    people = speakers(2)
    whole = Mixer(BEGAN).record(people, 9.3)
    file.write_bytes(files.wav_header(0) + whole.tobytes())
    done = repair(Job(str(file), BEGAN, DIED - 0.05, DIED, voices(people)))
    assert done.on_disk == done.samples == len(whole)
    assert (samples_of(file) == whole).all()


def test_the_time_until_the_next_file_is_filled(tmp_path: Path) -> None:
    """Nothing is missing, and nothing comes twice: the parts together are what one recorder would have written."""
    first, second, piece = (tmp_path / name for name in ("room.wav", "room.2.wav", "room.1-2.wav"))
    people = speakers(3)
    whole = Mixer(BEGAN).record(people, 16.0)
    first.write_bytes(broken_wav(Mixer(BEGAN).record(people, 9.3)))
    began = BEGAN + 10.1
    write(second, broken_wav(Mixer(began).record(people, 5.0)))
    work = job(first, voices(people, BEGAN + 15.0))
    work.voices = [Voice(each.name, kept(each.packets(), BEGAN + 14.0, 14.0), []) for each in people]
    work.next_file, work.next_at, work.piece_file = str(second), began, str(piece)
    done = repair(work)
    assert done.next_found == 3
    assert done.next_at == pytest.approx(began, abs=0.08)
    together = np.concatenate([samples_of(first), samples_of(piece), files.read(second)])
    for speaker in people:
        alone = speaker.said.astype(float)
        start = round((BEGAN + 2 - speaker.at) * RATE_HZ)
        words = alone[start : start + 11 * RATE_HZ]
        product = np.correlate(together.astype(float), words, mode="valid")
        assert max(product) > 0.97 * float(words @ words)
    assert len(together) == pytest.approx(len(whole[: round(10.1 * RATE_HZ)]) + len(files.read(second)), abs=800)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("room.gsm", b""),
        ("room.wav", b"no wav at all, and long enough for a header of it"),
        ("room.wav", b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data\0\0\0\0"),
        ("room.wav", b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0"),
    ],
)
def test_what_cannot_be_repaired_is_left_as_it_is(tmp_path: Path, name: str, data: bytes) -> None:
    file = tmp_path / name
    file.write_bytes(data)
    with pytest.raises(AudioFileError, match=name):
        repair(job(file, []))
    assert file.read_bytes() == data
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_backup_that_records_before_it_hears_anybody_is_helped(tmp_path: Path) -> None:
    """In its file is silence where people spoke already, to each other or to nobody."""
    first, second, piece = (tmp_path / name for name in ("room.wav", "room.2.wav", "room.then.wav"))
    people = speakers(3)
    first.write_bytes(broken_wav(Mixer(BEGAN).record(people, 9.3)))
    began, silent = BEGAN + 10.1, (5 * 160, 5 * 160, 9 * 160)
    parts = [Mixer(began).record([each], 5.0) for each in people]
    for part, until in zip(parts, silent, strict=True):
        part[:until] = 0
    second.write_bytes(broken_wav(np.sum(parts, axis=0).astype(np.int16)))
    work = job(first, voices(people, BEGAN + 15.0))
    work.voices = [Voice(each.name, kept(each.packets(), BEGAN + 14.0, 14.0), []) for each in people]
    work.next_file, work.next_at, work.piece_file = str(second), began, str(piece)
    done = repair(work)
    assert done.next_from == 9 * 160
    whole = Mixer(began).record(people, 5.0)
    assert abs(samples_of(piece)[-9 * 160 :] - whole[: 9 * 160].astype(int)).max() < 40  # who whispers is not judged


def test_a_next_file_that_began_before_the_death_is_not_heard_twice(tmp_path: Path) -> None:
    first, second, piece = (tmp_path / name for name in ("room.wav", "room.2.wav", "room.then.wav"))
    people = speakers(2)
    first.write_bytes(broken_wav(Mixer(BEGAN).record(people, 9.3)))
    began = DIED - 0.2
    second.write_bytes(broken_wav(Mixer(began).record(people, 5.0)))
    work = job(first, [Voice(each.name, kept(each.packets(), BEGAN + 14.0, 14.0), []) for each in people])
    work.next_file, work.next_at, work.piece_file = str(second), began, str(piece)
    done = repair(work)
    assert done.next_from == pytest.approx(0.2 * RATE_HZ, abs=400)
    assert not piece.exists()


@pytest.mark.parametrize("count", [4, 10])
def test_a_backup_whose_queues_settle_is_followed_to_its_beginning(tmp_path: Path, count: int) -> None:
    """As Asterisk's softmix does: each is heard from another turn on, and a turn or two later within the first second.
    What is put before its file must end where each speaker begins in it, not where he is later."""
    first, second, piece = (tmp_path / name for name in ("room.wav", "room.2.wav", "room.then.wav"))
    people = speakers(count)
    first.write_bytes(broken_wav(Mixer(BEGAN).record(people, 9.3)))
    began = BEGAN + 10.1
    rng = np.random.default_rng(count)
    ideal = np.zeros(40_000, dtype=int)
    late = np.zeros(40_000, dtype=int)
    for each in people:
        alone = Mixer(began).record([each], 5.0).astype(int)
        entry, settles, shift = (int(160 * value) for value in (rng.integers(5, 20), rng.integers(25, 60), 1))
        ideal += alone
        heard = np.concatenate((alone[:settles], np.zeros(shift, dtype=int), alone[settles:-shift]))
        heard[:entry] = 0
        late += heard
    second.write_bytes(broken_wav(np.clip(late, -32768, 32767).astype(np.int16)))
    work = job(first, [Voice(each.name, kept(each.packets(), BEGAN + 14.0, 14.0), []) for each in people])
    work.next_file, work.next_at, work.piece_file = str(second), began, str(piece)
    done = repair(work)
    assert done.next_found == count
    assert done.next_from >= 5 * 160
    assert done.next_at == pytest.approx(began, abs=0.08)
    beginning = samples_of(piece)[-done.next_from :].astype(int)
    wrong = beginning - ideal[: done.next_from]
    assert wrong @ wrong < 0.0005 * (beginning @ beginning)  # who whispers beside many others is not judged


def test_where_nothing_was_kept_silence_stands_for_it_and_is_said(tmp_path: Path) -> None:
    file = tmp_path / "room.wav"
    whole = Mixer(BEGAN).record(speakers(2), 9.3)
    file.write_bytes(broken_wav(whole))
    on_disk = len(files.read(file))
    work = job(file, [])
    work.written_at = BEGAN + on_disk / RATE_HZ
    done = repair(work)
    assert done.hole == done.samples - on_disk == pytest.approx(9.3 * RATE_HZ - on_disk, abs=2)
    assert not samples_of(file)[on_disk:].any()
