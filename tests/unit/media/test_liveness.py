"""Which streams are overdue: fed with stamps by hand, in time that the test makes."""

from __future__ import annotations

import itertools
import socket
from random import Random
from typing import Any

import pytest

from media.relay import liveness
from media.relay.line import Line
from media.relay.liveness import BEAT_S, LASTS_S, SILENT_S, STALL_S, SWEEP_S, Liveness

PTIME_S = 0.02


class Sender:
    """Who sends on one line: a packet each `ptime_s`, as long as `sends`."""

    def __init__(self, line: Line, first_at: float, ptime_s: float) -> None:
        self.line = line
        self.next_at = first_at
        self.ptime_s = ptime_s
        self.sends = True
        self.loss = 0.0


class Bench:
    """A liveness with its streams, and the client that is told."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.liveness = Liveness()
        self.senders: list[Sender] = []
        self.told: list[list[Any]] = []
        self.rng = Random(1)
        self._numbers = iter(range(1, 10_000))

    def tell(self, command: list[object]) -> None:
        self.told.append(command)

    def line(self, group: str, ptime_s: float = PTIME_S, timeout_s: float = 0.0) -> Sender:
        pair = (socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM))
        line = Line(next(self._numbers), pair, self)
        for sock in pair:
            sock.close()
        line.sends = True
        self.liveness.watch(self, line, group, timeout_s, self.now)
        sender = Sender(line, self.now + self.rng.random() * ptime_s, ptime_s)
        self.senders.append(sender)
        return sender

    def lines(self, count: int, group: str = "as1", ptime_s: float = PTIME_S) -> list[Sender]:
        return [self.line(group, ptime_s) for _ in range(count)]

    def run(self, seconds: float) -> list[list[Any]]:
        """What was told meanwhile."""
        first = len(self.told)
        until = self.now + seconds
        while self.now < until:
            self.now += SWEEP_S
            for sender in self.senders:
                while sender.next_at <= self.now:
                    if sender.sends and self.rng.random() >= sender.loss:
                        sender.line.rtp.packets += 1
                        sender.line.rtp.last = sender.next_at
                    sender.next_at += sender.ptime_s
            if self.now >= self.liveness.due:
                self.liveness.sweep(self.now)
        return self.told[first:]

    def flows(self, seconds: float) -> list[tuple[str, int, int, float]]:
        return [tuple(told[1:5]) for told in self.run(seconds) if told[0] == "flows"]

    def silences(self, seconds: float) -> list[tuple[str, int, int, float]]:
        return [report for report in self.flows(seconds) if report[2]]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def stop(senders: list[Sender]) -> None:
    for sender in senders:
        sender.sends = False


def test_streams_that_flow_are_told_of_ten_times_a_second(bench: Bench) -> None:
    bench.lines(10)
    bench.run(2.0)
    reports = bench.flows(2.0)
    assert {report[:3] for report in reports} == {("as1", 10, 0)}
    assert 18 <= len(reports) <= 2.0 / BEAT_S + 1


def test_silence_of_all_is_told_at_once_and_every_ten_milliseconds(bench: Bench) -> None:
    bench.lines(10)
    bench.run(2.0)
    stop(bench.senders)
    at = bench.now
    reports = [told for told in bench.run(0.2) if told[3]]
    first = reports[0]
    assert first[1:3] == ["as1", 10] and first[3] >= 8
    assert SILENT_S <= first[4] < SILENT_S + 0.01
    assert first[6] - at <= SILENT_S + SWEEP_S
    assert first[5] == max(sender.line.rtp.last for sender in bench.senders)
    apart = [later[6] - earlier[6] for earlier, later in itertools.pairwise(reports)]
    assert all(0.009 < each < 0.011 for each in apart) and len(reports) >= 14
    assert reports[-1][4] == pytest.approx(bench.now - at, abs=PTIME_S)


def test_its_end_is_told_once(bench: Bench) -> None:
    bench.lines(10)
    bench.run(2.0)
    stop(bench.senders)
    bench.run(0.2)
    for sender in bench.senders:
        sender.sends = True
    reports = bench.flows(0.5)
    flowing = [index for index, report in enumerate(reports) if report[2] == 0]
    assert flowing[0] <= 3 and reports[flowing[0]] == ("as1", 10, 0, 0.0)
    assert len(reports) - flowing[0] <= 6  # from then on the beat


def test_four_of_five_are_enough_and_three_are_not(bench: Bench) -> None:
    first, second = bench.lines(5, "as1"), bench.lines(5, "as2")
    bench.run(2.0)
    stop(first[:3])
    stop(second[:4])
    reports = bench.silences(0.3)
    assert {report[:3] for report in reports} == {("as2", 5, 4)}


def test_of_fewer_than_five_all_must_be_silent(bench: Bench) -> None:
    senders = bench.lines(4)
    bench.run(2.0)
    stop(senders[:3])
    assert not bench.silences(0.3)
    stop(senders)
    assert bench.silences(0.1)[0][:3] == ("as1", 4, 4)


def test_groups_are_told_apart(bench: Bench) -> None:
    first, _ = bench.lines(5, "as1"), bench.lines(5, "as2")
    bench.run(2.0)
    stop(first)
    assert {report[0] for report in bench.silences(0.5)} == {"as1"}


def test_a_large_group_is_seen_as_fast(bench: Bench) -> None:
    senders = bench.lines(300)
    bench.run(2.0)
    stop(senders[:250])
    at = bench.now
    first = next(told for told in bench.run(0.1) if told[3])
    assert first[6] - at <= SILENT_S + 2 * SWEEP_S


@pytest.mark.parametrize("ptime_s", [0.01, 0.03, 0.04, 0.06])
def test_the_packet_interval_is_learned(bench: Bench, ptime_s: float) -> None:
    bench.lines(10, ptime_s=ptime_s)
    assert not bench.silences(5.0)
    stop(bench.senders)
    at = bench.now
    reports = [told for told in bench.run(0.5) if told[3]]
    patience = max(1.0, ptime_s / PTIME_S)
    assert reports[0][6] - at == pytest.approx(SILENT_S * patience, abs=ptime_s)
    assert reports[-1][4] == pytest.approx(0.5 / patience, abs=0.04)


def test_who_has_just_begun_is_not_active(bench: Bench) -> None:
    bench.lines(10)
    bench.run(0.4)
    stop(bench.senders)
    assert bench.flows(2.0) == []


def test_comfort_noise_is_no_steady_stream(bench: Bench) -> None:
    bench.lines(10, ptime_s=0.2)
    assert bench.flows(5.0) == []


def test_mute_is_soon_no_silence_any_more(bench: Bench) -> None:
    senders = bench.lines(10)
    bench.run(2.0)
    for sender in senders[:6]:  # one after the other
        sender.sends = False
        assert not bench.silences(0.2)
    assert not bench.silences(1.5)
    assert bench.flows(0.2)[-1] == ("as1", 4, 0, 0.0)


def test_who_pauses_again_and_again_must_flow_longer_to_count(bench: Bench) -> None:
    talker = bench.line("as1")
    silences = []
    for _ in range(60):  # silence suppression: 1.5 s of speech, 1.5 s of nothing
        talker.sends = True
        silences.append(bool(bench.silences(1.5)))
        talker.sends = False
        silences.append(bool(bench.silences(1.5)))
    assert sum(silences) <= 4 and not any(silences[20:])
    talker.sends = True
    bench.run(65.0)
    assert bench.flows(0.2)[-1] == ("as1", 1, 0, 0.0)


def test_hold_is_no_silence(bench: Bench) -> None:
    senders = bench.lines(5)
    bench.run(2.0)
    for sender in senders[:4]:
        sender.line.sends = False
    bench.run(0.6)
    stop(senders[:4])
    assert not bench.silences(1.0)
    assert bench.flows(0.2)[-1] == ("as1", 1, 0, 0.0)


def test_hold_by_the_other_side_is_no_silence(bench: Bench) -> None:
    senders = bench.lines(5)
    callers = [Bench().line("") for _ in senders]
    for sender, caller in zip(senders, callers, strict=True):
        sender.line.rtp.peer = caller.line.rtp
    bench.run(2.0)
    for caller in callers[:4]:
        caller.line.sends = False
    bench.run(0.6)
    assert bench.flows(0.2)[-1] == ("as1", 1, 0, 0.0)


def test_fenced_streams_do_not_count(bench: Bench) -> None:
    senders = bench.lines(5)
    bench.run(2.0)
    stop(senders)
    assert bench.silences(0.1)
    for sender in senders:
        sender.line.fenced = True
    bench.run(1.0)
    assert bench.flows(1.0) == []


def test_rtcp_counts_as_life(bench: Bench) -> None:
    senders = bench.lines(5)
    bench.run(2.0)
    stop(senders)
    for _ in range(50):
        for sender in senders:
            sender.line.rtcp.last = bench.now
        assert not bench.silences(0.04)


def test_what_is_silent_for_seconds_has_stopped(bench: Bench) -> None:
    stop(bench.lines(1)[:0])
    bench.run(2.0)
    stop(bench.senders)
    assert bench.silences(LASTS_S + 1)
    assert bench.flows(5.0) == []


def test_silence_while_the_relay_stood_still_is_nobodys(bench: Bench) -> None:
    bench.lines(10)
    bench.run(2.0)
    bench.now += 0.5
    for sender in bench.senders:
        sender.next_at += 0.5  # what came meanwhile is still in the sockets
    bench.liveness.sweep(bench.now)
    assert bench.liveness.stalls == 1
    assert not bench.silences(1.0)


def test_without_the_floor_a_stall_is_taken_for_silence(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "STALL_S", 10.0)
    bench.lines(10)
    bench.run(2.0)
    bench.now += 0.5
    for sender in bench.senders:
        sender.next_at += 0.5
    bench.liveness.sweep(bench.now)
    assert bench.told[-1][3] == 10
    assert STALL_S < 0.5


def test_a_stall_within_a_silence_does_not_end_it(bench: Bench) -> None:
    bench.lines(10)
    bench.run(2.0)
    stop(bench.senders)
    bench.run(0.1)
    bench.now += 0.2
    reports = bench.flows(0.1)
    assert all(report[3] < 0.11 for report in reports) and ("as1", 10, 0, 0.0) not in reports[-5:]
    assert reports[-1][2] == 10


def test_random_loss_of_ten_percent_is_no_silence(bench: Bench) -> None:
    for sender in bench.lines(10):
        sender.loss = 0.1
    assert not bench.silences(120.0)
    assert bench.flows(0.2)[-1][:2] == ("as1", 10)


def test_media_timeout_of_one_leg(bench: Bench) -> None:
    sender = bench.line("", timeout_s=3.0)
    assert bench.run(5.0) == []
    sender.sends = False
    told = bench.run(10.0)
    assert [each[:2] for each in told] == [["silent", sender.line.number]]
    assert 3.0 <= told[0][2] <= 3.6
    sender.sends = True
    bench.run(1.0)
    sender.sends = False
    assert len(bench.run(5.0)) == 1


def test_media_timeout_does_not_run_on_hold(bench: Bench) -> None:
    sender = bench.line("", timeout_s=3.0)
    bench.run(1.0)
    sender.sends = sender.line.sends = False
    assert bench.run(10.0) == []
    sender.line.sends = True
    assert bench.run(2.4) == [] and len(bench.run(1.2)) == 1  # it is looked at twice a second


def test_media_timeout_of_one_that_never_sent(bench: Bench) -> None:
    bench.line("as1", timeout_s=3.0).sends = False
    assert [told[0] for told in bench.run(5.0)] == ["silent"]


def test_a_group_that_ends_is_told_once_and_forgotten(bench: Bench) -> None:
    senders = bench.lines(5)
    bench.run(2.0)
    for sender in senders:
        bench.liveness.forget(sender.line)
    assert bench.flows(1.0) == [("as1", 0, 0, 0.0)]
    bench.senders.clear()
    bench.run(0.1)
    assert bench.liveness.due == float("inf")


def test_a_client_that_goes_takes_its_watches_along(bench: Bench) -> None:
    senders = bench.lines(5)
    other = Bench()
    bench.run(2.0)
    for sender in senders[:2]:
        bench.liveness.watch(other, sender.line, "as1", 0.0, bench.now)
    bench.liveness.drop(bench)
    assert bench.flows(3.0) == []
    assert other.told[-1][:3] == ["flows", "as1", 2]


def test_a_watched_line_keeps_what_was_learned_when_it_is_watched_again(bench: Bench) -> None:
    senders = bench.lines(5)
    bench.run(2.0)
    for sender in senders:
        bench.liveness.watch(bench, sender.line, "as1", 0.0, bench.now)
    assert bench.flows(0.2)[-1] == ("as1", 5, 0, 0.0)
