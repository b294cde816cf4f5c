"""The local control socket: one JSON object a line in, one a line out. The command line speaks it.

`{"command": "status"}` -> `{"ok": true, "result": …}` or `{"ok": false, "error": "…"}`. The socket is for its owner
alone (mode 0600). Orders go to the rooms that carry them out; nothing is decided here.

The loop that answers is the one that carries the calls. So a handler may give an iterator for what has many rows: they
are made and written down a millisecond's worth at a time, and between two the loop turns.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

LINE_BYTES_MAX = 1 << 20
ANSWER_BYTES_MAX = 256 << 20
TURN_S = 0.001  # of writing down at a time

log = logging.getLogger(__name__)

Handler = Callable[[dict[str, Any]], Any]


class ControlError(Exception):
    """The node refused a command, or there is no node to ask; the text says which."""


def control_path(state_dir: Path) -> Path:
    """Where the node of that state directory listens."""
    return state_dir / "control.sock"


class ControlServer:
    def __init__(self, path: Path, handlers: dict[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Raises OSError."""
        self._path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, str(self._path), limit=LINE_BYTES_MAX)
        finally:
            os.umask(mask)

    async def close(self) -> None:
        if self._server:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(await self._answer(line) + b"\n")
                await writer.drain()
        except (ValueError, ConnectionError):  # a line without end, or a peer that left
            pass
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> bytes:
        try:
            command = json.loads(line)
            handler = self._handlers[command["command"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            return _refusal(f"not a command; known are {', '.join(sorted(self._handlers))}")
        try:
            result = handler(command)
            if isinstance(result, Awaitable):
                result = await result
            return await _encode({"ok": True, "result": result})
        except ControlError as error:
            return _refusal(str(error))
        except Exception as error:
            log.exception("cannot answer %r", command)
            return _refusal(f"a fault of the node: {error!r}")


def _refusal(problem: str) -> bytes:
    return json.dumps({"ok": False, "error": problem}).encode()


async def _encode(value: dict[str, Any]) -> bytes:
    written, since = bytearray(), time.perf_counter()
    for piece in _pieces(value):
        written += piece.encode()
        if time.perf_counter() - since > TURN_S:
            await asyncio.sleep(0)
            since = time.perf_counter()
    return bytes(written)


def _pieces(value: Any) -> Iterator[str]:
    """The JSON of `value`; an iterator in it becomes an array, a row a piece."""
    if isinstance(value, Iterator):
        yield "["
        for number, row in enumerate(value):
            if number:
                yield ", "
            yield from _pieces(row)
        yield "]"
    elif isinstance(value, dict) and any(isinstance(each, Iterator | dict) for each in value.values()):
        yield "{"
        for number, (key, each) in enumerate(value.items()):
            yield f"{', ' if number else ''}{json.dumps(key)}: "
            yield from _pieces(each)
        yield "}"
    else:
        yield json.dumps(value)


async def ask(path: Path, command: str, **arguments: Any) -> Any:
    """Put one command to the node behind `path`. Raises ControlError."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(path), limit=ANSWER_BYTES_MAX)
    except OSError as error:
        raise ControlError(f"no node answers at {path}: {error.strerror}") from None
    try:
        writer.write(json.dumps({"command": command, **arguments}).encode() + b"\n")
        line = await reader.readline()
    finally:
        writer.close()
    if not line:
        raise ControlError(f"the node at {path} closed the connection")
    answer = json.loads(line)
    if not answer["ok"]:
        raise ControlError(answer["error"])
    return answer["result"]
