"""The docker driver: a container that is there already is started and stopped over the engine's socket.

Docker Engine API v1.41 (Docker 20.10) and later: `/containers/{id}/start`, `stop`, `restart`, `json`. 304 says that it
was so already. Podman's compatible socket has the same.
"""

from __future__ import annotations

import json
from urllib.parse import quote

from proxy.backends.power.api import PowerError, Running
from proxy.config import DockerSettings
from proxy.net.http import HttpAnswer, HttpClient, HttpError

_API = "http://docker/v1.41/containers"
_ALREADY = 304
_STATES = {
    "created": Running.STOPPED,
    "exited": Running.STOPPED,
    "dead": Running.STOPPED,
    "running": Running.RUNNING,
    "paused": Running.STOPPED,
    "restarting": Running.CHANGING,
    "removing": Running.CHANGING,
}


class DockerDriver:
    kind = "docker"

    def __init__(self, settings: DockerSettings, http: HttpClient) -> None:
        self._settings = settings
        self._http = http
        self._container = f"{_API}/{quote(settings.container, safe='')}"

    async def start(self) -> str:
        return await self._order("start", self._settings.timeout_s)

    async def stop(self) -> str:
        return await self._order(f"stop?t={self._settings.stop_s}", self._settings.timeout_s + self._settings.stop_s)

    async def restart(self) -> str:
        return await self._order(f"restart?t={self._settings.stop_s}", self._settings.timeout_s + self._settings.stop_s)

    async def state(self) -> Running:
        answer = await self._ask("GET", "json", self._settings.timeout_s)
        try:
            return _STATES.get(json.loads(answer.text)["State"]["Status"], Running.UNKNOWN)
        except (ValueError, KeyError, TypeError):
            raise PowerError(f"docker: an answer that is no container: {answer}") from None

    async def close(self) -> None:
        await self._http.close()

    async def _order(self, what: str, timeout_s: float) -> str:
        answer = await self._ask("POST", what, timeout_s)
        return "it was so already" if answer.status == _ALREADY else "done"

    async def _ask(self, method: str, what: str, timeout_s: float) -> HttpAnswer:
        try:
            answer = await self._http.request(method, f"{self._container}/{what}", timeout_s=timeout_s)
        except HttpError as error:
            raise PowerError(f"docker at {self._settings.socket}: {error}") from None
        if not answer.ok and answer.status != _ALREADY:
            raise PowerError(f"docker: {answer.status} {_message(answer)}")
        return answer


def _message(answer: HttpAnswer) -> str:
    """Errors are `{"message": …}`."""
    try:
        return str(json.loads(answer.text)["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text.strip()[:200]
