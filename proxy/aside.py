"""What blocks, beside the event loop: each in a thread of its own, for which nobody waits when the node stops.

The threads of `asyncio.to_thread` are joined at the end: one file on a mount that does not answer would keep the node
from ending, and so its successor from taking up the calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar

T = TypeVar("T")


class Aside(Protocol):
    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


async def aside(work: Callable[[], T], /) -> T:
    """What `work` gives or raises. Who waits no longer leaves it running."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            tell = partial(done.set_exception, error)
        else:
            tell = partial(done.set_result, result)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(lambda: None if done.done() else tell())

    threading.Thread(target=run, name="aside", daemon=True).start()
    return await done
