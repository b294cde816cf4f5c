"""Runs network tests on asyncio's loop, and on uvloop where it is installed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from proxy.net.asyncio_network import AsyncioNetwork

PATIENCE_S = 5.0


def _loops() -> list[Callable[[], asyncio.AbstractEventLoop]]:
    loops: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop]
    with contextlib.suppress(ImportError):
        import uvloop

        loops.append(uvloop.new_event_loop)
    return loops


@pytest.fixture(params=_loops(), ids=lambda factory: factory.__module__.split(".")[0])
def run(request: pytest.FixtureRequest) -> Any:
    """Runs a coroutine function on a fresh loop; nothing may have gone to the loop's exception handler."""
    loop = request.param()
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))

    def runner(main: Callable[[AsyncioNetwork], Awaitable[None]], expect_failures: int = 0) -> list[dict[str, Any]]:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE_S):
                await main(AsyncioNetwork(loop))

        loop.run_until_complete(bounded())
        assert len(failures) == expect_failures, failures
        return failures

    yield runner
    loop.close()
