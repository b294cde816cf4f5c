"""Which legs media listens to, and what follows when one call's own media has stopped.

The media plane tells of the streams of a backend by its name (`proxy.health` reads that). The silence of one leg never
judges a backend: it is that call's business, and the pool of its backend says what becomes of it (`media_timeout_s`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from media.api import LegSilent, MediaEvent

if TYPE_CHECKING:
    from proxy.calls.call import Call
    from proxy.calls.calls import Calls
    from proxy.calls.leg import Leg
    from proxy.config import PoolSettings

log = logging.getLogger(__name__)


def _pool(calls: Calls, call: Call) -> PoolSettings | None:
    for leg in (call.b, call.a):
        if leg is not None and leg.backend is not None:
            return calls.backends.pool_of(leg.backend).settings
    return None


def listen(calls: Calls, call: Call) -> None:
    """The call stands, or one of its legs has been replaced."""
    pool = _pool(calls, call)
    timeout_s = pool.media_timeout_s or 0.0 if pool is not None else 0.0
    for leg in call.legs():
        if leg.backend is not None or timeout_s:
            call.media.watch(call.id, leg.name, leg.backend.name if leg.backend else "", timeout_s)
    if call.standby is not None:
        listen_beside(call, call.standby.leg)


def listen_beside(call: Call, leg: Leg) -> None:
    """A leg that nobody hears yet: it tells of its backend, and has no timeout of its own."""
    call.calls.on_changed(call)
    if leg.backend is not None:
        call.media.watch(call.id, leg.name, leg.backend.name)


def media(calls: Calls, event: MediaEvent) -> None:
    """The listener of the media plane."""
    if not isinstance(event, LegSilent):
        return
    call = calls.live.get(event.session)
    leg = next((leg for leg in call.legs() if leg.name == event.leg), None) if call is not None else None
    pool = _pool(calls, call) if call is not None else None
    if call is None or leg is None or pool is None:
        return  # a leg that was replaced meanwhile, or one that nobody hears
    calls.counts["media_timeouts"] += 1
    why = f"no media of the {leg.name} side for {event.silent_s:.0f} s"
    log.warning("call=%s backend=%s %s", call.id, leg.backend.name if leg.backend else "-", why)
    if pool.on_media_timeout == "end":
        calls.end(call, why)
