"""What two descriptions have in common, and what follows when an end answers an offer that was ours alone.

A session refresh offers an end what holds already. Its answer may still say something new: then media goes where that
end wants it now, and the other end is told, unless the relay makes the same of it for him.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from media.sdp import SdpError, agree, parse
from proxy.sip.message import SDP, Response

if TYPE_CHECKING:
    from proxy.calls.calls import Calls
    from proxy.calls.leg import Leg

log = logging.getLogger(__name__)


def without_origin(sdp: bytes) -> list[bytes]:
    """A description but for its version: what must not change in a refresh (RFC 3264 §8)."""
    return [line for line in sdp.splitlines() if not line.startswith(b"o=")]


def holds(sdp: bytes) -> bool:
    """Has the end that says this put the other one on hold (RFC 3264 §8.4)? It wants to receive no audio."""
    if not (b"a=sendonly" in sdp or b"a=inactive" in sdp or b"0.0.0.0" in sdp or b"IP6 ::" in sdp):
        return False  # mostly
    try:
        description = parse(sdp)
    except SdpError:
        return False
    audio = next((media for media in description.media if media.kind == b"audio" and not media.rejected), None)
    return audio is not None and (audio.held or description.direction(audio) in (b"sendonly", b"inactive"))


def agrees(told: bytes, now: bytes) -> bool:
    """Does the session of an end stay as it is when it is not told of the new description?"""
    if not told or not now:
        return told == now
    try:
        return agree(parse(told), parse(now))
    except SdpError:
        return False


def keep_answer(calls: Calls, leg: Leg, other: Leg, sdp: bytes) -> None:
    """The peer of `leg` answered `sdp` to an offer of ours; its media comes from and goes to `other`."""
    call = leg.call
    assert call
    media = call.media
    changed = without_origin(leg.remote_sdp) != without_origin(sdp)
    leg.remote_sdp = sdp
    if changed:
        calls.settled(call)

    def compare(body: bytes) -> None:
        if changed and not (media.anchors and agrees(other.local_sdp, body)):
            call.then(media.offer(call.id, leg.name, other.name, sdp), offer, fail)

    def offer(body: bytes) -> None:
        if other.dialog is None or other.offers_pending():
            log.info("call=%s the %s side is not told what the %s side wants now", call.id, other.name, leg.name)
            return
        other.reinvite(calls, [SDP], body, lambda message: answered(body, message))

    def answered(body: bytes, message: Response) -> None:
        if message.status < 300 and other.call is call:
            other.local_sdp = body
            if message.sdp:
                other.remote_sdp = message.sdp
                calls.settled(call)
                call.then(media.answer(call.id, other.name, leg.name, message.sdp), lambda _: None, fail)

    def fail(problem: str) -> None:
        calls.media_refused(call, problem)

    if changed or media.anchors:  # a relay was asked for the offer, and waits for the answer
        call.then(media.answer(call.id, leg.name, other.name, sdp, preview=True), compare, fail)
