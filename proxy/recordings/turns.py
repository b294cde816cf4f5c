"""A recording followed turn by turn to its cut: which packet of each speaker is in each 20 ms of it.

A mixer takes a packet of each speaker a turn. One that comes too late is left out, and from then on the speaker is a
turn later in the recording; a queue that is emptied makes him earlier again. With the phase known to the sample, there
are few things that can be in a turn, and what fits leaves nothing over. Where something else is in the recording that
nobody here has said, nothing fits, and all is taken to be as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from proxy.recordings.files import RATE_HZ, Floats, Samples
from proxy.recordings.tracks import Track

TURN = RATE_HZ // 50
SHIFTS = (-2 * TURN, -TURN, TURN, 2 * TURN)
QUIET = 100.0  # power of a sample; below it there is nothing to be heard
CLEAN = 0.002  # share of a turn's power that may be left over, by rounding
BETTER = 0.97  # a change must leave less than that of what was left over
FITS = 0.15  # and all changes together less than that of the turn
COLUMNS_MAX = 110  # of 160 samples
SURE = 0.5  # of his power, where not everything can be explained
GONE = 25  # turns: who was not there for so long at the end was muted


@dataclass(slots=True)
class Walker:
    """One speaker. `heard` is what there is of him in each turn that was passed."""

    track: Track
    lag: int
    heard: Floats = field(default_factory=lambda: np.zeros(0))
    gone: bool = False
    missed: int = 0  # turns in a row in which he should have been heard
    present: int | None = None  # the turn in which he was heard last, on the way

    def says(self, begin: int, lag: int | None) -> Floats:
        """In the turn that begins at sample `begin` of the recording."""
        if lag is None:
            return np.zeros(TURN)
        return self.track.cut(begin - lag, begin - lag + TURN).astype(np.float64)


def follow(piece: Samples, at: int, walkers: Sequence[Walker], *, backwards: bool) -> None:
    """`piece` is at sample `at` of the recording. They are followed to its end, or `backwards` to its beginning."""
    for walker in walkers:
        walker.heard = walker.track.cut(at - walker.lag, at - walker.lag + len(piece)).astype(np.float64)
    turns = range((-at) % TURN, len(piece) - TURN + 1, TURN)
    for first in reversed(turns) if backwards else turns:
        _pass(piece[first : first + TURN].astype(np.float64), at + first, first, walkers)


@dataclass(slots=True)
class _Guess:
    """What may be in a turn: the lag of each, None for who is not in it; and what would be left over."""

    lags: list[int | None]
    said: list[Floats]
    rest: Floats

    @property
    def left(self) -> float:
        return float(self.rest @ self.rest)


def _pass(turn: Floats, begin: int, first: int, walkers: Sequence[Walker]) -> None:
    power = float(turn @ turn)
    clean = CLEAN * power + QUIET * TURN
    as_it_was = _guess(turn, begin, walkers, [None if walker.gone else walker.lag for walker in walkers])
    best = as_it_was
    if best.left > clean:
        solved = _solved(turn, begin, walkers, as_it_was.lags)
        if solved is not None:
            best = min(best, solved, key=lambda each: each.left)
    if best.left > clean:
        best = _improved(best, begin, walkers, clean)
    if best.left > clean:  # many of them may be gone at once
        other = _improved(_guess(turn, begin, walkers, [None] * len(walkers)), begin, walkers, clean)
        best = min(best, other, key=lambda each: each.left)
    if best.left > FITS * power + QUIET * TURN:  # somebody else is in it: what is beyond doubt, and no more
        best = _improved(as_it_was, begin, walkers, clean, doubt=True)
    for walker, lag, samples in zip(walkers, best.lags, best.said, strict=True):
        _note(walker, lag, samples, begin, first)


def _guess(turn: Floats, begin: int, walkers: Sequence[Walker], lags: list[int | None]) -> _Guess:
    said = [walker.says(begin, lag) for walker, lag in zip(walkers, lags, strict=True)]
    return _Guess(lags, said, turn - sum(said, np.zeros(TURN)))


def _solved(turn: Floats, begin: int, walkers: Sequence[Walker], lags: Sequence[int | None]) -> _Guess | None:
    """All that may be in the turn, at once (least squares): what is in it has the factor 1, what is not 0. None: there
    are too many possibilities for so few samples."""
    options: list[tuple[int, int]] = []  # who, and at which lag
    columns = []
    for place, walker in enumerate(walkers):
        for lag in (walker.lag, *(walker.lag + shift for shift in SHIFTS)):
            samples = walker.says(begin, lag)
            if float(samples @ samples) >= QUIET * TURN:
                options.append((place, lag))
                columns.append(samples)
    if not columns or len(columns) > COLUMNS_MAX:
        return None
    factors = np.linalg.lstsq(np.stack(columns, axis=1), turn, rcond=None)[0].tolist()
    solved = list(lags)
    most = [0.5] * len(walkers)
    for place, _ in options:
        solved[place] = None
    for (place, lag), factor in zip(options, factors, strict=True):
        if factor > most[place]:
            most[place], solved[place] = factor, lag
    return _guess(turn, begin, walkers, solved)


def _improved(guess: _Guess, begin: int, walkers: Sequence[Walker], clean: float, *, doubt: bool = False) -> _Guess:
    """One change after the other, always the one that leaves least. In `doubt`, only that somebody is not in it, or is
    again, and what is left must be less by as much as he says."""
    for _ in range(2 * len(walkers)):
        if guess.left <= clean:
            break
        best: tuple[float, _Guess] | None = None
        for place, walker in enumerate(walkers):
            now = guess.lags[place]
            for lag in _choices(walker, now) if not doubt else [None if now is not None else walker.lag]:
                samples = walker.says(begin, lag)
                change = guess.said[place] - samples
                rest = guess.rest + change
                left = float(rest @ rest)
                if doubt and guess.left - left < SURE * float(change @ change):
                    continue
                if left < (best[0] if best is not None else BETTER * guess.left):
                    lags, said = guess.lags.copy(), guess.said.copy()
                    lags[place], said[place] = lag, samples
                    best = left, _Guess(lags, said, rest)
        if best is None:
            break
        guess = best[1]
    return guess


def _choices(walker: Walker, lag: int | None) -> list[int | None]:
    """What else there may be of him in a turn."""
    return [each for each in (None, walker.lag, *(walker.lag + shift for shift in SHIFTS)) if each != lag]


def _note(walker: Walker, lag: int | None, samples: Floats, begin: int, first: int) -> None:
    if lag is not None:
        walker.lag, walker.gone = lag, False
    elif not walker.gone:
        walker.gone = True
    walker.heard[first : first + TURN] = samples
    silent = walker.says(begin, walker.lag)
    if float(silent @ silent) < QUIET * TURN:
        return
    if walker.gone:
        walker.missed += 1
    else:
        walker.missed, walker.present = 0, first
