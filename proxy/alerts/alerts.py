"""What wants a human being: fired while it holds, resolved when it does not, sent until somebody has taken it.

An alert is known by its name and its labels; firing it again changes its text only. Each webhook is told by a task of
its own, which sends everything that holds, and everything that has ended since it last took something. One that does
not answer costs the others nothing, and this node some memory: what has ended is kept up to a bound.

The wire is Alertmanager's (API v2, POST /alerts): an array of objects with labels, annotations, startsAt and endsAt.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

from proxy.config import AlertSettings, WebhookSettings
from proxy.net.http import HttpClient, HttpError

ENDED_MAX = 1000
AGAIN_MIN_S = 1.0
AGAIN_MAX_S = 60.0

Key = tuple[str, tuple[tuple[str, str], ...]]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Alert:
    name: str
    severity: str  # critical, warning
    labels: dict[str, str]
    summary: str
    since: float  # seconds since 1970
    ended: float | None = None

    def as_dict(self, node: str) -> dict[str, Any]:
        told: dict[str, Any] = {
            "labels": {"alertname": self.name, "severity": self.severity, "node": node, **self.labels},
            "annotations": {"summary": self.summary},
            "startsAt": _time(self.since),
        }
        return told if self.ended is None else {**told, "endsAt": _time(self.ended)}


class Alerts:
    """`http` and `wall_clock` are there before `start`; without `http` nobody is told."""

    def __init__(self, settings: AlertSettings, node: str, loop: asyncio.AbstractEventLoop, rng: Random) -> None:
        self.http: HttpClient | None = None
        self.wall_clock: Callable[[], float] = loop.time
        self.firing: dict[Key, Alert] = {}
        self.undelivered = 0  # ended, and dropped before everybody knew
        self._settings = settings
        self._node = node
        self._loop = loop
        self._rng = rng
        self._targets = [_Target(webhook) for webhook in settings.webhooks]
        self._tasks: list[asyncio.Task[None]] = []

    def fire(self, name: str, summary: str, *, severity: str = "warning", **labels: str) -> None:
        """Say that it holds; again, that it still does."""
        key = _key(name, labels)
        alert = self.firing.get(key)
        if alert is None:
            alert = self.firing[key] = Alert(name, severity, labels, summary, self.wall_clock())
        elif (alert.summary, alert.severity) == (summary, severity):
            return
        alert.summary, alert.severity = summary, severity
        self._news()

    def resolve(self, name: str, **labels: str) -> None:
        """Say that it does not hold (any more)."""
        alert = self.firing.pop(_key(name, labels), None)
        if alert is not None:
            self._end(alert)

    def event(self, name: str, summary: str, *, severity: str = "warning", **labels: str) -> None:
        """What has happened, and is over: it ends as it begins."""
        self._end(Alert(name, severity, labels, summary, self.wall_clock()))

    def _end(self, alert: Alert) -> None:
        alert.ended = self.wall_clock()
        for target in self._targets:
            target.ended.append(alert)
            if len(target.ended) > ENDED_MAX:
                del target.ended[0]
                self.undelivered += 1
        self._news()

    def _news(self) -> None:
        for target in self._targets:
            target.news.set()

    def start(self) -> None:
        if self.http is not None:
            self._tasks = [self._loop.create_task(self._tell(target, self.http)) for target in self._targets]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.http is not None:
            await self.http.close()

    async def _tell(self, target: _Target, http: HttpClient) -> None:
        again_s = AGAIN_MIN_S
        while True:
            await target.wait(self._settings.repeat_s if self.firing else None)
            ended = target.ended.copy()
            told = [alert.as_dict(self._node) for alert in (*self.firing.values(), *ended)]
            problem = await self._post(target, http, told) if told else ""
            if not problem:
                del target.ended[: len(ended)]
                again_s = AGAIN_MIN_S
                continue
            await asyncio.sleep(again_s * self._rng.uniform(0.75, 1.25))
            again_s = min(AGAIN_MAX_S, 2 * again_s)
            target.news.set()

    async def _post(self, target: _Target, http: HttpClient, told: list[dict[str, Any]]) -> str:
        """ "": taken; else why not, which is logged when it is another reason than before."""
        webhook = target.settings
        headers = {name: value.get_secret_value() for name, value in webhook.headers.items()}
        try:
            answer = await http.request(
                "POST", webhook.url, timeout_s=webhook.timeout_s, body=json.dumps(told).encode(),
                headers={"Content-Type": "application/json", **headers},
            )  # fmt: skip
            problem = "" if answer.ok else f"answered {answer}"
        except HttpError as error:
            problem = str(error)
        if problem != target.problem:
            target.problem = problem
            log.warning("alerts: %s: %s", webhook.url, problem or "takes them again")
        return problem

    def problems(self) -> list[str]:
        """Of those who are to be told, for people."""
        return [f"{target.settings.url}: {target.problem}" for target in self._targets if target.problem]


class _Target:
    __slots__ = ("ended", "news", "problem", "settings")

    def __init__(self, settings: WebhookSettings) -> None:
        self.settings = settings
        self.ended: list[Alert] = []  # since it last took something
        self.news = asyncio.Event()
        self.problem = ""

    async def wait(self, at_most_s: float | None) -> None:
        """Until there is news, or it is time to say everything again."""
        try:
            async with asyncio.timeout(at_most_s):
                await self.news.wait()
        except TimeoutError:
            pass
        self.news.clear()


def _key(name: str, labels: dict[str, str]) -> Key:
    return name, tuple(sorted(labels.items()))


def _time(at: float) -> str:
    """RFC 3339, UTC, milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
