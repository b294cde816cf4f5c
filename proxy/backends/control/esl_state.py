"""FreeSWITCH's events and lists, told in the vocabulary of `api`. Pure: no socket, no clock.

It keeps who is where, for three reasons: commands name a conference's member by a number, an unbridge names one of
two, and events that were queued before a list was made are told once.

Source: FreeSWITCH 1.10, src/mod/applications/mod_conference/ (`conference_member_add_event_data` for the headers of
a member, `conference_event_add_data` for those of a conference, conference_record.c, conference_api.c,
`conference_xlist` for xml_list), src/switch_channel.c (`switch_channel_event_set_basic_data`), src/switch_ivr_bridge.c
(Bridge-A-Unique-ID, Bridge-B-Unique-ID), src/switch_core.c (`send_heartbeat`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from xml.etree import ElementTree

from proxy.backends.control.api import (
    BridgeEntered,
    BridgeLeft,
    ChannelDown,
    ChannelUp,
    ConferenceChanged,
    ConferenceEnded,
    ConferenceJoined,
    ConferenceLeft,
    Event,
    MemberChanged,
    RecordingChanged,
    Resources,
)
from proxy.backends.control.session import WireError

MAINTENANCE = "conference::maintenance"
SUBSCRIBED = (
    "CHANNEL_CREATE CHANNEL_ANSWER CHANNEL_BRIDGE CHANNEL_UNBRIDGE CHANNEL_HANGUP_COMPLETE RECORD_START RECORD_STOP "
    f"BACKGROUND_JOB HEARTBEAT SHUTDOWN CUSTOM {MAINTENANCE}"
)
_MUTED = {"mute-member": True, "unmute-member": False}
_DEAF = {"deaf-member": True, "undeaf-member": False}
_TALKING = {"start-talking": True, "stop-talking": False}
_LOCKED = {"lock": True, "unlock": False}
_ENTITY = re.compile(r"<!(DOCTYPE|ENTITY)", re.IGNORECASE)


@dataclass(slots=True)
class _Member:
    channel: str
    moderator: bool
    muted: bool
    deaf: bool


@dataclass(slots=True)
class _Conference:
    members: dict[str, _Member] = field(default_factory=dict)  # by Member-ID
    locked: bool = False
    recordings: list[str] = field(default_factory=list)  # paths, oldest first


class EslState:
    def __init__(self) -> None:
        self._channels: dict[str, str] = {}  # uuid: Call-ID
        self._bridges: dict[str, tuple[str, str]] = {}  # uuid: (bridge, the other)
        self._recordings: dict[str, str] = {}  # uuid: path
        self._conferences: dict[str, _Conference] = {}

    def member_id(self, conference: str, channel: str) -> str | None:
        members = self._conferences[conference].members if conference in self._conferences else {}
        return next((number for number, each in members.items() if each.channel == channel), None)

    def recording(self, conference: str) -> str:
        room = self._conferences.get(conference)
        return room.recordings[-1] if room and room.recordings else ""

    # News

    def event(self, event: Mapping[str, str]) -> Iterator[Event]:
        match event.get("Event-Name"):
            case "CUSTOM" if event.get("Event-Subclass") == MAINTENANCE:
                yield from self._maintenance(event)
            case "CHANNEL_CREATE" | "CHANNEL_ANSWER":
                yield from self._channel(event)
            case "CHANNEL_HANGUP_COMPLETE":
                yield from self._down(event)
            case "CHANNEL_BRIDGE":
                # The Unique-ID is the originator's; both headers are there since 1.2.
                pair = event.get("Bridge-A-Unique-ID", ""), event.get("Bridge-B-Unique-ID", "")
                if all(pair):
                    yield from self._channel(event)
                    yield from self._bridge(*pair)
            case "CHANNEL_UNBRIDGE":
                yield from self._unbridge(event.get("Unique-ID", ""))
            case "RECORD_START":
                yield from self._recorded(event.get("Unique-ID", ""), event.get("Record-File-Path", "?"))
            case "RECORD_STOP":
                yield from self._recorded(event.get("Unique-ID", ""), "")
            case "HEARTBEAT":
                yield resources(event)

    def _channel(self, event: Mapping[str, str]) -> Iterator[Event]:
        """Also one that was made just before we listened, and was not yet in the list: its next event shows it."""
        channel, sip = event.get("Unique-ID", ""), event.get("variable_sip_call_id", "")
        known = self._channels.get(channel)
        if channel and (known is None or (sip and sip != known)):  # an outbound leg may get its Call-ID late
            self._channels[channel] = sip
            yield ChannelUp(channel, sip, event.get("Channel-Name", ""), event.get("Caller-Destination-Number", ""))

    def call_id(self, up: ChannelUp, sip: str) -> Iterator[Event]:
        """The Call-ID of a channel that was told without."""
        if self._channels.get(up.channel) == "" and sip:
            self._channels[up.channel] = sip
            yield replace(up, sip=sip)

    def _down(self, event: Mapping[str, str]) -> Iterator[Event]:
        channel = event.get("Unique-ID", "")
        if self._channels.pop(channel, None) is None:
            return
        for name, room in list(self._conferences.items()):
            yield from self._left(name, [number for number, each in room.members.items() if each.channel == channel])
        yield from self._unbridge(channel)
        yield from self._recorded(channel, "")
        yield ChannelDown(channel, int(_number(event, "variable_hangup_cause_q850") or 0))

    def _bridge(self, one: str, other: str) -> Iterator[Event]:
        if self._bridges.get(one, ("", ""))[1] == other:
            return
        yield from self._unbridge(one)
        yield from self._unbridge(other)
        self._bridges[one], self._bridges[other] = (one, other), (one, one)
        yield BridgeEntered(one, one)
        yield BridgeEntered(one, other)

    def _unbridge(self, channel: str) -> Iterator[Event]:
        if channel in self._bridges:
            bridge, other = self._bridges.pop(channel)
            self._bridges.pop(other, None)
            yield BridgeLeft(bridge, channel)
            yield BridgeLeft(bridge, other)

    def _recorded(self, channel: str, path: str) -> Iterator[Event]:
        if channel and path != self._recordings.get(channel, ""):
            if path:
                self._recordings[channel] = path
            else:
                del self._recordings[channel]
            yield RecordingChanged(channel, path)

    # Conferences

    def _maintenance(self, event: Mapping[str, str]) -> Iterator[Event]:
        name, action = event.get("Conference-Name", ""), event.get("Action", "")
        if not name:
            return
        if action == "conference-destroy":
            yield from self._ended(name)
        elif action == "del-member":
            yield from self._left(name, [event.get("Member-ID", "")])
        elif action in _LOCKED:
            yield from self._lock(name, _LOCKED[action])
        elif action == "start-recording" and "Error" not in event:
            yield from self._record(name, [*self._room(name).recordings, event.get("Path", "?")])
        elif action == "stop-recording" and name in self._conferences:  # it may come after conference-destroy
            gone = event.get("Path", "?")
            yield from self._record(name, [path for path in self._room(name).recordings if path != gone])
        elif action == "add-member" or action in _MUTED or action in _DEAF or action in _TALKING:
            # Whatever is told of a member says all of him: who came in silently (CONF_SILENT_REQ) is found here.
            yield from self._member(name, event.get("Member-ID", ""), event)
            if action in _TALKING and event.get("Unique-ID"):
                yield MemberChanged(name, event.get("Unique-ID", ""), talking=_TALKING[action])

    def _member(self, name: str, number: str, event: Mapping[str, str]) -> Iterator[Event]:
        channel = event.get("Unique-ID", "")
        if not channel or not number:  # who records is a member without a channel
            return
        yield from self._channel(event)
        moderator = event.get("Member-Type") == "moderator"
        yield from self._present(
            name, number, channel, moderator, muted=event.get("Speak") == "false", deaf=event.get("Hear") == "false"
        )

    def _present(
        self, name: str, number: str, channel: str, moderator: bool, *, muted: bool, deaf: bool
    ) -> Iterator[Event]:
        members = self._room(name).members
        member = members.get(number)
        if member is None:
            members[number] = _Member(channel, moderator, muted, deaf)
            yield ConferenceJoined(name, channel, moderator, muted, deaf)
        elif (member.muted, member.deaf) != (muted, deaf):
            change = MemberChanged(
                name,
                channel,
                muted=muted if muted != member.muted else None,
                deaf=deaf if deaf != member.deaf else None,
            )
            member.muted, member.deaf = muted, deaf
            yield change

    def _left(self, name: str, numbers: Iterable[str]) -> Iterator[Event]:
        room = self._conferences.get(name)
        for number in numbers:
            member = room.members.pop(number, None) if room else None
            if member is not None:
                yield ConferenceLeft(name, member.channel)

    def _lock(self, name: str, locked: bool) -> Iterator[Event]:
        room = self._room(name)
        if room.locked != locked:
            room.locked = locked
            yield ConferenceChanged(name, locked=locked)

    def _record(self, name: str, paths: list[str]) -> Iterator[Event]:
        room = self._room(name)
        before, room.recordings = self.recording(name), list(dict.fromkeys(paths))
        if (now := self.recording(name)) != before:
            yield ConferenceChanged(name, recording=now)

    def _ended(self, name: str) -> Iterator[Event]:
        if name in self._conferences:
            yield from self._left(name, list(self._conferences[name].members))
            del self._conferences[name]
            yield ConferenceEnded(name)

    def _room(self, name: str) -> _Conference:
        return self._conferences.setdefault(name, _Conference())

    # What lives already

    def channel(self, row: Mapping[str, object], sip: str, bugs: str) -> Iterator[Event]:
        """A row of `show channels as json`, its Call-ID, and `uuid_buglist` of it."""
        channel = str(row.get("uuid", ""))
        if not channel:
            return
        self._channels[channel] = sip
        yield ChannelUp(channel, sip, str(row.get("name", "")), str(row.get("dest", "")))
        for bug in _xml(bugs).iter("media-bug"):
            # switch_ivr_record_session: its bug is called session_record, and its target is the file
            if bug.findtext("function") == "session_record":
                yield from self._recorded(channel, bug.findtext("target") or "?")

    def bridge(self, row: Mapping[str, object]) -> Iterator[Event]:
        """A row of `show bridged_calls as json`."""
        one, other = str(row.get("uuid") or ""), str(row.get("b_uuid") or "")
        if one in self._channels and other in self._channels:
            yield from self._bridge(one, other)

    def conferences(self, answer: str) -> Iterator[Event]:
        """What `conference xml_list` says. Raises WireError."""
        for conference in _xml(answer).iter("conference"):
            name = conference.get("name", "")
            yield from self._lock(name, conference.get("locked") == "true")
            for member in conference.iter("member"):
                if member.get("type", "caller") == "caller":
                    flags = {flag.tag: flag.text == "true" for flags in member.iter("flags") for flag in flags}
                    yield from self._present(
                        name,
                        member.findtext("id", ""),
                        member.findtext("uuid", ""),
                        flags.get("is_moderator", False),
                        muted=not flags.get("can_speak", True),
                        deaf=not flags.get("can_hear", True),
                    )
                elif path := member.findtext("record_path"):
                    yield from self._record(name, [*self._room(name).recordings, path])


def resources(event: Mapping[str, str]) -> Resources:
    """What a HEARTBEAT says."""
    count, most = _number(event, "Session-Count"), _number(event, "Max-Sessions")
    idle, uptime_ms = _number(event, "Idle-CPU"), _number(event, "Uptime-msec")
    return Resources(
        channels=None if count is None else int(count),
        channels_max=None if most is None else int(most),
        cpu_idle=None if idle is None else idle / 100,
        uptime_s=None if uptime_ms is None else uptime_ms / 1000,
    )


def _number(event: Mapping[str, str], name: str) -> float | None:
    try:
        value = float(event.get(name, ""))
    except ValueError:
        return None
    return value if isfinite(value) else None


def _xml(text: str) -> ElementTree.Element:
    """The first line may be a greeting of no interest, and an answer without any XML is an empty one."""
    start = text.find("<")
    if start < 0 or text.lstrip().startswith("-ERR"):
        return ElementTree.Element("nothing")
    if _ENTITY.search(text):  # FreeSWITCH writes none, and they can be made to grow without bound
        raise WireError("XML with a document type")
    try:
        return ElementTree.fromstring(text[start:])
    except ElementTree.ParseError as error:
        raise WireError(f"XML: {error}") from error
