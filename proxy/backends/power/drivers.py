"""The drivers of the backends that have power. What a driver needs is not read before it is wanted."""

from __future__ import annotations

from proxy.backends.power.api import Driver
from proxy.backends.power.docker import DockerDriver
from proxy.backends.power.exec import ExecDriver
from proxy.backends.power.hook import HookDriver
from proxy.backends.power.systemd import SystemdDriver
from proxy.config import BackendSettings, PowerSettings, Settings
from proxy.net.http import Http


def drivers(settings: Settings) -> dict[str, Driver]:
    """By names of backends."""
    return {
        name: driver_of(backend, backend.power, name, settings.node.name)
        for pool in settings.pools.values()
        for name, backend in pool.backends.items()
        if backend.power is not None
    }


def driver_of(settings: BackendSettings, power: PowerSettings, backend: str, node: str) -> Driver:
    if power.exec is not None:
        told = {"AQUEDUCT_BACKEND": backend, "AQUEDUCT_NODE": node}
        if settings.provision is not None and settings.provision.status_file is not None:
            told["AQUEDUCT_STATUS"] = str(settings.provision.status_file)
        return ExecDriver(power.exec, told)
    if power.systemd is not None:
        return SystemdDriver(power.systemd)
    if power.docker is not None:
        return DockerDriver(power.docker, Http(str(power.docker.socket)))
    assert power.http is not None  # `proxy.config.checks`: exactly one
    return HookDriver(power.http, Http(), backend, node)
