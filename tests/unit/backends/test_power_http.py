"""The drivers that speak HTTP, over real sockets: a hook, and an engine that answers as the Docker Engine API says.

The engine here is written from the published description of the API (v1.41): status codes, paths, `State.Status` and
the `message` of an error. No real engine has been asked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from proxy.backends.power import PowerError, Running
from proxy.backends.power.docker import DockerDriver
from proxy.backends.power.hook import HookDriver
from proxy.config import DockerSettings, HookSettings
from proxy.net.http import Http


def serve(
    answer: Callable[[web.Request], Awaitable[web.Response]],
    do: Callable[[str], Coroutine[Any, Any, None]],
    socket: Path | None = None,
) -> None:
    """Run `do` with the URL of a server that answers everything with `answer`."""

    async def main() -> None:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site: web.BaseSite = web.UnixSite(runner, str(socket)) if socket else web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            url = "" if socket else f"http://127.0.0.1:{runner.addresses[0][1]}"
            await asyncio.wait_for(do(url), 10.0)
        finally:
            await runner.cleanup()

    asyncio.run(main())


def hook(url: str, **more: Any) -> HookDriver:
    settings = {"start": f"{url}/on", "stop": f"{url}/off", "state": f"{url}/state", **more}
    return HookDriver(HookSettings.model_validate(settings), Http(), "as2", "node1")


async def refused(work: Awaitable[Any]) -> str:
    with pytest.raises(PowerError) as caught:
        await work
    return str(caught.value)


def test_a_hook_is_told_who_is_meant_and_by_whom() -> None:
    asked: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        body = await request.text()
        asked.append((request.method, request.path, request.headers.get("Authorization"), body and json.loads(body)))
        return web.json_response({"state": "running"}) if request.path == "/state" else web.Response(text="on its way")

    async def do(url: str) -> None:
        driver = hook(url, headers={"Authorization": "Bearer t0ken"})
        assert await driver.start() == "200: on its way"
        assert await driver.state() is Running.RUNNING
        await driver.restart()
        await driver.close()

    serve(answer, do)
    who = {"backend": "as2", "node": "node1"}
    assert asked == [
        ("POST", "/on", "Bearer t0ken", {"action": "start", **who}),
        ("GET", "/state", "Bearer t0ken", ""),
        ("POST", "/off", "Bearer t0ken", {"action": "stop", **who}),
        ("POST", "/on", "Bearer t0ken", {"action": "start", **who}),
    ]


def test_a_hook_that_refuses_redirects_or_says_nonsense_has_not_done_it() -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/on":
            return web.Response(status=409, text="no capacity\nTraceback")
        if request.path == "/off":
            return web.Response(status=302, headers={"Location": "http://192.0.2.1/elsewhere"})
        return web.Response(text="[]")

    async def do(url: str) -> None:
        driver = hook(url)
        assert await refused(driver.start()) == "start hook answered 409: no capacity"
        assert await refused(driver.stop()) == "stop hook answered 302"
        assert "no JSON object with a known state" in await refused(driver.state())
        await driver.close()

    serve(answer, do)


def test_a_hook_that_does_not_answer_is_not_waited_for_for_ever() -> None:
    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(60.0)
        return web.Response()

    async def do(url: str) -> None:
        driver = hook(url, timeout_s=0.2)
        assert await refused(driver.start()) == "start hook: no answer within 0.2 s"
        await driver.close()

    serve(answer, do)
    nobody = hook("http://127.0.0.1:1")
    assert asyncio.run(refused(nobody.start())).startswith("start hook: Cannot connect")


def test_an_answer_without_end_is_cut_off() -> None:
    async def answer(request: web.Request) -> Any:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    async def do(url: str) -> None:
        driver = hook(url)
        assert await refused(driver.start()) == "start hook: an answer of more than 4 MiB"
        await driver.close()

    serve(answer, do)


class Engine:
    """One container, as the Docker Engine API has it."""

    def __init__(self) -> None:
        self.status = "exited"
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.path_qs}")
        parts = request.path.split("/")
        if parts[:3] != ["", "v1.41", "containers"]:
            return web.json_response({"message": "page not found"}, status=404)
        name, action = parts[3:]
        if name != "as2":
            return web.json_response({"message": f"No such container: {name}"}, status=404)
        if (request.method, action) == ("GET", "json"):
            return web.json_response({"Id": "4fa6e0f0c678", "State": {"Status": self.status, "Running": True}})
        before, self.status = self.status, "exited" if action == "stop" else "running"
        already = before == self.status and action != "restart"
        return web.Response(status=304 if already else 204)


def test_docker_starts_and_stops_a_container(tmp_path: Path) -> None:
    engine = Engine()

    async def do(_: str) -> None:
        driver = DockerDriver(DockerSettings(container="as2", socket=socket, stop_s=3), Http(str(socket)))
        assert await driver.state() is Running.STOPPED
        assert [await driver.start(), await driver.start()] == ["done", "it was so already"]
        assert await driver.state() is Running.RUNNING
        assert [await driver.restart(), await driver.stop(), await driver.stop()] == [
            "done",
            "done",
            "it was so already",
        ]
        engine.status = "restarting"
        assert await driver.state() is Running.CHANGING
        await driver.close()

    socket = tmp_path / "docker.sock"
    serve(engine.answer, do, socket)
    assert engine.asked[:2] == ["GET /v1.41/containers/as2/json", "POST /v1.41/containers/as2/start"]
    assert "POST /v1.41/containers/as2/stop?t=3" in engine.asked


def test_docker_says_why_not(tmp_path: Path) -> None:
    async def do(_: str) -> None:
        driver = DockerDriver(DockerSettings(container="as9", socket=socket), Http(str(socket)))
        assert await refused(driver.start()) == "docker: 404 No such container: as9"
        await driver.close()

    socket = tmp_path / "docker.sock"
    serve(Engine().answer, do, socket)
    nowhere = DockerDriver(DockerSettings(container="as2", socket=tmp_path / "none"), Http(str(tmp_path / "none")))
    assert asyncio.run(refused(nowhere.start())).startswith(f"docker at {tmp_path}/none: Cannot connect")
