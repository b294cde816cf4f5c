"""RTP of a backend under weather, for the detector model: what the relay says of its streams, in virtual time.

The packets of all streams meet the same state of the path as the answers to probes: its bursts, its loss, its jitter.
Arrivals are drawn a minute at a time, as arrays. Where streams might be overdue the relay's own `Group` is swept every
5 ms, elsewhere at its beat; so days are minutes. The relay is a process of its own: our stalls do not stop it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from media.api import FlowsSilent
from media.relay.liveness import BEAT_S, SILENT_S, SWEEP_S, Group, Watch, quorum
from proxy.backends import Verdict
from tests.sim.detector_model import Path, Run, Weather, World

PTIME_S = 0.02
CHUNK_S = 60.0
CLOSE_S = SILENT_S - 2 * SWEEP_S  # from this silence on every sweep is made
TELL_S = 0.0005

Floats = NDArray[np.float64]


class Stamps:
    """What `Group` looks at: a line, both of its streams, and a line again."""

    def __init__(self) -> None:
        self.rtp = self.rtcp = self
        self.packets = 0
        self.last = 0.0


class Streams:
    """So many streams of one backend, from `begins` on."""

    def __init__(self, run: Run, name: str, count: int, begins: float = 0.0) -> None:
        self._world: World = run.world
        self._path: Path = run.path(name)
        self._tell = run.health.media
        self._random = np.random.default_rng(run.world.rng.getrandbits(64))
        self._phases = self._random.random(count) * PTIME_S
        self._lasts = np.full(count, begins)
        self._late: list[Floats] = [np.empty(0)] * count  # arrivals that belong to the next chunk
        self._sweeps_from = begins
        self._group = Group(name)
        self._watches: list[Watch] = []
        for _ in range(count):
            watch = Watch(Stamps(), self._group, 0.0, begins)  # type: ignore[arg-type]
            self._group.join(watch)
            self._watches.append(watch)
        self._edges = np.array(self._path.back.edges if self._path.back is not None else [])
        self.dies_at = math.inf
        self.told = 0  # silences
        self._world.call_at(begins, self._chunk)

    def _chunk(self) -> None:
        """Draw the next minute, and let the relay tell of it as it goes."""
        begins, ends = self._sweeps_from, self._sweeps_from + CHUNK_S
        arrivals = [self._arrivals(number, begins, ends) for number in range(len(self._watches))]
        sweeps = begins + SWEEP_S * np.arange(1, round(CHUNK_S / SWEEP_S) + 1)
        lasts = np.stack([self._last(number, arrivals[number], sweeps) for number in range(len(arrivals))])
        silences = np.sort(sweeps - lasts, axis=0)[len(arrivals) - quorum(len(arrivals))]
        close = silences >= CLOSE_S
        beat = round(BEAT_S / SWEEP_S)
        index, steps = 0, len(sweeps)
        calm = np.flatnonzero(close)
        while index < steps:
            self._sweep(float(sweeps[index]), lasts[:, index])
            if self._group.began_at or close[index]:
                index += 1
            else:
                place = int(np.searchsorted(calm, index))
                following = int(calm[place]) if place < len(calm) else steps
                index = min(following, index + beat) if following > index else index + 1
        self._lasts = lasts[:, -1].copy()
        self._sweeps_from = ends
        self._world.call_at(ends, self._chunk)

    def _arrivals(self, number: int, begins: float, ends: float) -> Floats:
        weather = self._world.weather
        first = math.ceil((begins - self._phases[number]) / PTIME_S)
        sent = self._phases[number] + PTIME_S * np.arange(first, math.ceil((ends - self._phases[number]) / PTIME_S))
        sent = sent[sent < self.dies_at]
        lost = self._random.random(len(sent)) < weather.loss
        if len(self._edges):
            within = np.searchsorted(self._edges, sent, side="right") % 2 == 1
            lost |= within & (self._random.random(len(sent)) < weather.burst_loss)
        sent = sent[~lost]
        arrived = sent + weather.delay_s + weather.jitter_s * self._random.random(len(sent))
        arrived = np.sort(np.concatenate((self._late[number], arrived)))
        self._late[number] = arrived[arrived > ends]
        return arrived[arrived <= ends]

    def _last(self, number: int, arrivals: Floats, sweeps: Floats) -> Floats:
        stamps = np.concatenate(([self._lasts[number]], arrivals))
        return np.asarray(stamps[np.searchsorted(arrivals, sweeps, side="right")])

    def _sweep(self, now: float, lasts: Floats) -> None:
        for watch, last in zip(self._watches, lasts.tolist(), strict=True):
            watch.line.rtp.last = last
        was_silent = bool(self._group.began_at)
        report: list[Any] | None = self._group.sweep(now, 0.0)
        if report is not None:
            self.told += bool(report[3]) and not was_silent
            self._world.arrives(now + TELL_S, self._tell, FlowsSilent(*report[1:]))


def flow_detection_ms(weather: Weather, count: int, fault: str, seed: int, warm_s: float = 70.0) -> tuple[float, float]:
    """How long after `fault` as1, with so many streams, is suspect, and down, in ms; 10,000 when it was not."""
    run = Run(weather, seed, warm_s + 20)
    run.world.run(1.0)
    streams = Streams(run, "as1", count, begins=1.0)
    at = streams.dies_at = warm_s + run.world.rng.random()
    run.world.run(at)
    run.path("as1").host = fault
    run.world.run(at + 10)
    since = [event for event in run.events if event.at >= at and event.backend.name == "as1"]
    down = next((event.at for event in since if event.verdict is Verdict.DOWN), at + 10.0)
    suspect = next((event.at for event in since if event.verdict in (Verdict.SUSPECT, Verdict.DOWN)), at + 10.0)
    return (suspect - at) * 1000, (down - at) * 1000


RANDOM = {f"{percent} % random loss each way": Weather(loss=percent / 100) for percent in (1, 5, 10)}
GILBERT_ELLIOTT = {
    f"bursts (70 % loss, mean 60 ms), average {percent} % each way": Weather(burst_s=0.06, burst_average=percent / 100)
    for percent in (1, 5, 10)
}
# 43 outages of 20 ms on average a day, in each direction.
LAN = Weather(loss=0.0001, burst_s=0.02, burst_loss=1.0, burst_average=43 * 0.02 / 86400)
FLOW_WEATHERS = {
    "clean": Weather(),
    **RANDOM,
    **GILBERT_ELLIOTT,
    "LAN (0.01 % loss, 43 outages of mean 20 ms a day) each way": LAN,
    "jitter 0-30 ms each way": Weather(jitter_s=0.03),
    "jitter 0-100 ms each way": Weather(jitter_s=0.1),
}
COUNTS = (1, 2, 5, 50)
