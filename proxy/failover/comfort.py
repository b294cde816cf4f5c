"""What callers hear while their backend is dead, or seems so: comfort noise or a prompt, by one command for all calls.

So no phone's own media timeout fires, and no line sounds dead. A relay that sees silence itself fills nothing but
silence: there a suspicion is enough, for one that proves wrong costs nothing. Where what is played takes the place of
what comes (rtpengine), it waits for the verdict.
"""

from __future__ import annotations

from collections.abc import Iterable

from media.api import MediaPlane
from proxy.backends import Verdict
from proxy.health import Health, VerdictChanged

SILENT = (Verdict.SUSPECT, Verdict.DOWN)


class Comfort:
    def __init__(self, planes: Iterable[MediaPlane], health: Health) -> None:
        self._planes = [plane for plane in planes if "comfort" in plane.capabilities]
        health.subscribe(self._verdict_changed)

    def _verdict_changed(self, change: VerdictChanged) -> None:
        for plane in self._planes:
            when = SILENT if "liveness" in plane.capabilities else (Verdict.DOWN,)
            on = change.verdict in when
            if on != (change.previous in when):
                plane.comfort(change.backend.name, on)
