"""The SIP stack of one node: transports below, transactions inside, one core above (RFC 3261 §5, figure 4).

It owns the two transaction tables and finds the one that a message belongs to (§17.1.3, §17.2.3, also for peers
of RFC 2543 that send no magic cookie). What belongs to none goes to the core: new requests, the ACK of a 2xx,
and responses that nobody waits for any more. It knows no dialogs and no calls.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
import zlib
from collections import Counter
from functools import lru_cache
from typing import Protocol

from proxy.net.api import Address
from proxy.net.timers import Timers
from proxy.sip.client_transaction import ClientTransaction, InviteClientTransaction, OnResponse
from proxy.sip.dialog import Dialog
from proxy.sip.flow import Flow, NoTransport, Transport, host_port
from proxy.sip.message import Field, Request, Response, response
from proxy.sip.parser import SipError, parse
from proxy.sip.resolver import ResolveError, Resolver, Target
from proxy.sip.screening import screen
from proxy.sip.server_transaction import ACCEPTED, InviteServerTransaction, Key, Merged, ServerTransaction
from proxy.sip.times import Times
from proxy.sip.uri import Uri, UriError

log = logging.getLogger(__name__)

COOKIE = b"z9hG4bK"
MAX_FORWARDS = 70


class Core(Protocol):
    """The user of the stack: a B2BUA, a user agent."""

    def on_request(self, request: Request, transaction: ServerTransaction) -> None:
        """A request outside any transaction; an INVITE's transaction is an InviteServerTransaction."""
        ...

    def on_ack(self, request: Request) -> None:
        """The ACK of a 2xx: it has no transaction (§17), its dialog knows it."""
        ...

    def on_stray(self, message: Response) -> None:
        """A response without a transaction; a late 2xx may need ACK and BYE (§13.2.2.4)."""
        ...


class Stack:
    def __init__(self, timers: Timers, rng: random.Random, times: Times | None = None) -> None:
        self.timers = timers
        self.rng = rng
        self.times = times or Times()
        self.core: Core | None = None
        self.resolver: Resolver | None = None  # for next hops that are names
        self._lookups: set[asyncio.Task[list[Target]]] = set()
        self.transports: list[Transport] = []
        self.clients: dict[tuple[bytes, bytes], ClientTransaction] = {}
        self._on_connection: dict[Flow, dict[ClientTransaction, None]] = {}  # those that wait on a flow that can close
        self.servers: dict[Key, ServerTransaction] = {}
        self._merging: dict[Merged, Key] = {}  # new INVITEs -> their transaction
        self._branch_prefix = COOKIE + b"%08x" % rng.getrandbits(32)
        self._branches = 0
        self._tags = 0
        self._vias: dict[Flow, bytes] = {}
        self.errors: Counter[str] = Counter()  # messages that were refused, by the place of the fault
        self.retransmissions = 0
        self.retransmissions_seen = 0

    # -- outwards

    def flow(self, transport: str, remote: Address, bound: Address | None = None) -> Flow:
        """The way to an address: by the listener at `bound` when it can, else by the first that can. Raises NoTransport
        when nothing listens on that transport (and address family)."""
        wanted = transport.upper().encode()
        ipv6 = ":" in remote[0]
        first: Transport | None = None
        for candidate in self.transports:
            if candidate.name == wanted and (":" in candidate.bound[0]) == ipv6:
                if bound is None or candidate.bound == bound:
                    return candidate.flow(remote)
                first = first or candidate
        if first is not None:
            return first.flow(remote)
        raise NoTransport(
            f"no {'IPv6' if ipv6 else 'IPv4'} listener of {transport}, towards {host_port(remote).decode()}"
        )

    def way(self, dialog: Dialog, flow: Flow) -> Flow:
        """The flow of a request within a dialog: to its next hop when that is an address that we can reach, else
        back where the peer's messages came from. A private address behind a public one is a NAT: back, too. It leaves
        from the listener that the dialog lives on."""
        if flow.reliable and flow.open:
            return flow
        try:
            hop = dialog.next_hop()
            if not hop.params and (hop.host, hop.port or 5060) == flow.remote:  # mostly
                return flow
        except UriError:
            return flow
        try:
            if hop.host != flow.remote[0] and _natted(hop.host, flow.remote[0]):
                return flow
            return self.flow(hop.transport or flow.transport.decode(), (hop.host, hop.port or 5060), flow.bound)
        except NoTransport:
            return flow
        except ValueError:  # a name
            return self._resolved(hop, flow.bound) or flow

    def _resolved(self, hop: Uri, bound: Address) -> Flow | None:
        """The flow to a name (RFC 3263), when it is known already. What is not is looked up meanwhile: the message at
        hand goes back where its dialog came from, the next one to the name."""
        resolver = self.resolver
        if resolver is None:
            return None
        try:
            targets = resolver.known(hop)
            if targets is not None:
                return self.flow(targets[0].transport, targets[0].address, bound)
        except (ResolveError, NoTransport):
            return None
        task = asyncio.get_running_loop().create_task(resolver.resolve(hop))
        self._lookups.add(task)
        task.add_done_callback(self._looked_up)
        return None

    def _looked_up(self, task: asyncio.Task[list[Target]]) -> None:
        self._lookups.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.errors["resolve"] += 1
            log.info("cannot resolve a next hop: %s", task.exception())

    def request(self, request: Request, flow: Flow, on_response: OnResponse) -> ClientTransaction:
        """Send a request (without Via) in a new client transaction."""
        branch = self.new_branch()
        request.fields.insert(0, self.via(flow, branch))
        kind = InviteClientTransaction if request.method == b"INVITE" else ClientTransaction
        return self.start_client(kind, request, flow, branch, on_response)

    def start_client(
        self,
        kind: type[ClientTransaction],
        request: Request,
        flow: Flow,
        branch: bytes,
        on_response: OnResponse,
    ) -> ClientTransaction:
        transaction = kind(self, request, flow, branch, request.encode(), on_response)
        self.clients[transaction.key] = transaction
        if flow.reliable:
            self._on_connection.setdefault(flow, {})[transaction] = None
        if flow.open:
            transaction.start()
        else:
            self.timers.start(0, lambda _: transaction.fail(503))
        return transaction

    def ack(self, request: Request, flow: Flow) -> bytes:
        """Encode the ACK of a 2xx, under a branch of its own (§13.2.2.4); its user sends it."""
        request.fields.insert(0, self.via(flow, self.new_branch()))
        return request.encode()

    def via(self, flow: Flow, branch: bytes) -> Field:
        head = self._vias.get(flow)
        if head is None:
            if len(self._vias) > 4096:
                self._vias.clear()
            head = b"Via: SIP/2.0/%b %b;rport;branch=" % (flow.transport, host_port(flow.local))
            self._vias[flow] = head
        return (b"via", head + branch)

    def new_branch(self) -> bytes:
        self._branches += 1
        return self._branch_prefix + b"%x" % self._branches

    def new_tag(self) -> bytes:
        self._tags += 1
        return b"%x%08x" % (self._tags, self.rng.getrandbits(32))

    def to_tag(self, key: Key) -> bytes:
        """A To tag for answers of a transaction without a dialog: the same each time (§8.2.6.2)."""
        return b"%08x" % zlib.crc32(b" ".join(key))

    # -- inwards

    def receive(self, data: bytes, flow: Flow) -> None:
        try:
            message = parse(data)
        except SipError as error:
            self._unreadable(error, flow)
            return
        message.flow = flow
        try:
            if type(message) is Response:
                self._receive_response(message)
            elif type(message) is Request:
                self._receive_request(message, flow)
        except Exception:
            # One message's fault stays with that message; the call it belonged to is not touched further.
            self.errors["handler"] += 1
            log.exception("cannot handle %r from %s", message, flow.remote)

    def _unreadable(self, error: SipError, flow: Flow) -> None:
        self.errors[error.where if error.where in _PLACES else "syntax"] += 1
        log.debug("unreadable message from %s: %s", flow.remote, error)
        request = error.partial
        if request is not None and request.method != b"ACK":
            way = self._answer_flow(request, flow)
            way.send(response(request, error.status, self.new_tag()).encode())

    def _receive_response(self, message: Response) -> None:
        transaction = self.clients.get((message.branch, message.method))
        if transaction is not None:
            transaction.receive(message)
        elif self.core:
            self.core.on_stray(message)

    def _receive_request(self, request: Request, flow: Flow) -> None:
        method = request.method
        if request.branch.startswith(COOKIE):
            key: Key = (request.branch, request.sent_by, b"INVITE" if method == b"ACK" else method)
        else:
            key = _old_key(request, method)
        transaction = self.servers.get(key)
        if transaction is not None:
            if method == b"ACK":
                if isinstance(transaction, InviteServerTransaction):
                    if transaction.state == ACCEPTED:  # same branch as the INVITE: a peer's mistake
                        self._to_core_ack(request)
                    else:
                        transaction.receive_ack()
            else:
                transaction.receive_again()
            return
        if method == b"ACK":
            self._to_core_ack(request)
            return
        way = self._answer_flow(request, flow)
        if method == b"CANCEL":
            self._receive_cancel(request, way, key)
            return
        if not request.to_tag:
            refusal = screen(request)
            if refusal is not None:
                self.errors["screened"] += 1
                log.debug("%r from %s refused: %s", request, flow.remote, refusal[1])
                way.send(response(request, refusal[0], self.to_tag(key)).encode())
                return
        if method == b"INVITE":
            transaction = InviteServerTransaction(self, request, way, key)
            if not request.to_tag:
                merged: Merged = (request.call_id, request.from_tag, request.cseq)
                if self._merging.setdefault(merged, key) != key:
                    transaction.stop()
                    way.send(response(request, 482, self.new_tag()).encode())  # §8.2.2.2
                    return
                transaction.merged = merged
        else:
            transaction = ServerTransaction(self, request, way, key)
        self.servers[key] = transaction
        if self.core:
            try:
                self.core.on_request(request, transaction)
            except Exception:
                transaction.reply(500)  # nothing else would end it: in proceeding it has no timer (§17.2.1)
                raise

    def _to_core_ack(self, request: Request) -> None:
        if self.core:
            self.core.on_ack(request)

    def _receive_cancel(self, request: Request, flow: Flow, key: Key) -> None:
        transaction = ServerTransaction(self, request, flow, key)
        self.servers[key] = transaction
        target = self.servers.get((*key[:-1], b"INVITE"))
        if isinstance(target, InviteServerTransaction):
            transaction.reply(200)
            target.cancel()
        else:
            transaction.reply(481)

    def _answer_flow(self, request: Request, flow: Flow) -> Flow:
        """Where responses go (§18.2.2, RFC 3581 §4); writes `received` and `rport` into the top Via (§18.2.1)."""
        for index, (key, line) in enumerate(request.fields):
            if key != b"via":
                continue
            top, comma, rest = line.partition(b",")
            host, port = flow.remote
            if _has_rport(top):
                top = top.replace(b";rport", b";rport=%d" % port, 1) + b";received=" + host.encode()
            elif request.sent_by != host_port(flow.remote):
                sent_host, sent_port = _split_sent_by(request.sent_by)
                if sent_port != port and not flow.reliable:
                    flow = self.flow(flow.transport.decode(), (host, sent_port), flow.bound)
                if sent_host != host.encode():
                    top += b";received=" + host.encode()
            if top is not line:
                request.rewrite(index, top + comma + rest)
            return flow
        return flow

    def answer_anew(self, answer: bytes, flow: Flow) -> Flow:
        """§18.2.2: the connection that a request came on has ended. Its answer goes to the same host, at the port that
        its top Via names, on a connection that is open there or a new one."""
        _, port = _split_sent_by(parse(answer).sent_by)
        try:
            return self.flow(flow.transport.decode(), (flow.remote[0], port), flow.bound)
        except NoTransport:
            return flow

    def flow_closed(self, flow: Flow) -> None:
        """A connection is gone: what waits for an answer on it will get none."""
        for transaction in list(self._on_connection.get(flow, ())):
            transaction.fail(503)
        self._vias.pop(flow, None)

    def forget_client(self, transaction: ClientTransaction) -> None:
        self.clients.pop(transaction.key, None)
        if transaction.flow.reliable:
            waiting = self._on_connection.get(transaction.flow)
            if waiting is not None:
                waiting.pop(transaction, None)
                if not waiting:
                    del self._on_connection[transaction.flow]

    def forget_server(self, transaction: ServerTransaction) -> None:
        self.servers.pop(transaction.key, None)
        if isinstance(transaction, InviteServerTransaction) and transaction.merged is not None:
            self._merging.pop(transaction.merged, None)

    async def close(self) -> None:
        for task in list(self._lookups):
            task.cancel()
        for transport in self.transports:
            await transport.close()
        for transaction in list(self.clients.values()):
            transaction.stop()
        for server in list(self.servers.values()):
            server.stop()


_PLACES = frozenset(("via", "from", "to", "call-id", "cseq", "end"))


@lru_cache(maxsize=4096)
def _natted(host: str, source: str) -> bool:
    """Raises ValueError for a host that is a name."""
    return ipaddress.ip_address(host).is_private and not ipaddress.ip_address(source).is_private


def _has_rport(via: bytes) -> bool:
    at = via.find(b";rport")
    return at >= 0 and via[at + 6 : at + 7] in (b";", b"", b" ", b",")


def _split_sent_by(sent_by: bytes) -> tuple[bytes, int]:
    host, colon, port = sent_by.rpartition(b":")
    if colon and port.isdigit() and len(port) <= 5 and not (host.startswith(b"[") and not host.endswith(b"]")):
        return host.strip(b"[]"), int(port)
    return sent_by.strip(b"[]"), 5060


def _old_key(request: Request, method: bytes) -> Key:
    """Matching without a magic cookie (§17.2.3): an INVITE and its ACK and CANCEL share all but the method."""
    tag = b"" if method in (b"INVITE", b"ACK", b"CANCEL") else request.to_tag
    number = b"%d" % request.cseq
    return (
        request.uri,
        tag,
        request.from_tag,
        request.call_id,
        number,
        (request.get(b"via") or b"").partition(b",")[0],
        b"INVITE" if method == b"ACK" else method,
    )
