"""Settings of alerts: who is told when something wants a human being."""

from __future__ import annotations

from pydantic import Field, SecretStr

from proxy.config.section import Section
from proxy.config.values import UrlValue


class WebhookSettings(Section):
    """One who is told, by a POST of what Alertmanager takes at /api/v2/alerts."""

    url: UrlValue
    """Of an Alertmanager: http://192.0.2.1:9093/api/v2/alerts."""
    headers: dict[str, SecretStr] = {}
    """More headers of the requests, like Authorization."""
    timeout_s: float = Field(default=10, ge=0.1, le=600)
    """Within this it must have answered; what was not taken is sent again after 1 s, 2 s, … 60 s."""


class AlertSettings(Section):
    """Alerts (docs/alerts.md)."""

    webhooks: tuple[WebhookSettings, ...] = ()
    """Who is told."""
    repeat_s: float = Field(default=60, ge=1, le=3600)
    """What still holds is told again after this: an Alertmanager takes it for over otherwise."""
