"""The story of `aqueduct demo`: calls are up on the primary, it dies, and everybody goes on hearing somebody.

Two backends, the proxy and the callers are started; after a few seconds the primary is struck; when all is calm the
callers hang up, and what they heard is judged together with the proxy's own report.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from pathlib import Path
from typing import Any

from proxy.demo.outcome import Outcome, judge
from proxy.demo.script import cast
from proxy.demo.stage import CALLS_PER_S, Fault, Stage
from proxy.demo.view import Picture, View
from proxy.text import counted

TALK_S = 4.0
CALM_S = 1.0  # everybody hears, and nothing is being moved
CALM_WITHIN_S = 8.0
BYE_WITHIN_S = 2.0
PICTURE_S = 0.1


async def demo(calls: int, fault: Fault, asterisk_root: Path | None, view: View) -> Outcome:
    """Raises DemoError or ControlError when it cannot be played to its end. Whatever happens, no process is left."""
    _end_with_sigterm()
    with tempfile.TemporaryDirectory(prefix="aqueduct-demo-") as folder:
        stage = Stage(Path(folder), asterisk_root)
        try:
            return await _play(stage, calls, fault, "Asterisk" if asterisk_root else "the reference backend", view)
        finally:
            stage.stop()


async def _play(stage: Stage, calls: int, fault: Fault, backend: str, view: View) -> Outcome:
    loop = asyncio.get_running_loop()
    parts = cast(calls)
    view.say(f"starting two backends ({backend}) and the proxy")
    await stage.start_backends()
    await stage.start_proxy()
    view.say(f"{counted(calls, 'caller')} dial{'s' if calls == 1 else ''}: a tone, an echo, conferences")
    await stage.start_callers(parts)
    view.say("everybody hears what they should")
    talk_until = loop.time() + TALK_S
    while loop.time() < talk_until:
        view.show(await _picture(stage))
        await asyncio.sleep(PICTURE_S)
    struck_at = stage.strike(fault)
    view.say(f"the primary is {'killed' if fault is Fault.KILL else 'frozen'}")
    await _calm(stage, view)
    report = await _report(stage)
    heard = await stage.ask_callers("heard", since=struck_at)
    view.say("all is calm; the callers hang up")
    await stage.ask_callers("hang_up")
    await _hung_up(stage, sum(call["talking"] for call in heard))
    byes = [call["bye"] for call in await stage.ask_callers("heard", since=struck_at)]
    return judge(backend, fault, struck_at, parts, report, heard, byes)


async def _picture(stage: Stage) -> Picture:
    return Picture(await stage.ask_proxy("backends"), await stage.ask_callers("state"))


async def _calm(stage: Stage, view: View) -> None:
    """Until everybody has heard the backup for a while; if that does not come, the judge will say what was wrong."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + CALM_WITHIN_S
    calm_since: float | None = None
    while (now := loop.time()) < deadline:
        picture = await _picture(stage)
        view.show(picture)
        down = any(backend["verdict"] == "down" for backend in picture.backends)
        if not down or picture.callers["hearing"] < picture.callers["calls"]:
            calm_since = None
        elif calm_since is None:
            calm_since = now
        elif now - calm_since >= CALM_S:
            return
        await asyncio.sleep(PICTURE_S)


async def _report(stage: Stage) -> dict[str, Any] | None:
    """The proxy's report of this failover: the one with most calls, should a call have been noticed by itself."""
    reports = [report for report in await stage.ask_proxy("failovers") if report["backend"] == "primary"]
    return max(reports, key=lambda report: int(report["planned"]), default=None)


async def _hung_up(stage: Stage, calls: int) -> None:
    """Until so many BYEs are answered; a caller whose BYE is not will be named by the judge."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + calls / CALLS_PER_S + BYE_WITHIN_S
    while loop.time() < deadline:
        if (await stage.ask_callers("state"))["hung_up"] >= calls:
            return
        await asyncio.sleep(PICTURE_S)


def _end_with_sigterm() -> None:
    """SIGTERM ends the demo like Ctrl-C does: through the `finally`s, which end the processes."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
