"""The systemd driver: a unit, over D-Bus. Needs the extra `systemd` (dbus-fast).

org.freedesktop.systemd1(5): StartUnit, StopUnit and RestartUnit make a job; the signal JobRemoved says how it ended
("done", "failed", "timeout", "dependency", "canceled", "skipped"). A connection a job: they are rare, and a bus that
was restarted meanwhile costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from proxy.backends.power.api import PowerError, Running
from proxy.config import SystemdSettings

if TYPE_CHECKING:
    from dbus_fast import Message
    from dbus_fast.aio import MessageBus

_NAME, _PATH, _MANAGER = "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
_BUS = "org.freedesktop.DBus"
_STATES = {
    "active": Running.RUNNING,
    "reloading": Running.RUNNING,
    "inactive": Running.STOPPED,
    "failed": Running.STOPPED,
    "activating": Running.CHANGING,
    "deactivating": Running.CHANGING,
    "maintenance": Running.CHANGING,
}


class SystemdDriver:
    kind = "systemd"

    def __init__(self, settings: SystemdSettings) -> None:
        self._settings = settings

    async def start(self) -> str:
        return await self._job("StartUnit")

    async def stop(self) -> str:
        return await self._job("StopUnit")

    async def restart(self) -> str:
        return await self._job("RestartUnit")

    async def state(self) -> Running:
        async with self._bus() as bus:
            (path,) = await self._call(bus, _PATH, _MANAGER, "LoadUnit", "s", self._settings.unit)
            (state,) = await self._call(
                bus,
                path,
                "org.freedesktop.DBus.Properties",
                "Get",
                "ss",
                "org.freedesktop.systemd1.Unit",
                "ActiveState",
            )
        return _STATES.get(state.value, Running.UNKNOWN)

    async def close(self) -> None:
        return

    async def _job(self, method: str) -> str:
        unit = self._settings.unit
        async with self._bus() as bus:
            ended: dict[str, str] = {}  # by job: one may have ended before we have been told its name
            news = asyncio.Event()

            def heard(message: Message) -> None:
                if message.member == "JobRemoved" and message.signature == "uoss":
                    ended[message.body[1]] = message.body[3]
                    news.set()

            gone = asyncio.ensure_future(bus.wait_for_disconnect())  # type: ignore[no-untyped-call]
            gone.add_done_callback(lambda _: news.set())
            bus.add_message_handler(heard)
            rule = f"type='signal',sender='{_NAME}',interface='{_MANAGER}',member='JobRemoved',path='{_PATH}'"
            await self._call(bus, "/org/freedesktop/DBus", _BUS, "AddMatch", "s", rule, of=_BUS)
            await self._call(bus, _PATH, _MANAGER, "Subscribe", "")
            (job,) = await self._call(bus, _PATH, _MANAGER, method, "ss", unit, "replace")
            while job not in ended:
                if gone.done():
                    raise EOFError
                news.clear()
                await news.wait()
        if ended[job] not in ("done", "skipped"):
            raise PowerError(f"systemd: {method} of {unit}: {ended[job]}")
        return ended[job]

    async def _call(
        self, bus: MessageBus, path: str, interface: str, member: str, signature: str, *body: Any, of: str = _NAME
    ) -> list[Any]:
        from dbus_fast import Message, MessageType

        message = Message(
            destination=of, path=path, interface=interface, member=member, signature=signature, body=list(body)
        )
        reply = await bus.call(message)
        assert reply is not None
        if reply.message_type is MessageType.ERROR:
            said = reply.body[0] if reply.body else reply.error_name
            raise PowerError(f"systemd: {member} of {self._settings.unit}: {said}")
        return reply.body

    @asynccontextmanager
    async def _bus(self) -> AsyncIterator[MessageBus]:
        try:
            from dbus_fast import AuthError, InvalidAddressError
            from dbus_fast.aio import MessageBus
        except ImportError:
            raise PowerError("the extra `systemd` is not installed: pip install 'aqueduct-sip[systemd]'") from None
        bus: MessageBus | None = None
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                bus = await MessageBus(bus_address=self._settings.bus).connect()
                yield bus
        except TimeoutError:
            raise PowerError(f"systemd: not done within {self._settings.timeout_s:g} s") from None
        except (OSError, EOFError, AuthError, InvalidAddressError) as error:
            why = str(error) or "the connection was closed"
            raise PowerError(f"D-Bus at {self._settings.bus}: {why}") from None
        finally:
            if bus is not None:
                bus.disconnect()
