"""SIP over UDP and TCP: sockets in, flows and whole messages out (RFC 3261 §18).

UDP keeps one small flow object per peer. A TCP flow may still be connecting: what is sent meanwhile waits a
while; a flow that closes says so once, and its client transactions then fail with 503 instead of waiting 32 s.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable

from proxy.net.address import host_port
from proxy.net.api import Address, Network, TcpListener, TcpStream
from proxy.net.timers import Timer, Timers
from proxy.sip.flow import Flow
from proxy.sip.framing import FramingError, StreamFramer
from proxy.sip.message import response
from proxy.sip.parser import answerable

Receive = Callable[[bytes, Flow], None]

FLOWS_REMEMBERED = 4096
CONNECT_TIMEOUT_S = 5.0
BACKLOG_BYTES_MAX = 1 << 20
WHOLE_MESSAGE_WITHIN_S = 10.0  # a connection that says nothing, or half of something, is closed


class UdpFlow:
    __slots__ = ("_send", "bound", "local", "remote")
    transport = b"UDP"
    reliable = False
    open = True

    def __init__(self, owner: UdpTransport, remote: Address) -> None:
        self._send = owner.port.send
        self.bound = owner.bound
        self.local = owner.local
        self.remote = remote

    def send(self, data: bytes) -> None:
        self._send(data, self.remote)


class UdpTransport:
    name = b"UDP"

    def __init__(self, network: Network, bind: Address, receive: Receive, advertise: str | None = None) -> None:
        self._flows: dict[Address, UdpFlow] = {}
        self._receive = receive
        self.port = network.udp(bind, self._datagram)
        self.bound = self.port.local
        self.local = (advertise or self.bound[0], self.bound[1])

    def _datagram(self, data: bytes, source: Address) -> None:
        if len(data) > 4:  # shorter ones are keep-alives (RFC 5626 §4.4)
            self._receive(data, self._flows.get(source) or self.flow(source))

    def flow(self, remote: Address) -> Flow:
        flow = self._flows.get(remote)
        if flow is None:
            if len(self._flows) >= FLOWS_REMEMBERED:
                self._flows.clear()
            flow = self._flows[remote] = UdpFlow(self, remote)
        return flow

    def figures(self) -> dict[str, int | str]:
        return {"lost": self.port.lost}

    async def close(self) -> None:
        self.port.close()


class TcpFlow:
    transport = b"TCP"
    reliable = True

    def __init__(self, owner: TcpTransport, remote: Address) -> None:
        self.owner = owner
        self.bound = owner.bound
        self.local = owner.local
        self.remote = remote
        self.open = True
        self.stream: TcpStream | None = None
        self.waiting: list[bytes] = []
        self.framer = StreamFramer(owner.message_bytes_max)
        self.patience: Timer | None = None

    def send(self, data: bytes) -> None:
        if not self.open:
            return
        if self.stream is None:
            self.waiting.append(data)
        elif self.stream.backlog > BACKLOG_BYTES_MAX:
            self.close()  # a peer that does not read must not fill our memory
        else:
            self.stream.write(data)

    def attach(self, stream: TcpStream) -> None:
        self.stream = stream
        stream.on_data = self._data
        stream.on_close = self._closed
        for data in self.waiting:
            stream.write(data)
        self.waiting.clear()

    def _data(self, chunk: bytes) -> None:
        fault: FramingError | None = None
        try:
            messages = self.framer.feed(chunk)
        except FramingError as error:
            messages, fault = error.messages, error
        if self.framer.pong_due and self.stream:
            self.stream.write(b"\r\n")
        for data in messages:
            self.owner.receive(data, self)
        if fault:
            refusal = _refusal(fault)
            if refusal and self.stream:
                self.stream.write(refusal)
            self.owner.framing_errors += 1
            self.owner.last_framing_error = f"{host_port(self.remote)}: {fault}"
            self.close()
            return
        if messages and self.patience:
            self.patience.cancel()
            self.patience = None
        if self.framer.half_open and self.patience is None and self.open:
            self.patience = self.owner.be_patient(self)

    def _closed(self, _: OSError | None) -> None:
        if self.open:
            self.open = False
            self.waiting.clear()
            self.owner.forget(self)

    def close(self) -> None:
        if self.stream:
            self.stream.close()
        self._closed(None)


class TcpTransport:
    name = b"TCP"

    def __init__(
        self,
        network: Network,
        timers: Timers,
        bind: Address,
        receive: Receive,
        on_flow_closed: Callable[[Flow], None],
        *,
        advertise: str | None = None,
        message_bytes_max: int = 65535,
        connections_max: int = 10_000,
    ) -> None:
        self._network = network
        self._timers = timers
        self.bound = bind
        self.local = (advertise or bind[0], bind[1])
        self.receive = receive
        self._on_flow_closed = on_flow_closed
        self.message_bytes_max = message_bytes_max
        self.connections_max = connections_max
        self.flows: dict[Address, TcpFlow] = {}
        self.framing_errors = 0
        self.last_framing_error = ""
        self.refused = 0
        self._listener: TcpListener | None = None
        self._connecting: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        self._listener = await self._network.listen_tcp(self.bound, self._accepted)

    def _accepted(self, stream: TcpStream) -> None:
        flow = TcpFlow(self, stream.remote)
        flow.attach(stream)
        if len(self.flows) >= self.connections_max:
            self.refused += 1
            flow.close()
            return
        flow.patience = self.be_patient(flow)
        self.flows[stream.remote] = flow

    def be_patient(self, flow: TcpFlow) -> Timer:
        return self._timers.start(WHOLE_MESSAGE_WITHIN_S, self._impatient, flow)

    def _impatient(self, flow: TcpFlow) -> None:
        self.refused += 1
        flow.close()

    def flow(self, remote: Address) -> Flow:
        flow = self.flows.get(remote)
        if flow is None or not flow.open:
            flow = self.flows[remote] = TcpFlow(self, remote)
            task = asyncio.get_running_loop().create_task(self._connect(flow))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        return flow

    async def _connect(self, flow: TcpFlow) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                stream = await self._network.connect_tcp(flow.remote, self.bound[0])
        except (OSError, TimeoutError):
            flow.close()
            return
        if flow.open:
            flow.attach(stream)
        else:
            stream.on_data, stream.on_close = _nothing, _nothing
            stream.close()

    def forget(self, flow: TcpFlow) -> None:
        if flow.patience:
            flow.patience.cancel()
            flow.patience = None
        if self.flows.get(flow.remote) is flow:
            del self.flows[flow.remote]
        self._on_flow_closed(flow)

    def figures(self) -> dict[str, int | str]:
        return {
            "connections": len(self.flows),
            "refused": self.refused,
            "framing_errors": self.framing_errors,
            "last_framing_error": self.last_framing_error,
        }

    async def close(self) -> None:
        if self._listener:
            self._listener.close()
        for task in list(self._connecting):
            task.cancel()
        for flow in list(self.flows.values()):
            flow.close()


def _refusal(fault: FramingError) -> bytes:
    """The answer to a request whose end will never be found; empty when it cannot be answered."""
    request = answerable(fault.head) if fault.head else None
    if request is None or request.method == b"ACK":
        return b""
    return response(request, fault.status, b"%08x" % zlib.crc32(fault.head)).encode()


def _nothing(_: object) -> None:
    return None
