"""The measure of what is missing: it sees 20 ms that are, and nothing where nothing is."""

from __future__ import annotations

import numpy as np
import pytest

from tests.testbed.recorded import AUDIBLE, Samples, missing, speech, spoken

LAGS = (4000, 4160, 4037, 4400, 4001, 4222, 4333, 4444, 4555, 4666)


def conversation(count: int) -> tuple[dict[str, Samples], Samples]:
    said = {f"c{number}": spoken(speech(number, 12.0), 0, 600) for number in range(count)}
    recording = np.zeros(12 * 8000 + 8000)
    for samples, lag in zip(said.values(), LAGS, strict=False):
        recording[lag : lag + len(samples)] += samples
    return said, recording


def test_nothing_is_missing() -> None:
    for count in (1, 10):
        said, recording = conversation(count)
        assert missing(recording, said).most_ms == 0.0


def test_twenty_milliseconds_of_one_of_ten_are_found() -> None:
    said, recording = conversation(10)
    loud = max(range(300, 400), key=lambda frame: float(np.abs(said["c3"][frame * 160 : frame * 160 + 160]).sum()))
    recording[LAGS[3] + loud * 160 : LAGS[3] + loud * 160 + 160] -= said["c3"][loud * 160 : loud * 160 + 160]
    found = missing(recording, said)
    assert found.frames == {**{name: [] for name in said}, "c3": [loud]}
    assert found.most_ms == 20.0


def test_what_was_cut_out_is_missing_and_what_was_put_in_is_not() -> None:
    said, recording = conversation(3)
    cut = missing(np.concatenate((recording[:40_000], recording[46_000:])), said)
    for lag, (name, samples) in zip(LAGS, said.items(), strict=False):
        frames = range((40_000 - lag) // 160, (46_000 - lag) // 160)
        audible = [each for each in frames if np.sqrt((samples[each * 160 : each * 160 + 160] ** 2).mean()) > AUDIBLE]
        assert 0.6 * len(audible) <= len(cut.frames[name]) <= 1.5 * len(audible)  # beside a cut some are doubtful
    longer = missing(np.concatenate((recording[:40_000], np.zeros(3000), recording[40_000:])), said)
    assert longer.most_ms <= 40.0


def one_after_the_other(said: dict[str, Samples], before: dict[str, int], at: int, after: int) -> Samples:
    """A recording by two backends: the second one has everybody at the same lag, from frame `at` on."""
    recording = np.zeros(16 * 8000)
    for name, samples in said.items():
        for first, last, lag in ((0, at * 160, before[name]), (at * 160, len(samples), after)):
            recording[first + lag : last + lag] += samples[first:last]
    return recording


@pytest.mark.parametrize("at", range(200, 240, 5))
def test_people_who_are_all_moved_at_once_are_not_missing(at: int) -> None:
    said = {f"c{number}": spoken(speech(number, level=1000.0), 0, 560) for number in range(4)}
    before = {"c0": 33_280, "c1": 33_120, "c2": 33_120, "c3": 32_800}
    recording = one_after_the_other(said, before, at, 33_440)
    assert missing(recording, said).most_ms == 0.0
    frame = said["c2"][at * 160 : at * 160 + 160]
    recording[at * 160 + 33_440 : at * 160 + 33_600] -= frame
    assert missing(recording, said).most_ms == (20.0 if np.sqrt((frame**2).mean()) > AUDIBLE else 0.0)


def test_who_says_little_when_he_is_moved_is_not_looked_for_where_he_said_it_louder() -> None:
    said = {f"c{number}": spoken(speech(number, level=1000.0), 0, 560) for number in range(4)}
    frames = max(said.values(), key=lambda each: float(np.abs(each[372 * 160 : 375 * 160]).sum())).reshape(-1, 160)
    loud = max(range(330, 350), key=lambda frame: float(np.abs(frames[frame]).sum()))
    frames[375:400] = 0.0  # half a second
    frames[375] = 0.4 * frames[loud]
    recording = one_after_the_other(said, dict.fromkeys(said, 33_440), 372, 33_760)
    assert missing(recording, said).most_ms == 0.0


def test_who_is_not_there_at_all_is_missing() -> None:
    said, recording = conversation(2)
    said["c9"] = spoken(speech(99, 12.0), 0, 600)
    assert len(missing(recording, said).frames["c9"]) > 300
