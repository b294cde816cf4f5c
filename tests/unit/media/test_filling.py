"""Comfort noise and prompts, and acts at their time."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest

from media.relay.pace import LATE_S, Pace
from media.rtp import g711
from media.rtp.filling import LEVEL_DBOV, noise, prompt
from media.rtp.sound import level, tone


def write(file: Path, rate: int, channels: int, width: int, frames: bytes) -> Path:
    with wave.open(str(file), "wb") as sound:
        sound.setframerate(rate)
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.writeframes(frames)
    return file


@pytest.mark.parametrize(("law", "number"), [("PCMU", g711.PCMU), ("PCMA", g711.PCMA)])
def test_comfort_noise_is_as_low_as_it_says(law: str, number: int) -> None:
    sounding = level(g711.decode(noise().piece(law, 0, 4000), number))
    wanted = 32768 * 10 ** (LEVEL_DBOV / 20)
    assert wanted / 1.3 < sounding < wanted * 1.3


def test_a_prompt_is_played_from_any_place_and_repeated(tmp_path: Path) -> None:
    samples = tone(400, 1000)
    sound = prompt(write(tmp_path / "prompt.wav", 8000, 1, 2, samples.tobytes()))
    expected = g711.encode(samples)
    assert sound.piece("PCMU", 0, 160) == expected[:160]
    assert sound.piece("PCMU", 900, 160) == expected[900:] + expected[:60]
    assert sound.piece("PCMU", 5900, 2160) == expected[900:] + expected * 2 + expected[:60]


@pytest.mark.parametrize(
    ("rate", "channels", "width", "frames", "problem"),
    [
        (16000, 1, 2, bytes(4), "must be 8 kHz"),
        (8000, 2, 2, bytes(4), "must be 8 kHz"),
        (8000, 1, 1, bytes(4), "must be 8 kHz"),
        (8000, 1, 2, b"", "is empty"),
    ],
)
def test_a_file_that_cannot_be_played_is_named(
    tmp_path: Path, rate: int, channels: int, width: int, frames: bytes, problem: str
) -> None:
    with pytest.raises(ValueError, match=rf"prompt .*wrong.wav: {problem}"):
        prompt(write(tmp_path / "wrong.wav", rate, channels, width, frames))


def test_no_file_and_no_wav_are_named_too(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("hello")
    for name in ("text.wav", "absent.wav"):
        with pytest.raises(ValueError, match=name):
            prompt(tmp_path / name)


def test_acts_come_in_the_order_of_their_times_until_they_are_over() -> None:
    pace, done = Pace(), []

    def act(name: str, last: float) -> None:
        def at(due: float, now: float) -> float | None:
            done.append((name, round(due, 2)))
            return due + 0.02 if due + 0.02 < last else None

        pace.add(1.0 if name == "a" else 1.01, at)

    act("a", 1.05)
    act("b", 1.02)
    pace.run(0.9)
    assert (done, pace.due) == ([], 1.0)
    pace.run(1.0)
    assert done == [("a", 1.0)]
    pace.run(1.05)
    assert done == [("a", 1.0), ("b", 1.01), ("a", 1.02), ("a", 1.04)]
    assert pace.due == float("inf")


def test_what_was_missed_in_a_long_stall_is_not_made_up_for() -> None:
    pace, done = Pace(), []

    def act(due: float, now: float) -> float:
        done.append(due)
        return due + 0.02

    pace.add(1.0, act)
    pace.run(1.0 + LATE_S + 1.0)
    assert done == [2.0 + LATE_S]
