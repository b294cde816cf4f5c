"""The systemd driver over a real D-Bus daemon, with a manager that answers as org.freedesktop.systemd1(5) says.

The manager here is written from that page: methods, signatures, the order of reply and JobRemoved, names of errors and
results. No real systemd has been asked.
"""

from __future__ import annotations

import asyncio
import gc
import shutil
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import DBusError, PropertyAccess
from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property, dbus_signal

from proxy.backends.power import PowerError, Running
from proxy.backends.power.systemd import SystemdDriver
from proxy.config import SystemdSettings


@contextmanager
def dbus(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    if not shutil.which("dbus-daemon"):
        pytest.fail("no dbus-daemon; `make dbus` installs one")
    argv = ["dbus-daemon", "--session", f"--address=unix:path={folder}/bus", "--nofork", "--print-address=1"]
    daemon = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert daemon.stdout is not None
        yield daemon.stdout.readline().decode().strip(), daemon
    finally:
        daemon.kill()
        daemon.wait()


Script = Callable[[SystemdDriver, "Manager", subprocess.Popen[bytes]], Coroutine[Any, Any, None]]


class Unit(ServiceInterface):
    def __init__(self) -> None:
        super().__init__("org.freedesktop.systemd1.Unit")
        self.state = "inactive"

    @dbus_property(access=PropertyAccess.READ, name="ActiveState")
    def active_state(self) -> "s":  # type: ignore[name-defined]  # noqa: F821, UP037
        return self.state


class Manager(ServiceInterface):
    """One unit. Jobs end after `takes_s` with `result`; 0: before their caller knows their name."""

    def __init__(self, unit: Unit) -> None:
        super().__init__("org.freedesktop.systemd1.Manager")
        self.unit = unit
        self.takes_s = 0.05
        self.result = "done"
        self.asked: list[str] = []

    def _job(self, method: str, name: str, mode: str, state: str) -> str:
        self.asked.append(f"{method} {name} {mode}")
        if name != "asterisk.service":
            raise DBusError("org.freedesktop.systemd1.NoSuchUnit", f"Unit {name} not found.")
        job = f"/org/freedesktop/systemd1/job/{len(self.asked)}"

        def end() -> None:
            self.unit.state = state if self.result == "done" else "failed"
            self.JobRemoved(len(self.asked), job, name, self.result)

        if self.takes_s:
            asyncio.get_running_loop().call_later(self.takes_s, end)
        else:
            end()
        return job

    @dbus_method(name="StartUnit")
    def start_unit(self, name: "s", mode: "s") -> "o":  # type: ignore[name-defined]  # noqa: F821, UP037
        return self._job("StartUnit", name, mode, "active")

    @dbus_method(name="StopUnit")
    def stop_unit(self, name: "s", mode: "s") -> "o":  # type: ignore[name-defined]  # noqa: F821, UP037
        return self._job("StopUnit", name, mode, "inactive")

    @dbus_method(name="RestartUnit")
    def restart_unit(self, name: "s", mode: "s") -> "o":  # type: ignore[name-defined]  # noqa: F821, UP037
        return self._job("RestartUnit", name, mode, "active")

    @dbus_method(name="LoadUnit")
    def load_unit(self, name: "s") -> "o":  # type: ignore[name-defined]  # noqa: F821, UP037
        return "/org/freedesktop/systemd1/unit/asterisk_2eservice"

    @dbus_method(name="Subscribe")
    def subscribe(self) -> "":  # type: ignore[name-defined,valid-type]  # noqa: F722
        self.asked.append("Subscribe")

    @dbus_signal(name="JobRemoved")
    def JobRemoved(self, number: int, job: str, unit: str, result: str) -> "uoss":  # type: ignore[name-defined]  # noqa: F821, N802, UP037
        return [number, job, unit, result]


def with_manager(folder: Path, do: Script, **settings: Any) -> None:
    async def main(address: str, daemon: subprocess.Popen[bytes]) -> None:
        bus = await MessageBus(bus_address=address).connect()
        unit = Unit()
        manager = Manager(unit)
        bus.export("/org/freedesktop/systemd1", manager)
        bus.export("/org/freedesktop/systemd1/unit/asterisk_2eservice", unit)
        await bus.request_name("org.freedesktop.systemd1")
        driver = SystemdDriver(SystemdSettings(bus=address, **{"unit": "asterisk.service", **settings}))
        await asyncio.wait_for(do(driver, manager, daemon), 10.0)
        bus.disconnect()

    with dbus(folder) as (address, daemon):
        asyncio.run(main(address, daemon))
    # CPython before 3.11.5 (issue 106905): what is collected while a module is compiled can spoil its compilation.
    gc.collect()


async def refused(work: Coroutine[Any, Any, Any]) -> str:
    with pytest.raises(PowerError) as caught:
        await work
    return str(caught.value)


def test_a_unit_is_started_restarted_and_stopped_and_says_how_it_is(tmp_path: Path) -> None:
    async def do(driver: SystemdDriver, manager: Manager, _: Any) -> None:
        assert await driver.state() is Running.STOPPED
        assert await driver.start() == "done"
        assert await driver.state() is Running.RUNNING
        assert await driver.restart() == "done"
        manager.takes_s = 0.0
        assert await driver.stop() == "done"
        assert await driver.state() is Running.STOPPED
        orders = [each for each in manager.asked if each != "Subscribe"]
        assert orders == [f"{order}Unit asterisk.service replace" for order in ("Start", "Restart", "Stop")]

    with_manager(tmp_path, do)


def test_a_job_that_fails_says_how(tmp_path: Path) -> None:
    async def do(driver: SystemdDriver, manager: Manager, _: Any) -> None:
        manager.result = "dependency"
        assert await refused(driver.start()) == "systemd: StartUnit of asterisk.service: dependency"

    with_manager(tmp_path, do)


def test_a_unit_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    async def do(driver: SystemdDriver, manager: Manager, _: Any) -> None:
        assert (
            await refused(driver.start())
            == "systemd: StartUnit of freeswitch.service: Unit freeswitch.service not found."
        )

    with_manager(tmp_path, do, unit="freeswitch.service")


def test_a_job_that_does_not_end_and_a_bus_that_does(tmp_path: Path) -> None:
    async def do(driver: SystemdDriver, manager: Manager, daemon: subprocess.Popen[bytes]) -> None:
        manager.takes_s = 60.0
        assert await refused(driver.start()) == "systemd: not done within 0.3 s"
        asyncio.get_running_loop().call_later(0.1, daemon.kill)
        assert "D-Bus at unix:path=" in await refused(driver.start())

    with_manager(tmp_path, do, timeout_s=0.3)


def test_a_bus_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    driver = SystemdDriver(SystemdSettings(unit="asterisk.service", bus=f"unix:path={tmp_path}/none"))
    assert "none: [Errno 2]" in asyncio.run(refused(driver.start()))
