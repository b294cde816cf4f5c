"""A control session of the simulation: what it tells comes out of the server's own memory, a moment later."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

from proxy.backends.control.api import (
    Ability,
    ChannelUp,
    ConferenceChanged,
    ConferenceJoined,
    ConferenceLeft,
    ControlError,
    Event,
    MemberChanged,
    Synced,
    Up,
)
from tests.sim.agents import Conversation
from tests.sim.world import NODE, World

DELAY_S = 0.003


class SimControl:
    """With the server at `address`. It is there for the node for as long as the server is."""

    abilities: frozenset[Ability] = frozenset({"join", "mute", "lock", "record"})

    def __init__(self, world: World, address: str, boot: str = "") -> None:
        self._world = world
        self._address = address
        self._boot = boot
        self._server = world.servers[address]
        self._listener: Callable[[Event], None] = lambda event: None
        self.commands: list[str] = []
        self.counters: Mapping[str, int] = Counter()

    @property
    def up(self) -> bool:
        return self._world.is_there(self._address)

    def start(self, listener: Callable[[Event], None]) -> None:
        self._listener = listener
        self._server.on_joined, self._server.on_left = self._joined, self._left
        self.resync()

    def resync(self) -> None:
        self._tell(Up("Simulated 1", self._boot or self._address))
        for conversation in self._server.live:
            if conversation.bond.startswith(b"conf"):
                self._joined(conversation)
        self._tell(Synced())

    async def stop(self) -> None:
        self._listener = lambda event: None

    def _tell(self, event: Event) -> None:
        def deliver() -> None:
            if self.up:
                self._listener(event)

        self._world.host.loop.call_soon_threadsafe(self._world.host.loop.call_later, DELAY_S, deliver)

    def _joined(self, conversation: Conversation) -> None:
        assert conversation.session is not None
        channel, name = self.channel(conversation), conversation.bond.decode()
        self._tell(ChannelUp(channel, conversation.session.dialog.call_id.decode(), channel, ""))
        self._tell(ConferenceJoined(name, channel, conversation.moderator, conversation.muted, False))
        if conversation.bond in self._server.recorded:
            self._tell(ConferenceChanged(name, recording=self._server.recorded[conversation.bond]))

    def _left(self, conversation: Conversation) -> None:
        self._tell(ConferenceLeft(conversation.bond.decode(), self.channel(conversation)))

    @staticmethod
    def channel(conversation: Conversation) -> str:
        return f"SIM/{conversation.port}"

    # What happens at the server

    def set_muted(self, conversation: Conversation, on: bool) -> None:
        conversation.muted = on
        self._tell(MemberChanged(conversation.bond.decode(), self.channel(conversation), muted=on))

    def set_locked(self, name: str, on: bool) -> None:
        (self._server.locked.add if on else self._server.locked.discard)(name.encode())
        self._tell(ConferenceChanged(name, locked=on))

    def set_recorded(self, name: str, file: str) -> None:
        self._server.recorded[name.encode()] = file
        self._tell(ConferenceChanged(name, recording=file))

    # Commands

    async def originate(self, target: str, variables: Mapping[str, str], *, context: str, extension: str) -> str:
        raise ControlError("not here")

    async def join(self, channel: str, conference: str) -> None:
        raise ControlError("not here")

    async def mute(self, conference: str, channel: str, on: bool) -> None:
        conversation = await self._find(channel)
        self.commands.append(f"mute {conversation.number.decode()} {on}")
        self.set_muted(conversation, on)

    async def lock(self, conference: str, on: bool) -> None:
        await self._reach()
        self.commands.append(f"lock {conference} {on}")
        self.set_locked(conference, on)

    async def record(self, conference: str, file: str | None) -> None:
        await self._reach()
        self.commands.append(f"record {conference} {file}")
        self.set_recorded(conference, file or "")

    async def hang_up(self, channel: str) -> None:
        raise ControlError("not here")

    async def _find(self, channel: str) -> Conversation:
        await self._reach()
        for conversation in self._server.live:
            if self.channel(conversation) == channel:
                return conversation
        raise ControlError(f"no channel {channel}")

    async def _reach(self) -> None:
        await asyncio.sleep(DELAY_S)
        if not self.up:
            raise ControlError("the session is not up")


def control_all(world: World) -> dict[str, SimControl]:
    """A session with each server; by address."""
    controls = {}
    for backend in world.node.backends:
        address = backend.address[0]
        if address in world.servers and address != NODE:
            controls[address] = control = SimControl(world, address)
            world.node.conferences.sessions[backend.name] = control
            control.start(lambda event, backend=backend: world.node.conferences.hear(backend, event))  # type: ignore[misc]
    return controls
