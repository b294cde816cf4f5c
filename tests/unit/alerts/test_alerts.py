"""Alerts in virtual time: what is sent, when, how often, and to whom when one of them does not answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from random import Random
from typing import Any

from proxy.alerts import Alerts
from proxy.alerts.alerts import ENDED_MAX
from proxy.config import AlertSettings
from proxy.net.http import HttpAnswer, HttpError
from tests.sim.loop import VirtualLoop

ONE, TWO = "http://192.0.2.1:9093/api/v2/alerts", "http://192.0.2.2/hook"


class Web:
    """Those who are told; `broken` ones do not take anything."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.broken: dict[str, int | None] = {}  # by URL: what is answered; None: nothing
        self.taken: list[tuple[str, list[dict[str, Any]]]] = []
        self.tries: list[float] = []
        self.headers: Mapping[str, str] = {}

    async def request(
        self, method: str, url: str, *, timeout_s: float, headers: Mapping[str, str] = {}, body: bytes | None = None
    ) -> HttpAnswer:
        self.tries.append(self.loop.time())
        self.headers = headers
        if url in self.broken:
            status = self.broken[url]
            if status is None:
                raise HttpError("connection refused")
            return HttpAnswer(status, "no")
        assert method == "POST" and body is not None
        self.taken.append((url, json.loads(body)))
        return HttpAnswer(200, "")

    async def close(self) -> None:
        return


def simulate(do: Callable[[Alerts, Web], Coroutine[Any, Any, None]], *urls: str, **settings: Any) -> None:
    loop = VirtualLoop()

    async def main() -> None:
        webhooks = [{"url": url, "headers": {"Authorization": "Bearer t0ken"}} for url in urls or (ONE,)]
        alerts = Alerts(AlertSettings.model_validate({"webhooks": webhooks, **settings}), "node1", loop, Random(1))
        web = Web(loop)
        alerts.http, alerts.wall_clock = web, lambda: loop.time() - 1024.0 + 1_700_000_000
        alerts.start()
        await do(alerts, web)
        await alerts.stop()

    loop.run(main())


def test_an_alert_is_sent_as_alertmanager_wants_it() -> None:
    async def do(alerts: Alerts, web: Web) -> None:
        alerts.fire("BackendDown", "as1 is down: Dead", severity="critical", backend="as1", pool="pbx")
        await asyncio.sleep(2.5)
        alerts.resolve("BackendDown", backend="as1", pool="pbx")
        await asyncio.sleep(0.1)
        labels = {"alertname": "BackendDown", "severity": "critical", "node": "node1", "backend": "as1", "pool": "pbx"}
        first = {
            "labels": labels,
            "annotations": {"summary": "as1 is down: Dead"},
            "startsAt": "2023-11-14T22:13:20.000Z",
        }
        assert web.taken == [(ONE, [first]), (ONE, [{**first, "endsAt": "2023-11-14T22:13:22.500Z"}])]
        assert web.headers["Authorization"] == "Bearer t0ken"

    simulate(do)


def test_what_holds_is_said_again_and_what_is_over_is_not() -> None:
    async def do(alerts: Alerts, web: Web) -> None:
        alerts.fire("Parity", "as2 differs", backend="as2")
        alerts.fire("Parity", "as2 differs", backend="as2")
        alerts.event("Failover", "as1: 20 moved", backend="as1")
        await asyncio.sleep(200.0)
        assert [[alert["labels"]["alertname"] for alert in told] for _, told in web.taken] == [
            ["Parity", "Failover"], ["Parity"], ["Parity"], ["Parity"]
        ]  # fmt: skip
        alerts.resolve("Parity", backend="as2")
        await asyncio.sleep(300.0)
        assert len(web.taken) == 5

    simulate(do, repeat_s=60)


def test_one_that_does_not_take_it_is_asked_again_and_again_and_gets_all_of_it_at_last() -> None:
    async def do(alerts: Alerts, web: Web) -> None:
        web.broken = {ONE: 503}
        alerts.fire("BackendDown", "as1 is down", backend="as1")
        await asyncio.sleep(20.0)
        alerts.resolve("BackendDown", backend="as1")
        alerts.fire("BackendDown", "as2 is down", backend="as2")
        assert alerts.problems() == [f"{ONE}: answered 503: no"]
        pauses = [later - earlier for earlier, later in zip(web.tries, web.tries[1:], strict=False)]
        assert len(pauses) >= 4 and all(0.7 <= pause / 2**number <= 1.3 for number, pause in enumerate(pauses[:4]))
        web.broken = {ONE: None}
        await asyncio.sleep(300.0)
        assert max(later - earlier for earlier, later in zip(web.tries, web.tries[1:], strict=False)) <= 75.0
        web.broken = {}
        await asyncio.sleep(80.0)
        _, told = web.taken[0]
        assert [(each["labels"]["backend"], "endsAt" in each) for each in told] == [("as2", False), ("as1", True)]
        assert alerts.problems() == []

    simulate(do, repeat_s=3600)


def test_one_that_is_broken_costs_the_others_nothing() -> None:
    async def do(alerts: Alerts, web: Web) -> None:
        web.broken = {TWO: None}
        alerts.fire("BackendDown", "as1 is down", backend="as1")
        await asyncio.sleep(0.01)
        assert [url for url, _ in web.taken] == [ONE]

    simulate(do, ONE, TWO)


def test_what_nobody_takes_is_kept_up_to_a_bound() -> None:
    async def do(alerts: Alerts, web: Web) -> None:
        web.broken = {ONE: None}
        for number in range(ENDED_MAX + 5):
            alerts.event("Failover", f"{number}", backend="as1")
        await asyncio.sleep(1.0)
        web.broken = {}
        await asyncio.sleep(100.0)
        ((_, told),) = web.taken
        assert len(told) == ENDED_MAX and told[0]["annotations"]["summary"] == "5" and alerts.undelivered == 5

    simulate(do)
