"""All conferences of this node: their rosters, kept by what backends say in SIP and over their control sessions.

Who belongs to which conference is the `Bond` of his call (`proxy.calls.pairs`); the roster knows as what. Of a call,
only the leg in place is believed: what a backend says of a leg that it has lost, or is still to get, changes nothing.
While a conference is carried over, what it was on the dead backend is what holds.

It never moves a call: it says where one belongs, and what a backup is to be told.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from proxy.backends import Backend, Backends, Pool
from proxy.backends.control.api import (
    ChannelDown,
    ChannelUp,
    ConferenceChanged,
    ConferenceEnded,
    ConferenceJoined,
    ConferenceLeft,
    ControlSession,
    Event,
    MemberChanged,
    Synced,
)
from proxy.calls import Call, Calls, Leg
from proxy.calls.pairs import CONFERENCE, PAIR, Bond
from proxy.conferences import headers, snapshot
from proxy.conferences.bonds import Bridges, in_place
from proxy.conferences.roster import UNNAMED, Conference, Participant, Segment, recording_name
from proxy.conferences.seats import Room, Seat, Seats
from proxy.sip.message import Field, Message
from proxy.sip.uri import user_of

log = logging.getLogger(__name__)

Key = tuple[str, str]  # pool, name


class Conferences:
    def __init__(self, calls: Calls, backends: Backends) -> None:
        self._calls = calls
        self._backends = backends
        self.now = calls.now
        self._named: dict[Key, Conference] = {}
        self._of: dict[str, Conference] = {}  # by call id
        self._users: dict[Key, Counter[str]] = {}  # pool and user dialled -> names of conferences that it led to
        self.moving: set[str] = set()  # ids of calls that are carried over
        self._bridges = Bridges(calls, self.moving)
        self.seats: dict[str, Seats] = {}  # by backend
        self.sessions: dict[str, ControlSession] = {}  # by backend, of those that have one
        self.counts: Counter[str] = Counter()
        self.on_changed: Callable[[Conference], None] = lambda conference: None  # it is another one now, or empty
        # A segment of its recording has begun, or ended.
        self.on_segment: Callable[[Conference, Segment], None] = lambda conference, segment: None
        self.on_moved: Callable[[Conference], None] = lambda conference: None  # all that could be carried over are
        calls.on_conference = self._told
        calls.prefer = self.prefer

    def __len__(self) -> int:
        return len(self._named)

    def __iter__(self) -> Iterator[Conference]:
        return iter(self._named.values())

    def get(self, pool: str, name: str) -> Conference | None:
        return self._named.get((pool, name))

    def of(self, call: Call) -> Conference | None:
        return self._of.get(call.id)

    def participant(self, call: Call) -> Participant | None:
        conference = self._of.get(call.id)
        return conference.participants[call.id] if conference is not None else None

    def calls_of(self, conference: Conference) -> list[Call]:
        live = self._calls.live
        return [live[each.call] for each in conference if each.call in live]

    def follow(self, listener: Callable[[Conference], None]) -> None:
        """Be told of changes too, beside whoever is told already."""
        before = self.on_changed

        def on_changed(conference: Conference) -> None:
            before(conference)
            listener(conference)

        self.on_changed = on_changed

    def restore(self, state: Any, elapsed_s: float) -> None:
        """Take up a roster `elapsed_s` after its snapshot, when its calls have been. Raises RosterError."""
        conference = self._named.get(snapshot.key(state))
        if conference is not None:
            snapshot.restore(conference, state, self.now(), elapsed_s)
            if conference.segment is not None:
                self.on_segment(conference, conference.segment)

    # -- who belongs to it

    def bonded(self, call: Call) -> None:
        """The bond of a call is another one now."""
        before = self._of.get(call.id)
        if before is not None:
            self._leave(call, before)
        if call.bond is not None and call.bond.kind == CONFERENCE:
            self._join(call, call.bond)

    def _join(self, call: Call, bond: Bond) -> None:
        key = (bond.pool, bond.name.decode(errors="replace"))
        conference = self._named.get(key)
        if conference is None:
            conference = self._named[key] = Conference(*key)
        conference.join(call.id)
        self._of[call.id] = conference
        if bond.leg_of(call) is call.b:
            self._users.setdefault((bond.pool, _user(call)), Counter())[conference.name] += 1
        self.on_changed(conference)

    def _leave(self, call: Call, conference: Conference) -> None:
        del self._of[call.id]
        conference.leave(call.id)
        user = (conference.pool, _user(call))
        learned = self._users.get(user)
        if learned is not None and conference.name in learned:
            learned[conference.name] -= 1
            if not learned[conference.name]:
                del learned[conference.name]
            if not learned:
                del self._users[user]
        if not conference.participants:
            self._end_segment(conference, self.now())
            del self._named[conference.pool, conference.name]
        self.on_changed(conference)

    # -- what is said of it in SIP

    def _told(self, call: Call, leg: Leg, message: Message) -> None:
        """A message of a backend bears X-Aqueduct-Conference; the call's bond is up to date."""
        conference, participant = self._of.get(call.id), self.participant(call)
        if conference is None or participant is None or leg.backend is None:
            return
        for name in ("muted", "deaf"):
            said = headers.flag(message, name.encode())
            if said is not None:
                setattr(participant, name, said)
        moderator, locked = headers.role(message), headers.flag(message, b"locked")
        participant.moderator = participant.moderator if moderator is None else moderator
        conference.locked = conference.locked if locked is None else locked
        recording = headers.recording(message)
        if recording is not None:
            self._recorded(conference, leg.backend, recording)
        self.on_changed(conference)

    # -- what a control session says of it

    def hear(self, backend: Backend, event: Event) -> None:
        if not self._backends.pool_of(backend).settings.recover:
            return
        seats = self.seats.setdefault(backend.name, Seats())
        seat = seats.take(event)
        self._bridges.hear(backend, event, seats.sips)
        match event:
            case Synced() if not seats.restarted:  # else its calls are gone with it, and are being carried over
                self._miss(backend, seats)
            case ConferenceJoined() | ChannelUp() if seat is not None:
                self._sits(backend, seats, seat)
            case ConferenceLeft() | ChannelDown() if seat is not None:
                self._rose(backend, seat)
            case MemberChanged() if seat is not None:
                self._changed(backend, seat, event.talking)
            case ConferenceChanged() | ConferenceEnded():
                self._room(backend, event.conference, seats.rooms.get(event.conference, Room()))
            case _:
                pass

    def _sits(self, backend: Backend, seats: Seats, seat: Seat) -> None:
        call = in_place(self._calls, backend, seat.sip)
        if call is None:
            return
        name = seat.conference.encode()
        if call.bond is not None and call.bond.kind == PAIR and name.endswith(call.bond.name):
            return  # the room in which a dialplan has connected a pair again
        if call.id not in self.moving:  # else what it was is what it shall be
            self._calls.pairs.join(call, CONFERENCE, name, backend.pool)
            self._take_flags(call, seat)
        conference = self._of.get(call.id)
        if conference is not None and conference.name == seat.conference:
            self._room(backend, seat.conference, seats.rooms.get(seat.conference, Room()))

    def _take_flags(self, call: Call, seat: Seat) -> None:
        conference, participant = self._of.get(call.id), self.participant(call)
        if conference is not None and participant is not None:
            participant.seated = True
            flags = (seat.moderator, seat.muted, seat.deaf)
            if flags != (participant.moderator, participant.muted, participant.deaf):
                participant.moderator, participant.muted, participant.deaf = flags
                self.on_changed(conference)

    def _rose(self, backend: Backend, seat: Seat) -> None:
        call = in_place(self._calls, backend, seat.sip)
        conference = self._of.get(call.id) if call is not None else None
        stays = conference is None or conference.name != seat.conference
        if call is not None and call.id not in self.moving and not stays:
            self._calls.pairs.leave(call)

    def _changed(self, backend: Backend, seat: Seat, talking: bool | None) -> None:
        call = in_place(self._calls, backend, seat.sip)
        participant = self.participant(call) if call is not None else None
        if call is None or participant is None:
            return
        if talking is not None:
            participant.talking = talking
        self._take_flags(call, seat)

    def _room(self, backend: Backend, name: str, room: Room) -> None:
        conference = self._named.get((backend.pool, name))
        if conference is None or backend is not self.place(conference):
            return
        if not self.is_moving(conference) and conference.locked != room.locked:
            conference.locked = room.locked
            self.on_changed(conference)
        self._recorded(conference, backend, room.recording)

    def _miss(self, backend: Backend, seats: Seats) -> None:
        """All that sit in a conference there have been told; who is not among them has left."""
        for conference in list(self):
            for call in self.calls_of(conference):
                leg, seated = call.leg_on(backend), conference.participants[call.id].seated
                if leg is not None and seated and call.id not in self.moving and seats.find(call, leg) is None:
                    self._calls.pairs.leave(call)

    # -- recordings

    def _recorded(self, conference: Conference, backend: Backend, file: str) -> None:
        """Its backend says that it is recorded into `file`, or no more ("")."""
        segment, now = conference.segment, self.now()
        going_on = segment is not None and segment.ended_at is None
        if not file:
            if not self.is_moving(conference):
                self._end_segment(conference, now)
                self.on_changed(conference)
            return
        if segment is not None and going_on and segment.backend == backend.name:
            if file in (segment.file, UNNAMED):
                return
            if segment.file == UNNAMED:
                conference.segment = replace(segment, file=file)
                return
        self._end_segment(conference, now)
        goes_on = segment is not None and segment.goes_on_at(backend.name)
        name, number = segment.next_after() if segment is not None and goes_on else ("", 1)
        self._begin_segment(conference, backend, name or recording_name(file, conference.name), number, file)

    def resumed(self, conference: Conference, backend: Backend) -> None:
        """The backup was asked to go on recording, and nobody can tell whether it does."""
        segment = conference.segment
        if segment is not None and segment.goes_on_at(backend.name):
            self._end_segment(conference, self.now())
            self._begin_segment(conference, backend, *segment.next_after(), UNNAMED)

    def _begin_segment(self, conference: Conference, backend: Backend, name: str, number: int, file: str) -> None:
        began = Segment(
            name, number, backend.name, file, conference.name, tuple(conference.participants), self.now()
        )  # fmt: skip
        conference.segment = began
        self.on_changed(conference)
        self.on_segment(conference, began)

    def _end_segment(self, conference: Conference, at: float, *, cut: bool = False) -> None:
        ended = conference.end_segment(at, cut=cut)
        if ended is not None:
            self.on_segment(conference, ended)

    # -- where it is

    @staticmethod
    def _place_of(call: Call) -> Backend | None:
        leg = call.bond.leg_of(call) if call.bond is not None else None
        return leg.backend if leg is not None else None

    def parts(self, conference: Conference) -> Counter[Backend]:
        """How many participants it has on each backend."""
        places = (self._place_of(call) for call in self.calls_of(conference))
        return Counter(place for place in places if place is not None)

    def home(self, conference: Conference) -> Backend | None:
        """The backend that most participants are on."""
        found = self.parts(conference).most_common(1)
        return found[0][0] if found else None

    def place(self, conference: Conference) -> Backend | None:
        """Where it is, or, while it is carried over, where it will be."""
        going = {call.bond.meets_at for call in self.calls_of(conference) if call.id in self.moving and call.bond}
        return next(iter(going - {None}), None) or self.home(conference)

    def prefer(self, pool: Pool, user: bytes) -> Backend | None:
        """Where a new call to that user belongs: to the conference that all others who dialled it are in."""
        learned = self._users.get((pool.name, user.decode(errors="replace")))
        if learned is None or len(learned) != 1:
            return None
        conference = self._named.get((pool.name, next(iter(learned))))
        return self.place(conference) if conference is not None else None

    def cramped(self, call: Call) -> list[Backend]:
        """Backends that have no room for the whole conference of this call."""
        conference = self._of.get(call.id)
        if conference is None:
            return []
        members = self._backends.pools[conference.pool].members
        needed = len(conference)
        return [each for each in members if each.calls_max is not None and each.calls_max - each.calls < needed]

    # -- while it is carried over

    def told(self, call: Call) -> tuple[Field, ...]:
        """What a backup is told of the conference of this call, beside its name."""
        conference = self._of.get(call.id)
        return headers.told(conference, conference.participants[call.id]) if conference is not None else ()

    def is_moving(self, conference: Conference) -> bool:
        return not self.moving.isdisjoint(conference.participants)

    def begin_move(self, calls: Iterable[Call], died_at: float | None) -> None:
        """These calls are about to be carried over. `died_at`: when their backend gave its last sign of life; None: it
        lives, and goes on until they are elsewhere."""
        for call in calls:
            self.moving.add(call.id)
            conference = self._of.get(call.id)
            if conference is not None and died_at is not None:
                segment, place = conference.segment, self._place_of(call)
                if segment is not None and place is not None and segment.backend == place.name:
                    self._end_segment(conference, died_at, cut=True)

    def end_move(self, call: Call) -> None:
        """It is carried over, or will not be."""
        self.moving.discard(call.id)
        conference = self._of.get(call.id)
        if conference is not None and not self.is_moving(conference):
            self.on_moved(conference)


def _user(call: Call) -> str:
    return user_of(call.uri).decode(errors="replace")
