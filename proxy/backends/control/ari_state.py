"""What ARI tells, in the vocabulary of `api`. Pure: no socket, no clock.

It keeps who is where, so that events which are older than a list are told once, and so that nobody has to be told of
who left a room that is gone. Verified against Asterisk 22 (tests/integration/test_ari.py).

What ARI does not tell: who is muted, deaf, moderator or talking in a ConfBridge, that it is locked, that it records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.backends.control.api import (
    BridgeEntered,
    BridgeLeft,
    ChannelDown,
    ChannelUp,
    ConferenceEnded,
    ConferenceJoined,
    ConferenceLeft,
    Event,
    RecordingChanged,
)
from proxy.backends.control.session import WireError

# Of everything else, ChannelVarset and ChannelDialplan alone are four events of five.
ALLOWED = (
    "ChannelCreated",
    "ChannelStateChange",
    "ChannelDestroyed",
    "ChannelEnteredBridge",
    "ChannelLeftBridge",
    "BridgeDestroyed",
    "RecordingStarted",
    "RecordingFinished",
    "RecordingFailed",
    "ApplicationReplaced",
    "RESTResponse",  # or the answers are kept back too
)
_MACHINERY = ("CBAnn/", "CBRec/")  # the voices and the recorder of a ConfBridge


class AriState:
    def __init__(self) -> None:
        self._sip: dict[str, str] = {}  # channel: Call-ID
        self._bridge: dict[str, str] = {}  # channel: bridge
        self._rooms: dict[str, str] = {}  # bridge: conference

    @property
    def channels(self) -> int:
        return len(self._sip)

    def event(self, event: Mapping[str, Any]) -> Iterator[Event]:
        """Raises WireError for an event that lacks what it must have."""
        try:
            match event["type"]:
                case "ChannelCreated" | "ChannelStateChange":
                    yield from self.channel(event["channel"])
                case "ChannelDestroyed":
                    yield from self._down(event["channel"]["id"], event["cause"])
                case "ChannelEnteredBridge":
                    yield from self.channel(event["channel"])
                    yield from self._entered(event["bridge"], event["channel"]["id"])
                case "ChannelLeftBridge":
                    yield from self._left(event["channel"]["id"], event["bridge"]["id"])
                case "BridgeDestroyed":
                    yield from self._destroyed(event["bridge"]["id"])
                case "RecordingStarted" | "RecordingFinished" | "RecordingFailed":
                    yield from self._recording(event["recording"], event["type"] == "RecordingStarted")
        except (KeyError, TypeError, AttributeError) as error:
            raise WireError(f"event {str(event.get('type'))[:40]}: {error!r}") from error

    def channel(self, channel: Mapping[str, Any]) -> Iterator[Event]:
        """A channel as it is described in events and lists."""
        name, sip = str(channel["name"]), str(channel.get("protocol_id", ""))
        if name.startswith(_MACHINERY):
            return
        known = self._sip.get(channel["id"])
        if known is None or (sip and sip != known):  # ChannelCreated comes before it is known
            self._sip[channel["id"]] = sip
            yield ChannelUp(channel["id"], sip, name, str(channel["dialplan"]["exten"]))

    def bridge(self, bridge: Mapping[str, Any]) -> Iterator[Event]:
        """A bridge as it is listed."""
        for channel in bridge["channels"]:
            if channel in self._sip:
                yield from self._entered(bridge, channel)

    def _entered(self, bridge: Mapping[str, Any], channel: str) -> Iterator[Event]:
        name = bridge["id"]
        if channel not in self._sip or self._bridge.get(channel) == name:
            return
        yield from self._left(channel, self._bridge.get(channel, ""))
        self._bridge[channel] = name
        if bridge["creator"] == "ConfBridge":
            self._rooms[name] = bridge["name"]
            yield ConferenceJoined(bridge["name"], channel, moderator=False, muted=False, deaf=False)
        else:
            yield BridgeEntered(name, channel)

    def _left(self, channel: str, bridge: str) -> Iterator[Event]:
        if self._bridge.get(channel) == bridge:
            del self._bridge[channel]
            room = self._rooms.get(bridge)
            yield BridgeLeft(bridge, channel) if room is None else ConferenceLeft(room, channel)

    def _destroyed(self, bridge: str) -> Iterator[Event]:
        for channel in [channel for channel, where in self._bridge.items() if where == bridge]:
            yield from self._left(channel, bridge)
        room = self._rooms.pop(bridge, None)
        if room is not None:
            yield ConferenceEnded(room)

    def _down(self, channel: str, cause: int) -> Iterator[Event]:
        if channel in self._sip:
            yield from self._left(channel, self._bridge.get(channel, ""))
            del self._sip[channel]
            yield ChannelDown(channel, int(cause))

    def _recording(self, recording: Mapping[str, Any], on: bool) -> Iterator[Event]:
        """Of a channel; there is no word for a Stasis bridge that is recorded."""
        what, _, channel = str(recording["target_uri"]).partition(":")
        if what == "channel" and channel in self._sip:
            yield RecordingChanged(channel, f"{recording['name']}.{recording['format']}" if on else "")
