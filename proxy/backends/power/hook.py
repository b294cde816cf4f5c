"""The HTTP hook: somebody else starts and stops the backend when he is asked, by a POST with a JSON object."""

from __future__ import annotations

import json

from proxy.backends.power.api import PowerError, Running
from proxy.config import HookSettings
from proxy.net.http import HttpAnswer, HttpClient, HttpError


class HookDriver:
    kind = "http"

    def __init__(self, settings: HookSettings, http: HttpClient, backend: str, node: str) -> None:
        self._settings = settings
        self._http = http
        self._who = {"backend": backend, "node": node}
        self._headers = {name: value.get_secret_value() for name, value in settings.headers.items()}

    async def start(self) -> str:
        return await self._order("start", self._settings.start)

    async def stop(self) -> str:
        return await self._order("stop", self._settings.stop)

    async def restart(self) -> str:
        if self._settings.restart is not None:
            return await self._order("restart", self._settings.restart)
        await self.stop()
        return await self.start()

    async def state(self) -> Running:
        if self._settings.state is None:
            return Running.UNKNOWN
        answer = await self._ask("GET", "state", self._settings.state, None)
        try:
            return Running(json.loads(answer.text)["state"])
        except (ValueError, KeyError, TypeError):
            raise PowerError(f"state hook: no JSON object with a known state: {answer}") from None

    async def close(self) -> None:
        await self._http.close()

    async def _order(self, action: str, url: str) -> str:
        answer = await self._ask("POST", action, url, json.dumps({"action": action, **self._who}).encode())
        return str(answer)

    async def _ask(self, method: str, action: str, url: str, body: bytes | None) -> HttpAnswer:
        headers = {"Content-Type": "application/json", **self._headers} if body else self._headers
        try:
            answer = await self._http.request(
                method, url, timeout_s=self._settings.timeout_s, headers=headers, body=body
            )
        except HttpError as error:
            raise PowerError(f"{action} hook: {error}") from None
        if not answer.ok:
            raise PowerError(f"{action} hook answered {answer}")
        return answer
