"""Asterisk's events and lists, told in the vocabulary of `api`. Pure: no socket, no clock.

It keeps the names of channels (commands about conferences want them), and which of them are tied to SIP: by the
variable AQUEDUCT_CALL, which `channelvars` of manager.conf lets every event of a channel carry, else by a question
(`ask`) when the channel is up. Events may be older than a list, never newer than the next event: telling one twice is
harmless. Verified with Asterisk 22.10.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from proxy.backends.control.ami_codec import Message
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
)
from proxy.backends.control.session import WireError

CALL = "AQUEDUCT_CALL"
CHANNELS_MAX = 100_000
_UP = "6"  # ChannelState
_SIP = ("PJSIP/", "SIP/")
# In a bridge of ConfBridge there are its members, and two that are not shown: who plays announcements, who records.
_HIDDEN_WITHOUT_RECORDER = 1


@dataclass(slots=True)
class _Channel:
    name: str
    number: str
    sip: str = ""
    asked: bool = False


class AmiState:
    def __init__(self) -> None:
        self.ask: Callable[[str], None] = lambda channel: None  # for its Call-ID: a call of `call_id` should follow
        self.ask_file: Callable[[str], None] = lambda channel: None  # that it is recorded into
        self._channels: dict[str, _Channel] = {}  # by Uniqueid
        self._locks: dict[str, bool] = {}  # by conference
        self._conference_bridges: dict[str, str] = {}  # BridgeUniqueid of what is no pair: conference, or ""

    def __len__(self) -> int:
        return len(self._channels)

    def name(self, channel: str) -> str | None:
        known = self._channels.get(channel)
        return known.name if known is not None else None

    @property
    def conferences(self) -> dict[str, str]:
        """The names of the conferences by their bridges."""
        return {bridge: name for bridge, name in self._conference_bridges.items() if name}

    def take(self, message: Message) -> Iterator[Event]:
        return _NEWS[message.name](self, message)

    # Channels

    def _seen(self, message: Message) -> Iterator[Event]:
        """What every event of a channel says of it."""
        channel = message.get("Uniqueid")
        known = self._channels.get(channel)
        sip = message.variables.get(CALL, "")
        if known is None:
            if not channel:
                return
            if len(self._channels) >= CHANNELS_MAX:
                raise WireError(f"more than {CHANNELS_MAX} channels")
            number = message.get("Exten") or message.get("CallerIDNum")
            known = self._channels[channel] = _Channel(message.get("Channel"), number, sip)
            yield ChannelUp(channel, sip, known.name, known.number)
        elif sip and sip != known.sip and not known.asked:
            known.sip = sip
            yield ChannelUp(channel, sip, known.name, known.number)
        if not known.sip and not known.asked and message.get("ChannelState") == _UP and known.name.startswith(_SIP):
            known.asked = True
            self.ask(channel)

    def call_id(self, channel: str, sip: str) -> Iterator[Event]:
        """The answer to `ask`."""
        known = self._channels.get(channel)
        if known is not None and sip and not known.sip:
            known.sip = sip
            yield ChannelUp(channel, sip, known.name, known.number)

    def _renamed(self, message: Message) -> Iterator[Event]:
        known = self._channels.get(message.get("Uniqueid"))
        if known is not None:
            known.name = message.get("Newname")
            yield ChannelUp(message.get("Uniqueid"), known.sip, known.name, known.number)

    def _down(self, message: Message) -> Iterator[Event]:
        channel = message.get("Uniqueid")
        if self._channels.pop(channel, None) is not None:
            yield ChannelDown(channel, _number(message.get("Cause")))

    def _listed_channel(self, message: Message) -> Iterator[Event]:
        yield from self._seen(message)
        bridge = message.get("BridgeId")
        if bridge and bridge not in self._conference_bridges:
            yield BridgeEntered(bridge, message.get("Uniqueid"))

    # Bridges

    def _bridge(self, message: Message) -> Iterator[Event]:
        """A conference's bridge is no pair, nor is one that holds people apart (parking, waiting for a moderator)."""
        if message.get("BridgeCreator") == "ConfBridge":
            self._conference_bridges[message.get("BridgeUniqueid")] = message.get("BridgeName")
        elif message.get("BridgeTechnology") == "holding_bridge":
            self._conference_bridges[message.get("BridgeUniqueid")] = ""
        yield from ()

    def _bridge_ended(self, message: Message) -> Iterator[Event]:
        self._conference_bridges.pop(message.get("BridgeUniqueid"), None)
        yield from ()

    def _entered(self, message: Message) -> Iterator[Event]:
        yield from self._seen(message)
        yield from self._bridge(message)
        if message.get("BridgeUniqueid") not in self._conference_bridges:
            yield BridgeEntered(message.get("BridgeUniqueid"), message.get("Uniqueid"))

    def _left(self, message: Message) -> Iterator[Event]:
        if message.get("BridgeUniqueid") not in self._conference_bridges:
            yield BridgeLeft(message.get("BridgeUniqueid"), message.get("Uniqueid"))

    # Conferences

    def _joined(self, message: Message) -> Iterator[Event]:
        yield from self._seen(message)
        moderator, muted = (message.get(key) == "Yes" for key in ("Admin", "Muted"))
        yield ConferenceJoined(message.get("Conference"), message.get("Uniqueid"), moderator, muted, deaf=False)

    def _listed_member(self, message: Message) -> Iterator[Event]:
        yield from self._joined(message)
        talking = message.get("Talking") == "Yes"
        yield MemberChanged(message.get("Conference"), message.get("Uniqueid"), talking=talking)

    def _listed_conference(self, message: Message) -> Iterator[Event]:
        conference, locked = message.get("Conference"), message.get("Locked") == "Yes"
        if self._locks.get(conference) is not locked:
            self._locks[conference] = locked
            yield ConferenceChanged(conference, locked=locked)

    def conference_bridge(self, message: Message, members: int) -> Iterator[Event]:
        """BridgeInfoComplete of a conference's bridge: who is in it and was not shown tells whether it is recorded."""
        hidden = _number(message.get("BridgeNumChannels")) - members
        conference = self._conference_bridges.get(message.get("BridgeUniqueid"))
        if conference:
            yield ConferenceChanged(conference, recording="?" if hidden > _HIDDEN_WITHOUT_RECORDER else "")

    def _left_conference(self, message: Message) -> Iterator[Event]:
        yield ConferenceLeft(message.get("Conference"), message.get("Uniqueid"))

    def _conference_ended(self, message: Message) -> Iterator[Event]:
        self._locks.pop(message.get("Conference"), None)
        yield ConferenceEnded(message.get("Conference"))

    def _muted(self, message: Message) -> Iterator[Event]:
        muted = message.name == "ConfbridgeMute"
        yield MemberChanged(message.get("Conference"), message.get("Uniqueid"), muted=muted)

    def _talking(self, message: Message) -> Iterator[Event]:
        talking = message.get("TalkingStatus") == "on"
        yield MemberChanged(message.get("Conference"), message.get("Uniqueid"), talking=talking)

    def _recorded(self, message: Message) -> Iterator[Event]:
        yield ConferenceChanged(message.get("Conference"), recording="?" if message.name == "ConfbridgeRecord" else "")

    # Recordings of one channel

    def _channel_recorded(self, message: Message) -> Iterator[Event]:
        yield from self._seen(message)
        channel = message.get("Uniqueid")
        if channel in self._channels:
            yield RecordingChanged(channel, "?")
            self.ask_file(channel)

    def file(self, channel: str, file: str) -> Iterator[Event]:
        """The answer to `ask_file`."""
        if channel in self._channels and file:
            yield RecordingChanged(channel, file)

    def _channel_not_recorded(self, message: Message) -> Iterator[Event]:
        yield RecordingChanged(message.get("Uniqueid"), "")


_NEWS: dict[str, Callable[[AmiState, Message], Iterator[Event]]] = {
    "Newchannel": AmiState._seen,
    "Newstate": AmiState._seen,
    "NewCallerid": AmiState._seen,
    "Rename": AmiState._renamed,
    "Hangup": AmiState._down,
    "BridgeCreate": AmiState._bridge,
    "BridgeDestroy": AmiState._bridge_ended,
    "BridgeEnter": AmiState._entered,
    "BridgeLeave": AmiState._left,
    "ConfbridgeJoin": AmiState._joined,
    "ConfbridgeLeave": AmiState._left_conference,
    "ConfbridgeEnd": AmiState._conference_ended,
    "ConfbridgeMute": AmiState._muted,
    "ConfbridgeUnmute": AmiState._muted,
    "ConfbridgeTalking": AmiState._talking,
    "ConfbridgeRecord": AmiState._recorded,
    "ConfbridgeStopRecord": AmiState._recorded,
    "MixMonitorStart": AmiState._channel_recorded,
    "MixMonitorStop": AmiState._channel_not_recorded,
    # Rows of the lists
    "CoreShowChannel": AmiState._listed_channel,
    "BridgeListItem": AmiState._bridge,
    "ConfbridgeListRooms": AmiState._listed_conference,
    "ConfbridgeList": AmiState._listed_member,
}
NEWS = frozenset(_NEWS)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
