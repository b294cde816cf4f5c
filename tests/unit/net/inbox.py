"""What network callbacks are collected in."""

from __future__ import annotations

import asyncio
from typing import Any


class Inbox:
    """Collects what comes, and waits for it."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._grown = asyncio.Event()

    def __call__(self, *item: Any) -> None:
        self.items.append(item if len(item) > 1 else item[0])
        self._grown.set()

    async def reach(self, count: int) -> list[Any]:
        while len(self.items) < count:
            self._grown.clear()
            await self._grown.wait()
        return self.items


def ignore(*_: Any) -> None:
    pass
