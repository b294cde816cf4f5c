"""What of backends and failovers wants a human being: told as alerts.

| alert | while |
|---|---|
| `BackendDown` | a backend is down that is meant to run |
| `Failover` | (an event) calls were moved, or lost |
"""

from __future__ import annotations

from proxy.alerts import Alerts
from proxy.backends import Backend, Backends, Power, Verdict
from proxy.failover import Failovers, Report
from proxy.failover.report import LOST, MOVED, STAYED
from proxy.health import Health, VerdictChanged
from proxy.text import counted


class Notices:
    def __init__(self, backends: Backends, health: Health, failovers: Failovers, alerts: Alerts) -> None:
        self._backends = backends
        self._alerts = alerts
        health.subscribe(self._verdict_changed)
        failovers.on_report.append(self._reported)

    def _verdict_changed(self, change: VerdictChanged) -> None:
        backend = change.backend
        if change.verdict is Verdict.DOWN and backend.power is Power.ON:
            why = f"{backend.name} is down, {change.diagnosis}: {change.reason}"
            self._alerts.fire("BackendDown", why, severity="critical", **labels(backend))
        elif change.verdict in (Verdict.UP, Verdict.DEGRADED):
            self._alerts.resolve("BackendDown", **labels(backend))

    def _reported(self, report: Report) -> None:
        if not report.finished or not report.planned:
            return
        lost = report.count(LOST)
        counts = {"moved": report.count(MOVED), "lost": lost, "stayed": report.count(STAYED)}
        told = ", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "moved")
        summary = (
            f"failover {report.id} of {report.backend} ({report.cause}): {counted(report.planned, 'call')}: {told}"
        )
        severity = "critical" if lost else "warning"
        self._alerts.event("Failover", summary, severity=severity, backend=report.backend, pool=report.pool)


def labels(backend: Backend) -> dict[str, str]:
    return {"backend": backend.name, "pool": backend.pool}
