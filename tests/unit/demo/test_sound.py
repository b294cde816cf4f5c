"""Tones and the ear, the conference mixer, and what a caller says it heard."""

from __future__ import annotations

import numpy as np
import pytest

from media.rtp.g711 import PACKET_SAMPLES, PCMA, PCMU, decode, encode
from proxy.demo.conference import PARTIES_MAX, Conference, Party
from proxy.demo.hearing import Hearing
from proxy.demo.tones import SILENCE, Ear, frame

EAR = Ear((450, 600, 700, 850, 1000, 1300))


@pytest.mark.parametrize("codec", [PCMU, PCMA])
def test_the_ear_names_a_tone_in_both_codecs(codec: int) -> None:
    assert EAR.hear(frame(1000, codec), codec) == {1000}
    assert EAR.hear(frame(1300, codec), codec) == {1300}


def test_the_ear_hears_nothing_in_silence_noise_and_strange_frames() -> None:
    noise = np.random.default_rng(1).normal(0, 2000, PACKET_SAMPLES).astype(np.int16)
    assert not EAR.hear(SILENCE[PCMU])
    assert not EAR.hear(encode(noise))
    assert not EAR.hear(frame(1000)[:80])
    assert not EAR.hear(frame(1000), 18)
    assert not EAR.hear(frame(2000))  # a tone that it does not know


@pytest.mark.parametrize("hz", [0, 440, 4000, -50])
def test_a_tone_that_does_not_fill_a_frame_is_refused(hz: int) -> None:
    with pytest.raises(ValueError, match="multiple of 50 Hz"):
        frame(hz)


def test_a_tone_repeats_without_a_click() -> None:
    samples = decode(frame(450) * 3).astype(np.int32)
    assert np.max(np.abs(np.diff(samples))) <= 2 * np.pi * 450 / 8000 * 8000 * 1.2


def conference(*codecs: int) -> tuple[Conference, list[Party]]:
    room = Conference()
    for codec in codecs:
        party = Party()
        party.speak(b"", codec)
        room.parties.append(party)
    return room, room.parties


def test_each_party_hears_the_others_and_not_itself_whatever_the_codecs() -> None:
    room, (one, two, three) = conference(PCMU, PCMA, PCMU)
    for party, hz in ((one, 600), (two, 700), (three, 850)):
        party.speak(frame(hz, party.codec), party.codec)
    room.mix()
    assert EAR.hear(one.mixed, PCMU) == {700, 850}
    assert EAR.hear(two.mixed, PCMA) == {600, 850}
    assert EAR.hear(three.mixed, PCMU) == {600, 700}


def test_a_party_that_said_nothing_is_silence_to_the_others() -> None:
    room, (one, two) = conference(PCMU, PCMU)
    one.speak(frame(600), PCMU)
    room.mix()
    assert EAR.hear(two.mixed) == {600}
    room.mix()
    assert two.mixed == SILENCE[PCMU]
    assert one.mixed == SILENCE[PCMU]


def test_a_party_alone_hears_silence_and_loud_ones_are_clipped() -> None:
    room, (one, two, three) = conference(PCMU, PCMU, PCMU)
    for party in (one, two):
        party.speak(frame(600, amplitude=30000), PCMU)
    room.mix()
    assert np.max(decode(three.mixed)) > 30000
    room.parties[:] = [one]
    room.mix()
    assert one.mixed == SILENCE[PCMU]


def test_a_party_that_speaks_too_fast_is_cut_short() -> None:
    room, (one, two) = conference(PCMU, PCMU)
    for hz in (450, 600, 700, 850):
        one.speak(frame(hz), PCMU)
    heard = []
    for _ in range(4):
        room.mix()
        heard.append(EAR.hear(two.mixed))
    assert heard == [{600}, {700}, {850}, frozenset()]


def test_a_conference_is_full_at_its_bound() -> None:
    room = Conference()
    room.mix()
    room.parties += [Party() for _ in range(PARTIES_MAX - 1)]
    assert not room.full
    room.parties.append(Party())
    assert room.full


def hearing(times: dict[float, int]) -> Hearing:
    heard = Hearing((1000, 1300))
    for at, hz in times.items():
        heard.take(frozenset((hz,) if hz else ()), at)
    return heard


def test_a_gap_begins_with_the_last_packet_before_the_fault_and_loses_one_interval() -> None:
    heard = hearing({1.00: 1000, 1.02: 1000, 1.15: 1300, 1.17: 1300, 1.19: 1300})
    assert heard.longest_gap_s(1.03, 1.20) == pytest.approx(0.11)


def test_comfort_noise_and_other_tones_do_not_end_a_gap() -> None:
    heard = hearing({1.00: 1000, 1.02: 0, 1.04: 450, 1.10: 1300})
    assert heard.packets == 4
    assert heard.longest_gap_s(1.01, 1.11) == pytest.approx(0.08)


def test_who_hears_nothing_any_more_has_a_gap_until_now() -> None:
    assert hearing({1.00: 1000}).longest_gap_s(1.01, 3.00) == pytest.approx(1.98)
    assert Hearing((1000,)).longest_gap_s(1.0, 3.0) == pytest.approx(1.98)


def test_what_was_heard_is_what_most_frames_had() -> None:
    heard = hearing({1.00: 1000, 1.02: 1300, 1.04: 1300})
    assert heard.heard_between(1.0, 1.1) == {1300}
    assert heard.heard_between(1.0, 1.01) == {1000}
    assert heard.heard_between(2.0, 3.0) == frozenset()


def test_hearing_is_having_heard_just_now() -> None:
    heard = hearing({1.00: 1000})
    assert heard.hears(1.05)
    assert not heard.hears(1.2)
    assert not Hearing((1000,)).hears(0.0)
