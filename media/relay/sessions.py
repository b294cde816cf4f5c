"""All sessions of a relay plane, and what offers and answers do to them.

Synchronous and without sockets: what the relay must do leaves as commands through `send`, spare lines come from
the stock. RFC 3264 is applied here: which addresses are in force when, which legs flow into each other.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Sequence
from typing import Any

from media.api import MediaError, MediaFull
from media.relay import joined
from media.relay.joined import Joined
from media.relay.protocol import Command
from media.relay.session import (
    Leg,
    Lines,
    Session,
    fork_commands,
    keep_command,
    link_commands,
    remote_command,
    remotes,
    unpack,
)
from media.relay.stock import Stock
from media.sdp import Description, rewrite, sdes

log = logging.getLogger(__name__)


class Sessions:
    """`addresses`: per host of the relay, whether it is IPv6, and "IN IP4 192.0.2.1" as SDP says it."""

    def __init__(self, rng: random.Random, stock: Stock, send: Callable[[Command], None]) -> None:
        self.addresses: list[tuple[bool, bytes]] = []
        self.suites: frozenset[str] = frozenset()  # of SRTP that the relay can terminate
        self.by_name: dict[str, Session] = {}
        self._warned = False  # that encryption was met, and that it cannot be terminated
        self._rng = rng
        self._stock = stock
        self._send = send

    def get(self, name: str) -> Session:
        session = self.by_name.get(name)
        if session is None:
            raise MediaError("not known")
        return session

    def exchange(
        self, name: str, source: str, target: str, description: Description, is_offer: bool, record: bool
    ) -> bytes | None:
        """What to send to the peer of `target`. None when there are too few spare lines; then nothing has happened.

        Raises MediaError.
        """
        session = self.by_name.get(name)
        if session is None:
            if not is_offer:
                raise MediaError(f"answer of leg {source}, but the session is not known")
            session = Session(name)
        giver = session.leg(source) or self._new_leg(session, source)
        taker = session.leg(target) or self._new_leg(session, target)
        if not is_offer and taker not in session.legs:
            raise MediaError(f"answer for leg {target}, which is not known")
        if not giver.lines and not is_offer and taker.offered_to is not None:
            giver.lines = taker.offered_to.lines  # RFC 3261 §13.2.2.4: another fork answers the same offer
            giver.asked = taker.offered_to.asked
        self._check_family(giver, description)
        if not self._provide(session, description, giver, taker):
            return None
        for leg in (giver, taker):
            if leg not in session.legs:
                session.legs.append(leg)
        self.by_name[name] = session
        if is_offer:
            # RFC 3264 §8: until the answer the old addresses hold, and for good if the offer is rejected.
            giver.offered = remotes(description, giver.remotes)
            giver.offered_to = taker
            taker.asked = sdes.proposals(description)
        else:
            self._agree(session, giver, taker, description, record)
            if not record:
                sdes.keep_told(description, giver.ring, taker.ring)
        lines = taker.lines
        ports = [lines[number] & 0xFFFF if number < len(lines) else 0 for number in range(len(description.media))]
        address = self.addresses[_host_of(lines)][1]
        return taker.stamp(rewrite(description, b"c=" + address, ports), address, record)

    def switch(self, name: str, leg: str, other: str) -> None:
        session = self.get(name)
        first, second = session.leg(leg), session.leg(other)
        if first is None or second is None:
            raise MediaError(f"no legs {leg} and {other} to connect")
        for end in (first, second):
            self._leave(name, end)
        self._connect(session, first, second)
        self._fence(session, {first, second, first.standby, second.standby})

    def fork(self, name: str, source: str, standby: str | None) -> None:
        session = self.get(name)
        leg, other = session.leg(source), session.leg(standby) if standby is not None else None
        if leg is None or leg is other or (standby is not None and other is None):
            raise MediaError(f"no legs {source} and {standby} to fork")
        leg.standby = other
        if other is None:
            for line in leg.lines:
                if line:
                    self._send(["fork", line, 0])
            return
        other.fenced = False
        self._send_remotes(other)
        for command in fork_commands(leg, other):
            self._send(command)

    def bridge(self, name: str, leg: str, other_name: str, other: str) -> None:
        self._join(joined.bridge(self._party(name, leg), self._party(other_name, other)))

    def mix(self, parties: Sequence[tuple[str, str]], muted: Collection[tuple[str, str]]) -> None:
        self._join(joined.mix([self._party(*party) for party in parties], muted))

    def _party(self, name: str, leg: str) -> tuple[str, Session, Leg]:
        session = self.by_name.get(name)
        found = session.leg(leg) if session is not None else None
        if session is None or found is None:
            raise MediaError(f"session {name} with leg {leg} is not known")
        return name, session, found

    def _join(self, group: Joined) -> None:
        for name, leg in group.parties:
            _, session, found = self._party(name, leg)
            self._leave(name, found)
            found.joined = group
            found.fenced = False
            ends = [end for other, each in group.parties if other == name and (end := session.leg(each)) is not None]
            self._fence(session, {*ends, *(end.standby for end in ends)})
        for command in group.commands():
            self._send(command)

    def _leave(self, name: str, leg: Leg) -> None:
        """It hears others of other sessions no more."""
        group, leg.joined = leg.joined, None
        if group is None:
            return
        group.leave((name, leg.name))
        if len(group.parties) < 2:
            for party in group.parties:
                self._party(*party)[2].joined = None

    def _fence(self, session: Session, but: set[Leg | None]) -> None:
        in_use = {line for leg in but if leg is not None for line in leg.lines}
        for leg in session.legs:
            if leg not in but:
                leg.fenced = True
                for line in leg.lines:
                    if line and line not in in_use:
                        self._send(["fence", line])

    def watch(self, name: str, leg: str, group: str, timeout_s: float) -> None:
        session = self.by_name.get(name)
        watched = session.leg(leg) if session is not None else None
        if watched is not None:
            watched.watched = (group, timeout_s)
            for line in watched.lines:
                if line:
                    self._send(["watch", line, group, timeout_s])

    def keep(self, name: str, leg: str | None, seconds: float) -> None:
        session = self.by_name.get(name)
        if session is None:
            return
        if leg is None:
            session.kept_s = seconds
        for kept in session.legs:
            if leg is None or kept.name == leg:
                kept.kept_s = seconds
                for number, line in enumerate(kept.lines):
                    if line:
                        self._send(keep_command(name, kept, number))

    def delete(self, name: str, leg: str | None) -> bool:
        """True when nothing is left of the session."""
        session = self.by_name.get(name)
        if session is None:
            return True
        for each in session.legs.copy():
            if leg is None or each.name == leg:
                self._leave(name, each)
                for line in session.remove(each):
                    self._stock.gave_back(line)
                    self._send(["close", line])
        if session.legs:
            return False
        del self.by_name[name]
        return True

    def restore(self, name: str, snapshot: dict[str, Any]) -> Lines:
        """Returns the lines that it has in use."""
        session = self.by_name[name] = unpack(name, snapshot)
        for leg in session.legs:
            if leg.joined is not None:
                self._meet(name, leg, leg.joined)
        lines = tuple(line for leg in session.legs for line in leg.lines if line)
        self._stock.reserve(lines)
        for command in session.commands():
            self._send(command)
        return lines

    def _meet(self, name: str, leg: Leg, group: Joined) -> None:
        """Each session was told of by itself: those of a group that are here already share it."""
        for other, other_leg in group.parties:
            found = self.by_name[other].leg(other_leg) if other in self.by_name and other != name else None
            if found is not None and found.joined is not None:
                leg.joined = found.joined
                return

    def with_lines(self, lines: set[int]) -> tuple[str, ...]:
        """The sessions that use one of these lines."""
        return tuple(
            name
            for name, session in self.by_name.items()
            if any(line in lines for leg in session.legs for line in leg.lines)
        )

    def without_lines(self, lines: set[int]) -> tuple[str, ...]:
        """These lines are no more: the next offer or answer gives their legs others. Returns the sessions."""
        lost = self.with_lines(lines)
        for name in lost:
            for leg in self.by_name[name].legs:
                leg.lines = tuple(0 if line in lines else line for line in leg.lines)
        return lost

    def _agree(self, session: Session, giver: Leg, taker: Leg, description: Description, record: bool) -> None:
        """Offer and answer are there: addresses are in force, and media flows unless another leg is connected."""
        giver.remotes = remotes(description, giver.remotes)
        if taker.offered is not None:
            taker.remotes = taker.offered
            taker.offered = None
        self._agree_keys(giver, taker, sdes.proposals(description), record)
        connected = session.connected
        elsewhere = giver.joined or taker.joined
        if connected is None or (giver in connected and taker in connected and not elsewhere):
            self._connect(session, taker, giver)
            return
        # Beside the connected pair: what is told now must not disturb lines that another leg has in use.
        in_use = {line for leg in connected if leg is not giver for line in leg.lines}
        for leg in (giver, taker):
            if leg in connected or not in_use.intersection(leg.lines):
                self._send_remotes(leg)

    def _agree_keys(self, giver: Leg, taker: Leg, answered: tuple[sdes.Lines, ...], record: bool) -> None:
        """Who is not told of an answer goes on with the keys that he was told before."""
        if answered and not self.suites and not self._warned:
            self._warned = True
            log.info("SRTP passes as it is: the relay has no pylibsrtp (pip install 'aqueduct-sip[srtp]')")
        sdes.agree(giver, taker, answered, self.suites, told=record)
        for leg in (giver, taker):
            leg.secure(answered)

    def _connect(self, session: Session, leg: Leg, other: Leg) -> None:
        session.connected = (leg, other)
        leg.fenced = other.fenced = False
        for one, another in ((leg, other), (other, leg)):
            if one.standby is another:
                one.standby = None
        self._send_remotes(leg)
        self._send_remotes(other)
        for command in link_commands(leg, other):
            self._send(command)

    def _send_remotes(self, leg: Leg) -> None:
        for line, remote in zip(leg.lines, leg.remotes, strict=False):
            if line and remote is not None:
                self._send(remote_command(line, remote))

    def _new_leg(self, session: Session, name: str) -> Leg:
        leg = Leg(name, self._rng.getrandbits(48))
        leg.kept_s = session.kept_s
        return leg

    def _provide(self, session: Session, description: Description, giver: Leg, taker: Leg) -> bool:
        """See to it that both legs have a line for each media line in use. All or nothing."""
        needs = [(leg, missing) for leg in (giver, taker) if (missing := leg.missing(description))]
        if not needs:
            return True
        wanted = [0] * len(self.addresses)
        plan = []
        for leg, missing in needs:
            if any(leg.lines):
                host = _host_of(leg.lines)
            elif leg is giver:
                host = self._host_for(description.media[missing[0]].host)
            else:
                known = next((remote for remote in leg.remotes if remote is not None), None)
                host = self._host_for(known.host) if known is not None else 0
            wanted[host] += len(missing)
            plan.append((leg, missing, host))
        if not session.legs and not self._stock.admits(wanted):
            raise MediaFull("no free media ports for another call")
        if not self._stock.has(wanted):
            return False
        for leg, missing, host in plan:
            lines = [*leg.lines, *[0] * (len(description.media) - len(leg.lines))]
            for number in missing:
                line = lines[number] = self._stock.take(host)
                self._send(["open", line])
                if leg.watched:
                    self._send(["watch", line, *leg.watched])
            leg.lines = tuple(lines)
            if leg.kept_s:
                for number in missing:
                    self._send(keep_command(session.name, leg, number))
        return True

    def _host_for(self, peer: str) -> int:
        """An address of the family that the peer uses."""
        used = ":" in peer
        for index, (v6, _) in enumerate(self.addresses):
            if v6 == used:
                return index
        raise MediaError(f"a peer wants media at {peer}, and the relay has no address of that family")

    def _check_family(self, leg: Leg, description: Description) -> None:
        for line, media in zip(leg.lines, description.media, strict=False):
            if line and media.port and not media.held and (":" in media.host) != self.addresses[line >> 16][0]:
                raise MediaError(f"leg {leg.name} has changed its address family to {media.host}")


def _host_of(lines: Lines) -> int:
    return next((line >> 16 for line in lines if line), 0)
