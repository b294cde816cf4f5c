"""A FreeSWITCH that has channels, bridges and conferences, but no SIP and no audio: what its event socket shows.

Headers, answers and their wording are those of the source that proxy/backends/control/esl_codec.py and esl_state.py
name. Works over any `proxy.net.api.Network`, so in virtual time too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from proxy.net.api import Address, Network, TcpListener, TcpStream
from tests.testbed.freeswitch.listener import Listener

CORE = "5b4cd6d5-6b4a-4fe6-a3b5-9b4a7e0e8b01"
VERSION = "FreeSWITCH Version 1.10.11-release+git~20231222T180831Z~f24064f7c9~64bit (git f24064f 64bit)\n"


@dataclass
class Channel:
    uuid: str
    call_id: str
    number: str
    name: str
    record: str = ""


@dataclass
class Member:
    number: int
    channel: Channel
    moderator: bool = False
    speak: bool = True
    hear: bool = True


@dataclass
class Room:
    name: str
    members: dict[int, Member] = field(default_factory=dict)
    locked: bool = False
    recordings: list[str] = field(default_factory=list)


class FreeSwitch:
    """`acl`: addresses are let in. `chunk_bytes`: everything is written in pieces of that length."""

    def __init__(
        self,
        network: Network,
        address: Address,
        *,
        password: str = "ClueCon",
        core: str = CORE,
        acl: bool = True,
        greets: bool = True,
        chunk_bytes: int | None = None,
    ) -> None:
        self._network = network
        self._address = address
        self._password = password
        self.core = core
        self.acl = acl
        self.greets = greets
        self._chunk_bytes = chunk_bytes
        self._port: TcpListener | None = None
        self._members = count(1)
        self._sequence = count(501)
        self.listeners: list[Listener] = []
        self.channels: dict[str, Channel] = {}
        self.bridges: list[tuple[Channel, Channel]] = []
        self.rooms: dict[str, Room] = {}
        self.apis: list[str] = []

    async def start(self) -> None:
        self._port = await self._network.listen_tcp(self._address, self._accept)

    def stop_listening(self) -> None:
        assert self._port is not None
        self._port.close()

    def _accept(self, stream: TcpStream) -> None:
        listener = Listener(stream, self._password, self.api, self.fire, self._chunk_bytes)
        self.listeners.append(listener)
        if not self.acl:
            listener.reject()
        elif self.greets:
            listener.greet()

    @property
    def listener(self) -> Listener:
        return self.listeners[-1]

    def shutdown(self) -> None:
        self.fire("SHUTDOWN", {"Event-Info": "System Shutting Down"})
        for listener in self.listeners:
            listener.disconnect("The system is being shut down.\n")
        self.stop_listening()

    # Events

    def fire(self, name: str, fields: Mapping[str, str], body: str = "") -> None:
        everything = {
            "Event-Name": name,
            "Core-UUID": self.core,
            "FreeSWITCH-Hostname": "fs1",
            "FreeSWITCH-IPv4": self._address[0],
            "Event-Date-Local": "2026-11-24 16:32:10",
            "Event-Calling-File": "switch_channel.c",
            "Event-Sequence": str(next(self._sequence)),
            **fields,
        }
        for listener in self.listeners:
            if not listener.closed:
                listener.event(everything, body)

    def heartbeat(self) -> None:
        self.fire(
            "HEARTBEAT",
            {
                "Event-Info": "System Ready",
                "Up-Time": "0 years, 0 days, 1 hour, 0 minutes, 1 second, 500 milliseconds, 12 microseconds",
                "FreeSWITCH-Version": "1.10.11-release",
                "Uptime-msec": "3601500",
                "Session-Count": str(len(self.channels)),
                "Max-Sessions": "1000",
                "Session-Per-Sec": "30",
                "Session-Since-Startup": "12",
                "Idle-CPU": "87.500000",
            },
        )

    def _basic(self, channel: Channel) -> dict[str, str]:
        """switch_channel_event_set_basic_data."""
        return {
            "Channel-State": "CS_EXECUTE",
            "Channel-Call-State": "ACTIVE",
            "Channel-State-Number": "4",
            "Channel-Name": channel.name,
            "Unique-ID": channel.uuid,
            "Call-Direction": "inbound",
            "Channel-Call-UUID": channel.uuid,
            "Answer-State": "answered",
            "Caller-Destination-Number": channel.number,
            "Caller-Unique-ID": channel.uuid,
        }

    def full(self, channel: Channel) -> dict[str, str]:
        """… and with its variables (switch_channel_event_set_extended_data)."""
        return {**self._basic(channel), "variable_uuid": channel.uuid, "variable_sip_call_id": channel.call_id}

    # Calls

    def call(self, uuid: str, call_id: str, number: str = "3000") -> Channel:
        channel = Channel(uuid, call_id, number, f"sofia/internal/{number}@{self._address[0]}")
        self.channels[uuid] = channel
        self.fire("CHANNEL_CREATE", self.full(channel))
        self.fire("CHANNEL_ANSWER", self.full(channel))
        return channel

    def hang_up(self, channel: Channel, q850: int = 16) -> None:
        for room in list(self.rooms.values()):
            for member in list(room.members.values()):
                if member.channel is channel:
                    self.leave(room.name, member)
        self.unbridge(channel)
        del self.channels[channel.uuid]
        fields = {**self.full(channel), "Hangup-Cause": "NORMAL_CLEARING", "variable_hangup_cause_q850": str(q850)}
        self.fire("CHANNEL_HANGUP_COMPLETE", fields)

    def bridge(self, one: Channel, other: Channel) -> None:
        self.bridges.append((one, other))
        pair = {"Bridge-A-Unique-ID": one.uuid, "Bridge-B-Unique-ID": other.uuid}
        self.fire("CHANNEL_BRIDGE", {**pair, **self.full(one)})

    def unbridge(self, channel: Channel) -> None:
        for pair in [pair for pair in self.bridges if channel in pair]:
            self.bridges.remove(pair)
            self.fire("CHANNEL_UNBRIDGE", self.full(pair[0]))

    def record_call(self, channel: Channel, path: str) -> None:
        fields = {**self.full(channel), "Record-File-Path": path or channel.record}
        channel.record = path
        self.fire("RECORD_START" if path else "RECORD_STOP", fields)

    # Conferences

    def maintenance(self, room: Room, action: str, **fields: str) -> None:
        """conference_event_add_data."""
        head = {
            "Event-Subclass": "conference::maintenance",
            "Conference-Name": room.name,
            "Conference-Domain": "fs1",
            "Conference-Size": str(len(room.members)),
            "Conference-Ghosts": "0",
            "Conference-Profile-Name": "default",
            "Conference-Unique-ID": "c0000000-0000-4000-8000-000000000001",
        }
        self.fire(
            "CUSTOM", {**head, **{name.replace("_", "-"): value for name, value in fields.items()}, "Action": action}
        )

    def _of(self, member: Member) -> dict[str, str]:
        """conference_member_add_event_data, without verbose-events."""
        words = {True: "true", False: "false"}
        return {
            "Floor": "false",
            **self._basic(member.channel),
            "Video": "false",
            "Hear": words[member.hear],
            "See": "true",
            "Speak": words[member.speak],
            "Talking": "false",
            "Mute-Detect": "false",
            "Member-ID": str(member.number),
            "Member-Type": "moderator" if member.moderator else "member",
            "Member-Ghost": "false",
            "Energy-Level": "100",
            "Current-Energy": "0",
        }

    def join(self, name: str, channel: Channel, *, silently: bool = False, **flags: bool) -> Member:
        if name not in self.rooms:
            self.rooms[name] = Room(name)
            self.maintenance(self.rooms[name], "conference-create")
        room = self.rooms[name]
        member = Member(next(self._members), channel, **flags)
        room.members[member.number] = member
        if not silently:
            self.maintenance(room, "add-member", **self._of(member))
        return member

    def leave(self, name: str, member: Member) -> None:
        room = self.rooms[name]
        del room.members[member.number]
        self.maintenance(room, "del-member", **self._of(member))
        if not room.members:
            self.maintenance(room, "conference-destroy")
            del self.rooms[name]
            for path in room.recordings:  # the recording's thread ends last
                self.maintenance(room, "stop-recording", Path=path, Other_Recordings="false")

    def member_event(self, name: str, action: str, member: Member) -> None:
        self.maintenance(self.rooms[name], action, **self._of(member))

    # The api

    def api(self, line: str) -> str:
        self.apis.append(line)
        name, _, rest = line.partition(" ")
        words = rest.split()
        match [name, *words]:
            case ["version"]:
                return VERSION
            case ["global_getvar", "core_uuid"]:
                return self.core
            case ["echo", *_]:
                return rest
            case ["show", "channels", "as", "json"]:
                rows: list[dict[str, str]] = [
                    {
                        "uuid": each.uuid,
                        "direction": "inbound",
                        "name": each.name,
                        "state": "CS_EXECUTE",
                        "dest": each.number,
                    }
                    for each in self.channels.values()
                ]
                return table(rows)
            case ["show", "bridged_calls", "as", "json"]:
                return table([{"uuid": one.uuid, "name": one.name, "b_uuid": two.uuid} for one, two in self.bridges])
            case ["uuid_getvar", uuid, "sip_call_id"]:
                channel = self.channels.get(uuid)
                return (channel.call_id or "_undef_") if channel else "-ERR No such channel!\n"
            case ["uuid_buglist", uuid]:
                channel = self.channels.get(uuid)
                return bugs(channel.record) if channel else "-ERR Cannot locate session!\n"
            case ["uuid_kill", uuid]:
                if uuid not in self.channels:
                    return "-ERR No such channel!\n"
                self.hang_up(self.channels[uuid])
                return "+OK\n"
            case ["uuid_transfer", uuid, target, "inline"]:
                room = re.fullmatch(r"conference:(\S+)@(\S+)", target)
                if uuid not in self.channels or not room:
                    return "-ERR No such channel!\n"
                self.join(room[1], self.channels[uuid])
                return "+OK\n"
            case ["conference", *rest_of_it]:
                return self._conference(rest_of_it)
        if name == "originate":
            return self._originate(rest)
        return f"-ERR {name} Command not found!\n"

    def _originate(self, rest: str) -> str:
        asked = re.fullmatch(r"\{([^}]*)\}(\S+) (\S+) XML (\S+)", rest)
        if asked is None:
            return "-USAGE: originate <call url> <exten>|&<application_name>(<app_args>) …\n"
        variables = dict(re.findall(r"(\w[\w-]*)='([^']*)'", asked[1]))
        if "busy" in asked[2]:
            return "-ERR USER_BUSY\n"
        self.call(variables["origination_uuid"], f"out-{asked[3]}", asked[2])
        return f"+OK {variables['origination_uuid']}\n"

    def _conference(self, words: list[str]) -> str:
        if words == ["xml_list"]:
            return xml_list(self.rooms.values())
        room = self.rooms.get(words[0])
        if room is None:
            return f"Conference {words[0]} not found\n"
        match words[1:]:
            case ["lock" | "unlock" as what]:
                room.locked = what == "lock"
                self.maintenance(room, what)
                return f"OK {room.name} {what}ed\n"
            case ["mute" | "unmute" | "deaf" | "undeaf" as what, number]:
                member = room.members.get(int(number))
                if member is None:
                    return f"Non-Existant ID {number}\n"
                if what.endswith("mute"):
                    member.speak = what == "unmute"
                else:
                    member.hear = what == "undeaf"
                self.member_event(room.name, f"{what}-member", member)
                return f"OK {what} {number}\n"
            case ["record", path]:
                if path.startswith("/nowhere"):
                    self.maintenance(room, "start-recording", Path=path, Error="File could not be opened for recording")
                else:
                    room.recordings.append(path)
                    self.maintenance(room, "start-recording", Path=path)
                return f"Record file {path}\n"
            case ["norecord", "all"]:
                said = "".join(f"Stopped recording file {path}\n" for path in room.recordings)
                while room.recordings:
                    self.maintenance(room, "stop-recording", Path=room.recordings.pop(0), Other_Recordings="false")
                return said
        return f"Conference command '{words[1]}' not found.\n"


def table(rows: list[dict[str, str]]) -> str:
    """show_as_json: no `rows` when there are none."""
    return json.dumps({"row_count": len(rows), **({"rows": rows} if rows else {})}) + "\n"


def bugs(record: str) -> str:
    """switch_core_media_bug_enumerate."""
    lines = ["<function>session_record</function>", f"<target>{record}</target>", "<thread-locked>0</thread-locked>"]
    bug = " <media-bug>\n" + "".join(f"  {line}\n" for line in lines) + " </media-bug>\n"
    return f"<media-bugs>\n{bug if record else ''}</media-bugs>\n"


def xml_list(rooms: Iterable[Room]) -> str:
    """conference_xlist."""
    conferences = Element("conferences")
    for room in rooms:
        conference = SubElement(conferences, "conference", {"name": room.name, "member-count": str(len(room.members))})
        conference.set("uuid", "c0000000-0000-4000-8000-000000000001")
        if room.locked:
            conference.set("locked", "true")
        if room.recordings:
            conference.set("recording", "true")
        members = SubElement(conference, "members")
        for path in room.recordings:
            member = SubElement(members, "member", {"type": "recording_node"})
            SubElement(member, "record_path").text = path
            SubElement(member, "join_time", {"type": "UNIX-epoch"}).text = "1795465250"
        for each in room.members.values():
            member = SubElement(members, "member", {"type": "caller"})
            for tag, text in (("id", str(each.number)), ("uuid", each.channel.uuid), ("caller_id_number", "1000")):
                SubElement(member, tag).text = text
            flags = SubElement(member, "flags")
            for flag, on in (
                ("can_hear", each.hear),
                ("can_speak", each.speak),
                ("talking", False),
                ("has_floor", False),
                ("is_moderator", each.moderator),
                ("is_ghost", False),
            ):
                SubElement(flags, flag).text = "true" if on else "false"
    indent(conferences)
    return f'<?xml version="1.0"?>\n{tostring(conferences, encoding="unicode")}\n'
