"""Where in time a piece of a recording was spoken, to the sample: by cross-correlation with the tracks of who spoke.

A recording is the sum of what was said, each speaker delayed by a little of his own (his packets wait for the mixer's
next turn). So each track has a lag of its own, found where the recording looks like it. All lags are near each other:
that settles doubtful ones, and gives those of speakers who were silent in the piece. How much of a track is in the
recording shows who was muted, or had his volume changed.

A track that sounds the same over and over (a tone) looks like itself everywhere; then time alone must do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from proxy.recordings.files import RATE_HZ, Floats, Samples
from proxy.recordings.tracks import Track
from proxy.recordings.turns import GONE, QUIET, Walker, follow

CLEAR = 9.0  # times the median of all lags: chance does not reach that among 100,000
CLEAR_NEAR = 6.5  # nor this among the few that are near
ENOUGH = RATE_HZ // 2  # samples that must have been said, for chance to be kept out
LIKE = 0.02  # and never less
NEAR = RATE_HZ * 3 // 20
CLOSE = 2 * RATE_HZ  # the piece next to the cut, through which everybody is followed
PRESENT = 0.3  # share of a track's amplitude in the recording; with less it is not in it
UNCHANGED = (0.7, 1.3)
PLAIN = 0.08  # usual likeness, above which a track is like the recording everywhere: a tone


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
    since: dict[str, int] = field(default_factory=dict)  # of those who are not in it from its beginning on

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
    if not clear:
        return _measured(Fit(lag, places), piece, at, tracks, [])
    _place_all(piece, at, tracks, places, NEAR)
    lag = _settle(places, lag)
    first = max(0, len(piece) - CLOSE) if close_to_end else 0
    close = piece[first : first + CLOSE]
    walkers = [Walker(track, places[track.name].lag) for track in tracks if places[track.name].found]
    follow(close, at + first, walkers, backwards=not close_to_end)
    for walker in walkers:
        places[walker.track.name].lag = walker.lag
    result = Fit(_settle(places, lag), places)
    _measured(result, piece, at, tracks, [])
    _measured(result, close, at + first, tracks, walkers)  # of those who speak there, this holds
    if not close_to_end:
        result.since = {walker.track.name: walker.present or 0 for walker in walkers if walker.gone}
        return result
    for walker in walkers:
        if walker.missed >= GONE:
            places[walker.track.name].gain = 0.0
    return result


def _settle(places: dict[str, Place], lag: int) -> int:
    """Who was not found is where the others are. The lag of all."""
    lag = round(float(np.median([place.lag for place in places.values() if place.found] or [lag])))
    for place in places.values():
        if not place.found:
            place.lag = lag
    return lag


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


def _place_all(piece: Samples, at: int, tracks: Sequence[Track], places: dict[str, Place], near: int) -> None:
    """Find them one after the other, near the lag that each has so far: who is found is taken away from the piece, so
    that quieter ones are found too, and an echo is not taken for the voice."""
    rest = piece.astype(np.float64)
    waiting = list(tracks)
    while waiting:
        found = []
        for track in waiting:
            peak = _peak(rest, track, at - places[track.name].lag, near)
            if peak is not None:
                found.append((*peak, track))
        if not found:
            return
        _, time, track = max(found, key=lambda each: each[0])
        waiting.remove(track)
        place = places[track.name]
        place.lag = at - time
        place.found = place.judged = True
        own = track.cut(time, time + len(rest)).astype(np.float64)
        rest -= min(max(float(rest @ own) / (float(own @ own) or 1.0), 0.0), 1.0) * own


def _peak(piece: Floats, track: Track, time: int, near: int) -> tuple[float, int] | None:
    """How like the piece the track is near that time, and where; None: not clearly."""
    likeness = _likeness(piece, track.cut(time - near, time + near + len(piece)))
    if not len(likeness):
        return None
    peak = int(np.argmax(likeness))
    there = time - near + peak
    if np.count_nonzero(track.cut(there, there + len(piece))) < min(ENOUGH, len(piece) // 4):
        return None
    clearly = max(CLEAR_NEAR * float(np.median(np.abs(likeness))), LIKE)
    return (float(likeness[peak]), there) if likeness[peak] > clearly else None


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


def _measured(result: Fit, piece: Samples, at: int, tracks: Sequence[Track], walkers: Sequence[Walker]) -> Fit:
    """How much of each is in the piece (least squares); of walkers, as they were followed."""
    placed = {walker.track.name: walker.heard for walker in walkers}
    for track in tracks:
        if track.name not in placed:
            begin = at - result.places[track.name].lag
            placed[track.name] = track.cut(begin, begin + len(piece)).astype(np.float64)
    heard = [(name, samples) for name, samples in placed.items() if float(samples @ samples) > QUIET * len(samples)]
    target = piece.astype(np.float64)
    power = float(target @ target)
    if not heard or power < QUIET * len(target):
        for name, _ in heard:  # the recording is silent although he spoke
            result.places[name].gain = 0.0
        return result
    matrix = np.stack([samples for _, samples in heard], axis=1)
    gains = np.linalg.lstsq(matrix, target, rcond=None)[0]
    rest = target - matrix @ gains
    result.explained = 1.0 - float(rest @ rest) / power
    for (name, _), gain in zip(heard, gains.tolist(), strict=True):
        place = result.places[name]
        if place.judged:
            place.gain = _gain(gain)
    return result


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
