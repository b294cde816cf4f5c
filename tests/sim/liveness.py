"""The liveness of a simulated relay: what `media.relay.liveness` would tell, from streams without packets.

A stream that has flowed for a second is active. One that stops although its description says that it sends is silent
from its last packet on, for as long as the real one says so; any other stop is none.
"""

from __future__ import annotations

import contextvars
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from media.api import FlowsSilent, LegSilent, MediaEvent
from media.relay.liveness import BEAT_S, LASTS_S, REPORT_S, SILENT_S, quorum
from tests.sim.network import SimNetwork

if TYPE_CHECKING:
    from tests.sim.media import Party, Stream

STEADY_S = 1.0


class SimLiveness:
    """`streams_of`: those of a leg that nobody has fenced. `tell` delivers to the node."""

    def __init__(
        self, network: SimNetwork, streams_of: Callable[[Party], list[Stream]], tell: Callable[[MediaEvent], None]
    ) -> None:
        self._network = network
        self._streams_of = streams_of
        self._tell = tell
        self._context = contextvars.copy_context()
        self._watched: dict[Party, tuple[str, float]] = {}
        self._timed_out: set[Party] = set()
        self._told: dict[str, int] = {}  # group -> active ones, last time
        self._ticking = False
        self._hurried = False
        network.on_fault.append(self._fault)

    def watch(self, party: Party, group: str, timeout_s: float) -> None:
        self._watched[party] = (group, timeout_s)
        if not self._ticking:
            self._ticking = True
            self._after(BEAT_S, self._tick)

    def forget(self, party: Party) -> None:
        self._watched.pop(party, None)
        self._timed_out.discard(party)

    def _after(self, delay_s: float, callback: Callable[[], object]) -> None:
        self._network.loop.call_at(self._network.loop.time() + delay_s, callback, context=self._context)

    def _fault(self) -> None:
        """Streams may have stopped: it is told as soon as they are overdue."""
        if self._watched and not self._hurried:
            self._hurried = True
            self._after(SILENT_S, self._hurry)

    def _hurry(self) -> None:
        self._hurried = self._look()
        if self._hurried:
            self._after(REPORT_S, self._hurry)

    def _tick(self) -> None:
        if not self._hurried and self._look():
            self._hurried = True
            self._after(REPORT_S, self._hurry)
        self._ticking = bool(self._watched or any(self._told.values()))
        if self._ticking:
            self._after(BEAT_S, self._tick)

    def _look(self) -> bool:
        """Tell of every group. True: one of them is silent."""
        now = self._network.loop.time()
        groups: dict[str, list[Stream]] = {group: [] for group in self._told}
        for party, (group, timeout_s) in self._watched.items():
            streams = self._streams_of(party)
            if group:
                groups.setdefault(group, []).extend(streams)
            if timeout_s:
                self._time(party, streams, timeout_s, now)
        silent = [self._report(group, streams, now) for group, streams in groups.items()]
        return any(silent)

    def _report(self, group: str, streams: list[Stream], now: float) -> bool:
        silences = []
        for stream in streams:
            if stream.flows_since is not None:
                if now - stream.flows_since >= STEADY_S:
                    silences.append(0.0)
            elif stream.silent_since is not None and now - stream.silent_since < LASTS_S:
                silences.append(now - stream.silent_since)
        active = len(silences)
        silences.sort(reverse=True)
        silence_s = silences[quorum(active) - 1] if silences else 0.0
        silent = sum(silence >= SILENT_S for silence in silences) if silence_s >= SILENT_S else 0
        if active or self._told.get(group):
            last = max((stream.last_packet_at for stream in streams), default=0.0)
            self._tell(FlowsSilent(group, active, silent, silence_s if silent else 0.0, last, now))
        self._told[group] = active
        return silent > 0

    def _time(self, party: Party, streams: list[Stream], timeout_s: float, now: float) -> None:
        since = min((stream.silent_since for stream in streams if stream.silent_since is not None), default=math.inf)
        if now - since < timeout_s:
            self._timed_out.discard(party)
        elif party not in self._timed_out:
            self._timed_out.add(party)
            self._tell(LegSilent(*party, now - since))
