"""A conference has been carried over: is it there as it was? Asked of the backup's own control session, and put right
by command where its dialplan has not done it.

    everybody sits in it -> muted as before -> locked as before -> recorded as before

Locked last: a locked conference lets nobody in. Without a control session nothing can be asked, and what the dialplan
did is believed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass, field

from proxy.backends import Backend
from proxy.backends.control.api import ControlError, ControlSession
from proxy.conferences.bonds import sip_of
from proxy.conferences.conferences import Conferences
from proxy.conferences.roster import Conference
from proxy.conferences.seats import Room, Seat, Seats

log = logging.getLogger(__name__)

POLL_S = 0.02
SEATED_WITHIN_S = 2.0  # the call was answered, and then its dialplan has to run


@dataclass(slots=True)
class Rebuilt:
    conference: str
    backend: str
    participants: int
    asked: bool  # of a control session
    corrected: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # and could not be put right

    def __str__(self) -> str:
        said = f"conference {self.conference}: {self.participants} on {self.backend}"
        if not self.asked:
            return f"{said}, not checked: it has no control session"
        found = [f"put right: {', '.join(self.corrected)}"] if self.corrected else []
        found += [f"WRONG: {', '.join(self.wrong)}"] if self.wrong else []
        return f"{said}, {'; '.join(found) or 'as it was'}"


async def put_right(conferences: Conferences, conference: Conference) -> Rebuilt | None:
    """None: nobody is left in it. Never raises ControlError."""
    backend = conferences.home(conference)
    if backend is None:
        return None
    session = conferences.sessions.get(backend.name)
    asked = session is not None and session.up
    rebuilt = Rebuilt(conference.name, backend.name, conferences.parts(conference)[backend], asked)
    if session is not None and asked:
        await _Check(conferences, conference, backend, session, rebuilt).run()
    else:
        conferences.resumed(conference, backend)
    conferences.counts["rebuilt"] += 1
    conferences.counts["corrected"] += len(rebuilt.corrected)
    conferences.counts["wrong"] += len(rebuilt.wrong)
    return rebuilt


class _Check:
    def __init__(
        self, conferences: Conferences, conference: Conference, backend: Backend, session: ControlSession,
        rebuilt: Rebuilt,
    ) -> None:  # fmt: skip
        self.conferences = conferences
        self.conference = conference
        self.backend = backend
        self.session = session
        self.rebuilt = rebuilt
        self.seats: Seats = conferences.seats.setdefault(backend.name, Seats())

    async def run(self) -> None:
        seated = await self._seated()
        for call, seat in seated.items():
            participant = self.conference.participants.get(call)
            if participant is None:
                continue
            if seat.muted != participant.muted:
                done = self.session.mute(seat.conference, seat.channel, participant.muted)
                await self._do(done, f"{call} {'muted' if participant.muted else 'unmuted'}")
            if seat.deaf != participant.deaf:
                self.rebuilt.wrong.append(f"{call} {'is not deaf' if participant.deaf else 'is deaf'}")
            if seat.moderator != participant.moderator:
                self.rebuilt.wrong.append(f"{call} {'is no moderator' if participant.moderator else 'is moderator'}")
        name = self.conference.name
        room = self.seats.rooms.get(name, Room())
        if self.conference.locked and not room.locked:
            await self._do(self.session.lock(name, True), "locked")
        segment = self.conference.segment
        if segment is not None and segment.cut and not room.recording and "record" in self.session.abilities:
            recording, number = segment.next_after()
            await self._do(self.session.record(name, segment_file(recording, number)), f"recorded, segment {number}")

    async def _seated(self) -> dict[str, Seat]:
        """Everybody's seat, by call id. Who does not come to it by himself is put there."""
        deadline = self.conferences.now() + SEATED_WITHIN_S
        while True:
            found, missing = self._look()
            if not missing or self.conferences.now() > deadline:
                break
            await asyncio.sleep(POLL_S)
        channels = {sip: channel for channel, sip in self.seats.sips.items()}
        for call, sip in missing.items():
            channel = channels.get(sip) or channels.get(call)
            if channel is not None:
                await self._do(self.session.join(channel, self.conference.name), f"{call} joined")
            else:
                self.rebuilt.wrong.append(f"{call} is not there")
        return found

    def _look(self) -> tuple[dict[str, Seat], dict[str, str]]:
        found, missing = {}, {}
        for call in self.conferences.calls_of(self.conference):
            leg = call.leg_on(self.backend)
            if leg is None:
                continue
            seat = self.seats.find(call, leg)
            if seat is not None and seat.conference == self.conference.name:
                found[call.id] = seat
            else:
                missing[call.id] = sip_of(call, leg)
        return found, missing

    async def _do(self, command: Awaitable[None], what: str) -> None:
        try:
            await command
            self.rebuilt.corrected.append(what)
        except ControlError as error:
            log.warning("backend=%s conference=%s not %s: %s", self.backend.name, self.conference.name, what, error)
            self.rebuilt.wrong.append(f"{what}: {error}")


def segment_file(recording: str, number: int) -> str:
    """What a file of a recording is called, where we choose it. The dialplans that are supplied do the same."""
    return f"{recording}.{number}" if number > 1 else recording
