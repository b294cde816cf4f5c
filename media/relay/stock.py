"""The plane's stock of spare lines: bound by the relay in advance, so that an offer need not ask for one.

It keeps count of what is in use, too. The last part of a port range is not for new sessions: when a backend dies, each
of its calls needs another line before it can give the old one back.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable

from media.relay.protocol import Command

log = logging.getLogger(__name__)

GOAL = 192  # spare lines to have, per host
ASK = 32  # to ask for at a time: half a millisecond of the relay's
RESERVE_MAX = 64  # lines for calls that are being carried over: so many INVITEs may be on their way at once …
RESERVE_SHARE = 0.25  # … but no more of a small range than this
FULLNESS_TOLD = 0.9  # of what new sessions may have
FULLNESS_FORGOTTEN = 0.8


class Stock:
    def __init__(self, send: Callable[[Command], None]) -> None:
        self._send = send
        self._spares: list[deque[int]] = []
        self._asked: list[int] = []
        self._capacities: list[int] = []
        self._reserved: set[int] = set()
        self._used: list[int] = []
        self._most: list[int] = []  # lines that a range has, without those that others hold
        self._told: set[int] = set()  # hosts that are nearly full, as has been said

    def reset(self, capacities: list[int]) -> None:
        """A new connection: what the old one had in stock is no longer ours. `capacities`: lines of each host."""
        self._capacities = capacities
        self._most = capacities.copy()
        self._spares = [deque() for _ in capacities]
        self._asked = [0] * len(capacities)
        self._used += [0] * (len(capacities) - len(self._used))

    def lost(self) -> None:
        """The connection is gone."""
        self.reset(self._capacities)

    def admits(self, wanted: list[int]) -> bool:
        """Whether a new session may have so many of each host."""
        return all(not need or self._used[host] + need <= self._for_new(host) for host, need in enumerate(wanted))

    def _for_new(self, host: int) -> int:
        most = self._most[host]
        return most - min(RESERVE_MAX, int(most * RESERVE_SHARE))

    def has(self, wanted: list[int]) -> bool:
        """Whether there are as many as wanted of each host."""
        return all(need <= len(spares) for need, spares in zip(wanted, self._spares, strict=True))

    def take(self, host: int) -> int:
        spares = self._spares[host]
        number = spares.popleft()
        self._used[host] += 1
        self._look(host)
        if len(spares) + self._asked[host] + ASK <= GOAL:
            self.top_up()
        return number

    def top_up(self, waiting: int = 0) -> None:
        for host, spares in enumerate(self._spares):
            while len(spares) + self._asked[host] + ASK <= GOAL + 2 * waiting:
                self._asked[host] += ASK
                self._send(["stock", host, ASK])

    def gave_back(self, number: int) -> None:
        self._used[number >> 16] -= 1
        self._look(number >> 16)

    def _look(self, host: int) -> None:
        fullness = self._used[host] / max(1, self._for_new(host))
        if fullness >= FULLNESS_TOLD and host not in self._told:
            self._told.add(host)
            log.warning(
                "media ports are running out: %d of %d lines are in use; new calls may have %d of them",
                self._used[host], self._most[host], self._for_new(host),
            )  # fmt: skip
        elif fullness < FULLNESS_FORGOTTEN:
            self._told.discard(host)

    def arrived(self, host: int, asked: int, numbers: list[int]) -> None:
        self._asked[host] -= asked
        self._spares[host].extend(number for number in numbers if number not in self._reserved)
        if len(numbers) == asked:
            self._most[host] = self._capacities[host]
        elif not self._asked[host]:  # others hold some of the ports
            self._most[host] = min(self._capacities[host], self._used[host] + len(self._spares[host]))

    @property
    def asking(self) -> bool:
        """Whether answers are to come."""
        return any(self._asked)

    def reserve(self, numbers: tuple[int, ...]) -> None:
        """These are in use by a session that is being restored: they may be in stock, or on their way to us."""
        self._reserved.update(numbers)
        for number in numbers:
            self._used[number >> 16] += 1
        for host, spares in enumerate(self._spares):
            self._spares[host] = deque(number for number in spares if number not in self._reserved)

    def unreserve(self, numbers: Iterable[int]) -> None:
        self._reserved.difference_update(numbers)
