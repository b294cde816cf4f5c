"""What carries probes to one backend: a connected UDP socket, or a TCP connection that is opened again when it is lost.

A flow never raises: what cannot be sent is lost, and the detector hears of it as silence. Independent of the SIP
transports, their queues and their timers.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Protocol

from proxy.health.evidence import Evidence
from proxy.net.api import Address, Network, TcpStream
from proxy.sip.framing import FramingError, StreamFramer

CONNECT_TIMEOUT_S = 1.0
# Between two attempts to connect: a second refusal, which is as good as death, comes soon enough. Twice as long after
# each connection that brought no answer: a load balancer in front of nobody takes every one and closes it.
CONNECT_APART_S = 0.02
CONNECT_APART_MAX_S = 1.0
ANSWER_BYTES_MAX = 65536

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
    def __init__(
        self, network: Network, local_host: str, remote: Address, on_answer: OnAnswer, on_trouble: OnTrouble
    ) -> None:
        self._remote = remote
        self._on_trouble = on_trouble
        self._port = network.udp(
            (local_host, 0), lambda data, _source: on_answer(data), remote=remote, on_error=self._on_error
        )

    @property
    def local(self) -> Address:
        return self._port.local

    def send(self, data: bytes) -> None:
        self._port.send(data, self._remote)

    def close(self) -> None:
        self._port.close()

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
