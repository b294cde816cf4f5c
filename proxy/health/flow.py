"""What carries probes to one backend: a connected UDP socket, or a TCP connection that is opened again when it is lost.

A flow never raises: what cannot be sent is lost, and the detector hears of it as silence. Independent of the SIP
transports, their queues and their timers.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from typing import Protocol

from proxy.health.evidence import Evidence
from proxy.net.address import host_port
from proxy.net.api import Address, Network, TcpStream, UdpPort
from proxy.sip.framing import FramingError, StreamFramer

CONNECT_TIMEOUT_S = 1.0
# Between two attempts to connect: a second refusal, which is as good as death, comes soon enough. Twice as long after
# each connection that brought no answer: a load balancer in front of nobody takes every one and closes it.
CONNECT_APART_S = 0.02
CONNECT_APART_MAX_S = 1.0
ANSWER_BYTES_MAX = 65536

log = logging.getLogger(__name__)

OnAnswer = Callable[[bytes], None]
OnTrouble = Callable[[Evidence], None]

_UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}


class Flow(Protocol):
    @property
    def local(self) -> Address: ...

    def send(self, data: bytes) -> None: ...

    def close(self) -> None: ...


def trouble(error: OSError) -> Evidence | None:
    """What a socket error says about the other side; None: nothing."""
    if isinstance(error, ConnectionRefusedError):
        return Evidence.ICMP_REFUSED
    return Evidence.ICMP_UNREACHABLE if error.errno in _UNREACHABLE else None


class UdpFlow:
    """Without a route to the backend there is no connected socket: that is tried again, and the backend is silent."""

    def __init__(
        self, network: Network, local_host: str, remote: Address, on_answer: OnAnswer, on_trouble: OnTrouble
    ) -> None:
        self._network = network
        self._local_host = local_host
        self._remote = remote
        self._on_answer = on_answer
        self._on_trouble = on_trouble
        self._tried_at = 0.0
        self._port = self._open()

    @property
    def local(self) -> Address:
        return self._port.local if self._port is not None else (self._local_host, 0)

    def send(self, data: bytes) -> None:
        if self._port is None:
            self._try_again()
        if self._port is not None:
            self._port.send(data, self._remote)

    def close(self) -> None:
        if self._port is not None:
            self._port.close()

    def _try_again(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._tried_at >= CONNECT_APART_MAX_S:
            self._tried_at = now
            self._port = self._open()
            if self._port is not None:
                log.warning("there is a way to %s now", host_port(self._remote))

    def _open(self) -> UdpPort | None:
        try:
            return self._network.udp(
                (self._local_host, 0), lambda data, _source: self._on_answer(data), remote=self._remote,
                on_error=self._on_error,
            )  # fmt: skip
        except OSError as error:
            level = logging.DEBUG if self._tried_at else logging.WARNING
            log.log(level, "no way to %s: %s; it is tried again", host_port(self._remote), error.strerror)
            return None

    def _on_error(self, error: OSError) -> None:
        evidence = trouble(error)
        if evidence is not None:
            self._on_trouble(evidence)


class TcpFlow:
    def __init__(
        self, network: Network, local_host: str, remote: Address, on_answer: OnAnswer, on_trouble: OnTrouble
    ) -> None:
        self._network = network
        self._local_host = local_host
        self._remote = remote
        self._on_answer = on_answer
        self._on_trouble = on_trouble
        self._stream: TcpStream | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._framer = StreamFramer(ANSWER_BYTES_MAX)
        self._closed = False
        self._tried_at = -CONNECT_APART_MAX_S
        self._apart_s = CONNECT_APART_S
        self._answered = False  # on this connection
        self._connect()

    @property
    def local(self) -> Address:
        return self._stream.local if self._stream is not None else (self._local_host, 0)

    def send(self, data: bytes) -> None:
        if self._stream is not None:
            if self._stream.backlog < ANSWER_BYTES_MAX:  # a peer that takes nothing is silent enough
                self._stream.write(data)
        else:
            self._connect()

    def close(self) -> None:
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._stream is not None:
            self._stream.close()

    def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        if self._connecting is None and loop.time() - self._tried_at >= self._apart_s:
            self._tried_at = loop.time()
            self._connecting = loop.create_task(self._open())

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                stream = await self._network.connect_tcp(self._remote, self._local_host)
        except TimeoutError:
            return
        except OSError as error:
            evidence = trouble(error)
            if evidence is not None:
                self._on_trouble(evidence)
            return
        finally:
            self._connecting = None
        self._framer = StreamFramer(ANSWER_BYTES_MAX)
        self._answered = False
        self._stream = stream
        stream.on_data = self._on_data
        stream.on_close = self._on_close

    def _on_close(self, error: OSError | None) -> None:
        """Why it ended says little: a process that died refuses the next attempt, one that closes idle connections
        takes it."""
        self._stream = None
        if self._closed:
            return
        if error is not None:
            evidence = trouble(error)
            if evidence is not None:
                self._on_trouble(evidence)
        self._apart_s = CONNECT_APART_S if self._answered else min(2 * self._apart_s, CONNECT_APART_MAX_S)
        self._connect()

    def _on_data(self, chunk: bytes) -> None:
        try:
            messages, fault = self._framer.feed(chunk), False
        except FramingError as error:
            messages, fault = error.messages, True
        for message in messages:
            self._answered = True
            self._on_answer(message)
        if fault and self._stream is not None:
            self._stream.close()
