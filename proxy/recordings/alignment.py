"""Where in time a piece of a recording was spoken, to the sample: by cross-correlation with the tracks of who spoke.

A recording is the sum of what was said, each speaker delayed by a little of his own (his packets wait for the mixer's
next turn). So each track has a lag of its own, found where the recording looks like it. All lags are near each other:
that settles doubtful ones, and gives those of speakers who were silent in the piece. How much of a track is in the
recording shows who was muted, or had his volume changed.

A track that sounds the same over and over (a tone) looks like itself everywhere; then time alone must do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proxy.recordings.files import RATE_HZ, Samples
from proxy.recordings.tracks import Track

CLEAR = 9.0  # times the median of all lags: chance does not reach that among 100,000
CLEAR_NEAR = 6.5  # nor this among the few that are near
ENOUGH = RATE_HZ // 2  # samples that must have been said, for chance to be kept out
LIKE = 0.02  # and never less
NEAR = RATE_HZ * 3 // 20
SHIFT = RATE_HZ * 3 // 50  # a mixer that misses a packet is three turns off at most, or two are in the queue
CLOSE = RATE_HZ  # the piece next to the cut, which counts when a lag has changed on the way
VERY_CLOSE = RATE_HZ * 3 // 10
SHARPENINGS = 2
BETTER = 0.5  # so much is left over at most of what was, and of what he says
QUIET = 100.0  # power of a sample; below it there is nothing to be heard
PRESENT = 0.3  # share of a track's amplitude in the recording; with less it is not in it
UNCHANGED = (0.7, 1.3)
PLAIN = 0.08  # usual likeness, above which a track is like the recording everywhere: a tone

FRAME = RATE_HZ // 50
LEAD = 2 * RATE_HZ  # by then everybody is in a recording who will be
THERE = 0.5  # of a turn's amplitude

Floats = NDArray[np.float64]


@dataclass(slots=True)
class Place:
    """A track in a recording: sample t of CLOCK_MONOTONIC is sample `t + lag` of the recording, times `gain`."""

    lag: int
    gain: float = 1.0
    found: bool = False  # by its sound; else it is placed by time
    judged: bool = False  # were it in the recording, it would have been found


@dataclass(slots=True)
class Fit:
    """`explained`: the share of the piece's power that the tracks are the reason of; None: it is silent."""

    lag: int
    places: dict[str, Place]
    explained: float | None = None

    @property
    def found(self) -> int:
        return sum(place.found for place in self.places.values())


def fit(
    piece: Samples, at: int, tracks: Sequence[Track], earliest: int, latest: int, *, by_time: int, close_to_end: bool
) -> Fit:
    """`piece` is at sample `at` of the recording, and began between `earliest` and `latest`. `by_time` is the lag that
    the clock suggests. What counts most is its end, or its beginning."""
    searches = [_Search(piece, track, earliest, latest) for track in tracks]
    clear = [search.best for search in searches if search.best is not None]
    lag = at - round(float(np.median(clear))) if clear else by_time
    places = {search.track.name: Place(lag, judged=bool(clear and search.usual < PLAIN)) for search in searches}
    if clear:
        _place_all(piece, at, searches, lag, places, close_to_end=close_to_end)
        first = max(0, len(piece) - VERY_CLOSE) if close_to_end else 0
        _sharpen(piece[first : first + VERY_CLOSE], at + first, tracks, places)
    if clear:  # the lags of the others are those that were found, at the cut
        lag = round(float(np.median([place.lag for place in places.values() if place.found] or [lag])))
        for place in places.values():
            if not place.found:
                place.lag = lag
    result = Fit(lag, places)
    first = max(0, len(piece) - CLOSE) if close_to_end else 0
    _measure(piece, at, tracks, result)
    _measure(piece[first : first + CLOSE], at + first, tracks, result)  # of those who speak there, this holds
    return result


class _Search:
    """One track, everywhere that the piece may have been spoken. `best` is where it clearly is, or None."""

    def __init__(self, piece: Samples, track: Track, earliest: int, latest: int) -> None:
        self.track = track
        likeness = _likeness(piece, track.cut(earliest, latest + len(piece)))
        self.usual = float(np.median(np.abs(likeness))) if len(likeness) else 0.0
        self.best: int | None = None
        if len(likeness):
            peak = int(np.argmax(likeness))
            if likeness[peak] > max(CLEAR * self.usual, LIKE):
                self.best = earliest + peak

    def near(self, piece: Floats, time: int) -> tuple[float, int] | None:
        """How like the piece it is near that time, and where; None: not clearly."""
        earliest = time - NEAR
        likeness = _likeness(piece, self.track.cut(earliest, time + NEAR + len(piece)))
        if not len(likeness):
            return None
        peak = int(np.argmax(likeness))
        if np.count_nonzero(self.track.cut(earliest + peak, earliest + peak + len(piece))) < ENOUGH:
            return None
        clearly = max(CLEAR_NEAR * float(np.median(np.abs(likeness))), LIKE)
        return (float(likeness[peak]), earliest + peak) if likeness[peak] > clearly else None


def _place_all(
    piece: Samples, at: int, searches: Sequence[_Search], lag: int, places: dict[str, Place], *, close_to_end: bool
) -> None:
    """Find them one after the other, near a lag that holds for all: who is found is taken away from the piece, so that
    quieter ones are found too, and an echo is not taken for the voice."""
    rest = piece.astype(np.float64)
    waiting = list(searches)
    while waiting:
        found = [(*near, search) for search in waiting if (near := search.near(rest, at - lag)) is not None]
        if not found:
            return
        _, time, search = max(found, key=lambda each: each[0])
        waiting.remove(search)
        place = places[search.track.name]
        place.lag = _closer(rest, at, search.track, at - time, close_to_end=close_to_end)
        place.found = place.judged = True
        own = search.track.cut(at - place.lag, at - place.lag + len(rest)).astype(np.float64)
        rest -= min(max(float(rest @ own) / (float(own @ own) or 1.0), 0.0), 1.0) * own


def _sharpen(part: Samples, at: int, tracks: Sequence[Track], places: dict[str, Place]) -> None:
    """Right at the cut, what is not explained by the others must be this one's: where is least left over?"""
    heard = [track for track in tracks if places[track.name].found]
    size = len(part)

    def said(track: Track) -> Floats:
        begin = at - places[track.name].lag
        return track.cut(begin, begin + size).astype(np.float64)

    rest = part.astype(np.float64) - sum((said(track) for track in heard), np.zeros(size))
    for _ in range(SHARPENINGS):
        for track in heard:
            own = said(track)
            mine, begin = rest + own, at - places[track.name].lag
            around = track.cut(begin - SHIFT, begin + SHIFT + size).astype(np.float64)
            sums = np.concatenate(([0.0], np.cumsum(around * around)))
            power = sums[size:] - sums[:-size]
            left = float(mine @ mine) - 2 * np.correlate(around, mine, "valid") + power
            best = int(np.argmin(left))
            if left[best] < BETTER * left[SHIFT] and left[best] < BETTER * power[best]:
                places[track.name].lag -= best - SHIFT
                rest = mine - said(track)


def _likeness(piece: Samples | Floats, track: Samples) -> Floats:
    """Normalised correlation of the piece with the track, for each place where it may begin."""
    needle, hay = _sharpened(piece), _sharpened(track)
    if len(needle) < 2 or len(hay) < len(needle):
        return np.zeros(0)
    size = 1 << (len(hay) + len(needle) - 1).bit_length()
    spectrum = np.fft.rfft(hay, size) * np.conj(np.fft.rfft(needle, size))
    places = len(hay) - len(needle) + 1
    product: Floats = np.fft.irfft(spectrum, size)[:places]
    sums = np.concatenate(([0.0], np.cumsum(hay * hay)))
    power = sums[len(needle) :] - sums[: -len(needle)] + QUIET * len(needle)
    own = float(needle @ needle) + QUIET * len(needle)
    likeness: Floats = product / np.sqrt(power * own)
    return likeness


def _sharpened(samples: Samples | Floats) -> Floats:
    """Speech is mostly low; its differences tell one moment from the next."""
    return np.diff(samples.astype(np.float64))


def _closer(piece: Floats, at: int, track: Track, lag: int, *, close_to_end: bool) -> int:
    """The lag next to the cut: the mixer may have been given a packet too late since."""
    first = max(0, len(piece) - CLOSE) if close_to_end else 0
    part = piece[first : first + CLOSE]
    begin = at + first - lag
    likeness = _likeness(part, track.cut(begin - SHIFT, begin + SHIFT + len(part)))
    if not len(likeness):
        return lag
    peak, usual = int(np.argmax(likeness)), float(np.median(np.abs(likeness)))
    if likeness[peak] > CLEAR_NEAR * usual > 0 and likeness[peak] > 2 * likeness[SHIFT]:
        return lag - (peak - SHIFT)
    return lag


def _measure(piece: Samples, at: int, tracks: Sequence[Track], result: Fit) -> None:
    """How much of each is in the piece (least squares)."""
    heard = []
    for track in tracks:
        begin = at - result.places[track.name].lag
        samples = track.cut(begin, begin + len(piece)).astype(np.float64)
        if len(samples) and float(samples @ samples) > QUIET * len(samples):
            heard.append((track.name, samples))
    target = piece.astype(np.float64)
    power = float(target @ target)
    if not heard or power < QUIET * len(target):
        for name, _ in heard:  # the recording is silent although he spoke
            result.places[name].gain = 0.0
        return
    matrix = np.stack([samples for _, samples in heard], axis=1)
    gains = np.linalg.lstsq(matrix, target, rcond=None)[0]
    rest = target - matrix @ gains
    result.explained = 1.0 - float(rest @ rest) / power
    for (name, _), gain in zip(heard, gains.tolist(), strict=True):
        place = result.places[name]
        if place.judged:
            place.gain = _gain(gain)


def entries(piece: Samples, tracks: Sequence[Track], places: Fit) -> dict[str, int]:
    """From which sample on each track is in the piece, where he could be heard in it before: a turn of the mixer has
    the whole of his packet or nothing."""
    since = {track.name: 0 for track in tracks}
    waiting = {track.name for track in tracks if places.places[track.name].found}
    absent: set[str] = set()
    for begin in range(0, min(len(piece), LEAD) - FRAME + 1, FRAME):
        turn = piece[begin : begin + FRAME].astype(np.float64)
        heard = []
        for track in tracks:
            at = begin - places.places[track.name].lag
            samples = track.cut(at, at + FRAME).astype(np.float64)
            if float(samples @ samples) > QUIET * FRAME:
                heard.append((track.name, samples))
        if not heard:
            continue
        gains = np.linalg.lstsq(np.stack([samples for _, samples in heard], axis=1), turn, rcond=None)[0].tolist()
        for (name, _), gain in zip(heard, gains, strict=True):
            if name in waiting and gain > THERE:
                waiting.discard(name)
                since[name] = begin if name in absent else 0
            else:
                absent.add(name)
        if not waiting:
            break
    return since


def _gain(measured: float) -> float:
    if measured < PRESENT:
        return 0.0
    return 1.0 if UNCHANGED[0] <= measured <= UNCHANGED[1] else min(measured, 4.0)


def mixed(tracks: Sequence[Track], result: Fit, begin: int, end: int) -> Samples:
    """The recording from sample `begin` to `end`, as a mixer would have made it."""
    total = np.zeros(max(0, end - begin), dtype=np.float64)
    for track in tracks:
        place = result.places[track.name]
        if place.gain:
            total += place.gain * track.cut(begin - place.lag, end - place.lag)
    return np.clip(np.rint(total), -32768, 32767).astype(np.int16)
