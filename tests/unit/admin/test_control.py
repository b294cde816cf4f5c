"""The control socket: one line in, one out; what is long does not stop the loop, what fails does not cut the line."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.admin.control import ControlError, ControlServer, Handler, ask

ROW = {"id": "x", "legs": [{"name": "a"}, {"name": "b"}], "none": None, "text": 'a "quoted" ü'}


def serve(path: Path, handlers: dict[str, Handler], script: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        server = ControlServer(path, handlers)
        await server.start()
        try:
            await script()
        finally:
            await server.close()

    asyncio.run(main())


def fails(_: dict[str, Any]) -> Any:
    raise RuntimeError("a fault")


def refuses(_: dict[str, Any]) -> Any:
    raise ControlError("no such backend")


def test_a_command_has_its_result(tmp_path: Path) -> None:
    handlers: dict[str, Handler] = {
        "echo": lambda command: command["what"],
        "rows": lambda command: (ROW for _ in range(3)),
        "none": lambda command: iter(()),
        "deep": lambda command: (
            [{"results": [1]}, 2] if command["flat"] else {"a": {"results": iter((ROW, ROW))}, "b": 1}
        ),
    }

    async def script() -> None:
        path = tmp_path / "control.sock"
        assert path.stat().st_mode & 0o777 == 0o600
        assert await ask(path, "echo", what=ROW) == ROW
        assert await ask(path, "echo", what={}) == {}
        assert await ask(path, "rows") == [ROW] * 3
        assert await ask(path, "none") == []
        assert await ask(path, "deep", flat=False) == {"a": {"results": [ROW, ROW]}, "b": 1}
        assert await ask(path, "deep", flat=True) == [{"results": [1]}, 2]

    serve(tmp_path / "control.sock", handlers, script)


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("refuses", "no such backend"),
        ("fails", "RuntimeError"),
        ("late", "RuntimeError"),
        ("strange", "not JSON serializable"),
        ("nonsense", "known are fails, fine, late, refuses, strange"),
    ],
)
def test_what_fails_is_told_and_the_connection_goes_on(tmp_path: Path, command: str, problem: str) -> None:
    handlers: dict[str, Handler] = {
        "refuses": refuses,
        "fails": fails,
        "late": lambda command: (fails(command) if number else ROW for number in range(2)),
        "strange": lambda command: object(),
        "fine": lambda command: 1,
    }

    async def script() -> None:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "control.sock"))
        writer.write(json.dumps({"command": command}).encode() + b"\n" + b'{"command": "fine"}\n')
        answer = json.loads(await reader.readline())
        assert not answer["ok"] and problem in answer["error"]
        assert json.loads(await reader.readline()) == {"ok": True, "result": 1}
        writer.close()

    serve(tmp_path / "control.sock", handlers, script)


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b'{"command": ' + b"[" * 100_000, b'{"command": ["fine"]}', b"5", b"\xff"]
)
def test_what_is_no_command_is_answered_so(tmp_path: Path, line: bytes) -> None:
    async def script() -> None:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "control.sock"))
        writer.write(line + b"\n" + b'{"command": "fine"}\n')
        answer = json.loads(await reader.readline())
        assert answer == {"ok": False, "error": "not a command; known are fine"}
        assert json.loads(await reader.readline()) == {"ok": True, "result": 1}
        writer.close()

    serve(tmp_path / "control.sock", {"fine": lambda command: 1}, script)


def test_the_loop_turns_while_many_rows_are_written_down(tmp_path: Path) -> None:
    def row() -> dict[str, Any]:
        time.sleep(0.0005)
        return ROW

    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def script() -> None:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "control.sock"))
        counter = asyncio.create_task(count())
        writer.write(b'{"command": "calls"}\n')
        while turns < 10:
            await asyncio.sleep(0)
        before = turns
        line = await reader.readline()
        counter.cancel()
        assert len(json.loads(line)["result"]) == 200
        assert turns - before > 50
        writer.close()

    handlers: dict[str, Handler] = {"calls": lambda command: (row() for _ in range(200))}
    serve(tmp_path / "control.sock", handlers, script)
