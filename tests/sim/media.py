"""Media in the simulation: who sends RTP, and a relay that follows it without a single packet.

`Audio` knows which endpoints have an RTP port open. `SimMedia` implements `media.api.MediaPlane` on the real SDP
code; its counters are those of a stream with a packet each 20 ms for as long as the endpoint of a leg is alive,
not frozen, reachable, has the port open and has not said that it only receives. `Audio.heard` answers what a
checker asks: whose voice reaches this endpoint now?
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import Any

from media.api import Capability, Kept, MediaError, MediaEvent, MediaRestarted, SessionStats, StreamStats
from media.sdp import Description, Origin, SdpError, is_unspecified, parse, rewrite, sdes
from proxy.net.api import Address
from tests.sim.liveness import STEADY_S, SimLiveness
from tests.sim.loop import ProcessLoop, SimulatedLoop
from tests.sim.network import SimHost, SimNetwork

PTIME_S = 0.02
PACKET_BYTES = 172
SENDS = (b"sendrecv", b"sendonly")


G711 = {b"0", b"8"}

Party = tuple[str, str]  # session, leg


class Stream:
    """What one leg receives on one media line."""

    def __init__(self) -> None:
        self.remote: Address | None = None  # where its peer said it is; None: it does not send
        self.packets = 0
        self.fenced = 0
        self.first_packet_at = 0.0
        self.last_packet_at = 0.0
        self.flows_since: float | None = None
        self.silent_since: float | None = None  # the last packet of a steady stream that ought to flow
        self._counted = 0

    def settle(self, now: float, fenced: bool, flows: Callable[[Address], bool]) -> None:
        """Count what has come until now, then see whether more will come."""
        if self.flows_since is not None:
            due = int((now - self.flows_since) / PTIME_S + 1e-6)
            if due > self._counted:
                if fenced:
                    self.fenced += due - self._counted
                else:
                    if not self.packets:
                        self.first_packet_at = self.flows_since + (self._counted + 1) * PTIME_S
                    self.packets += due - self._counted
                    self.last_packet_at = self.flows_since + due * PTIME_S
                self._counted = due
        if self.remote is None:
            self.flows_since = self.silent_since = None
        elif not flows(self.remote):
            if self.flows_since is not None and now - self.flows_since >= STEADY_S:
                self.silent_since = self.last_packet_at
            self.flows_since = None
        elif self.flows_since is None:
            self.flows_since, self.silent_since, self._counted = now, None, 0


class Leg:
    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.ports: list[int] = []
        self.streams: list[Stream] = []
        self.fenced = False
        self.formats: frozenset[bytes] = frozenset()  # that its peer takes, of the first line
        self.asked: tuple[sdes.Lines, ...] = ()
        self.ring: sdes.Ring = ()


class Session:
    def __init__(self) -> None:
        self.legs: dict[str, Leg] = {}
        self.connected: tuple[str, str] | None = None
        self.forks: dict[str, str] = {}  # standby -> the leg that it hears too

    def source_of(self, name: str) -> Leg | None:
        """The leg whose voice `name` gets."""
        if name in self.forks:
            return self.legs.get(self.forks[name])
        if self.connected is None or name not in self.connected:
            return None
        return self.legs.get(self.connected[1] if self.connected[0] == name else self.connected[0])


class Audio:
    """RTP endpoints of the whole simulation, and the relays that stand between them."""

    def __init__(self, network: SimNetwork) -> None:
        self.network = network
        self.relays: dict[str, SimMedia] = {}
        self._open: dict[Address, object] = {}  # -> the process that opened it
        network.on_fault.append(self.settle)

    def open(self, host: SimHost, port: int) -> None:
        """An endpoint on `host` sends and receives RTP on that port from now on, as long as its process lives."""
        self._open[host.address, port] = host.loop
        self.settle()

    def close(self, address: Address) -> None:
        self._open.pop(address, None)
        self.settle()

    def settle(self) -> None:
        for relay in self.relays.values():
            relay.settle()

    def flows(self, source: Address, target: str) -> bool:
        """Does RTP of the endpoint `source` reach the host `target` now?"""
        host = self.network.hosts.get(source[0])
        return (
            host is not None
            and host.powered
            and not host.loop.halted
            and self._open.get(source) is host.loop
            and not self.network.link(source[0], target).cut
        )

    def heard(self, address: str, told: bytes) -> Address | None:
        """Whose voice reaches the endpoint at `address`, which was told the description `told`; None: silence."""
        description = parse(told)
        for media in description.media:
            if media.rejected or description.direction(media) not in SENDS:
                continue
            relay = self.relays.get(media.host)
            if relay is None:
                source: Address | None = (media.host, media.port)
            else:
                source = relay.behind(media.port)
                if self.network.link(media.host, address).cut:
                    source = None
            if source is not None and self.flows(source, address if relay is None else media.host):
                return source
        return None


class SimMedia:
    """A relay on the host of a node, as its own process: it goes on when the node dies."""

    anchors = True
    capabilities: frozenset[Capability] = frozenset({"fork", "bridge", "mix", "liveness"})

    def __init__(self, audio: Audio, host: SimHost, rng: Random) -> None:
        self._audio = audio
        self._host = host
        self._rng = rng
        self._sessions: dict[str, Session] = {}
        self.counters: dict[str, int] = {}
        self.suites: frozenset[str] = frozenset()  # of SRTP that it can terminate
        self._behind: dict[int, tuple[str, str, int]] = {}  # port -> session, leg, line
        self._bridged: dict[Party, tuple[Party, ...]] = {}  # whom each party of a bridge or mix hears
        self._next_port = 20_000
        self._connection = b"IN IP4 " + host.address.encode()
        self._listeners: list[tuple[SimulatedLoop, Callable[[MediaEvent], None]]] = []
        self._context = contextvars.copy_context()
        self._liveness = SimLiveness(audio.network, self._streams_of, self._tell)
        audio.relays[host.address] = self

    def __len__(self) -> int:
        return len(self._sessions)

    # What the simulation asks

    def settle(self) -> None:
        now = self._audio.network.loop.time()
        for session in self._sessions.values():
            for leg in session.legs.values():
                for stream in leg.streams:
                    stream.settle(now, leg.fenced, self._flows)

    def _flows(self, source: Address) -> bool:
        return self._audio.flows(source, self._host.address)

    def behind(self, port: int) -> Address | None:
        """Whose RTP leaves the relay on this port; of a mix, one of the others."""
        if port not in self._behind:
            return None
        name, leg, line = self._behind[port]
        others = self._bridged.get((name, leg))
        if others is None:
            other = self._sessions[name].source_of(leg)
        else:
            other = next((found for each in others if (found := self._find(*each)) is not None), None)
        return other.streams[line].remote if other is not None and line < len(other.streams) else None

    def _streams_of(self, party: Party) -> list[Stream]:
        leg = self._find(*party)
        return leg.streams if leg is not None and not leg.fenced else []

    def _tell(self, event: MediaEvent) -> None:
        """Through the socket of the process that listens, if it lives."""
        for loop, listener in self._listeners:
            if loop is not self._host.loop:
                continue
            if isinstance(loop, ProcessLoop):
                loop.deliver(self._context, listener, event)
            else:
                loop.call_soon(listener, event)

    # MediaPlane

    def offer(
        self, session: str, source: str, target: str, sdp: bytes, *, preview: bool = False
    ) -> asyncio.Future[bytes]:
        return self._answer_at_once(self._pass, session, source, target, sdp, True, not preview)

    def answer(
        self, session: str, source: str, target: str, sdp: bytes, *, preview: bool = False
    ) -> asyncio.Future[bytes]:
        def connect() -> bytes:
            body = self._pass(session, source, target, sdp, False, not preview)
            state = self._sessions[session]
            if state.connected is None:
                state.connected = (source, target)
            return body

        return self._answer_at_once(connect)

    def _pass(self, session: str, source: str, target: str, sdp: bytes, is_offer: bool, record: bool) -> bytes:
        try:
            description = parse(sdp)
        except SdpError as error:
            raise MediaError(f"session {session}: leg {source}: {error}") from error
        state = self._sessions.setdefault(session, Session())
        giver = self._leg(session, state, source, len(description.media))
        self._hear(giver, description)
        leg = self._leg(session, state, target, len(description.media))
        if is_offer:
            leg.asked = sdes.proposals(description)
        else:
            sdes.agree(giver, leg, sdes.proposals(description), self.suites, told=record)
            if not record:
                sdes.keep_told(description, giver.ring, leg.ring)
        rest = rewrite(description, b"c=" + self._connection, leg.ports)
        return leg.origin.stamp(rest, self._connection, record)

    def _leg(self, session: str, state: Session, name: str, lines: int) -> Leg:
        leg = state.legs.get(name)
        if leg is None:
            leg = state.legs[name] = Leg(Origin(self._rng.getrandbits(48)))
        while len(leg.ports) < lines:
            self._behind[self._next_port] = (session, name, len(leg.ports))
            leg.ports.append(self._next_port)
            leg.streams.append(Stream())
            self._next_port += 2
        return leg

    def _hear(self, leg: Leg, description: Description) -> None:
        self.settle()
        leg.formats = frozenset(description.media[0].formats.split()) - {b"101"}
        for stream, media in zip(leg.streams, description.media, strict=False):
            silent = media.rejected or is_unspecified(media.host)
            sends = not silent and description.direction(media) in SENDS
            stream.remote = (media.host, media.port) if sends else None
        self.settle()

    def switch(self, session: str, leg: str, other: str) -> asyncio.Future[None]:
        def connect() -> None:
            state = self._known(session)
            for name in (leg, other):
                if name not in state.legs:
                    raise MediaError(f"session {session}: leg {name}: not known")
            self.settle()
            for name in (leg, other):
                self._unbridge((session, name))
                state.forks.pop(name, None)
            state.connected = (leg, other)
            for name, each in state.legs.items():
                each.fenced = name not in state.connected and state.forks.get(name) not in state.connected

        return self._answer_at_once(connect)

    def fork(self, session: str, source: str, standby: str | None) -> asyncio.Future[None]:
        def split() -> None:
            state = self._known(session)
            for name in (source, standby or source):
                if name not in state.legs:
                    raise MediaError(f"session {session}: leg {name}: not known")
            state.forks = {name: of for name, of in state.forks.items() if of != source}
            if standby is not None:
                state.forks[standby] = source

        return self._answer_at_once(split)

    def bridge(self, session: str, leg: str, other_session: str, other_leg: str) -> asyncio.Future[None]:
        return self.mix([(session, leg), (other_session, other_leg)])

    def mix(self, parties: Sequence[Party], muted: Collection[Party] = ()) -> asyncio.Future[None]:
        def join() -> None:
            if any(self._find(*party) is None for party in parties):
                raise MediaError(f"not all known: {parties}")
            formats = [leg.formats for party in parties if (leg := self._find(*party)) is not None]
            if not frozenset.intersection(*formats) and not all(each & G711 for each in formats):
                raise MediaError(f"no common codec: {formats}")
            self.settle()
            for party in parties:
                self._unbridge(party)
                state = self._sessions[party[0]]
                for name, leg in state.legs.items():
                    leg.fenced = name != party[1] and state.forks.get(name) != party[1]
            for party in parties:
                self._bridged[party] = tuple(each for each in parties if each != party and each not in muted)

        return self._answer_at_once(join)

    def _find(self, session: str, leg: str) -> Leg | None:
        state = self._sessions.get(session)
        return state.legs.get(leg) if state is not None else None

    def _unbridge(self, party: Party) -> None:
        """It hears the others no more, nor they it."""
        for other in self._bridged.pop(party, ()):
            if other in self._bridged:
                self._bridged[other] = tuple(each for each in self._bridged[other] if each != party)

    def delete(self, session: str, leg: str | None = None) -> None:
        state = self._sessions.get(session)
        if state is None:
            return
        for name in list(state.legs) if leg is None else [leg]:
            gone = state.legs.pop(name, None)
            self._unbridge((session, name))
            self._liveness.forget((session, name))
            state.forks.pop(name, None)
            for port in gone.ports if gone else ():
                del self._behind[port]
            if state.connected and name in state.connected:
                state.connected = None
        if leg is None:
            del self._sessions[session]

    def watch(self, session: str, leg: str, group: str, timeout_s: float = 0.0) -> None:
        if self._find(session, leg) is not None:
            self._liveness.watch((session, leg), group, timeout_s)

    def keep(self, session: str, leg: str | None, seconds: float) -> None:
        raise MediaError(f"session {session}: nothing is kept")

    async def kept(self, session: str, since: float = 0.0) -> tuple[Kept, ...]:
        raise MediaError(f"session {session}: nothing is kept")

    def query(self, session: str) -> asyncio.Future[SessionStats]:
        return self._answer_at_once(self._stats, session)

    def _stats(self, session: str) -> SessionStats:
        state = self._known(session)
        self.settle()
        streams = (
            StreamStats(
                leg=name,
                line=line,
                packets=stream.packets,
                bytes=stream.packets * PACKET_BYTES,
                first_packet_at=stream.first_packet_at,
                last_packet_at=stream.last_packet_at,
                source=stream.remote if stream.packets else None,
                lost_to_fence=stream.fenced,
            )
            for name, leg in state.legs.items()
            for line, stream in enumerate(leg.streams)
        )
        return SessionStats(session, state.connected, tuple(streams))

    def snapshot(self, session: str) -> dict[str, object]:
        self._known(session)
        return {"version": 1}

    def restore(self, session: str, snapshot: dict[str, object]) -> None:
        """The relay outlived the node: what it carries it still has."""
        self._known(session)

    def restart(self, *lost: str) -> None:
        """It has died and is back; the ports of these sessions are somebody else's now."""
        for name in lost:
            for leg in self._sessions[name].legs.values():
                for port in leg.ports:
                    del self._behind[port]
                leg.ports, leg.streams = [], []
        self._tell(MediaRestarted(self._audio.network.loop.time(), lost))

    def subscribe(self, listener: Callable[[MediaEvent], None]) -> None:
        self._listeners.append((self._host.loop, listener))

    async def close(self) -> None:
        """Its sessions go on."""

    def _known(self, session: str) -> Session:
        state = self._sessions.get(session)
        if state is None:
            raise MediaError(f"session {session}: not known")
        return state

    def _answer_at_once(self, do: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = self._host.loop.create_future()
        try:
            future.set_result(do(*args))
        except MediaError as error:
            future.set_exception(error)
        return future
