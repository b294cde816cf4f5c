"""Where a caller who waits in a queue or talks to an IVR goes on when his backend dies, and what he has behind him.

The backend's dialplan says so in its 2xx, re-INVITE or INFO, as of pairs (`proxy.calls.pairs`):

    X-Aqueduct-Reenter: EXTENSION            he enters the dialplan of the backup there
    X-Aqueduct-Queue: NAME;position=N        told to the backup as it was said; optional

An empty X-Aqueduct-Reenter ends it. Where no backend says anything, `recovery.reenter` decides by the number that was
dialled. A call that is connected to others goes on with them, and enters nothing.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from proxy.calls.headers import own
from proxy.sip.message import Field, Message
from proxy.sip.uri import user_of

if TYPE_CHECKING:
    from proxy.calls.call import Call
    from proxy.calls.calls import Calls
    from proxy.config import RecoverySettings

QUEUE_BYTES_MAX = 200
# RFC 3261 §25.1, `user`: what it may be made of.
_USER = re.compile(rb"(?:[A-Za-z0-9\-_.!~*'()&=+$,;?/]|%[0-9A-Fa-f]{2}){1,100}")
_UNPRINTABLE = re.compile(rb"[\x00-\x1f\x7f]")

log = logging.getLogger(__name__)


class Waiting:
    """He has waited since `since`, over all backends that had him in that queue."""

    __slots__ = ("point", "queue", "since")

    def __init__(self, point: bytes, queue: bytes, since: float) -> None:
        self.point = point
        self.queue = queue
        self.since = since

    @property
    def name(self) -> bytes:
        """Of the queue."""
        return self.queue.partition(b";")[0].strip()


def hear(calls: Calls, call: Call, message: Message) -> bool:
    """Take what a backend's message says of this. True: it said something."""
    point, queue = message.get(b"x-aqueduct-reenter"), message.get(b"x-aqueduct-queue")
    before = call.waiting
    if point is None and (queue is None or before is None):
        return queue is not None
    point = before.point if point is None and before is not None else (point or b"").strip()
    if point and _USER.fullmatch(point) is None:
        calls.counts["reenter_refused"] += 1
        log.info("call=%s X-Aqueduct-Reenter: %r is not the user part of a URI", call.id, point[:100])
        return True
    told = _UNPRINTABLE.sub(b"", queue.strip()[:QUEUE_BYTES_MAX]) if queue is not None else b""
    if not point:
        call.waiting = None
    else:
        now = Waiting(point, told, calls.now())
        if before is not None and (queue is None or now.name == before.name):
            now.since = before.since
            now.queue = told if queue is not None else before.queue
        call.waiting = now
    calls.on_changed(call)
    if point != (before.point if before is not None else b""):
        calls.on_waiting(call)
    return True


def user(call: Call, settings: RecoverySettings) -> bytes | None:
    """The user part of the R-URI with which a backup is asked; None: the one that was dialled."""
    if call.bond is not None:
        return None
    if call.waiting is not None:
        return call.waiting.point
    dialled = user_of(call.uri).decode(errors="replace")
    return next((rule.to.encode() for rule in settings.reenter if rule.user.search(dialled)), None)


def told(call: Call, settings: RecoverySettings) -> tuple[Field, ...]:
    """What the backup is told of it."""
    if user(call, settings) is None:
        return ()
    waiting = call.waiting
    since = waiting.since if waiting is not None else call.answered_at
    fields = (own("Waited", int(call.calls.now() - since)),)
    if waiting is None or not waiting.queue:
        return fields
    return (*fields, own("Queue", waiting.queue.decode(errors="replace")))
