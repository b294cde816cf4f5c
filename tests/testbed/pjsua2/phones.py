"""PJSIP's phones in a process of their own: `async with Phones(host) as phones`, and calls that speak and hear."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[3]
READY_S = 15.0
ORDER_S = 10.0
END_S = 5.0


class CallFailed(Exception):
    """The call was refused; `status` says with what."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


class Call:
    def __init__(self, phones: Phones, number: int) -> None:
        self._phones = phones
        self._number = number
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.media: list[str] = []  # where audio was sent to, one after the other

    async def _order(self, do: str, **arguments: Any) -> Any:
        return await self._phones.order(do, number=self._number, **arguments)

    async def hold(self) -> None:
        await self._order("hold")

    async def resume(self) -> None:
        await self._order("resume")

    async def press(self, digits: str) -> None:
        """RFC 4733."""
        await self._order("dtmf", digits=digits)

    async def hang_up(self) -> None:
        await self._order("hang_up")
        await asyncio.wait_for(asyncio.shield(self.ended), ORDER_S)

    async def hears(self) -> list[int]:
        """The tones in its decoded audio now."""
        heard: list[int] = await self._order("hears")
        return heard

    async def longest_gap_s(self, since: float, tones: Sequence[int]) -> float:
        """Since then (CLOCK_MONOTONIC), the longest time with none of these tones in its decoded audio."""
        gap: float = await self._order("gap", since=since, tones=list(tones))
        return gap

    async def secured(self) -> dict[str, Any]:
        said: dict[str, Any] = await self._order("secured")
        return said


class Phones:
    def __init__(self, host: str, ports: tuple[int, int] = (40000, 40999), **place: Any) -> None:
        """`place` has the rest of `media.probe.endpoint.Place`: srtp, dtls, sip_port; and `answers`, the tone that who
        calls is told and those that are listened for."""
        self._options = {
            "sip_hosts": [host],
            "media_host": host,
            "ports": ports,
            "user": "phone",
            "agent": "pjsua2",
            **place,
        }
        self._process: Process
        self._reader: asyncio.Task[None]
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._ready: asyncio.Future[None]
        self.calls: dict[int, Call] = {}

    async def __aenter__(self) -> Self:
        self._ready = asyncio.get_running_loop().create_future()
        argv = [sys.executable, "-m", "tests.testbed.pjsua2.agent", json.dumps(self._options)]
        self._process = await asyncio.create_subprocess_exec(
            "setpriv", "--pdeathsig", "KILL", *argv, stdin=PIPE, stdout=PIPE, cwd=ROOT
        )
        self._reader = asyncio.create_task(self._read())
        await asyncio.wait_for(self._ready, READY_S)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            code = await asyncio.wait_for(self._process.wait(), END_S)
        except TimeoutError:
            self._process.kill()
            code = await self._process.wait()
        await self._reader
        if error is None and code != 0:
            raise RuntimeError(f"the phones ended with {code}")

    async def call(self, to: str, *, says: int, listens: Sequence[int]) -> Call:
        """Place a call; returns when it is answered. Raises CallFailed."""
        number = next(self._ids)
        call = self.calls[number] = Call(self, number)
        await self.order("call", number=number, to=to, says=says, listens=list(listens))
        await asyncio.wait((call.answered, call.ended), timeout=ORDER_S, return_when=asyncio.FIRST_COMPLETED)
        if not call.answered.done():
            raise CallFailed(call.ended.result() if call.ended.done() else 408)
        return call

    async def order(self, do: str, **arguments: Any) -> Any:
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "do": do, **arguments}).encode() + b"\n")
        message = await asyncio.wait_for(answer, ORDER_S)
        if "error" in message:
            raise RuntimeError(f"{do}: {message['error']}")
        return message["ok"]

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            message = json.loads(line)
            if "id" in message:
                self._answers.pop(message["id"]).set_result(message)
            elif message["event"] == "ready":
                self._ready.set_result(None)
            else:
                number = message["call"]
                call = self.calls.get(number) or self.calls.setdefault(number, Call(self, number))
                self._happened(call, message)
        lost = RuntimeError("the phones are gone")
        for waiting in (self._ready, *self._answers.values()):
            if not waiting.done():
                waiting.set_exception(lost)

    def _happened(self, call: Call, message: dict[str, Any]) -> None:
        event = message["event"]
        if event == "talking" and not call.answered.done():
            call.answered.set_result(None)
        elif event == "ended" and not call.ended.done():
            call.ended.set_result(message["status"])
        elif event == "media":
            call.media.append(message["remote"])
