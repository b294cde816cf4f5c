"""What a synthetic call makes of what it hears."""

from __future__ import annotations

import numpy as np
import pytest

from media.probe.call import Outcome
from media.probe.ear import FRAME_S, Ear
from media.rtp.sound import silence, tone


def test_an_ear_hears_its_tone_and_measures_the_longest_hole() -> None:
    ear = Ear(850)
    for at in (*range(10), *range(20, 30)):
        ear.take(tone(850, 160), at * FRAME_S)
    assert (ear.first_at, ear.frames) == (0.0, 20)
    assert ear.longest_gap_s(29 * FRAME_S) == pytest.approx(10 * FRAME_S)
    assert ear.longest_gap_s(60 * FRAME_S) == pytest.approx(30 * FRAME_S)  # deaf until now


@pytest.mark.parametrize(
    "sound",
    [silence(160), tone(1000, 160), tone(850, 160, amplitude=50), np.zeros(0, np.int16)],
    ids=["silence", "another tone", "hardly audible", "nothing"],
)
def test_an_ear_takes_nothing_else_for_its_tone(sound: np.ndarray) -> None:
    ear = Ear(850)
    ear.take(sound, 1.0)
    assert ear.first_at is None and ear.longest_gap_s(5.0) == 0.0


def test_noise_is_not_a_tone() -> None:
    ear = Ear(850)
    rng = np.random.default_rng(1)
    for at in range(500):
        ear.take(rng.normal(0, 3000, 160).astype(np.int16), at * FRAME_S)
    assert ear.frames == 0


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (Outcome(408, 2.0), "not answered"),
        (Outcome(486, 0.1), "refused with 486"),
        (Outcome(200, 0.1), "answered, and not one packet came"),
        (Outcome(200, 0.1, packets=3, ended=True), "answered, 3 packets came without the tone, and it hung up"),
        (Outcome(200, 0.1, 50, 0.05, 0.02), "answered after 100 ms, heard after 50 ms, longest gap 20 ms"),
    ],
)
def test_an_outcome_says_what_was_wrong(outcome: Outcome, text: str) -> None:
    assert str(outcome) == text
