"""The measure of what is missing: it sees 20 ms that are, and nothing where nothing is."""

from __future__ import annotations

import numpy as np

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


def test_who_is_not_there_at_all_is_missing() -> None:
    said, recording = conversation(2)
    said["c9"] = spoken(speech(99, 12.0), 0, 600)
    assert len(missing(recording, said).frames["c9"]) > 300
