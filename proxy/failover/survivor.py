"""The surviving side of a recovery: what it must hear of the leg that took the place of the dead one.

With a relay it hears nothing, as long as all that it may send is welcome (`media.sdp.agree`). Else it gets a re-INVITE
with the new leg's description, or the answer to an offer of its own that the dead one still owed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from media.sdp import keys_known
from proxy.calls import ENDED, Call, Calls, Leg
from proxy.calls.agreement import agrees, without_origin
from proxy.calls.headers import retry_after_s
from proxy.sip.message import SDP, Response

POLL_S = 0.02
ATTEMPTS = 12
BUSY = (500, 503, 504)
BUSY_S = 1.0
ROUNDS_MAX = 3
UNACCEPTABLE = (415, 488, 606)  # what this backend offers; another one may offer something else

Once = Callable[[], Awaitable[Response]]


class Hopeless(Exception):
    """The call cannot be recovered; the text says why."""


class Unwelcome(Exception):
    """The surviving side does not want what this backend offers; the text says how it refused."""


def check(call: Call) -> None:
    if call.state == ENDED:
        raise Hopeless("it ended meanwhile")


def offer_of(call: Call, survivor: Leg) -> bytes:
    """What the surviving side wants now: the offer that it is waiting to have answered, or its last description."""
    reinvite = call.reinvite
    if reinvite is not None and reinvite.leg is survivor:
        if reinvite.offer:
            reinvite.other.let_go(reinvite.calls.stack)
            return reinvite.offer
        reinvite.abandon(500)
    return survivor.remote_sdp


async def tell(calls: Calls, call: Call, survivor: Leg, leg: Leg, answer: bytes) -> bool:
    """Let the survivor know: `answer` is the description of the new `leg`, as it would get it as an answer. True: it
    had to be sent a re-INVITE. Raises Unwelcome, Hopeless, MediaError."""
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
    """Offer the new leg's description to the survivor, and keep what it answers."""
    sdp = await call.media.offer(call.id, leg.name, survivor.name, leg.remote_sdp)
    message = await reinvite(calls, call, survivor, sdp)
    if message.status >= 300:
        problem = f"the {survivor.name} side refused the re-INVITE: {message.status}"
        raise Unwelcome(problem) if message.status in UNACCEPTABLE else Hopeless(problem)
    survivor.local_sdp = sdp
    survivor.remote_sdp = message.sdp or survivor.remote_sdp
    return message.sdp


async def reinvite(calls: Calls, call: Call, leg: Leg, sdp: bytes, once: Once | None = None) -> Response:
    """A re-INVITE until it is accepted, or refused for good: 491 is tried again within the back-off band of who owns
    the Call-ID (RFC 3261 §14.1), a busy peer (§14.2) when it says, or after a while. `once` asks instead of
    `reinvite_once`. Raises Hopeless when the call ends, or when it is never otherwise."""
    ask = once or (lambda: reinvite_once(calls, leg, sdp))
    status = 0
    for _ in range(ATTEMPTS):
        while leg.offers_pending():
            await asyncio.sleep(POLL_S)
            check(call)
        call.refuse_held_invites(leg)
        message = await ask()
        check(call)
        status = message.status
        if status == 491:
            await asyncio.sleep(leg.glare_delay_s(calls.rng))
        elif status in BUSY and message.flow is not None:
            await asyncio.sleep(retry_after_s(message) or BUSY_S)
        else:
            return message
        check(call)
    raise Hopeless(f"the {leg.name} side answers {status} for ever")


async def reinvite_once(calls: Calls, leg: Leg, sdp: bytes) -> Response:
    """A re-INVITE with that description, and its final answer."""
    final: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def answered(message: Response) -> None:
        if not final.done():
            final.set_result(message)

    leg.reinvite(calls, [SDP], sdp, answered)
    return await final
