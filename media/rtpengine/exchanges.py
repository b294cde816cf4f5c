"""Commands to one rtpengine and their replies: the ng protocol without its socket.

A datagram is a cookie, a blank, and a bencoded dictionary; the reply bears the cookie of its command. rtpengine
remembers its replies by cookie for some seconds, so sending the same datagram again is harmless, whatever it asks.
Only so many commands are on their way at once: a burst must not overrun the receive buffer of the daemon.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping

from media.api import MediaError
from media.rtpengine.bencode import BencodeError, Encodable, Value, decode, encode

UNANSWERED_MAX = 48
FIRST_RETRY_S = 0.05
TIMEOUT_S = 1.0

Reply = dict[str, Value]


class NgError(MediaError):
    """The node has answered that it cannot do it; the text is its reason."""


class NodeGoneError(MediaError):
    """The node does not answer."""


class _Exchange:
    __slots__ = ("cookie", "datagram", "future", "retry", "timeout_s", "timer", "until")

    def __init__(
        self, cookie: bytes, datagram: bytes, future: asyncio.Future[Reply], timeout_s: float, retry: bool
    ) -> None:
        self.cookie = cookie
        self.datagram = datagram
        self.future = future
        self.timeout_s = timeout_s
        self.retry = retry
        self.until = 0.0
        self.timer: asyncio.TimerHandle | None = None


class Exchanges:
    """`drain` reads what the socket still holds: a timer that fires late because we were stalled must not call a node
    silent whose reply has come."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        send: Callable[[bytes], None],
        drain: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._send = send
        self._drain = drain
        self._prefix = b"%016x_" % rng.getrandbits(64)
        self._number = 0
        self._open: dict[bytes, _Exchange] = {}
        self._waiting: deque[_Exchange] = deque()
        self.counters: Counter[str] = Counter()

    def ask(
        self, command: Mapping[str, Encodable], *, timeout_s: float = TIMEOUT_S, retry: bool = True
    ) -> asyncio.Future[Reply]:
        """Ends with NgError or NodeGoneError when it does not end well. Without `retry` it is sent once, and does not
        wait for its turn."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._number += 1
        cookie = self._prefix + b"%x" % self._number
        exchange = _Exchange(cookie, cookie + b" " + encode(command), future, timeout_s, retry)
        if retry and len(self._open) >= UNANSWERED_MAX:
            self._waiting.append(exchange)
        else:
            self._begin(exchange)
        return future

    def received(self, datagram: bytes) -> bool:
        """True when it is a reply to something that we asked, be it too late."""
        cookie, _, body = datagram.partition(b" ")
        exchange = self._open.get(cookie)
        if exchange is None:
            ours = cookie.startswith(self._prefix)
            self.counters["late_replies" if ours else "stray_replies"] += 1
            return ours
        try:
            reply = decode(body)
            if not isinstance(reply, dict):
                raise BencodeError("not a dictionary")
        except BencodeError as error:
            self.counters["bad_replies"] += 1
            self._end(exchange, NgError(f"reply that cannot be read: {error}"))
            return False
        if reply.get("result") == b"error":
            self.counters["errors"] += 1
            self._end(exchange, NgError(_text(reply.get("error-reason"))))
        else:
            self._end(exchange, reply)
        return True

    def fail(self, error: Exception) -> None:
        """Nothing will be answered any more."""
        waiting, self._waiting = self._waiting, deque()
        for exchange in (*self._open.values(), *waiting):
            self._end(exchange, error)

    def _begin(self, exchange: _Exchange) -> None:
        self._open[exchange.cookie] = exchange
        exchange.until = self._loop.time() + exchange.timeout_s
        self._transmit(exchange, FIRST_RETRY_S)

    def _transmit(self, exchange: _Exchange, wait_s: float) -> None:
        self._send(exchange.datagram)
        if exchange.cookie not in self._open:  # refused, and that was the end of it
            return
        now = self._loop.time()
        at = min(exchange.until, now + wait_s) if exchange.retry else exchange.until
        exchange.timer = self._loop.call_at(at, self._unanswered, exchange, wait_s)

    def _unanswered(self, exchange: _Exchange, waited_s: float) -> None:
        self._drain()
        if exchange.cookie not in self._open:
            return
        if self._loop.time() < exchange.until and not exchange.future.done():  # done: nobody waits any more
            self.counters["retransmissions"] += 1
            self._transmit(exchange, 2 * waited_s)
            return
        self.counters["timeouts"] += 1
        self._end(exchange, NodeGoneError("no answer"))

    def _end(self, exchange: _Exchange, result: Reply | Exception) -> None:
        self._open.pop(exchange.cookie, None)
        if exchange.timer is not None:
            exchange.timer.cancel()
        if not exchange.future.done():
            if isinstance(result, Exception):
                exchange.future.set_exception(result)
                exchange.future.exception()  # who asked may have gone
            else:
                exchange.future.set_result(result)
        while self._waiting and len(self._open) < UNANSWERED_MAX:
            self._begin(self._waiting.popleft())


def _text(value: Value | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else "error without a reason"
