"""Power: how a backend is started and stopped. `api` is what every driver can do; each driver has a file of its own."""

from proxy.backends.power.api import Driver, PowerError, Running

__all__ = ["Driver", "PowerError", "Running"]
