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
NEAR = RATE_HZ * 3 // 20
SHIFT = RATE_HZ * 3 // 50  # a mixer that misses a packet is three turns off at most, or two are in the queue
CLOSE = RATE_HZ  # the piece next to the cut, which counts when a lag has changed on the way
QUIET = 100.0  # power of a sample; below it there is nothing to be heard
PRESENT = 0.3  # share of a track's amplitude in the recording; with less it is not in it
UNCHANGED = (0.7, 1.3)
PLAIN = 0.08  # usual likeness, above which a track is like the recording everywhere: a tone

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
    places = {}
    for search in searches:
        near = search.near(at - lag) if clear else None
        place = Place(at - near if near is not None else lag, found=near is not None)
        place.judged = place.found or bool(clear and search.usual < PLAIN)
        places[search.track.name] = place
        if near is not None:
            place.lag = _closer(piece, at, search.track, place.lag, close_to_end=close_to_end)
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
        self._earliest = earliest
        self._likeness = np.abs(_likeness(piece, track.cut(earliest, latest + len(piece))))
        self.usual = float(np.median(self._likeness)) if len(self._likeness) else 0.0
        self.best = self._peak(0, len(self._likeness), CLEAR)

    def near(self, time: int) -> int | None:
        first = time - self._earliest - NEAR
        return self._peak(max(0, first), max(0, first + 2 * NEAR), CLEAR_NEAR)

    def _peak(self, first: int, last: int, clear: float) -> int | None:
        some = self._likeness[first:last]
        if not len(some):
            return None
        peak = int(np.argmax(some))
        return self._earliest + first + peak if some[peak] > clear * self.usual > 0 else None


def _likeness(piece: Samples, track: Samples) -> Floats:
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


def _sharpened(samples: Samples) -> Floats:
    """Speech is mostly low; its differences tell one moment from the next."""
    return np.diff(samples.astype(np.float64))


def _closer(piece: Samples, at: int, track: Track, lag: int, *, close_to_end: bool) -> int:
    """The lag next to the cut: the mixer may have been given a packet too late since."""
    first = max(0, len(piece) - CLOSE) if close_to_end else 0
    part = piece[first : first + CLOSE]
    begin = at + first - lag
    likeness = np.abs(_likeness(part, track.cut(begin - SHIFT, begin + SHIFT + len(part))))
    if not len(likeness):
        return lag
    peak, usual = int(np.argmax(likeness)), float(np.median(likeness))
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
