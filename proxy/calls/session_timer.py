"""Session timers, each leg's own (RFC 4028): a peer that vanished without a BYE does not hold a call for ever.

`proxy.sip.session_timer` negotiates; this arms the clock, refreshes where that is ours (UPDATE where the peer allows
it, else a re-INVITE with the description as it stands), and ends the call when a refresh stays away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.calls import agreement
from proxy.calls.headers import retry_after_s
from proxy.sip.message import SDP, Field, Message, Request, Response
from proxy.sip.session_timer import SessionTimer

if TYPE_CHECKING:
    from proxy.calls.call import Call
    from proxy.calls.calls import Calls
    from proxy.calls.leg import Leg
    from proxy.net.timers import Timer

SUPPORTED = (b"supported", b"Supported: timer")
RETRY_S = 2.0  # after a refresh that could not be sent, or that met a busy peer (500)


class LegTimer(SessionTimer):
    """The session timer of one leg, and the clock that it set."""

    __slots__ = ("alarm", "update")

    def __init__(self, wanted_s: int, minimum_s: int) -> None:
        super().__init__(wanted_s, minimum_s)
        self.update = False  # the peer takes UPDATE
        self.alarm: Timer | None = None

    def cancel(self) -> None:
        if self.alarm:
            self.alarm.cancel()
            self.alarm = None

    def note_ability(self, message: Message) -> None:
        allow = message.get(b"allow")
        if allow is not None:
            self.update = b"UPDATE" in allow


def timer_of(calls: Calls, leg: Leg) -> LegTimer:
    if leg.timer is None:
        sip = calls.settings.sip
        minimum_s = max(sip.min_se_s, leg.call.min_se_s if leg.call else 0)
        leg.timer = LegTimer(sip.session_expires_s, minimum_s)
    return leg.timer


def proposal(calls: Calls, leg: Leg) -> list[Field]:
    """Headers of an INVITE or re-INVITE that we send on `leg`."""
    return [SUPPORTED, *timer_of(calls, leg).request_fields()]


def answered(calls: Calls, leg: Leg, message: Response) -> None:
    """A 2xx to an INVITE, re-INVITE or UPDATE of ours on `leg`."""
    timer = timer_of(calls, leg)
    timer.note_ability(message)
    timer.answered(message, calls.now())
    _arm(calls, leg, timer)


def refusal(calls: Calls, leg: Leg, request: Request) -> list[Field] | None:
    """Headers of the 422 that `request` deserves; None when its interval is fine."""
    if request.get(b"session-expires") is None:
        return None
    return timer_of(calls, leg).refusal(request)


def accept(calls: Calls, leg: Leg, request: Request) -> list[Field]:
    """Headers of the 2xx that we send on `leg` to an INVITE, re-INVITE or UPDATE."""
    timer = timer_of(calls, leg)
    timer.note_ability(request)
    fields = timer.accept(request, calls.now())
    _arm(calls, leg, timer)
    return fields


def too_small(leg: Leg, message: Response) -> bool:
    """A 422 came to our INVITE (RFC 4028 §7.3): True when it can be asked again, with a longer interval."""
    if leg.timer is None or leg.call is None or not leg.timer.too_small(message):
        return False
    leg.call.min_se_s = leg.timer.minimum_s
    return True


def restore(calls: Calls, leg: Leg, state: dict[str, Any] | None, elapsed_s: float) -> None:
    if state is not None:
        timer = leg.timer = LegTimer.restore(state["session"], calls.now() - elapsed_s)
        timer.update = state["update"]
        _arm(calls, leg, timer)


def snapshot(leg: Leg, now: float) -> dict[str, Any] | None:
    timer = leg.timer
    return {"session": timer.snapshot(now), "update": timer.update} if timer else None


def _arm(calls: Calls, leg: Leg, timer: LegTimer) -> None:
    timer.cancel()
    if leg.call is not None:
        calls.on_changed(leg.call)
    at = timer.refresh_at or timer.expires_at
    if at is not None:
        timer.alarm = calls.stack.timers.start(max(0.0, at - calls.now()), _due, leg)


def _due(leg: Leg) -> None:
    call, timer = leg.call, leg.timer
    if call is None or timer is None or leg.dialog is None:
        return
    calls = call.calls
    expires_at = timer.expires_at
    if expires_at is not None and calls.now() >= expires_at:
        calls.leg_expired(call, leg)
        return
    # Should the refresh fail, the session still has until `expires_at`.
    timer.alarm = calls.stack.timers.start(max(RETRY_S, (expires_at or 0) - calls.now()), _due, leg)
    if call.held_events is not None or leg.offers_pending():
        _again(calls, leg, timer, RETRY_S)
    elif timer.update:
        fields = [SUPPORTED, *timer.request_fields()]
        leg.request(calls.stack, b"UPDATE", fields, b"", lambda message: _updated(calls, leg, message))
    else:
        _reinvite(calls, call, leg, timer)


def _reinvite(calls: Calls, call: Call, leg: Leg, timer: LegTimer) -> None:
    """The description as it stands. Media says it anew: one that was refused since may have had its version."""
    standby = call.standby
    if leg in call.legs():
        other = call.other(leg)
        offer = other.remote_sdp
    elif standby is not None and standby.leg is leg and standby.offered:
        other = call.other(standby.replaces(call))
        offer = standby.offered
    else:
        _again(calls, leg, timer, RETRY_S)
        return

    def send(sdp: bytes) -> None:
        if leg.call is call and leg.dialog is not None and not leg.offers_pending():
            leg.local_sdp = sdp
            leg.reinvite(calls, [SDP], sdp, lambda message: _reinvited(calls, leg, message))

    def fail(problem: str) -> None:
        calls.media_refused(call, problem)
        if leg.timer is timer:
            _again(calls, leg, timer, RETRY_S)

    call.then(call.media.offer(call.id, other.name, leg.name, offer), send, fail)


def _updated(calls: Calls, leg: Leg, message: Response) -> None:
    calls.note_answer(leg, message)
    if message.status < 200 or leg.call is None or leg.dialog is None:
        return
    if message.status < 300:
        leg.dialog.refresh(message)
        answered(calls, leg, message)
    else:
        _refused(calls, leg, message)


def _reinvited(calls: Calls, leg: Leg, message: Response) -> None:
    call = leg.call
    if call is None:
        return
    if message.status >= 300:
        _refused(calls, leg, message)
    elif message.sdp and leg in call.legs():
        agreement.keep_answer(calls, leg, call.other(leg), message.sdp)


def _refused(calls: Calls, leg: Leg, message: Response) -> None:
    call, timer = leg.call, leg.timer
    if call is None or timer is None:
        return
    if message.status == 422 and timer.too_small(message):
        _again(calls, leg, timer, 0.0)
    elif message.status in (408, 481) or (message.status == 503 and message.flow is None):
        if not calls.carried_over(call, leg, message):
            calls.dialog_gone(call, leg, message)
    elif message.status in (405, 501):
        timer.update = False
        _again(calls, leg, timer, 0.0)
    elif message.status == 491:
        _again(calls, leg, timer, leg.glare_delay_s(calls.rng))
    elif message.status == 500:
        _again(calls, leg, timer, retry_after_s(message) or RETRY_S)


def _again(calls: Calls, leg: Leg, timer: LegTimer, after_s: float) -> None:
    timer.cancel()
    timer.alarm = calls.stack.timers.start(after_s, _due, leg)
