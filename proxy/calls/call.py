"""A call: an A-leg, a B-leg, and a media session between them.

It holds the state that outlives one exchange. What happens on it is written elsewhere, one subject per file:
`setup` (the INVITE), `midcall` (everything in the dialogs), `proxy.failover.recovery` (a leg replaced). Events of one
call are taken one after the other: while media is being asked, or a leg is being replaced, they wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from media.api import MediaPlane
from proxy.calls.agreement import holds
from proxy.calls.leg import Leg
from proxy.calls.snapshot import snapshot
from proxy.sip.message import Field, Request, key_of
from proxy.sip.server_transaction import ServerTransaction

if TYPE_CHECKING:
    from proxy.backends import Backend
    from proxy.calls.calls import Calls
    from proxy.calls.pairs import Bond
    from proxy.calls.reinvite import Reinvite
    from proxy.calls.setup import Setup
    from proxy.calls.standby import Standby
    from proxy.calls.waiting import Waiting

log = logging.getLogger(__name__)

RINGING, TALKING, ENDED = "ringing", "talking", "ended"

Event = Callable[[], None]


def _nothing(_: object) -> None:
    return None


class HeldRequest:
    """A request in a dialog that waits until the events of its call go on."""

    __slots__ = ("request", "take", "transaction")

    def __init__(
        self,
        take: Callable[[bytes, Request, ServerTransaction], None],
        request: Request,
        transaction: ServerTransaction,
    ) -> None:
        self.take = take
        self.request = request
        self.transaction = transaction

    def __call__(self) -> None:
        if not self.transaction.answered:  # it was cancelled meanwhile
            self.take(self.request.to_tag, self.request, self.transaction)


class Call:
    """`uri`, `from_value`, `to_value` and `fields` are what the INVITE asked for: a recovery asks a backup the same."""

    __slots__ = (
        "_fields", "a", "answered_at", "b", "bond", "calls", "created_at", "from_value", "held_events", "holders", "id",
        "legs_made", "media", "min_se_s", "on_ended", "reinvite", "setup", "standby", "state", "to_value", "uri",
        "waiting",
    )  # fmt: skip

    def __init__(self, calls: Calls, call_id: str, media: MediaPlane, created_at: float) -> None:
        self.calls = calls
        self.id = call_id
        self.media = media
        self.state = RINGING
        self.created_at = created_at
        self.answered_at = 0.0
        self.a: Leg = None  # type: ignore[assignment]  # set by Calls before anybody sees the call
        self.b: Leg | None = None
        self.bond: Bond | None = None  # with the calls that its backend has connected it to
        self.waiting: Waiting | None = None  # in a queue or an IVR, as its backend says
        self.standby: Standby | None = None  # of a hot call, when it stands
        self.uri = b""
        self.from_value = b""
        self.to_value = b""
        self._fields: tuple[Field, ...] | bytes = ()
        self.setup: Setup | None = None
        self.reinvite: Reinvite | None = None
        self.legs_made = 0
        self.min_se_s = 0  # what a backend asked for with 422 (RFC 4028 §7.3)
        self.held_events: list[Event] | None = None  # not None: events wait
        self.holders = 0  # who lets them wait: what was asked of media, a recovery
        self.on_ended: Callable[[], None] | None = None  # a recovery under way wants to know

    def __repr__(self) -> str:
        return f"<Call {self.id} {self.state} {self.a} {self.b}>"

    @property
    def fields(self) -> tuple[Field, ...]:
        if isinstance(self._fields, bytes):
            return tuple((key_of(line.partition(b":")[0]), line) for line in self._fields.split(b"\r\n") if line)
        return self._fields

    @fields.setter
    def fields(self, fields: tuple[Field, ...]) -> None:
        self._fields = fields

    def pack_fields(self) -> None:
        """Keep `fields` in less room: the call stands, and a recovery may never come."""
        self._fields = b"\r\n".join([line for _, line in self.fields])

    def withdraw_offer(self, leg: Leg, other: Leg, before: bytes) -> None:
        """What `leg` offered was refused, so the session of `other` is as `before` (RFC 3261 §14.1): media is told."""
        other.local_sdp = before
        if leg.remote_sdp and leg.call is self and other.call is self:
            again = self.media.offer(self.id, leg.name, other.name, leg.remote_sdp, preview=True)
            self.then(again, _nothing, _nothing)

    def other(self, leg: Leg) -> Leg:
        other = self.b if leg is self.a else self.a
        assert other
        return other

    def legs(self) -> tuple[Leg, ...]:
        """Those in place."""
        return (self.a, self.b) if self.b else (self.a,)

    def all_legs(self) -> tuple[Leg, ...]:
        """Those in place, and the standby."""
        return (*self.legs(), self.standby.leg) if self.standby else self.legs()

    def leg_on(self, backend: Backend) -> Leg | None:
        for leg in self.legs():
            if leg.backend is backend:
                return leg
        return None

    def next_leg_name(self) -> str:
        self.legs_made += 1
        return f"b{self.legs_made}"

    @property
    def quiet(self) -> bool:
        """It talks, and no exchange of descriptions is under way."""
        return (
            self.state == TALKING
            and self.held_events is None
            and self.setup is None
            and self.reinvite is None
            and not any(leg.offers_pending() for leg in self.legs())
        )

    @property
    def on_hold(self) -> bool:
        """Either side has put the other on hold (RFC 3264 §8.4): its last description does not want to receive."""
        return any(holds(leg.remote_sdp) for leg in self.legs())

    # -- events, one after the other

    def then(
        self,
        future: asyncio.Future[bytes],
        proceed: Callable[[bytes], None],
        fail: Callable[[str], None],
        request: ServerTransaction | None = None,
    ) -> None:
        """Go on with what media says: at once when it is there, else later, and then nothing overtakes it. A `request`
        that waits for it gets 481 when the call has ended by then."""
        if future.done():
            self._media_done(future, proceed, fail)
            return
        self.hold_events()

        def done(finished: asyncio.Future[bytes]) -> None:
            if self.state != ENDED:
                self.run(lambda: self._media_done(finished, proceed, fail), request)
            else:
                finished.exception()  # has been seen
                if request is not None:
                    request.reply(481)
            self.release_events()

        future.add_done_callback(done)

    def run(self, event: Event, request: ServerTransaction | None = None) -> None:
        """A fault of ours in one event stays with it: what waits behind it is done all the same."""
        if isinstance(event, HeldRequest):
            request = event.transaction
        try:
            event()
        except Exception:
            self.calls.stack.errors["handler"] += 1
            log.exception("call=%s cannot do what had to wait", self.id)
            if request is not None:
                request.reply(500)

    @staticmethod
    def _media_done(
        future: asyncio.Future[bytes], proceed: Callable[[bytes], None], fail: Callable[[str], None]
    ) -> None:
        error = future.exception()
        if error is not None:
            fail(str(error))
        else:
            proceed(future.result())

    def hold_events(self) -> None:
        self.holders += 1
        if self.held_events is None:
            self.held_events = []

    def refuse_held_invites(self, leg: Leg) -> None:
        """We are about to send an INVITE on `leg`: one of its peer that waits meets it (RFC 3261 §14.2). To let it
        wait would make the peer answer ours with 491 for as long as it gets no answer."""
        for event in list(self.held_events or ()):
            if isinstance(event, HeldRequest) and event.request.method == b"INVITE" and event.request.to_tag == leg.tag:
                event.transaction.reply(491)
                self.held_events.remove(event)  # type: ignore[union-attr]

    def release_events(self) -> None:
        """The last one who let events wait lets them go on."""
        self.holders = max(0, self.holders - 1)  # 0 already: the call has ended
        if self.holders:
            return
        while self.held_events:
            waiting, self.held_events = self.held_events, None
            for index, event in enumerate(waiting):
                self.run(event)
                if self._wait_again(waiting, index + 1):
                    return
        self.held_events = None

    def _wait_again(self, events: list[Event], first: int) -> bool:
        """An event that was let go may have to wait again: the rest stays behind it."""
        if self.held_events is None:
            return False
        self.held_events += events[first:]
        return True

    def snapshot(self) -> dict[str, Any]:
        """See `proxy.calls.snapshot`."""
        return snapshot(self)
