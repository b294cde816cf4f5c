"""Callers, all in one process of its own: they place calls through the proxy, talk, and measure what they hear.

`python -m proxy.demo.callers --address HOST:PORT --proxy HOST:PORT --control PATH --script FILE`; the script is a JSON
list with one object a call: the number it dials, the tone it says, the tones it expects to hear. Whoever started it
asks over the control socket (`proxy.admin.control`): `state`, `heard` and `hang_up`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from media.rtp.g711 import PCMA, PCMU
from proxy.admin.control import ControlServer
from proxy.demo.audio_line import AudioLine
from proxy.demo.endpoint import Endpoint, address, port_range, until_terminated
from proxy.demo.hearing import Hearing
from proxy.demo.tones import Ear, frame
from proxy.net.address import host_port
from proxy.net.api import Address
from proxy.sip.user_agent import CallFailed, Session

LATELY_S = 0.4  # what a caller heard in this time is what it hears "now"


class Caller:
    def __init__(self, endpoint: Endpoint, ear: Ear, number: str, says: int, expects: list[int]) -> None:
        self.number = number
        self.hearing = Hearing(expects)
        self.failed = ""
        self.bye: int | None = None  # the status of our BYE
        self.session: Session | None = None
        self._endpoint = endpoint
        self._ear = ear
        self._frames = {codec: frame(says, codec) for codec in (PCMU, PCMA)}
        self._port = endpoint.rtp.open()
        self._port.on_packet = self._hear
        self.audio = AudioLine(self._port.address, endpoint.rng)

    async def place(self, proxy: Address) -> None:
        try:
            session = await self._endpoint.agent.invite(
                f"sip:{self.number}@{host_port(proxy)}", self.audio.offer(), next_hop=proxy
            )
        except CallFailed as error:
            self.failed = str(error)
            return
        self.session = session
        session.on_offer = self.audio.answer
        if not self.audio.accept(session.remote_sdp):
            self.failed = "no media agreed"

    @property
    def talking(self) -> bool:
        return self.session is not None and not self.session.ended.done()

    @property
    def ended(self) -> str | None:
        return self.session.ended.result() if self.session is not None and self.session.ended.done() else None

    async def hang_up(self) -> None:
        if self.session is not None and self.talking:
            self.bye = await self.session.bye()

    def tick(self) -> None:
        self._port.tick()
        agreed = self.audio.agreed
        if agreed is not None and agreed.sends and self.talking:
            self._port.send(agreed.payload_type, self._frames[agreed.codec], agreed.remote)

    def _hear(self, payload_type: int, payload: bytes, at: float) -> None:
        agreed = self.audio.agreed
        if agreed is not None and payload_type == agreed.payload_type:
            self.hearing.take(self._ear.hear(payload, agreed.codec), at)


class Callers:
    def __init__(self, at: Address, ports: range, proxy: Address, script: list[dict[str, Any]]) -> None:
        self._endpoint = Endpoint(at, ports, "caller", self._tick)
        self._proxy = proxy
        ear = Ear({hz for each in script for hz in (each["says"], *each["expects"])})
        self._callers = [Caller(self._endpoint, ear, each["number"], each["says"], each["expects"]) for each in script]
        self._running: set[asyncio.Task[None]] = set()

    def place_all(self, per_s: float) -> None:
        for place, caller in enumerate(self._callers):
            asyncio.get_running_loop().call_later(place / per_s, self._begin, caller.place, self._proxy)

    def state(self) -> dict[str, Any]:
        """Live: how many talk and hear, and which tones they hear."""
        now = time.monotonic()
        talking = [caller for caller in self._callers if caller.talking]
        hearing = [caller for caller in talking if caller.hearing.hears(now)]
        tones: Counter[int] = Counter()
        for caller in hearing:
            tones.update(caller.hearing.tones[-1] & caller.hearing.expected)
        return {
            "calls": len(self._callers),
            "talking": len(talking),
            "hearing": len(hearing),
            "tones": dict(tones),
            "failed": [f"{caller.number}: {caller.failed}" for caller in self._callers if caller.failed],
            "hung_up": sum(caller.bye is not None for caller in self._callers),
            "ended": sum(caller.ended is not None for caller in self._callers),
        }

    def heard(self, since: float) -> list[dict[str, Any]]:
        """Of each call: the longest gap since that moment, and the tones that it heard before it and hears now."""
        now = time.monotonic()
        return [
            {
                "number": caller.number,
                "talking": caller.talking,
                "failed": caller.failed,
                "ended": caller.ended,
                "bye": caller.bye,
                "gap_ms": round(caller.hearing.longest_gap_s(since, now) * 1000, 1),
                "before": sorted(caller.hearing.heard_between(since - LATELY_S, since) & caller.hearing.expected),
                "now": sorted(caller.hearing.heard_between(now - LATELY_S, now) & caller.hearing.expected),
            }
            for caller in self._callers
        ]

    def hang_up(self, per_s: float) -> None:
        for place, caller in enumerate(self._callers):
            asyncio.get_running_loop().call_later(place / per_s, self._begin, caller.hang_up)

    def _tick(self) -> None:
        for caller in self._callers:
            caller.tick()

    def _begin(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        task = asyncio.get_running_loop().create_task(work(*arguments))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        await self._endpoint.close()


async def _run(options: argparse.Namespace) -> None:
    script = json.loads(options.script.read_text())
    callers = Callers(options.address, options.ports, options.proxy, script)
    control = ControlServer(
        options.control,
        {
            "state": lambda command: callers.state(),
            "heard": lambda command: callers.heard(command["since"]),
            "hang_up": lambda command: callers.hang_up(options.per_s),
        },
    )
    await control.start()
    callers.place_all(options.per_s)
    await until_terminated()
    await control.close()
    await callers.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m proxy.demo.callers", description=__doc__.partition("\n")[0])
    parser.add_argument("--address", type=address, required=True, metavar="HOST:PORT", help="our SIP address")
    parser.add_argument("--ports", type=port_range, default=range(30000, 40000), metavar="FIRST-LAST", help="of RTP")
    parser.add_argument("--proxy", type=address, required=True, metavar="HOST:PORT", help="where calls are placed")
    parser.add_argument("--script", type=Path, required=True, metavar="FILE", help="JSON: one object a call")
    parser.add_argument("--control", type=Path, required=True, metavar="PATH", help="control socket to open")
    parser.add_argument("--per-s", type=float, default=100.0, help="calls placed, and later ended, a second")
    try:
        asyncio.run(_run(parser.parse_args()))
    except (OSError, ValueError) as error:
        sys.exit(f"callers: {error}")


if __name__ == "__main__":
    main()
