"""The plane's stock of spare lines: bound by the relay in advance, so that an offer need not ask for one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from media.relay.protocol import Command

GOAL = 192  # spare lines to have, per host
ASK = 32  # to ask for at a time: half a millisecond of the relay's


class Stock:
    def __init__(self, send: Callable[[Command], None]) -> None:
        self._send = send
        self._spares: list[deque[int]] = []
        self._asked: list[int] = []
        self._reserved: set[int] = set()

    def reset(self, hosts: int) -> None:
        """A new connection: what the old one had in stock is no longer ours."""
        self._spares = [deque() for _ in range(hosts)]
        self._asked = [0] * hosts

    def has(self, wanted: list[int]) -> bool:
        """Whether there are as many as wanted of each host."""
        return all(need <= len(spares) for need, spares in zip(wanted, self._spares, strict=True))

    def take(self, host: int) -> int:
        spares = self._spares[host]
        number = spares.popleft()
        if len(spares) + self._asked[host] + ASK <= GOAL:
            self.top_up()
        return number

    def top_up(self, waiting: int = 0) -> None:
        for host, spares in enumerate(self._spares):
            while len(spares) + self._asked[host] + ASK <= GOAL + 2 * waiting:
                self._asked[host] += ASK
                self._send(["stock", host, ASK])

    def arrived(self, host: int, asked: int, numbers: Iterable[int]) -> None:
        self._asked[host] -= asked
        self._spares[host].extend(number for number in numbers if number not in self._reserved)

    @property
    def asking(self) -> bool:
        """Whether answers are to come."""
        return any(self._asked)

    def reserve(self, numbers: Iterable[int]) -> None:
        """These are in use by a session that is being restored: they may be in stock, or on their way to us."""
        self._reserved.update(numbers)
        for host, spares in enumerate(self._spares):
            self._spares[host] = deque(number for number in spares if number not in self._reserved)

    def unreserve(self, numbers: Iterable[int]) -> None:
        self._reserved.difference_update(numbers)
