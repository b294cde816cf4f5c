"""A driver in virtual time: it starts and stops a server of the world, as fast and as badly as a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from proxy.backends.power import PowerError, Running
from tests.sim.world import World, server_address


class SimDriver:
    kind = "sim"

    def __init__(self, world: World, address: str, boot_s: float = 1.2) -> None:
        self.world = world
        self.address = address
        self.boot_s = boot_s  # from the order until its SIP answers
        self.orders: list[str] = []
        self.refuse = ""  # what is said instead of doing it
        self.on_boot: Callable[[], None] = lambda: None

    async def start(self) -> str:
        self.orders.append("start")
        await asyncio.sleep(0.05)
        if self.refuse:
            raise PowerError(self.refuse)
        if not self.world.network.hosts[self.address].alive:
            self.world.network.after(self.boot_s, self._boot)
        return "started"

    async def stop(self) -> str:
        self.orders.append("stop")
        if self.refuse:
            raise PowerError(self.refuse)
        self.world.network.power_off(self.address)
        return "stopped"

    async def restart(self) -> str:
        self.orders.append("restart")
        if self.refuse:
            raise PowerError(self.refuse)
        self.world.network.kill(self.address)
        self.world.network.after(self.boot_s, self._boot)
        return "restarted"

    async def state(self) -> Running:
        return Running.RUNNING if self.world.network.hosts[self.address].alive else Running.STOPPED

    async def close(self) -> None:
        return

    def _boot(self) -> None:
        if not self.world.network.hosts[self.address].alive:
            self.world.restart(self.address)
            self.on_boot()


def members(*more: dict[str, Any]) -> dict[str, Any]:
    """The backends of the pool: as1 and those that are described, all of them with a driver."""
    power = {"exec": {"start": "/bin/true", "stop": "/bin/true"}}
    return {
        f"as{number + 1}": {"address": f"{server_address(number)}:5060", "power": power, **each}
        for number, each in enumerate(({}, *more))
    }


COLD = {"role": "backup", "standby": "cold"}


def power_for(world: World, *numbers: int) -> list[SimDriver]:
    """Drivers of these servers; what is not the primary is off."""
    drivers = []
    for number in numbers:
        address = server_address(number)
        driver = SimDriver(world, address)
        drivers.append(driver)
        world.drivers[f"as{number + 1}"] = driver
    return drivers
