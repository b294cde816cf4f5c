"""The detector under weather: the real `Health` over a modelled path, in virtual time, days in seconds.

`World` is the least that `Health` needs of a loop and a network: a clock, timers, connected UDP sockets. A backend is
folded into the path: what a probe meets on its way there and back is decided when it is sent. Our own process can
stand still: what falls due then runs afterwards, timers before or after sockets, by chance.

`tests.sim.test_detector_24h` holds it to its figures, `tests.sim.detector_tables` prints those of docs/diagnoses.md.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from proxy.backends import Backends, Verdict
from proxy.config import parse
from proxy.health import Diagnosis, Health, VerdictChanged
from proxy.net.api import Address

DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Weather:
    """What a path does to packets, each direction for itself, and what happens to us."""

    delay_s: float = 0.0005
    jitter_s: float = 0.0  # uniform, each packet for itself: they overtake each other
    loss: float = 0.0
    burst_s: float = 0.0  # mean length of a burst (Gilbert-Elliott in time, exponential)
    burst_loss: float = 0.7  # in a burst
    burst_average: float = 0.05  # loss by bursts, over all time
    hiccups_per_day: float = 0.0  # the backend stands still for a moment, uniform up to hiccup_s
    hiccup_s: float = 0.0
    stalls_per_day: float = 0.0  # our own process stands still for stall_s
    stall_s: float = 2.0


class Bursts:
    """When a direction is in a burst: the edges of all bursts in order."""

    def __init__(self, weather: Weather, rng: Random, until: float) -> None:
        share = weather.burst_average / weather.burst_loss
        good_s = weather.burst_s * (1 - share) / share
        self.edges: list[float] = []
        at = 0.0
        while at < until:
            for mean in (good_s, weather.burst_s):
                at += rng.expovariate(1 / mean)
                self.edges.append(at)

    def at(self, now: float) -> bool:
        return bisect_right(self.edges, now) % 2 == 1


class Timer:
    __slots__ = ("argument", "callback", "is_input")

    def __init__(self, callback: Callable[..., None] | None, argument: Any, is_input: bool) -> None:
        self.callback = callback
        self.argument = argument
        self.is_input = is_input

    def cancel(self) -> None:
        self.callback = None


class World:
    """Clock, timers and sockets of our process, and the paths to its backends."""

    def __init__(self, weather: Weather, rng: Random, until: float) -> None:
        self.now = 0.0
        self.rng = rng
        self.until = until
        self.weather = weather
        self.paths: dict[str, Path] = {}
        self._queue: list[tuple[float, int, Timer]] = []
        self._sequence = 0
        self.next_stall = self._draw_stall(weather)
        self.timers_first: bool | None = None  # after a stall; None: by chance
        self.exceptions: list[dict[str, Any]] = []

    # What Health takes for an event loop

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., None], argument: Any = None) -> Timer:
        return self._push(when, callback, argument, False)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.exceptions.append(context)

    # What Health takes for a network

    def udp(self, local: Address, on_datagram: Any, *, remote: Address | None = None, on_error: Any = None) -> Socket:
        assert remote is not None
        path = self.paths.get(remote[0])
        if path is None:
            path = self.paths[remote[0]] = Path(self)
        return Socket(self, path, on_datagram, remote, on_error)

    def arrives(self, when: float, callback: Callable[..., None], argument: Any) -> None:
        self._push(when, callback, argument, True)

    # Time

    def run(self, until: float) -> None:
        queue = self._queue
        while queue and queue[0][0] <= until:
            when, _, timer = heapq.heappop(queue)
            if timer.callback is None:
                continue
            if when >= self.next_stall:
                self._stall(when, timer)
                continue
            self.now = when
            self._call(timer)
        self.now = until

    def _stall(self, when: float, first: Timer) -> None:
        """Everything that fell due while we stood still runs at its end, as one turn of the event loop."""
        ends = self.next_stall + self.weather.stall_s
        self.next_stall = self._draw_stall(self.weather)
        due = [first]
        while self._queue and self._queue[0][0] < ends:
            due.append(heapq.heappop(self._queue)[2])
        self.now = max(when, ends)
        # asyncio reads its sockets first, libuv (uvloop) may look at its timers first
        timers_first = self.rng.random() < 0.5 if self.timers_first is None else self.timers_first
        due.sort(key=lambda timer: timer.is_input is timers_first)
        for timer in due:
            if timer.callback is not None:
                self._call(timer)

    def _draw_stall(self, weather: Weather) -> float:
        if not weather.stalls_per_day:
            return float("inf")
        return self.now + self.rng.expovariate(weather.stalls_per_day / DAY_S)

    def _call(self, timer: Timer) -> None:
        callback, timer.callback = timer.callback, None
        assert callback is not None
        if timer.argument is None:
            callback()
        else:
            callback(timer.argument)

    def _push(self, when: float, callback: Callable[..., None], argument: Any, is_input: bool) -> Timer:
        timer = Timer(callback, argument, is_input)
        self._sequence += 1
        heapq.heappush(self._queue, (when, self._sequence, timer))
        return timer


class Path:
    """The way to one host and back, and the host: `up`, `killed` (its kernel refuses), `stopped` (its kernel
    lives), or `cut` off."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.host = "up"
        self.icmp_tokens: int | None = None  # ICMP errors that its kernel may still send; None: no limit
        weather = world.weather
        self._there = self.back = None
        if weather.burst_s:
            self._there = Bursts(weather, world.rng, world.until)
            self.back = Bursts(weather, world.rng, world.until)
        self._hiccup_from = self._hiccup_to = -1.0
        self._draw_hiccup(0.0)

    def crosses(self, now: float, bursts: Bursts | None) -> float | None:
        """When a packet that leaves now arrives; None when it is lost."""
        weather, rng = self.world.weather, self.world.rng
        if weather.loss and rng.random() < weather.loss:
            return None
        if bursts is not None and bursts.at(now) and rng.random() < weather.burst_loss:
            return None
        return now + weather.delay_s + (rng.random() * weather.jitter_s if weather.jitter_s else 0.0)

    def request(self, socket: Socket, data: bytes) -> None:
        """A probe leaves; decide at once whether and when what comes back of it arrives."""
        if self.host == "cut":
            return
        at = self.crosses(self.world.now, self._there)
        if at is None:
            return
        closed = socket.remote[1] == 1 or self.host == "killed"
        if closed:
            if self.icmp_tokens is not None:
                if self.icmp_tokens == 0:
                    return
                self.icmp_tokens -= 1
        elif self.host == "stopped":
            return
        else:
            at = self._after_hiccup(at)
        back = self.crosses(at, self.back)
        if back is None:
            return
        if closed:
            self.world.arrives(back, socket.on_error, ConnectionRefusedError())
        else:
            answer = b"SIP/2.0 200 OK\r\n" + data.partition(b"\r\n")[2]
            self.world.arrives(back, socket.answered, answer)

    def _after_hiccup(self, at: float) -> float:
        while at > self._hiccup_to and self.world.weather.hiccups_per_day:
            self._draw_hiccup(self._hiccup_to)
        return self._hiccup_to if self._hiccup_from <= at < self._hiccup_to else at

    def _draw_hiccup(self, after: float) -> None:
        weather, rng = self.world.weather, self.world.rng
        if weather.hiccups_per_day:
            self._hiccup_from = max(after, 0.0) + rng.expovariate(weather.hiccups_per_day / DAY_S)
            self._hiccup_to = self._hiccup_from + rng.random() * weather.hiccup_s


class Socket:
    def __init__(self, world: World, path: Path, on_datagram: Any, remote: Address, on_error: Any) -> None:
        self._on_datagram = on_datagram
        self.path = path
        self.remote = remote
        self.on_error = on_error
        self.local: Address = ("127.0.2.1", 40000)

    def answered(self, data: bytes) -> None:
        self._on_datagram(data, self.remote)

    def send(self, data: bytes, to: Address) -> None:
        self.path.request(self, data)

    def close(self) -> None:
        pass


def configuration(backends: int, health: dict[str, int] | None = None) -> str:
    members = ", ".join(f'as{index}: {{address: "127.0.2.{10 + index}:5060"}}' for index in range(1, backends + 1))
    knobs = ", ".join(f"{key}: {value}" for key, value in (health or {}).items())
    return f"pools: {{pbx: {{health: {{{knobs}}}, backends: {{{members}}}}}}}\nroutes: [{{pool: pbx}}]"


class Run:
    """One history: a world, the health of its backends, and what it announced."""

    def __init__(
        self,
        weather: Weather,
        seed: int,
        until: float,
        backends: int = 2,
        health: dict[str, int] | None = None,
        kind: type[Health] = Health,
    ) -> None:
        rng = Random(seed)
        self.world = World(weather, rng, until)
        self.backends = Backends(parse(configuration(backends, health)))
        self.health = kind(self.backends, self.world, self.world, rng, "127.0.2.1")  # type: ignore[arg-type]
        self.events: list[VerdictChanged] = []
        self.health.subscribe(self.events.append)
        self.health.start()

    def path(self, name: str) -> Path:
        backend = self.backends.get(name)
        assert backend is not None
        return self.world.paths[backend.address[0]]

    def false_alarms(self) -> list[VerdictChanged]:
        """Of a history in which nobody died: times down or blind."""
        return [
            event
            for event in self.events
            if (event.verdict is Verdict.DOWN and event.previous is not Verdict.DOWN)
            or event.diagnosis is Diagnosis.OBSERVER_BLIND
        ]


def detection_ms(
    weather: Weather,
    fault: str,
    seed: int,
    warm_s: float,
    icmp: int | None = None,
    health: dict[str, int] | None = None,
) -> float:
    """How long after `fault` as1 is down, in ms; 10,000 when it was not in ten seconds.

    `icmp`: so many ICMP errors are all that comes back (Linux: one a second to a destination off loopback)."""
    run = Run(weather, seed, warm_s + 20, health=health)
    at = warm_s + run.world.rng.random()
    run.world.run(at)
    run.path("as1").host = fault
    run.path("as1").icmp_tokens = icmp
    run.world.run(at + 10)
    for event in run.events:
        if event.at >= at and event.backend.name == "as1" and event.verdict is Verdict.DOWN:
            return (event.at - at) * 1000
    return 10_000.0


CLEAN = Weather()
LOSSY = Weather(loss=0.05)
BURSTS = Weather(burst_s=0.06)
JITTER = Weather(jitter_s=0.1)
STALLS = Weather(stalls_per_day=200, stall_s=2.0)
SHORT_STALLS = Weather(stalls_per_day=20_000, stall_s=0.15)
HICCUPS = Weather(hiccups_per_day=2_000, hiccup_s=0.14)
STORM = Weather(loss=0.05, burst_s=0.06, jitter_s=0.1, stalls_per_day=200, stall_s=2.0)
WEATHERS = {
    "clean": CLEAN,
    "5 % random loss each way": LOSSY,
    "bursts (70 % loss, mean 60 ms, average 5 %) each way": BURSTS,
    "jitter 0-100 ms each way": JITTER,
    "own stalls of 2 s, 200 a day": STALLS,
    "own stalls of 150 ms, 20,000 a day": SHORT_STALLS,
    "backend stands still for 0-140 ms, 2,000 a day": HICCUPS,
    "5 % loss and bursts": replace(BURSTS, loss=0.05),
    "all of these at once": STORM,
}
