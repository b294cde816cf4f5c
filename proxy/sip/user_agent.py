"""A small user agent (UAC and UAS) over the stack: what the demo, the tests and synthetic calls place calls with.

`invite` places a call and returns its Session; `on_invite` is a coroutine that is started for every call that
comes in. Bodies are opaque: whoever uses this decides what is in them. Not for proxied calls: `proxy.calls`
needs to hold both ends of every exchange itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from proxy.net.api import Address
from proxy.sip.client_transaction import InviteClientTransaction
from proxy.sip.dialog import CONFIRMED, ENDED, Dialog
from proxy.sip.digest import DigestClient
from proxy.sip.flow import Flow, host_port
from proxy.sip.message import SDP, Field, Request, Response, contact, field
from proxy.sip.server_transaction import InviteServerTransaction, ServerTransaction
from proxy.sip.stack import Stack
from proxy.sip.times import glare_delay_s
from proxy.sip.uri import parse_uri

Headers = Iterable[tuple[bytes, bytes]]
ALLOW = (b"allow", b"Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, INFO, REFER, NOTIFY, MESSAGE")


class CallFailed(Exception):
    """The INVITE, or a request in the dialog, was refused; 408: nobody answered; 503: the way broke."""

    def __init__(self, status: int, reason: str = "", message: Response | None = None) -> None:
        super().__init__(f"{status} {reason}".strip())
        self.status = status
        self.message = message


class Session:
    """A confirmed dialog with media agreed. `ended` is done with a word when it is over, from either side."""

    def __init__(self, agent: UserAgent, dialog: Dialog, flow: Flow, local_sdp: bytes, remote_sdp: bytes) -> None:
        self.agent = agent
        self.dialog = dialog
        self.flow = flow
        self.local_sdp = local_sdp
        self.remote_sdp = remote_sdp
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.on_offer: Callable[[bytes], bytes | int] = lambda _: self.local_sdp  # an answer, or a refusal
        self.on_answer: Callable[[bytes], None] = lambda _: None
        self.on_request: Callable[[Request], int] = lambda _: 200
        self._inviting: InviteClientTransaction | None = None
        self._invited: dict[int, InviteServerTransaction] = {}  # by CSeq: accepted, and not acknowledged yet
        agent.sessions[dialog.local_tag] = self

    async def request(self, method: bytes, body: bytes = b"", headers: Headers = ()) -> Response:
        """Any request but INVITE, CANCEL and ACK. Returns its final response, whatever it is."""
        done: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

        def answered(message: Response) -> None:
            if message.status >= 200 and not done.done():
                done.set_result(message)

        extra = [self.agent.contact(self.flow), *(field(*header) for header in headers)]
        self.agent.stack.request(self.dialog.request(method, extra, body), self.agent.way(self), answered)
        return await done

    async def bye(self) -> int:
        """End the session. Returns the status of the BYE."""
        if self.ended.done():
            return 0
        self.end("bye sent")
        return (await self.request(b"BYE")).status

    async def info(self, content_type: bytes, body: bytes) -> int:
        return (await self.request(b"INFO", body, [(b"Content-Type", content_type)])).status

    async def update(self, sdp: bytes) -> bytes:
        """Offer by UPDATE (RFC 3311); returns the answer. Raises CallFailed."""
        message = await self.request(b"UPDATE", sdp, [(b"Content-Type", b"application/sdp")])
        if message.status >= 300:
            raise CallFailed(message.status, message.reason.decode())
        self.local_sdp, self.remote_sdp = sdp, message.body
        return message.body

    async def reinvite(self, sdp: bytes, attempts: int = 5) -> bytes:
        """Offer by re-INVITE; after a 491 once more, within the back-off band (RFC 3261 §14.1). Returns the answer.
        Raises CallFailed."""
        for attempt in range(attempts):
            message = await self._reinvite_once(sdp)
            if message.status < 300:
                self.local_sdp, self.remote_sdp = sdp, message.body
                return message.body
            if message.status != 491 or attempt + 1 == attempts:
                break
            owner = self.dialog.call_id in self.agent.placed
            await asyncio.sleep(glare_delay_s(owner, self.agent.stack.rng))
        raise CallFailed(message.status, message.reason.decode(), message)

    async def _reinvite_once(self, sdp: bytes) -> Response:
        done: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        dialog = self.dialog

        def answered(message: Response) -> None:
            if message.status < 200:
                return
            self._inviting = None
            if message.status < 300:
                dialog.refresh(message)
                assert isinstance(transaction, InviteClientTransaction)
                transaction.acknowledge(dialog, self.agent.way(self))
            if not done.done():
                done.set_result(message)

        request = dialog.request(b"INVITE", [self.agent.contact(self.flow), SDP, ALLOW], sdp)
        transaction = self.agent.stack.request(request, self.agent.way(self), answered)
        assert isinstance(transaction, InviteClientTransaction)
        self._inviting = transaction
        return await done

    def receive(self, request: Request, transaction: ServerTransaction) -> None:
        self.flow = request.flow or self.flow
        if not self.dialog.accepts(request):
            transaction.reply(500)
        elif request.method == b"BYE":
            transaction.reply(200)
            self.end("bye received")
        elif isinstance(transaction, InviteServerTransaction):
            self._reinvited(request, transaction)
        elif request.method == b"UPDATE" and request.sdp:
            self._offered(request, transaction)
        else:
            transaction.reply(self.on_request(request))

    def _reinvited(self, request: Request, transaction: InviteServerTransaction) -> None:
        if self._inviting:
            transaction.reply(491)
            return
        self.dialog.refresh(request)
        cseq = request.cseq
        if self._offered(request, transaction):
            self._invited[cseq] = transaction
            transaction.on_no_ack = lambda: self._unacknowledged(cseq)

    def _unacknowledged(self, cseq: int) -> None:
        self._invited.pop(cseq, None)

    def _offered(self, request: Request, transaction: ServerTransaction) -> bool:
        """False: refused."""
        answer = self.on_offer(request.sdp) if request.sdp else self.local_sdp
        if isinstance(answer, int):
            transaction.reply(answer)
            return False
        if request.sdp:
            self.remote_sdp = request.sdp
        self.local_sdp = answer
        transaction.reply(200, extra=(self.agent.contact(self.flow), SDP, ALLOW), body=answer)
        return True

    def acknowledged(self, request: Request) -> None:
        """It belongs to the INVITE of its CSeq (RFC 3261 §13.2.2.4): a peer may ask anew before its ACK is here, and
        the one 2xx must not be taken for heard because the other was."""
        transaction = self._invited.pop(request.cseq, None)
        if transaction is None:
            return
        transaction.acknowledged()
        if request.sdp:  # the answer to our late offer
            self.remote_sdp = request.sdp
            self.on_answer(request.sdp)

    def end(self, how: str) -> None:
        if not self.ended.done():
            self.ended.set_result(how)
            self.dialog.state = ENDED
            self.agent.sessions.pop(self.dialog.local_tag, None)
            self.agent.placed.discard(self.dialog.call_id)


class Incoming:
    """An INVITE that has come. Answer it with `ring`, `accept` or `reject`; `cancelled`: the caller gave up."""

    def __init__(self, agent: UserAgent, request: Request, transaction: InviteServerTransaction) -> None:
        self.agent = agent
        self.request = request
        self.offer = request.sdp
        self.transaction = transaction
        self.tag = agent.stack.new_tag()
        self.cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        transaction.on_cancel = self._cancel

    def _cancel(self) -> None:
        self.transaction.reply(487, self.tag)
        if not self.cancelled.done():
            self.cancelled.set_result(None)

    def ring(self, status: int = 180, sdp: bytes = b"", headers: Headers = ()) -> None:
        extra = [self.agent.contact(self.transaction.flow), *(field(*header) for header in headers)]
        self.transaction.reply(status, self.tag, (*extra, SDP) if sdp else tuple(extra), sdp)

    def reject(self, status: int, headers: Headers = ()) -> None:
        self.transaction.reply(status, self.tag, tuple(field(*header) for header in headers))

    def accept(self, sdp: bytes, headers: Headers = ()) -> Session | None:
        """Answer 200 with `sdp`; None when the caller had given up before."""
        if self.transaction.answered:
            return None
        dialog = Dialog.uas(self.request, self.tag)
        dialog.state = CONFIRMED
        flow = self.request.flow or self.transaction.flow
        session = Session(self.agent, dialog, flow, sdp, self.offer)
        session._invited[self.request.cseq] = self.transaction
        self.transaction.on_no_ack = lambda: session.end("no ACK")
        extra = (self.agent.contact(flow), SDP, ALLOW, *(field(*header) for header in headers))
        self.transaction.reply(200, self.tag, extra, sdp)
        return session


class UserAgent:
    def __init__(self, stack: Stack, name: str = "ua", credentials: DigestClient | None = None) -> None:
        """With `credentials` a 401 or 407 to an INVITE is answered, once (RFC 3261 §22)."""
        self.stack = stack
        self.credentials = credentials
        self.name = name.encode()
        self.sessions: dict[bytes, Session] = {}  # by local tag
        self.placed: set[bytes] = set()  # Call-IDs that are ours (RFC 3261 §14.1 asks)
        self.on_invite: Callable[[Incoming], Awaitable[None]] | None = None
        self.on_outside: Callable[[Request], int] = lambda request: 200 if request.method == b"OPTIONS" else 405
        self._tasks: set[asyncio.Future[None]] = set()
        stack.core = self

    def contact(self, flow: Flow) -> Field:
        return contact(flow, self.name)

    def way(self, session: Session) -> Flow:
        return self.stack.way(session.dialog, session.flow)

    async def invite(
        self,
        uri: str,
        body: bytes = b"",
        headers: Headers = (),
        *,
        next_hop: Address | None = None,
        transport: str = "udp",
        timeout_s: float = 32.0,
        on_provisional: Callable[[Response], None] | None = None,
        call_id: bytes = b"",
    ) -> Session:
        """Place a call; returns when it is answered. Raises CallFailed. After `timeout_s` it sends CANCEL."""
        target = parse_uri(uri.encode())
        flow = self.stack.flow(target.transport or transport, next_hop or (target.host, target.port or 5060))
        tag = self.stack.new_tag()
        call_id = call_id or b"%016x@%b" % (self.stack.rng.getrandbits(64), flow.local[0].encode())
        seed = Dialog(call_id, b"<sip:%b@%b>" % (self.name, host_port(flow.local)), tag, b"<%b>" % uri.encode(), b"")
        seed.target = uri.encode()
        extra = [self.contact(flow), ALLOW, *(field(*header) for header in headers)]
        if body:
            extra.append(SDP)
        request, transaction, message = await self._attempt(seed, extra, body, flow, timeout_s, on_provisional)
        if self.credentials is not None and message.status in (401, 407):
            proof = self.credentials.answer(request, message)
            if proof:
                request, transaction, message = await self._attempt(
                    seed, [*extra, *proof], body, flow, timeout_s, on_provisional
                )
        if message.status >= 300:
            raise CallFailed(message.status, message.reason.decode(errors="replace"), message)
        dialog = Dialog.uac(request, message)
        dialog.state = CONFIRMED
        self.placed.add(call_id)
        session = Session(self, dialog, flow, body, message.sdp)
        self._acknowledge(session, transaction)
        return session

    async def _attempt(
        self,
        seed: Dialog,
        extra: list[Field],
        body: bytes,
        flow: Flow,
        timeout_s: float,
        on_provisional: Callable[[Response], None] | None,
    ) -> tuple[Request, InviteClientTransaction, Response]:
        """One INVITE and its final response."""
        done: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        request = seed.request(b"INVITE", extra, body)

        def answered(message: Response) -> None:
            if message.status < 200:
                if on_provisional:
                    on_provisional(message)
            elif message.status < 300 and done.done():
                self._refuse_fork(transaction, request, message, flow)
            elif not done.done():
                done.set_result(message)

        started = self.stack.request(request, flow, answered)
        assert isinstance(started, InviteClientTransaction)
        transaction = started
        try:
            async with asyncio.timeout(timeout_s):
                return request, transaction, await asyncio.shield(done)
        except TimeoutError:
            transaction.cancel()
            return request, transaction, await done
        except asyncio.CancelledError:
            transaction.cancel()
            done.cancel()
            raise

    def _acknowledge(self, session: Session, transaction: InviteClientTransaction) -> None:
        transaction.acknowledge(session.dialog, self.way(session))

    def _refuse_fork(
        self, transaction: InviteClientTransaction, request: Request, message: Response, flow: Flow
    ) -> None:
        """A 2xx that came too late, or of another fork: ACK and BYE (RFC 3261 §13.2.2.4)."""
        dialog = Dialog.uac(request, message)
        transaction.acknowledge(dialog, flow)
        self.stack.request(dialog.request(b"BYE", []), flow, lambda _: None)

    # -- Core

    def on_request(self, request: Request, transaction: ServerTransaction) -> None:
        tag = request.to_tag
        if tag:
            session = self.sessions.get(tag)
            if session and session.dialog.call_id == request.call_id:
                session.receive(request, transaction)
            else:
                transaction.reply(481)
        elif isinstance(transaction, InviteServerTransaction):
            if self.on_invite is None:
                transaction.reply(480)
                return
            task = asyncio.ensure_future(self.on_invite(Incoming(self, request, transaction)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            transaction.reply(self.on_outside(request), extra=(ALLOW,))

    def on_ack(self, request: Request) -> None:
        session = self.sessions.get(request.to_tag)
        if session:
            session.acknowledged(request)

    def on_stray(self, message: Response) -> None:
        return None

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await self.stack.close()
