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

CONNECT_TIMEOUT_S = 1.0
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
    if isinstance(error, ConnectionRefusedError | ConnectionResetError):
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
        self._received = bytearray()
        self._closed = False
        self._connect()

    @property
    def local(self) -> Address:
        return self._stream.local if self._stream is not None else (self._local_host, 0)

    def send(self, data: bytes) -> None:
        if self._stream is not None:
            if self._stream.backlog < ANSWER_BYTES_MAX:  # a peer that takes nothing is silent enough
                self._stream.write(data)
        elif self._connecting is None:
            self._connect()

    def close(self) -> None:
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._stream is not None:
            self._stream.close()

    def _connect(self) -> None:
        self._connecting = asyncio.get_running_loop().create_task(self._open())

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
        self._received.clear()
        self._stream = stream
        stream.on_data = self._on_data
        stream.on_close = self._on_close

    def _on_close(self, error: OSError | None) -> None:
        self._stream = None
        if self._closed:
            return
        if error is not None:
            evidence = trouble(error)
            if evidence is not None:
                self._on_trouble(evidence)
        self._connect()  # a process that died refuses at once; one that only closed idle connections does not

    def _on_data(self, chunk: bytes) -> None:
        """Cut the stream into messages (RFC 3261 §18.3)."""
        self._received += chunk
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._received[: end + 4])
            total = end + 4 + content_length(head)
            if len(self._received) < total:
                break
            del self._received[:total]
            self._on_answer(head.lstrip(b"\r\n"))
        if len(self._received) > ANSWER_BYTES_MAX and self._stream is not None:
            self._stream.close()


def content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon and name.strip().lower() in (b"content-length", b"l") and value.strip().isdigit():
            return min(int(value), ANSWER_BYTES_MAX)
    return 0
