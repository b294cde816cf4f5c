"""The contract of a control session with a backend: what it tells, and what it can be asked for.

A session keeps itself up: it connects, logs in, asks for everything that lives (so that the news that follow have a
beginning), passes news on, and begins anew when it was cut off. Between `Up` and `Lost` what it has told is the whole
truth: a `Up` is followed by one event for each channel, bridge member and conference member that lives already, and
then by `Synced`. A `Up` without a `Lost` before it begins the same anew: too much came at once, and news were dropped.

A channel is one leg on the backend, named as the backend names it (`channel`, unique over a restart). `ChannelUp.sip`
ties it to one of ours: the Call-ID of that leg (of one that we placed: the id of our call, a dash, the leg's name); or
that id alone, where the backend has only read X-Aqueduct-Call (an SBC between us makes Call-IDs of its own).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol


class ControlError(Exception):
    """The backend refused a command, or the session is not up; the text says which."""


class Loss(StrEnum):
    """Why a session is not up."""

    REFUSED = "refused"  # nobody listens: the process is gone
    CLOSED = "closed"  # the connection ended or was reset: the process is gone, or stops
    SILENT = "silent"  # it does not answer any more (keep-alive, or no greeting)
    STOPPING = "stopping"  # it has said that it shuts down
    DENIED = "denied"  # wrong user or secret: says nothing about the backend's life
    PROTOCOL = "protocol"  # what came is not this protocol, or more than a session may hold


@dataclass(slots=True, frozen=True)
class Up:
    """Logged in."""

    version: str  # as it names itself: "Asterisk 22.10.1"
    boot: str  # changes when the process was started anew


@dataclass(slots=True, frozen=True)
class Synced:
    """What lived already has been told."""


@dataclass(slots=True, frozen=True)
class Lost:
    loss: Loss
    why: str
    was_up: bool  # False: an attempt to connect has failed


@dataclass(slots=True, frozen=True)
class Stopping:
    """It has begun to shut down. `hangs_up`: and ends its calls now, which is not what those who talk want. What
    becomes of them there is not told any more."""

    hangs_up: bool


@dataclass(slots=True, frozen=True)
class ChannelUp:
    """Told again when `sip` is known later than the channel."""

    channel: str
    sip: str  # "" when it is not known yet, or no SIP at all
    name: str  # for people: PJSIP/sbc-00000001
    number: str  # whom it called, or who was called


@dataclass(slots=True, frozen=True)
class ChannelDown:
    channel: str
    cause: int  # ITU-T Q.850; 0: not known


@dataclass(slots=True, frozen=True)
class BridgeEntered:
    """The channel is connected to the others of the bridge; two in one bridge that is no conference are a pair."""

    bridge: str
    channel: str


@dataclass(slots=True, frozen=True)
class BridgeLeft:
    bridge: str
    channel: str


@dataclass(slots=True, frozen=True)
class ConferenceJoined:
    conference: str
    channel: str
    moderator: bool
    muted: bool
    deaf: bool


@dataclass(slots=True, frozen=True)
class ConferenceLeft:
    conference: str
    channel: str


@dataclass(slots=True, frozen=True)
class MemberChanged:
    """None: as it was."""

    conference: str
    channel: str
    muted: bool | None = None
    deaf: bool | None = None
    talking: bool | None = None


@dataclass(slots=True, frozen=True)
class ConferenceChanged:
    """None: as it was. `recording`: the file, "" for none, "?" for one whose name is not told."""

    conference: str
    locked: bool | None = None
    recording: str | None = None


@dataclass(slots=True, frozen=True)
class ConferenceEnded:
    conference: str


@dataclass(slots=True, frozen=True)
class RecordingChanged:
    """A recording of one channel. `file` as for `ConferenceChanged.recording`."""

    channel: str
    file: str


@dataclass(slots=True, frozen=True)
class Resources:
    """How loaded it is, asked for at an interval. None: not told."""

    channels: int | None = None
    channels_max: int | None = None
    load: float | None = None  # average of one minute
    cpu_idle: float | None = None  # share of 1
    memory_free: float | None = None  # share of 1
    uptime_s: float | None = None


Event = (
    Up
    | Synced
    | Lost
    | Stopping
    | ChannelUp
    | ChannelDown
    | BridgeEntered
    | BridgeLeft
    | ConferenceJoined
    | ConferenceLeft
    | MemberChanged
    | ConferenceChanged
    | ConferenceEnded
    | RecordingChanged
    | Resources
)

# stopping: it tells of a shutdown (`Stopping`) before, or a moment after, the backend has begun to hang up its calls.
Ability = Literal["originate", "join", "mute", "lock", "record", "hangup", "stopping"]


class ControlSession(Protocol):
    """A session with one backend. Commands raise ControlError; they time out by themselves."""

    abilities: frozenset[Ability]  # what the protocol cannot do is not faked: ControlError
    up: bool

    @property
    def counters(self) -> Mapping[str, int]:
        """Events, bytes, what was malformed, ignored or dropped, by name."""
        ...

    def start(self, listener: Callable[[Event], None]) -> None: ...

    async def stop(self) -> None: ...

    def hurry(self) -> None:
        """It was started just now: try at once, unless it is up or was denied."""
        ...

    async def originate(self, target: str, variables: Mapping[str, str], *, context: str, extension: str) -> str:
        """Call `target` from the backend and put whoever answers into the dialplan there: the new channel."""
        ...

    async def join(self, channel: str, conference: str) -> None:
        """Put a channel into a conference."""
        ...

    async def mute(self, conference: str, channel: str, on: bool) -> None: ...

    async def lock(self, conference: str, on: bool) -> None: ...

    async def record(self, conference: str, file: str | None) -> None:
        """Record a conference into `file`; None ends it."""
        ...

    async def hang_up(self, channel: str) -> None: ...
