"""Who sits in which conference of one backend, as its control session tells. Pure.

What was told last stays when the session is lost: that is what a backup is told. When the session is up again it tells
everything anew, until `Synced`.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.backends.control.api import (
    ChannelDown,
    ChannelUp,
    ConferenceChanged,
    ConferenceEnded,
    ConferenceJoined,
    ConferenceLeft,
    Event,
    MemberChanged,
    Up,
)
from proxy.calls import Call, Leg
from proxy.conferences.bonds import sip_of


@dataclass(slots=True)
class Seat:
    conference: str
    channel: str
    sip: str  # Call-ID of the leg, or our id of the call
    moderator: bool
    muted: bool
    deaf: bool


@dataclass(slots=True)
class Room:
    """What holds for a whole conference. `recording` as in `ConferenceChanged`."""

    locked: bool = False
    recording: str = ""


class Seats:
    def __init__(self) -> None:
        self.boot = ""
        self.restarted = False  # it is another process than the one before
        self.rooms: dict[str, Room] = {}
        self.of: dict[str, Seat] = {}  # by `Seat.sip`
        self._by_channel: dict[str, Seat] = {}
        self.sips: dict[str, str] = {}  # by channel

    def find(self, call: Call, leg: Leg) -> Seat | None:
        """Where this leg of the call sits."""
        return self.of.get(sip_of(call, leg)) or self.of.get(call.id)

    def take(self, event: Event) -> Seat | None:
        """The seat that is another one now, or none any more."""
        match event:
            case Up():
                self.restarted = self.boot not in ("", event.boot)
                self.boot = event.boot
                self.rooms.clear()
                self.of.clear()
                self._by_channel.clear()
                self.sips.clear()
            case ChannelUp():
                self.sips[event.channel] = event.sip
                seat = self._by_channel.get(event.channel)
                if seat is not None and seat.sip != event.sip:  # who it is became known after it had joined
                    seat.sip = event.sip
                    return self._sit(seat)
            case ChannelDown():
                self.sips.pop(event.channel, None)
                return self._rise(event.channel)
            case ConferenceJoined():
                sip = self.sips.get(event.channel, "")
                self._rise(event.channel)
                return self._sit(Seat(event.conference, event.channel, sip, event.moderator, event.muted, event.deaf))
            case ConferenceLeft():
                return self._rise(event.channel)
            case MemberChanged():
                found = self._by_channel.get(event.channel)
                if found is not None:
                    found.muted = found.muted if event.muted is None else event.muted
                    found.deaf = found.deaf if event.deaf is None else event.deaf
                return found
            case ConferenceChanged():
                room = self.rooms.setdefault(event.conference, Room())
                room.locked = room.locked if event.locked is None else event.locked
                room.recording = room.recording if event.recording is None else event.recording
            case ConferenceEnded():
                self.rooms.pop(event.conference, None)
            case _:
                pass
        return None

    def _sit(self, seat: Seat) -> Seat:
        self._by_channel[seat.channel] = seat
        if seat.sip:
            self.of[seat.sip] = seat
        return seat

    def _rise(self, channel: str) -> Seat | None:
        seat = self._by_channel.pop(channel, None)
        if seat is not None and self.of.get(seat.sip) is seat:
            del self.of[seat.sip]
        return seat
