"""Which calls a backend has connected to each other: a pair (customer and agent), or a conference.

The backend's dialplan says so in its INVITE, 2xx, re-INVITE or INFO:

    X-Aqueduct-Pair: NAME            two calls of the same name talk to each other
    X-Aqueduct-Conference: NAME      all calls of the same name do

A name may be the Call-ID with which the backend has another call from us: then that call need not say it too, which
is how a dialplan that dials an agent for a customer does it with one header. An empty value ends it. Only a backend of
a pool that is recovered is believed, and a name means nothing outside its pool. What is done with it when the backend
dies: `proxy.failover.bypass`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Set
from typing import TYPE_CHECKING

from proxy.calls import waiting
from proxy.calls.invite import call_id
from proxy.sip.message import Message

if TYPE_CHECKING:
    from proxy.backends import Backend
    from proxy.calls.call import Call
    from proxy.calls.calls import Calls
    from proxy.calls.leg import Leg

PAIR, CONFERENCE = "Pair", "Conference"  # as in the name of the header
_HEADERS = ((PAIR, b"x-aqueduct-pair"), (CONFERENCE, b"x-aqueduct-conference"))
NAME_BYTES_MAX = 200


class Bond:
    """Calls that a backend of `pool` connects to each other. `meets_at`: the one that a failover brings them to."""

    __slots__ = ("calls", "kind", "meets_at", "name", "pool")

    def __init__(self, kind: str, name: bytes, pool: str) -> None:
        self.kind = kind
        self.name = name
        self.pool = pool
        self.calls: dict[str, Call] = {}  # by id
        self.meets_at: Backend | None = None

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name!r} {list(self.calls)}>"

    def mates(self, call: Call) -> Iterator[Call]:
        return (each for each in self.calls.values() if each is not call)

    def leg_of(self, call: Call) -> Leg | None:
        """The leg by which the call is connected to the others; its other side may be a carrier, or another pool."""
        for leg in (call.b, call.a):
            if leg is not None and leg.backend is not None and leg.backend.pool == self.pool:
                return leg
        return None

    def places(self, but: Container[str]) -> list[Backend]:
        """The backends that its calls are on, but those (by id)."""
        legs = [self.leg_of(call) for call_id, call in self.calls.items() if call_id not in but]
        return [leg.backend for leg in legs if leg is not None and leg.backend is not None and not leg.lost]


class Pairs:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._bonds: dict[tuple[str, bytes, str], Bond] = {}  # by kind, name and pool

    def __len__(self) -> int:
        return len(self._bonds)

    def __iter__(self) -> Iterator[Bond]:
        return iter(self._bonds.values())

    def hear(self, call: Call, leg: Leg, message: Message) -> bool:
        """Take what a message of the peer of `leg` says of this. True: it said something."""
        backend = leg.backend
        if backend is None or not self._calls.backends.pool_of(backend).settings.recover:
            return False
        waits = leg is not call.a and waiting.hear(self._calls, call, message)
        recorded = message.get(b"x-aqueduct-recording") is not None
        if recorded and message.get(b"x-aqueduct-conference") is None:
            self._calls.on_recording(call, leg, message)
        for kind, header in _HEADERS:
            value = message.get(header)
            if value is not None:
                name = value.strip()[:NAME_BYTES_MAX]
                if name:
                    self.join(call, kind, name, backend.pool)
                    if kind == CONFERENCE:
                        self._calls.on_conference(call, leg, message)
                else:
                    self.leave(call)
                return True
        return recorded or waits

    def join(self, call: Call, kind: str, name: bytes, pool: str) -> None:
        key = (kind, name, pool)
        bond = self._bonds.get(key)
        if bond is not None and call.bond is bond:
            return
        self._part(call)
        bond = self._bonds.setdefault(key, Bond(*key))
        bond.calls[call.id] = call
        call.bond = bond
        self._calls.on_changed(call)
        self._calls.on_bonded(call)
        named = self._calls.live.get(name.rpartition(b"-")[0].decode(errors="replace"))
        leg = bond.leg_of(named) if named is not None else None
        if named is not None and leg is not None and call_id(named, leg) == name:  # it may still be ringing
            self.join(named, kind, name, pool)

    def leave(self, call: Call) -> None:
        """It is connected to nobody any more."""
        if call.bond is not None:
            self._part(call)
            self._calls.on_changed(call)
            self._calls.on_bonded(call)

    def meet(self, moving: Set[str], *, alive: bool) -> None:
        """Those calls (by id) are to be carried over: each comes to where most of its bond have a standby, or one is,
        or one will be. Who is on hold now would else come back to an empty room."""
        for bond in self._bonds.values():
            ours = [call for call_id, call in bond.calls.items() if call_id in moving]
            if not ours:
                continue
            standbys = Counter(call.standby.leg.backend for call in ours if call.standby)
            ready = [backend for backend, _ in standbys.most_common(1)]
            places = [*bond.places(moving), *ready] if alive else [*ready, *bond.places(moving)]
            if places or len(ours) == len(bond.calls):  # else the others are on their way
                bond.meets_at = places[0] if places else None

    def _part(self, call: Call) -> None:
        bond, call.bond = call.bond, None
        if bond is not None:
            del bond.calls[call.id]
            if not bond.calls:
                del self._bonds[bond.kind, bond.name, bond.pool]
