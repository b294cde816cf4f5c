"""What a backend's channels are to us: the leg in place that one is, and the pairs that its bridges make of calls.

A bridge of two channels, both of them legs of ours, is a pair: an agent and a customer, whoever connected them (Dial, a
queue, Stasis). A pair that its backend has named in SIP keeps that name, and ends when the bridge does.
"""

from __future__ import annotations

from proxy.backends import Backend
from proxy.backends.control.api import BridgeEntered, BridgeLeft, ChannelDown, ChannelUp, Event, Synced, Up
from proxy.calls import Call, Calls, Leg
from proxy.calls.invite import call_id
from proxy.calls.pairs import PAIR

Bridge = tuple[str, str]  # backend, bridge


def sip_of(call: Call, leg: Leg) -> str:
    """The Call-ID of a leg."""
    return (leg.dialog.call_id if leg.dialog is not None else call_id(call, leg)).decode(errors="replace")


def in_place(calls: Calls, backend: Backend, sip: str) -> Call | None:
    """The call whose leg in place on that backend has this Call-ID; or this is the id of the call."""
    call = calls.live.get(sip) or calls.live.get(sip.rpartition("-")[0]) or calls.dialled.get(sip.encode())
    leg = call.leg_on(backend) if call is not None else None
    return call if call is not None and leg is not None and sip in (call.id, sip_of(call, leg)) else None


class Bridges:
    def __init__(self, calls: Calls, moving: set[str]) -> None:
        """`moving`: ids of calls that are carried over, of which nothing is believed meanwhile."""
        self._calls = calls
        self._moving = moving
        self._channels: dict[Bridge, set[str]] = {}
        self._of: dict[tuple[str, str], Bridge] = {}  # by backend and channel
        self._pairs: dict[Bridge, tuple[str, str]] = {}  # ids of the calls

    def hear(self, backend: Backend, event: Event, sips: dict[str, str]) -> None:
        """`sips`: the Call-IDs of the backend's channels."""
        match event:
            case Up():  # what was paired is looked at again when all is told
                for key in [key for key in self._channels if key[0] == backend.name]:
                    del self._channels[key]
                for member in [member for member in self._of if member[0] == backend.name]:
                    del self._of[member]
            case Synced():
                for key in [key for key in self._pairs if key[0] == backend.name]:
                    self._look(backend, key, sips)
            case BridgeEntered(bridge, channel):
                key = (backend.name, bridge)
                self._channels.setdefault(key, set()).add(channel)
                self._of[backend.name, channel] = key
                self._look(backend, key, sips)
            case BridgeLeft(_, channel) | ChannelDown(channel, _):
                left = self._of.pop((backend.name, channel), None)
                if left is not None:
                    self._channels[left].discard(channel)
                    self._look(backend, left, sips)
            case ChannelUp():
                known = self._of.get((backend.name, event.channel))
                if known is not None:
                    self._look(backend, known, sips)
            case _:
                pass

    def _look(self, backend: Backend, key: Bridge, sips: dict[str, str]) -> None:
        channels = self._channels.get(key, set())
        found = [in_place(self._calls, backend, sips.get(channel, "")) for channel in sorted(channels)]
        calls = [call for call in found if call is not None and call.id not in self._moving]
        before = self._pairs.get(key)
        if len(channels) == 2 and len({call.id for call in calls}) == 2:
            self._pairs[key] = (calls[0].id, calls[1].id)
            if not (calls[0].bond is not None and calls[0].bond is calls[1].bond):
                for call in calls:
                    self._calls.pairs.join(call, PAIR, key[1].encode(), backend.pool)
        elif before is not None:
            del self._pairs[key]
            self._part(backend, before)
        if not channels:
            self._channels.pop(key, None)

    def _part(self, backend: Backend, ids: tuple[str, str]) -> None:
        """Unless they are, or will be, connected elsewhere."""
        for each in ids:
            call = self._calls.live.get(each)
            here = call is not None and call.leg_on(backend) is not None and each not in self._moving
            if call is not None and here and call.bond is not None and call.bond.kind == PAIR:
                self._calls.pairs.leave(call)
