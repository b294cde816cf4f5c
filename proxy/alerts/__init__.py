"""Alerts: what wants a human being, kept while it holds, and sent to whom the configuration names."""

from proxy.alerts.alerts import Alert, Alerts

__all__ = ["Alert", "Alerts"]
