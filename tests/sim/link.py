"""One direction of the path between two hosts: delay, jitter, loss, bursts of loss, copies, overtaking, cuts.

Every chance is drawn from the one `random.Random` of the simulation, in the order in which packets are sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Burst:
    """Loss in bursts (Gilbert-Elliott in time): good periods of mean `every_s`, bad ones of mean `length_s`,
    each exponentially distributed; in a bad one a packet is lost with probability `loss`."""

    every_s: float
    length_s: float
    loss: float = 1.0


@dataclass(frozen=True, slots=True)
class LinkModel:
    delay_s: float = 0.0005
    jitter_s: float = 0.0  # added to the delay, uniform; packets keep their order
    loss: float = 0.0  # probability, each packet for itself
    burst: Burst | None = None
    duplicate: float = 0.0  # probability that a packet arrives twice
    reorder: float = 0.0  # probability that a packet is held back, so that later ones overtake it …
    reorder_s: float = 0.02  # … by up to this long


class Link:
    def __init__(self, model: LinkModel, rng: Random) -> None:
        self.model = model
        self.cut = False
        self._rng = rng
        self._last = 0.0  # arrival of the latest packet that kept its place
        self._bad = True  # …until now: the first packet draws a good period
        self._until = 0.0

    def arrivals(self, now: float) -> tuple[float, ...]:
        """When a packet sent now arrives: never, once or twice."""
        if self.cut:
            return ()
        model, rng = self.model, self._rng
        if model.loss and rng.random() < model.loss:
            return ()
        if model.burst is not None and self._in_burst(now, model.burst) and rng.random() < model.burst.loss:
            return ()
        arrival = now + model.delay_s
        if model.jitter_s:
            arrival += rng.random() * model.jitter_s
        if model.reorder and rng.random() < model.reorder:
            arrival += rng.random() * model.reorder_s
        else:
            arrival = self._last = max(arrival, self._last)
        if model.duplicate and rng.random() < model.duplicate:
            return (arrival, arrival + rng.random() * model.reorder_s)
        return (arrival,)

    def _in_burst(self, now: float, burst: Burst) -> bool:
        if self._until == 0.0:
            self._until = now
        while self._until <= now:
            self._bad = not self._bad
            self._until += self._rng.expovariate(1.0 / (burst.length_s if self._bad else burst.every_s))
        return self._bad
