"""A broken segment is completed with what the relay has kept; what was said until the next one began is a piece of
its own.

    tail of the file --(alignment)--> lag of each track --> what is missing up to the death, appended
    head of the next file --(alignment)--> when it began --> what was said until then, a file beside it

What is on disk stays as it is, sample by sample; what is added begins with the very next one. In the piece nobody's
words are shortened: where speakers are delayed differently by the two backends the longest decides.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from proxy.recordings import files
from proxy.recordings.alignment import CLOSE, Fit, fit, mixed
from proxy.recordings.disk import write
from proxy.recordings.files import RATE_HZ, AudioFileError, Floats, Samples
from proxy.recordings.job import Job, Repaired, Voice
from proxy.recordings.tracks import Track, track

TAIL = 4 * RATE_HZ  # of a file, to be found in what was kept
LATE = RATE_HZ * 3 // 10  # the death was noticed so much later at most than the last sample was spoken
TRANSIT = RATE_HZ  # through a backend, at most
PIECE_MAX = 600 * RATE_HZ


def repair(job: Job) -> Repaired:
    """Raises AudioFileError, OSError."""
    file = Path(job.file)
    there = files.read(file)
    tracks = {voice.name: _track(voice) for voice in job.voices}
    speaking = _speaking(job, tracks)
    tail = _tail(job, there, speaking)
    begin, end = len(there), max(len(there), round(job.died_at * RATE_HZ) + tail.lag)
    kept_from = min((each.begin + tail.lag for each in speaking if len(each.samples)), default=end)
    whole = np.concatenate((there, mixed(speaking, tail, begin, end)))
    done = Repaired(
        on_disk=begin, samples=end, ended_at=(end - tail.lag) / RATE_HZ, voices=len(speaking), found=tail.found,
        explained=tail.explained, hole=max(0, min(kept_from, end) - begin),
        undecoded=sum(each.undecoded for each in tracks.values()),
    )  # fmt: skip
    write(file, files.encoded(file, whole))
    if job.next_file:
        try:
            _bridge(job, speaking, tail, end, done)
        except (AudioFileError, OSError) as error:
            done.problem = str(error)
    return done


def _track(voice: Voice) -> Track:
    result = track(voice.name, voice.packets)
    for since, until in voice.hushed:
        result.hush(round(since * RATE_HZ), round(until * RATE_HZ))
    return result


def _speaking(job: Job, tracks: dict[str, Track]) -> list[Track]:
    """Who was heard through a leg is heard himself from its end on; through the next leg he is heard in its file."""
    died, result = round(job.died_at * RATE_HZ), tracks.copy()
    for voice in job.voices:
        legs = [tracks[name] for name in voice.instead_of if name in tracks]
        before = [leg for leg in legs if leg.begin < died and len(leg.samples)]
        if before:
            leg = max(before, key=lambda each: each.begin)
            for each in (tracks[voice.name], *legs):
                if each is not leg:
                    result.pop(each.name, None)
            result[leg.name] = _continued(result[leg.name], leg.end, tracks[voice.name])
    return list(result.values())


def _continued(leg: Track, end: int, himself: Track) -> Track:
    """Of those who were heard through it one after the other all but the last are silent since then."""
    last = leg.cut(max(leg.begin, end - TAIL), end)
    at = end - len(last)
    lag = fit(last, at, [himself], at - TRANSIT, at, by_time=0, close_to_end=True).lag
    samples = leg.cut(leg.begin, max(leg.end, himself.end + lag))
    samples[end - leg.begin :] += himself.cut(end - lag, leg.begin + len(samples) - lag)
    return Track(leg.name, leg.begin, samples)


def _tail(job: Job, there: Samples, tracks: list[Track]) -> Fit:
    """How the end of the file lies in time."""
    if not len(there):
        return fit(there, 0, tracks, 0, 0, by_time=-round(job.began_at * RATE_HZ), close_to_end=True)
    tail = there[-TAIL:]
    at = len(there) - len(tail)
    kept_from = min((each.begin for each in tracks if len(each.samples)), default=0)
    latest = round(job.died_at * RATE_HZ) + LATE - len(tail)
    by_time = len(there) - round(job.written_at * RATE_HZ)
    earliest = min(kept_from - len(tail) + CLOSE, latest)
    return fit(tail, at, tracks, earliest, latest, by_time=by_time, close_to_end=True)


def _bridge(job: Job, tracks: list[Track], tail: Fit, end: int, done: Repaired) -> None:
    """What was said from the end of the file, at sample `end`, until the next one has everybody."""
    head = files.read(Path(job.next_file))[job.next_skip :][:TAIL]
    died = round(job.died_at * RATE_HZ)
    kept_until = max((each.end for each in tracks if len(each.samples)), default=died)
    latest = max(died, kept_until - CLOSE)
    begins = fit(head, 0, tracks, died - LATE, latest, by_time=-round(job.next_at * RATE_HZ), close_to_end=False)
    done.next_at, done.next_found = -begins.lag / RATE_HZ, begins.found
    # Each speaker is in the piece up to his own place in time at which the next file begins.
    own = {name: place.lag - begins.places[name].lag - end for name, place in tail.places.items() if place.gain}
    found = [own[name] for name in own if begins.places[name].found]
    length = min(max([tail.lag - begins.lag - end, *found]), PIECE_MAX)
    total = np.zeros(max(0, length), dtype=np.float64)
    for each in tracks:
        until = min(length, own.get(each.name, 0))
        if until > 0:
            place = tail.places[each.name]
            total[:until] += place.gain * each.cut(end - place.lag, end - place.lag + until)
    twice = min(max(0, -length), len(head))  # it began before the other one ended
    beginning = _beginning(head, [each for each in tracks if each.name in own], begins)
    done.next_from = max(twice, len(beginning))
    total = np.concatenate((total, beginning[twice:]))
    if not len(total) or not job.piece_file:
        return
    piece = np.clip(np.rint(total), -32768, 32767).astype(np.int16)
    target = Path(job.piece_file)
    write(target, files.encoded(target, piece))
    done.piece = len(piece)


def _beginning(head: Samples, tracks: list[Track], begins: Fit) -> Floats:
    """The beginning of the next file, up to where everybody is in it: a backend may record before it hears anybody."""
    since = begins.since
    result = head[: max(since.values(), default=0)].astype(np.float64)
    for each in tracks:
        until = since.get(each.name, 0)
        if until:
            place = begins.places[each.name]
            result[:until] += each.cut(-place.lag, until - place.lag)
    return result
