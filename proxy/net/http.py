"""One HTTP request and its answer: for hooks, engines, checksums, alerts and figures of others.

`HttpClient` is the port; `Http` does it with aiohttp, which is not read before the first request. Redirects are not
followed: they would take credentials to somebody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import aiohttp

ANSWER_BYTES_MAX = 4 << 20


class HttpError(Exception):
    """There was no answer; the text says why."""


@dataclass(slots=True, frozen=True)
class HttpAnswer:
    status: int
    text: str

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def __str__(self) -> str:
        """For people: the status and the first line of what was said."""
        said = self.text.strip().partition("\n")[0][:200]
        return f"{self.status}: {said}" if said else str(self.status)


class HttpClient(Protocol):
    async def request(
        self, method: str, url: str, *, timeout_s: float, headers: Mapping[str, str] = {}, body: bytes | None = None
    ) -> HttpAnswer:
        """Raises HttpError."""
        ...

    async def close(self) -> None: ...


class Http:
    def __init__(self, unix_socket: str | None = None) -> None:
        """With `unix_socket` all requests go there, whatever host their URL names."""
        self._unix_socket = unix_socket
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self, method: str, url: str, *, timeout_s: float, headers: Mapping[str, str] = {}, body: bytes | None = None
    ) -> HttpAnswer:
        import aiohttp

        if self._session is None:
            connector = aiohttp.UnixConnector(self._unix_socket) if self._unix_socket else aiohttp.TCPConnector()
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(
                    method, url, data=body, headers=headers, allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None),
                ) as answer,
            ):  # fmt: skip
                content = await answer.content.read(ANSWER_BYTES_MAX + 1)
                while len(content) <= ANSWER_BYTES_MAX and (more := await answer.content.read(ANSWER_BYTES_MAX)):
                    content += more
                if len(content) > ANSWER_BYTES_MAX:
                    raise HttpError(f"an answer of more than {ANSWER_BYTES_MAX >> 20} MiB")
                return HttpAnswer(answer.status, content.decode(errors="replace"))
        except TimeoutError:
            raise HttpError(f"no answer within {timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise HttpError(str(error) or type(error).__name__) from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
