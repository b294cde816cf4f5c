"""An Asterisk that is nothing but its manager: channels, bridges and conferences without SIP or audio.

Messages are as Asterisk 22.10.1 was seen to write them. `faults` make it misbehave. Works over any
`proxy.net.api.Network`, so in virtual time too.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from proxy.net.api import Address, Network, TcpListener, TcpStream

GREETING = b"Asterisk Call Manager/11.0.0\r\n"
SECRET = "lab-secret"
SHUTTING_DOWN = "Asterisk is shutting down"


@dataclass
class Channel:
    unique: str
    name: str
    call_id: str
    exten: str = "600"
    variable: str | None = None  # AQUEDUCT_CALL, where channelvars and the dialplan have it
    bridge: str = ""
    up: bool = True

    def fields(self) -> list[tuple[str, str]]:
        fields = [
            ("Channel", self.name), ("ChannelState", "6" if self.up else "4"), ("CallerIDNum", "alice"),
            ("CallerIDName", "<unknown>"), ("AccountCode", ""), ("Context", "from-sbc"), ("Exten", self.exten),
            ("Uniqueid", self.unique), ("Linkedid", self.unique),
        ]  # fmt: skip
        if self.variable is not None:
            fields.append(("ChanVariable", f"AQUEDUCT_CALL={self.variable}"))
        return fields


@dataclass
class Bridge:
    unique: str
    creator: str = "<unknown>"
    name: str = "<unknown>"
    technology: str = "simple_bridge"
    hidden: int = 0

    def fields(self, channels: int) -> list[tuple[str, str]]:
        return [
            ("BridgeUniqueid", self.unique), ("BridgeType", "basic"), ("BridgeTechnology", self.technology),
            ("BridgeCreator", self.creator), ("BridgeName", self.name),
            ("BridgeNumChannels", str(channels + self.hidden)),
        ]  # fmt: skip


@dataclass
class Room:
    bridge: Bridge
    locked: bool = False
    members: dict[str, tuple[bool, bool]] = field(default_factory=dict)  # by Uniqueid: admin, muted


class Manager:
    def __init__(self, network: Network, address: Address, secret: str = SECRET) -> None:
        self._network = network
        self._address = address
        self._secret = secret
        self._listener: TcpListener | None = None
        self.started = "10:00:00"
        self.channels: dict[str, Channel] = {}
        self.bridges: dict[str, Bridge] = {}
        self.rooms: dict[str, Room] = {}
        self.connections: list[Connection] = []
        self.attempts = 0
        self.actions: list[dict[str, str]] = []
        self.greets = True
        self.answers = True  # else it takes actions and says nothing
        self.md5 = True
        self.reads = True  # the user may ask for lists
        self.stopping = False
        self.between: list[bytes] = []  # events that come before the answer to the next list

    async def start(self) -> None:
        self._listener = await self._network.listen_tcp(self._address, self._accept)

    def stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def end(self) -> None:
        """As a process that is gone: nobody listens, and connections are closed."""
        self.stop_listening()
        for connection in self.connections:
            connection.stream.close()
        self.connections.clear()

    def _accept(self, stream: TcpStream) -> None:
        self.attempts += 1
        self.connections.append(Connection(self, stream))

    # What happens

    def add(self, channel: Channel) -> None:
        self.channels[channel.unique] = channel
        self.tell("Newchannel", channel.fields())

    def hang_up(self, unique: str, cause: int = 16) -> None:
        for name, room in self.rooms.items():
            if unique in room.members:
                self.depart(name, unique)
        channel = self.channels.pop(unique)
        self.tell("Hangup", [*channel.fields(), ("Cause", str(cause))])

    def bridge(self, bridge: Bridge, *uniques: str) -> None:
        self.bridges[bridge.unique] = bridge
        self.tell("BridgeCreate", bridge.fields(0))
        for place, unique in enumerate(uniques, 1):
            self.channels[unique].bridge = bridge.unique
            self.tell("BridgeEnter", [*bridge.fields(place), *self.channels[unique].fields()])

    def leave(self, unique: str) -> None:
        channel = self.channels[unique]
        bridge, channel.bridge = self.bridges[channel.bridge], ""
        self.tell("BridgeLeave", [*bridge.fields(1), *channel.fields()])

    def join(self, name: str, unique: str, admin: bool = False, muted: bool = False) -> None:
        room = self.rooms.get(name)
        if room is None:
            room = self.rooms[name] = Room(Bridge(f"bridge-{name}", "ConfBridge", name, "softmix", hidden=1))
            self.bridge(room.bridge)
        room.members[unique] = admin, muted
        self.channels[unique].bridge = room.bridge.unique
        told = [*room.bridge.fields(len(room.members)), *self.channels[unique].fields()]
        self.tell("BridgeEnter", told)
        flags = [("Admin", "Yes" if admin else "No"), ("Muted", "Yes" if muted else "No")]
        self.tell("ConfbridgeJoin", [("Conference", name), *told, *flags])

    def depart(self, name: str, unique: str) -> None:
        room = self.rooms[name]
        del room.members[unique]
        self.channels[unique].bridge = ""
        told = [*room.bridge.fields(len(room.members)), *self.channels[unique].fields()]
        self.tell("ConfbridgeLeave", [("Conference", name), *told])
        self.tell("BridgeLeave", told)

    def tell(self, name: str, fields: Iterable[tuple[str, str]] = ()) -> None:
        for connection in self.connections:
            if connection.hears:
                connection.stream.write(event(name, fields))


class Connection:
    def __init__(self, manager: Manager, stream: TcpStream) -> None:
        self.manager = manager
        self.stream = stream
        self.hears = False
        self._buffer = b""
        self._challenge = ""
        stream.on_data = self._on_data
        stream.on_close = self._on_close
        if manager.greets:
            stream.write(GREETING)

    def _on_close(self, _: OSError | None) -> None:
        if self in self.manager.connections:
            self.manager.connections.remove(self)

    def _on_data(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            raw, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in raw.decode().split("\r\n"))
            self.manager.actions.append(fields)
            if self.manager.answers:
                self._act(fields["Action"], fields["ActionID"], fields)

    def _act(self, action: str, action_id: str, fields: Mapping[str, str]) -> None:
        manager = self.manager
        if manager.stopping:
            self._answer(action_id, "Error", [("Message", SHUTTING_DOWN)])
            return
        match action:
            case "Challenge":
                if manager.md5:
                    self._challenge = f"{random.Random(1).getrandbits(30)}"
                    self._answer(action_id, "Success", [("Challenge", self._challenge)])
                else:
                    self._answer(action_id, "Error", [("Message", "Must specify AuthType")])
            case "Login":
                self._log_in(action_id, fields)
            case "Events":
                self.hears = fields["EventMask"] != "off"
                self._answer(action_id, "Success", [("Events", "On" if self.hears else "Off")])
            case "CoreSettings":
                settings = [("AsteriskVersion", "22.10.1"), ("SystemName", "as1"), ("CoreMaxCalls", "500")]
                self._answer(action_id, "Success", settings)
            case "CoreStatus":
                started = [("CoreStartupDate", "2026-11-24"), ("CoreStartupTime", manager.started)]
                self._answer(action_id, "Success", started)
            case "Ping":
                self._answer(action_id, "Success", [("Ping", "Pong"), ("Timestamp", "1.0")])
            case "Getvar":
                self._getvar(action_id, fields)
            case "ConfbridgeMute" | "ConfbridgeUnmute":
                self._mute(action_id, fields, action == "ConfbridgeMute")
            case "Hangup":
                self._answer(action_id, "Success", [("Message", "Channel Hungup")])
                manager.hang_up(fields["Channel"])
            case _ if not manager.reads:
                self._answer(action_id, "Error", [("Message", "Permission denied")])
            case "CoreShowChannels" | "BridgeList" | "ConfbridgeListRooms" | "ConfbridgeList" | "BridgeInfo":
                self._list(action, action_id, fields)
            case _:
                self._answer(action_id, "Success", [("Message", "done")])

    def _log_in(self, action_id: str, fields: Mapping[str, str]) -> None:
        secret = self.manager._secret
        key = hashlib.md5(f"{self._challenge}{secret}".encode()).hexdigest()
        if fields.get("Key") == key or fields.get("Secret") == secret:
            self._answer(action_id, "Success", [("Message", "Authentication accepted")])
            self.hears = fields["Events"] != "off"
        else:
            self._answer(action_id, "Error", [("Message", "Authentication failed")])
            self.stream.close()

    def _getvar(self, action_id: str, fields: Mapping[str, str]) -> None:
        if "Channel" not in fields:
            self._answer(action_id, "Success", [("Variable", fields["Variable"]), ("Value", "0.5")])
            return
        channel = self.manager.channels.get(fields["Channel"])
        if channel is None:
            self._answer(action_id, "Error", [("Message", "No such channel")])
            return
        value = {"CHANNEL(pjsip,call-id)": channel.call_id, "MIXMONITOR_FILENAME": f"/rec/{channel.unique}.wav"}
        told = [("Variable", fields["Variable"]), ("Value", value[fields["Variable"]])]
        self._answer(action_id, "Success", told)

    def _mute(self, action_id: str, fields: Mapping[str, str], on: bool) -> None:
        room = self.manager.rooms.get(fields["Conference"])
        found = room and next(
            (each for each in room.members if self.manager.channels[each].name == fields["Channel"]), None
        )
        if room is None or found is None:
            self._answer(action_id, "Error", [("Message", "No Channel by that name found in Conference.")])
            return
        room.members[found] = room.members[found][0], on
        self._answer(action_id, "Success", [("Message", "User muted")])
        told = [("Conference", fields["Conference"]), *self.manager.channels[found].fields()]
        self.manager.tell("ConfbridgeMute" if on else "ConfbridgeUnmute", told)

    def _list(self, action: str, action_id: str, fields: Mapping[str, str]) -> None:
        manager = self.manager
        between, manager.between = manager.between, []
        for data in between:
            self.stream.write(data)
        rows: list[tuple[str, list[tuple[str, str]]]] = []
        end = f"{action}Complete"
        told: list[tuple[str, str]] = []
        if action == "CoreShowChannels":
            rows = [
                ("CoreShowChannel", [*each.fields(), ("BridgeId", each.bridge)]) for each in manager.channels.values()
            ]
        elif action == "BridgeList":
            rows = [("BridgeListItem", each.fields(0)) for each in manager.bridges.values()]
        elif action == "ConfbridgeListRooms":
            if not manager.rooms:
                self._answer(action_id, "Error", [("Message", "No active conferences.")])
                return
            rows = [
                ("ConfbridgeListRooms", [("Conference", name), ("Locked", "Yes" if each.locked else "No")])
                for name, each in manager.rooms.items()
            ]
        elif action == "ConfbridgeList":
            room = manager.rooms.get(fields["Conference"])
            if room is None:
                self._answer(action_id, "Error", [("Message", "No Conference by that name found.")])
                return
            for unique, (admin, muted) in room.members.items():
                flags = [("Admin", "Yes" if admin else "No"), ("Muted", "Yes" if muted else "No"), ("Talking", "No")]
                conference = ("Conference", fields["Conference"])
                rows.append(("ConfbridgeList", [conference, *flags, *manager.channels[unique].fields()]))
        else:
            bridge = manager.bridges[fields["BridgeUniqueid"]]
            there = [each for each in manager.channels.values() if each.bridge == bridge.unique]
            rows = [("BridgeInfoChannel", each.fields()) for each in there]
            told = bridge.fields(len(there))
        self._answer(action_id, "Success", [("EventList", "start"), ("Message", "will follow")])
        for name, row in rows:
            self.stream.write(event(name, [("ActionID", action_id), *row]))
        listed = [("EventList", "Complete"), ("ListItems", str(len(rows)))]
        self.stream.write(event(end, [("ActionID", action_id), *listed, *told]))

    def _answer(self, action_id: str, response: str, fields: Iterable[tuple[str, str]]) -> None:
        self.stream.write(message([("Response", response), ("ActionID", action_id), *fields]))


def event(name: str, fields: Iterable[tuple[str, str]] = ()) -> bytes:
    return message([("Event", name), *fields])


def message(fields: Iterable[tuple[str, str]]) -> bytes:
    return ("".join(f"{key}: {value}\r\n" for key, value in fields) + "\r\n").encode()
