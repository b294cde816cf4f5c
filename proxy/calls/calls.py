"""All calls of this node, and the core above the SIP stack: finds the leg that a message belongs to, routes new
INVITEs, and ends calls so that nothing of them stays.

It never decides that a backend is dead and never moves a call: `on_leg_lost` tells whoever does.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable

from media.api import MediaPlane
from proxy.backends import Backend, Backends, Pool, Router
from proxy.calls import listening, midcall, replaces, session_timer, standby, strays
from proxy.calls.call import ENDED, TALKING, Call, HeldRequest
from proxy.calls.headers import own, retry_after_s
from proxy.calls.invite import forwarded, invite
from proxy.calls.left_behind import LeftBehind
from proxy.calls.leg import Leg
from proxy.calls.pairs import Pairs
from proxy.calls.setup import Setup
from proxy.config import MediaMode, Settings
from proxy.net.api import Address
from proxy.sip.client_transaction import InviteClientTransaction, OnResponse
from proxy.sip.dialog import Dialog, without_tag
from proxy.sip.flow import Flow
from proxy.sip.message import Field, Message, Request, Response
from proxy.sip.server_transaction import InviteServerTransaction, ServerTransaction
from proxy.sip.stack import Stack
from proxy.sip.uri import user_of

log = logging.getLogger(__name__)

ALLOW = (
    b"allow",
    b"Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, PRACK, INFO, REFER, NOTIFY, MESSAGE, SUBSCRIBE",
)
ACCEPT = (b"accept", b"Accept: application/sdp")
# A backend that shuts down hangs up its calls, and its control session says a moment later why: so long its BYE waits.
BYE_WAITS_S = 0.03


class Calls:
    def __init__(
        self,
        settings: Settings,
        stack: Stack,
        backends: Backends,
        relay: MediaPlane,
        direct: MediaPlane,
        rng: random.Random,
        rtpengine: MediaPlane | None = None,
    ) -> None:
        self.settings = settings
        self.stack = stack
        self.backends = backends
        self.router = Router(settings.routes, backends)
        self.relay = relay
        self.direct = direct
        self.rtpengine = rtpengine
        self.rng = rng
        self.now = stack.timers.now
        self.live: dict[str, Call] = {}
        self.index: dict[bytes, Leg] = {}  # by our tag
        self.dialled: dict[bytes, Call] = {}  # by a backend, and answered: by the Call-ID that it chose
        self.counts: Counter[str] = Counter()
        self.left_behind = LeftBehind()
        self.pairs = Pairs(self)
        # Another leg is to take its place. True: that will be done, and what was asked of it is asked of that one.
        self.on_leg_lost: Callable[[Call, Leg, str], bool] = lambda call, leg, why: False
        self.on_dialog_unknown: Callable[[Leg], None] = lambda leg: None
        self.on_changed: Callable[[Call], None] = lambda call: None  # its snapshot is another one now, or none
        self.on_settled: Callable[[Call], None] = lambda call: None  # it stands, or descriptions have been exchanged
        self.on_standby_lost: Callable[[Call, str], None] = lambda call, why: None
        self.on_bonded: Callable[[Call], None] = lambda call: None  # its bond is another one
        self.on_waiting: Callable[[Call], None] = lambda call: None  # it would go on at another point
        self.on_conference: Callable[[Call, Leg, Message], None] = lambda call, leg, message: None  # it tells of one
        self.prefer: Callable[[Pool, bytes], Backend | None] = lambda pool, user: None  # for a new call to that user
        self.on_ended: Callable[[Call], None] = lambda call: None
        self.on_recording: Callable[[Call, Leg, Message], None] = lambda call, leg, message: None  # it tells of one
        self.recorded: Callable[[Call], tuple[Field, ...]] = lambda call: ()  # what a backup is told of its recording
        self.on_live_result: Callable[[Backend, bool], None] = lambda backend, ok: None
        stack.core = self

    # -- the stack's core

    def on_request(self, request: Request, transaction: ServerTransaction) -> None:
        tag = request.to_tag
        if tag:
            self._in_dialog(tag, request, transaction)
        elif isinstance(transaction, InviteServerTransaction):
            self._invited(request, transaction)
        elif request.method == b"OPTIONS":
            transaction.reply(200, extra=(ALLOW, ACCEPT))
        else:
            transaction.reply(405, extra=(ALLOW,))

    def _in_dialog(self, tag: bytes, request: Request, transaction: ServerTransaction, waited: bool = False) -> None:
        leg = self.index.get(tag)
        call = leg.call if leg else None
        if leg is None or call is None or (leg.dialog and leg.dialog.call_id != request.call_id):
            transaction.reply(481)
            return
        self.on_changed(call)
        if leg.lost or (leg.backend is not None and leg.backend.fenced):
            self.counts["fenced_requests"] += 1
            transaction.reply(481)  # its calls are being carried over: a late BYE of the dead must not end one
        elif request.method == b"BYE" and not waited and leg.backend is not None and leg.backend.announces:
            held = HeldRequest(self._bye_waited, request, transaction)
            self.stack.timers.start(BYE_WAITS_S, _take, held)
        elif call.held_events is None or (request.method == b"BYE" and leg.dialog):
            if leg not in call.legs():
                standby.receive(self, call, leg, request, transaction)
                return
            midcall.receive(self, leg, request, transaction)
        elif request.method == b"INVITE" and leg.dialog and leg.offers_pending():
            midcall.refuse_offer(leg, transaction)  # what it met may not end before this one is answered
        else:
            call.held_events.append(HeldRequest(self._in_dialog, request, transaction))
            if isinstance(transaction, InviteServerTransaction):
                transaction.on_cancel = lambda: transaction.reply(487)

    def _bye_waited(self, tag: bytes, request: Request, transaction: ServerTransaction) -> None:
        """By now it is known whether its backend shuts down: then the leg is fenced, and the call goes on elsewhere."""
        self._in_dialog(tag, request, transaction, True)

    def on_ack(self, request: Request) -> None:
        leg = self.index.get(request.to_tag)
        if leg is None or leg.invited is None or leg.stale_ack(request):
            self.counts["stray_acks"] += 1
            return
        leg.invited.acknowledged()
        leg.invited = None  # and with it the whole request: a live call keeps no messages
        on_ack, leg.on_ack = leg.on_ack, None
        if on_ack:
            on_ack(request)

    def on_stray(self, message: Response) -> None:
        strays.receive(self, message)

    # -- new calls

    def _invited(self, request: Request, transaction: InviteServerTransaction) -> None:
        source = request.flow.remote if request.flow else ("", 0)
        origin = self.backends.from_source(source)
        if origin is not None and origin.fenced:
            transaction.reply(503)
            return
        hops = forwarded(request)
        if hops is None:
            transaction.reply(483)
            return
        pool = self._route(source, request)
        if pool is None:
            self.counts["no_route"] += 1
            transaction.reply(404)
            return
        backend = replaces.backend_of(self, request) or self.prefer(pool, user_of(request.uri))
        if backend is None or not backend.usable(self.now()):
            backend = pool.select(self.now(), self.rng)
        if backend is None:
            self.counts["no_backend"] += 1
            transaction.reply(503, extra=((b"retry-after", b"Retry-After: 1"),))
            return
        call = self.new_call(f"{self.rng.getrandbits(64):016x}", pool.media_mode)
        call.uri = request.uri
        call.from_value = without_tag(request.from_)
        call.to_value = request.to
        call.fields = (hops, *replaces.crossing_named(self, request))
        caller = origin if origin is not None and self.backends.pool_of(origin).settings.recover else None
        call.a = self.make_leg(call, "a", self.stack.new_tag(), transaction.flow, caller)
        call.a.invited = transaction
        short = session_timer.refusal(self, call.a, request)
        if short is not None:
            transaction.reply(422, call.a.tag, tuple(short))
            self.drop_leg(call.a)
            return
        self.register(call)
        self.pairs.hear(call, call.a, request)
        call.setup = setup = Setup(self, call, request, transaction)
        try:
            setup.place(backend)
        except Exception:
            setup.finish(500)
            raise

    def _route(self, source: Address, request: Request) -> Pool | None:
        def header(name: str) -> str | None:
            value = request.get(name.lower().encode())
            return value.decode(errors="replace") if value is not None else None

        return self.router.route(source, user_of(request.uri).decode(errors="replace"), header)

    def new_call(self, call_id: str, mode: MediaMode) -> Call:
        media = {"relay": self.relay, "direct": self.direct, "rtpengine": self.rtpengine}[mode]
        assert media is not None
        return Call(self, call_id, media, self.now())

    def media_mode(self, call: Call) -> MediaMode:
        if call.media is self.rtpengine:
            return "rtpengine"
        return "relay" if call.media.anchors else "direct"

    def register(self, call: Call) -> None:
        self.live[call.id] = call
        for leg in call.all_legs():
            self.index[leg.tag] = leg
        self._note_dialled(call)

    def _note_dialled(self, call: Call) -> None:
        if call.a.backend is not None and call.a.dialog is not None:
            self.dialled[call.a.dialog.call_id] = call

    def _unlist(self, leg: Leg) -> None:
        self.index.pop(leg.tag, None)
        if leg.backend is not None and leg.dialog is not None:
            self.dialled.pop(leg.dialog.call_id, None)

    def make_leg(self, call: Call, name: str, tag: bytes, flow: Flow, backend: Backend | None) -> Leg:
        if backend is not None:
            backend.calls += 1
        return Leg(call, name, tag, flow, backend)

    def new_leg(self, call: Call, backend: Backend) -> Leg:
        """A leg towards a backend, without a dialog yet."""
        flow = self.stack.flow(backend.transport, backend.address)
        leg = self.make_leg(call, call.next_leg_name(), self.stack.new_tag(), flow, backend)
        self.index[leg.tag] = leg
        return leg

    def place_invite(
        self,
        call: Call,
        leg: Leg,
        body: bytes,
        extra: Iterable[Field],
        on_response: OnResponse,
        user: bytes | None = None,
    ) -> InviteClientTransaction:
        own_fields = session_timer.proposal(self, leg)
        if leg.backend is not None and self.backends.pool_of(leg.backend).settings.recover:
            own_fields = [*own_fields, own("Call", call.id)]  # and no carrier
        request = invite(call, leg, body, [*extra, *own_fields], user)
        transaction = self.stack.request(request, leg.flow, on_response)
        assert isinstance(transaction, InviteClientTransaction)
        leg.inviting = transaction
        return transaction

    # -- answers

    def answered(self, call: Call) -> None:
        self.counts["answered"] += 1
        self._note_dialled(call)
        listening.listen(self, call)
        log.info("call=%s backend=%s answered", call.id, call.b.backend.name if call.b and call.b.backend else "-")
        self.settled(call)

    def settled(self, call: Call) -> None:
        self.on_changed(call)
        self.on_settled(call)

    def await_late_answer(self, call: Call, source: Leg, target: Leg) -> None:
        """`target` made its offer in a 2xx: its ACK waits for the answer in the ACK of `source` (RFC 3264 §4)."""

        def acked(ack: Request) -> None:
            if not ack.sdp:
                target.acknowledge(self.stack)
                self.end(call, f"no answer in the ACK of the {source.name} side")
                return
            source.remote_sdp = ack.sdp
            call.then(
                call.media.answer(call.id, source.name, target.name, ack.sdp),
                send,
                lambda problem: self.end(call, f"media: {problem}"),
            )

        def send(sdp: bytes) -> None:
            target.local_sdp = sdp
            target.acknowledge(self.stack, sdp)
            self.settled(call)

        source.on_ack = acked

    def refuse_answer(self, flow: Flow, placed: InviteClientTransaction, message: Response) -> None:
        """A 2xx that came too late, or of another fork: ACK and BYE (RFC 3261 §13.2.2.4), once."""
        if placed.acknowledges(message.to_tag):
            return
        dialog = Dialog.uac(placed.request, message)
        dialog.confirm(message)
        way = self.stack.way(dialog, flow)
        placed.acknowledge(dialog, way)
        self.stack.request(dialog.request(b"BYE", []), way, lambda _: None)

    def note_answer(self, leg: Leg, message: Response) -> None:
        """A final answer that came from the network, whatever it says, shows that the peer serves calls."""
        if message.status >= 200 and leg.backend is not None and message.flow is not None:
            self.on_live_result(leg.backend, True)

    def note_unavailable(self, leg: Leg, message: Response) -> None:
        """A backend refused with 503, or did not answer at all."""
        backend = leg.backend
        if backend is None:
            return
        if message.flow is None:
            self.on_live_result(backend, False)
        else:
            wait_s = retry_after_s(message)
            if wait_s is not None:
                backend.retry_after_until = self.now() + wait_s

    def carried_over(self, call: Call, leg: Leg, message: Response) -> bool:
        """A peer does not know its dialog any more, as `message` says: a backend may have restarted between two probes.
        True: another one takes its place, and nobody else need know."""
        if call.state == ENDED or leg.call is not call or leg.backend is None or leg.dialog is None:
            return False
        if message.flow is None:
            self.on_live_result(leg.backend, False)
        elif message.status == 481:
            self.on_dialog_unknown(leg)
        return self.on_leg_lost(call, leg, f"{message.status} from the {leg.name} side")

    def dialog_gone(self, call: Call, leg: Leg, message: Response) -> None:
        """A peer does not know its dialog any more, and nobody takes its place."""
        if leg.call is call:
            self.end(call, f"{message.status} from the {leg.name} side", skip=leg if message.flow is not None else None)

    def leg_expired(self, call: Call, leg: Leg) -> None:
        """The refresh of a session timer stayed away: that peer is gone (RFC 4028 §10)."""
        if leg.backend and self.on_leg_lost(call, leg, "session timer expired"):
            return
        self.end(call, f"session timer of the {leg.name} side expired")

    # -- the end

    def give_up_invites(self, backend: Backend) -> None:
        """A dead backend will not answer the INVITE of a recovery, though it may have begun to ring: what waits for
        it tries another one. Legs that are in place are the business of the failover of this backend."""
        for leg in list(self.index.values()):
            if leg.backend is backend and leg.inviting is not None and leg.call and leg not in leg.call.legs():
                leg.inviting.give_up()

    def drop_leg(self, leg: Leg) -> None:
        """Take a leg out of the tables; its dialog is the caller's business."""
        call = leg.call
        self._unlist(leg)
        if leg.backend is not None and call is not None:
            leg.backend.calls -= 1
        if call is not None:
            call.media.delete(call.id, leg.name)
            self.on_changed(call)
        leg.unlink()

    def end(
        self, call: Call, why: str, *, fields: list[Field] | None = None, skip: Leg | None = None, failed: bool = False
    ) -> None:
        """End a call: BYE on every leg that stands (but `skip`), refuse or cancel what is still being set up."""
        if call.state == ENDED:
            return
        talked = call.state == TALKING
        call.state = ENDED
        self.counts["failed" if failed or not talked else "ended"] += 1
        log.info("call=%s ended: %s", call.id, why)
        if call.setup is not None and not call.setup.finished:
            call.setup.finished = True
            call.setup.transaction.reply(480, call.a.tag)
        if call.reinvite is not None:
            call.reinvite.abandon(487)
        everywhere = call.all_legs()
        call.standby = None
        for leg in everywhere:
            if leg is not skip and leg.dialog is not None:
                if leg.backend is not None and leg.backend.fenced:
                    self.left_behind.leave(leg)
                else:
                    leg.bye(self.stack, fields or [])
            elif leg.inviting is not None and leg.dialog is None:
                leg.inviting.cancel()
        if call.setup is not None:
            for fork in call.setup.forks:
                self.index.pop(fork.a.local_tag, None)
        for leg in everywhere:
            self._unlist(leg)
            if leg.backend is not None:
                leg.backend.calls -= 1
            leg.unlink()
        call.media.delete(call.id)
        self.live.pop(call.id, None)
        call.setup = call.reinvite = None
        waiting, call.held_events, call.holders = call.held_events, None, 0
        for event in waiting or ():
            call.run(event)  # what waited finds its dialog gone and is answered 481
        on_ended, call.on_ended = call.on_ended, None
        if on_ended:
            on_ended()
        self.on_ended(call)
        self.pairs.leave(call)
        self.on_changed(call)

    def invite_cseq(self, leg: Leg) -> int:
        """CSeq of the INVITE that the peer of `leg` is answering."""
        return leg.inviting.request.cseq if leg.inviting else 1

    def media_refused(self, call: Call, problem: str, *, full: bool = False) -> None:
        self.counts["media_full" if full else "media_refused"] += 1
        log.warning("call=%s media refused: %s", call.id, problem)


def _take(held: HeldRequest) -> None:
    held()
