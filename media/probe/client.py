"""The caller that has its calls placed by the probe process. It is started with the first call, and again when it died.

What it cannot say of a call it does not blame on the backend: CallerFailed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import asdict, dataclass
from typing import Any

import msgpack

from media.probe.call import CallerFailed, Outcome, SyntheticCall

log = logging.getLogger(__name__)

START_S = 10.0  # it loads PJSIP and numpy
SPARE_S = 5.0  # an outcome that is so much overdue does not come any more
END_S = 3.0  # PJSIP takes a second to end


def installed() -> bool:
    return importlib.util.find_spec("pjsua2") is not None


@dataclass(slots=True, frozen=True)
class ProbeOptions:
    sip_hosts: tuple[str, ...]  # one per address family
    media_host: str
    ports: tuple[int, int]
    agent: str = "aqueduct"

    def argv(self) -> list[str]:
        command = [sys.executable, "-m", "media.probe", "--media-host", self.media_host]
        for host in self.sip_hosts:
            command += ["--host", host]
        return [*command, "--ports", f"{self.ports[0]}-{self.ports[1]}", "--agent", self.agent]


class ProbeCaller:
    def __init__(self, options: ProbeOptions) -> None:
        self._options = options
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Outcome]] = {}

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def place(self, call: SyntheticCall) -> Outcome:
        process = await self._running()
        assert process.stdin is not None
        self._number += 1
        number = self._number
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[number] = done
        process.stdin.write(msgpack.packb({"number": number, **asdict(call)}))
        try:
            async with asyncio.timeout(call.answer_s + call.hear_s + call.listen_s + SPARE_S):
                await done
            return done.result()
        except TimeoutError:
            if self._process is process:
                process.kill()  # it hangs; another one takes the next call
            raise CallerFailed("the probe does not answer") from None
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(END_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        if self._reader is not None:
            await self._reader

    async def _running(self) -> Process:
        async with self._starting:
            if self._process is not None and self._process.returncode is None:
                return self._process
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._options.argv(), stdin=PIPE, stdout=PIPE, start_new_session=True
                )
            except OSError as error:
                raise CallerFailed(f"the probe cannot be started: {error}") from error
            ready = asyncio.get_running_loop().create_future()
            self._reader = asyncio.get_running_loop().create_task(self._read(process, ready))
            try:
                async with asyncio.timeout(START_S):
                    await ready
            except TimeoutError:
                process.kill()
                raise CallerFailed("the probe does not get ready") from None
            self._process = process
            return process

    async def _read(self, process: Process, ready: asyncio.Future[None]) -> None:
        assert process.stdout is not None
        unpacker = msgpack.Unpacker()
        while data := await process.stdout.read(65536):
            unpacker.feed(data)
            for message in unpacker:
                self._take(message, ready)
        status = await process.wait()
        lost = CallerFailed(f"the probe ended with status {status}")
        if not ready.done():
            ready.set_exception(lost)
        for done in self._waiting.values():
            if not done.done():
                done.set_exception(lost)

    def _take(self, message: dict[str, Any], ready: asyncio.Future[None]) -> None:
        if "ready" in message:
            if not ready.done():
                ready.set_result(None)
            return
        done = self._waiting.get(message.pop("number"))
        if done is None or done.done():
            return
        if "failed" in message:
            done.set_exception(CallerFailed(message["failed"]))
        else:
            done.set_result(Outcome(**message))
