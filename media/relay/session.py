"""What the plane remembers of a session: legs, the lines they use, where their peers want media.

Together with the o= line of each leg this is all that it takes to build the session anew in a fresh relay, or
to take it up in another process (`pack`, `unpack`). Small on purpose: there is one of it for every live call.
"""

from __future__ import annotations

from collections.abc import Iterator
from sys import intern
from typing import Any, NamedTuple

from media.api import MediaError
from media.relay.joined import Joined
from media.relay.joined import unpack as unpack_joined
from media.sdp import Description, Media, Origin, formats, sdes

SNAPSHOT_VERSION = 4


class Remote(NamedTuple):
    """Where the peer of a leg wants the media of one line."""

    host: str
    port: int
    rtcp_host: str
    rtcp_port: int
    opaque: bool
    sends: bool  # audio will come from it: neither side has put the other on hold
    formats: str  # as the relay is told them
    keys: tuple[str, bytes, bytes] | tuple[()] = ()  # of SRTP: suite, own, told


Remotes = tuple[Remote | None, ...]
Lines = tuple[int, ...]


def remotes(description: Description, known: Remotes) -> Remotes:
    """The addresses of a description. A line on hold by address 0.0.0.0 keeps the one it had (`known`)."""
    result = tuple([_remote(description, media) for media in description.media])
    for number, media in enumerate(description.media):
        if media.held and number < len(known):
            old = known[number]
            if old is not None and old.opaque == media.opaque:
                result = (*result[:number], old._replace(sends=False), *result[number + 1 :])
    return result


def _remote(description: Description, media: Media) -> Remote | None:
    if not media.port or not media.relayed:
        return None
    sends = media.kind == b"audio" and not media.held and description.direction(media) == b"sendrecv"
    rtcp_host, rtcp_port = media.rtcp_address()
    host, rtcp_host = intern(media.host), intern(rtcp_host)  # of few hosts, by thousands of calls
    return Remote(host, media.port, rtcp_host, rtcp_port, media.opaque, sends, formats(description, media))


def _secured(remote: Remote, keys: sdes.Keys | None, encrypted: bool) -> Remote:
    if keys is not None:
        return remote._replace(keys=(keys.suite, keys.own, keys.told))
    return remote._replace(keys=(), formats="" if encrypted else remote.formats)


class Leg(Origin):
    """`lines` are numbers of the relay's lines, 0 where a media line needs none."""

    __slots__ = (
        "asked", "fenced", "joined", "kept_s", "lines", "name", "offered", "offered_to", "remotes", "ring",
        "standby", "watched",
    )  # fmt: skip

    def __init__(self, name: str, id: int, version: int = 0, digest: bytes = b"") -> None:
        super().__init__(id, version, digest)
        self.name = name
        self.lines: Lines = ()
        self.remotes: Remotes = ()  # in force
        self.offered: Remotes | None = None  # by an offer of its peer that is not answered yet
        self.offered_to: Leg | None = None  # the leg on which that offer was sent on
        self.asked: tuple[sdes.Lines, ...] = ()  # what its peer was last offered of keys
        self.ring: sdes.Ring = ()  # the keys that its peer has
        self.fenced = False
        self.standby: Leg | None = None  # which hears, too, what is received here
        self.joined: Joined | None = None  # with legs of other sessions, and not with the one it is connected to
        self.watched: tuple[str, float] | None = None  # as which group, and its media timeout
        self.kept_s = 0.0  # so much of what its peer says

    def secure(self, encrypted: tuple[sdes.Lines, ...]) -> None:
        """Put its keys where its addresses are. What is `encrypted` with others passes as it is."""
        if not encrypted and not self.ring:
            return
        self.remotes = tuple(
            None if remote is None else _secured(remote, self.ring[number] if number < len(self.ring) else None,
                                                 number < len(encrypted) and bool(encrypted[number]))
            for number, remote in enumerate(self.remotes)
        )  # fmt: skip

    def missing(self, description: Description) -> list[int]:
        """Media lines that need a line of the relay and have none."""
        lines = self.lines
        return [
            number
            for number, media in enumerate(description.media)
            if media.port and media.relayed and not (number < len(lines) and lines[number])
        ]


class Session:
    __slots__ = ("connected", "kept_s", "legs", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.legs: list[Leg] = []
        self.connected: tuple[Leg, Leg] | None = None
        self.kept_s = 0.0  # of legs to come

    def leg(self, name: str) -> Leg | None:
        for leg in self.legs:
            if leg.name == name:
                return leg
        return None

    def remove(self, leg: Leg) -> Lines:
        """Forget a leg; returns the lines that no other leg uses (forked answers share those of their offer)."""
        self.legs.remove(leg)
        if self.connected is not None and leg in self.connected:
            self.connected = None
        for other in self.legs:
            if other.offered_to is leg:
                other.offered_to = None
            if other.standby is leg:
                other.standby = None
        leg.offered_to = leg.standby = None
        shared = {line for other in self.legs for line in other.lines}
        return tuple(line for line in leg.lines if line and line not in shared)

    def places(self) -> dict[int, tuple[str, int]]:
        """Leg and media line for which a line of the relay is; of legs that share one the connected counts."""
        first = list(self.connected) if self.connected else []
        places: dict[int, tuple[str, int]] = {}
        for leg in first + [leg for leg in self.legs if leg not in first]:
            for number, line in enumerate(leg.lines):
                if line:
                    places.setdefault(line, (leg.name, number))
        return places

    def commands(self) -> Iterator[list[Any]]:
        """What makes a relay carry this session, whether it does already or not."""
        connected = self.connected
        first = list(connected) if connected else []
        seen: set[int] = set()
        for leg in first + [leg for leg in self.legs if leg not in first]:
            for number, line in enumerate(leg.lines):
                if not line or line in seen:
                    continue
                seen.add(line)
                yield ["open", line]
                remote = leg.remotes[number] if number < len(leg.remotes) else None
                if remote is not None:
                    yield remote_command(line, remote)
                if leg.fenced:
                    yield ["fence", line]
                if leg.watched:
                    yield ["watch", line, *leg.watched]
                if leg.kept_s:
                    yield keep_command(self.name, leg, number)
        if connected is not None and not any(leg.joined for leg in connected):
            yield from link_commands(*connected)
        for leg in self.legs:
            if leg.standby is not None:
                yield from fork_commands(leg, leg.standby)
            if leg.joined is not None:
                yield from leg.joined.commands()

    def pack(self) -> dict[str, object]:
        return {
            "version": SNAPSHOT_VERSION,
            "connected": [leg.name for leg in self.connected] if self.connected else None,
            "legs": [
                [
                    leg.name,
                    leg.id,
                    leg.version,
                    leg.digest,
                    list(leg.lines),
                    _pack_remotes(leg.remotes),
                    None if leg.offered is None else _pack_remotes(leg.offered),
                    leg.offered_to.name if leg.offered_to else None,
                    leg.fenced,
                    leg.standby.name if leg.standby else None,
                    leg.joined.pack() if leg.joined else None,
                    leg.asked,
                    leg.ring,
                ]
                for leg in self.legs
            ],
        }


def _pack_remotes(remotes: Remotes) -> list[list[Any] | None]:
    return [None if remote is None else list(remote) for remote in remotes]


def _unpack_remotes(remotes: list[list[Any] | None]) -> Remotes:
    return tuple(None if remote is None else Remote(*remote)._replace(keys=tuple(remote[7])) for remote in remotes)


def unpack(name: str, snapshot: dict[str, Any]) -> Session:
    """Raises MediaError for what `pack` did not make."""
    if snapshot.get("version") != SNAPSHOT_VERSION:
        raise MediaError(f"snapshot version {snapshot.get('version')!r} is not known")
    session = Session(name)
    try:
        for fields in snapshot["legs"]:
            leg_name, id, version, digest, lines, in_force, offered, _, fenced, _, joined, asked, ring = fields
            leg = Leg(leg_name, id, version, digest)
            leg.lines = tuple(lines)
            leg.remotes = _unpack_remotes(in_force)
            leg.offered = None if offered is None else _unpack_remotes(offered)
            leg.asked = tuple(tuple(each) for each in asked)
            leg.ring = tuple(None if keys is None else sdes.Keys(*keys)._replace(lines=tuple(keys[3])) for keys in ring)
            leg.fenced = fenced
            leg.joined = None if joined is None else unpack_joined(joined)
            session.legs.append(leg)
        for leg, fields in zip(session.legs, snapshot["legs"], strict=True):
            leg.offered_to = session.leg(fields[7]) if fields[7] is not None else None
            leg.standby = session.leg(fields[9]) if fields[9] is not None else None
        if snapshot["connected"] is not None:
            first, second = (session.leg(each) for each in snapshot["connected"])
            if first is not None and second is not None:
                session.connected = (first, second)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise MediaError(f"bad snapshot: {error!r}") from error
    return session


def remote_command(line: int, remote: Remote) -> list[Any]:
    return ["remote", line, *remote[:-1], *remote.keys]


def link_commands(leg: Leg, other: Leg) -> Iterator[list[Any]]:
    for line, second in zip(leg.lines, other.lines, strict=False):
        if line and second:
            yield ["link", line, second]


def keep_command(session: str, leg: Leg, number: int) -> list[Any]:
    return ["keep", leg.lines[number], session, f"{number} {leg.name}", leg.kept_s]


def fork_commands(leg: Leg, standby: Leg) -> Iterator[list[Any]]:
    for line, second in zip(leg.lines, standby.lines, strict=False):
        if line and second:
            yield ["fork", line, second]
