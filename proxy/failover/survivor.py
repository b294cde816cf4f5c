"""The surviving side of a recovery: what it must hear of the leg that took the place of the dead one.

With a relay it hears nothing, as long as all that it may send is welcome (`media.sdp.agree`). Else it gets a re-INVITE
with the new leg's description, or the answer to an offer of its own that the dead one still owed.
"""

from __future__ import annotations

import asyncio

from media.sdp import SdpError, agree, keys_known, parse
from proxy.calls import ENDED, Call, Calls, Leg
from proxy.calls.standby import without_origin
from proxy.sip.message import SDP, Response
from proxy.sip.offer_answer import glare_delay_s

POLL_S = 0.02
GLARE_ATTEMPTS = 12
ROUNDS_MAX = 3


class Hopeless(Exception):
    """The call cannot be recovered; the text says why."""


def check(call: Call) -> None:
    if call.state == ENDED:
        raise Hopeless("it ended meanwhile")


def offer_of(call: Call, survivor: Leg) -> bytes:
    """What the surviving side wants now: the offer that it is waiting to have answered, or its last description."""
    reinvite = call.reinvite
    if reinvite is not None and reinvite.leg is survivor:
        if reinvite.offer:
            if reinvite.other.inviting:
                reinvite.other.inviting.stop()
                reinvite.other.inviting = None
            return reinvite.offer
        reinvite.abandon(500)
    return survivor.remote_sdp


async def tell(calls: Calls, call: Call, survivor: Leg, leg: Leg, answer: bytes) -> bool:
    """Let the survivor know: `answer` is the description of the new `leg`, as it would get it as an answer. True: it
    had to be sent a re-INVITE. Raises Hopeless, MediaError."""
    reinvite = call.reinvite
    if reinvite is not None and reinvite.leg is survivor:
        reinvite.answer_from(answer)
        return False
    if survivor.owes_ack:  # it made its offer to the dead in a 2xx (RFC 3264 §4): here is the answer
        survivor.local_sdp = answer
        survivor.acknowledge(calls.stack, answer)
        return False
    while survivor.inviting is not None:  # the dead backend's re-INVITE: what came of it decides
        await asyncio.sleep(POLL_S)
    if call.media.anchors and agrees(survivor.local_sdp, answer):
        return False
    await _agree(calls, call, survivor, leg)
    return True


async def _agree(calls: Calls, call: Call, survivor: Leg, leg: Leg) -> None:
    """Offer to the survivor what the new leg answered, and to the new leg what the survivor made of it, until both know
    the same: each answer may bring new keys (RFC 4568 §7.1.2)."""
    await asyncio.sleep(0)  # what media was told leaves first: the survivor may begin a handshake at once
    for _ in range(ROUNDS_MAX):
        answer = await _reinvite(calls, call, survivor, leg)
        if not answer or await _knows(call, survivor, leg, answer):
            return
        told = leg.remote_sdp
        leg.local_sdp = await call.media.offer(call.id, survivor.name, leg.name, answer)
        message = await reinvite_once(calls, leg, leg.local_sdp)
        check(call)
        if message.status >= 300 or not message.sdp:
            return
        leg.remote_sdp = message.sdp
        await call.media.answer(call.id, leg.name, survivor.name, message.sdp, preview=True)
        if keys_known(told, message.sdp):
            return
    raise Hopeless("each side answers new keys to those of the other for ever")


async def _knows(call: Call, survivor: Leg, leg: Leg, answer: bytes) -> bool:
    """The survivor has answered our offer: does that change what the new leg was offered?"""
    if call.media.anchors:
        now = await call.media.answer(call.id, survivor.name, leg.name, answer, preview=True)
        return keys_known(leg.local_sdp, now)
    return without_origin(leg.local_sdp) == without_origin(answer)


async def _reinvite(calls: Calls, call: Call, survivor: Leg, leg: Leg) -> bytes:
    """Offer the new leg's description to the survivor, and keep what it answers. 491 is tried again within the back-off
    band of who owns the Call-ID (RFC 3261 §14.1)."""
    sdp = await call.media.offer(call.id, leg.name, survivor.name, leg.remote_sdp)
    for _ in range(GLARE_ATTEMPTS):
        while survivor.offers_pending():
            await asyncio.sleep(POLL_S)
            check(call)
        call.refuse_held_invites(survivor)
        message = await reinvite_once(calls, survivor, sdp)
        check(call)
        if message.status < 300:
            survivor.local_sdp = sdp
            survivor.remote_sdp = message.sdp or survivor.remote_sdp
            return message.sdp
        if message.status != 491:
            raise Hopeless(f"the {survivor.name} side refused the re-INVITE: {message.status}")
        ours = survivor.dialog is not None and survivor.dialog.call_id.startswith(call.id.encode())
        await asyncio.sleep(glare_delay_s(ours, calls.rng))
    raise Hopeless(f"the {survivor.name} side answers 491 for ever")


async def reinvite_once(calls: Calls, leg: Leg, sdp: bytes) -> Response:
    """A re-INVITE with that description, and its final answer."""
    final: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def answered(message: Response) -> None:
        if message.status < 200:
            return
        if message.status < 300:
            if leg.dialog:
                leg.dialog.refresh(message)
            leg.acknowledge(calls.stack)
        leg.inviting = None
        if not final.done():
            final.set_result(message)

    leg.invite(calls.stack, [SDP], sdp, answered)
    return await final


def agrees(told: bytes, now: bytes) -> bool:
    """Does the survivor's session stay as it is when it is not told of the new description?"""
    if not told or not now:
        return told == now
    try:
        return agree(parse(told), parse(now))
    except SdpError:
        return False
