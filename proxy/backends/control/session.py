"""What the control sessions of all protocols share: one TCP connection, kept up.

A session connects, logs in, asks for everything that lives, then follows the news; it asks for a sign of life when
nothing has come for a while, and begins anew with growing pauses when it was cut off. What comes is taken in slices
of bounded length, so that a flood of events leaves the event loop to the calls; what the peer may make us hold is
bounded by the decoder. Each protocol adds its codec, its log-in, its questions and its commands.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from proxy.backends.control.api import ControlError, Event, Loss, Lost, Synced, Up
from proxy.net.api import Address, Network, TcpStream

log = logging.getLogger(__name__)

SLICE = 64  # messages an iteration of the loop: 1 to 2 ms of work
STEADY_S = 1.0  # a session that lasted this long is begun anew at once when it is lost
RESYNC_APART_S = 1.0

M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)


class WireError(Exception):
    """What came is not the protocol, or more than may be held; the text says where in the stream."""


class DeniedError(ControlError):
    """Wrong user or secret, or not from this address."""


class BehindError(ControlError):
    """So much came at once that some of it was dropped, and an answer may have been among it."""


class Decoder(Protocol[M_co]):
    """Bytes in, messages out. Both raise WireError when the stream cannot be followed any further."""

    def feed(self, data: bytes) -> None: ...

    def take(self) -> M_co | None: ...


@dataclass(slots=True, frozen=True)
class Times:
    connect_s: float = 1.0
    log_in_s: float = 2.0
    sync_s: float = 10.0
    quiet_s: float = 1.0  # nothing came for this long: we ask for a sign of life, …
    ping_s: float = 1.0  # … and this long we wait for it
    report_s: float = 10.0  # how loaded it is, where that has to be asked for
    command_s: float = 5.0
    answer_s: float = 30.0  # who is called by `originate`
    retry_min_s: float = 0.002  # after a first retry at once: that it is refused now is news, and wanted soon
    retry_max_s: float = 5.0
    denied_s: float = 30.0  # a wrong secret does not get better, and its host may ban us


class Session(ABC, Generic[M]):
    """The life of a session; see `proxy.backends.control.api.ControlSession` for what others see of it."""

    slice_messages: ClassVar[int] = SLICE

    def __init__(
        self, network: Network, remote: Address, rng: Random, times: Times, local_host: str | None = None
    ) -> None:
        self._network = network
        self._remote = remote
        self._local_host = local_host
        self._rng = rng
        self._times = times
        self._counters: Counter[str] = Counter()
        self._listener: Callable[[Event], None] = _nobody
        self._life: asyncio.Task[None] | None = None
        self._stream: TcpStream | None = None
        self._decoder: Decoder[M] | None = None
        self._drain_later: asyncio.Handle | None = None
        self._lost: asyncio.Future[Loss] | None = None  # of the present attempt
        self._heard_at = 0.0
        self._up_since: float | None = None  # of the present attempt
        self._behind = asyncio.Event()
        self._hurried = asyncio.Event()
        self._stopping = False  # the backend has said that it ends
        self.up = False

    # What each protocol adds

    @abstractmethod
    def _new_decoder(self) -> Decoder[M]: ...

    @abstractmethod
    async def _log_in(self) -> Up:
        """Log in and subscribe. Raises DeniedError."""

    @abstractmethod
    async def _sync(self) -> None:
        """Tell what lives."""

    @abstractmethod
    def _take(self, message: M) -> None: ...

    @abstractmethod
    async def _ping(self) -> None:
        """Ask for a sign of life. Whatever comes is one."""

    async def _report(self) -> None:
        """Ask how loaded it is, and tell. Not all have to be asked."""

    @abstractmethod
    def _forget(self, error: ControlError) -> None:
        """The connection is gone: what waits for an answer fails with `error`."""

    # What others see

    @property
    def counters(self) -> Mapping[str, int]:
        return self._counters

    def start(self, listener: Callable[[Event], None]) -> None:
        self._listener = listener
        self._life = asyncio.get_running_loop().create_task(self._live())

    def hurry(self) -> None:
        self._hurried.set()

    async def stop(self) -> None:
        self._listener = _nobody
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait([self._life])
            self._life = None

    # What the protocols use

    def _write(self, data: bytes) -> None:
        if self._stream is None:
            raise ControlError("the control session is not connected")
        self._stream.write(data)

    def _tell(self, event: Event) -> None:
        try:
            self._listener(event)
        except Exception as error:  # the fault of who listens must not end the session
            loop = asyncio.get_running_loop()
            loop.call_exception_handler({"message": "listener of a control session failed", "exception": error})

    def _tell_all(self, events: Iterable[Event]) -> None:
        for each in events:
            self._tell(each)

    def _must_be_up(self) -> None:
        if not self.up:
            raise ControlError("the control session is not up")

    def _lose(self, loss: Loss, why: str) -> None:
        """The connection is of no more use. Told at once: it is evidence."""
        if self._lost is None or self._lost.done():
            return
        self._lost.set_result(loss)
        was_up, self.up = self.up, False
        self._counters[f"lost_{loss}"] += 1
        self._hang_up()
        self._forget(ControlError(f"the control session was lost: {why}"))
        self._tell(Lost(loss, why, was_up))

    def _fall_behind(self) -> None:
        """News were dropped: what lives is asked for again."""
        self._counters["fell_behind"] += 1
        self._behind.set()
        self._forget(BehindError("the backend told more than could be taken, and an answer may have been dropped"))

    # The life

    async def _live(self) -> None:
        pause_s = self._times.retry_min_s
        loop = asyncio.get_running_loop()
        try:
            while True:
                loss, up_since = await self._attempt()
                if up_since is not None and loop.time() - up_since >= STEADY_S:
                    pause_s = 0.0
                wait_s = self._times.denied_s if loss is Loss.DENIED else pause_s
                # Spread, so that all nodes and backends do not come back in the same moment.
                await self._pause(wait_s * self._rng.uniform(0.75, 1.25), loss)
                pause_s = min(max(2 * pause_s, self._times.retry_min_s), self._times.retry_max_s)
        finally:
            self.up = False
            self._hang_up()
            self._forget(ControlError("the control session was stopped"))

    async def _pause(self, wait_s: float, loss: Loss) -> None:
        if loss is Loss.DENIED:
            await asyncio.sleep(wait_s)
            return
        self._hurried.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurried.wait(), wait_s)

    async def _attempt(self) -> tuple[Loss, float | None]:
        """One connection, from its first byte to its end: why it ended, and since when it was up."""
        loop = asyncio.get_running_loop()
        self._lost = lost = loop.create_future()
        self._decoder = self._new_decoder()
        self._up_since, self._stopping = None, False
        self._behind.clear()
        self._counters["attempts"] += 1
        try:
            async with asyncio.timeout(self._times.connect_s):
                stream = await self._network.connect_tcp(self._remote, self._local_host)
        except ConnectionRefusedError as error:
            self._lose(Loss.REFUSED, str(error))
            return Loss.REFUSED, None
        except (TimeoutError, OSError) as error:
            self._lose(Loss.SILENT, str(error) or f"no connection within {self._times.connect_s:g} s")
            return Loss.SILENT, None
        self._stream = stream
        self._heard_at = loop.time()
        stream.on_data = self._receive
        stream.on_close = self._closed
        work = loop.create_task(self._work())
        try:
            await lost
        finally:
            work.cancel()
            await asyncio.wait([work])
        return lost.result(), self._up_since

    async def _work(self) -> None:
        times = self._times
        step, limit_s = "log-in", times.log_in_s
        try:
            async with asyncio.timeout(limit_s):
                up = await self._log_in()
            self.up = True
            self._up_since = asyncio.get_running_loop().time()
            self._counters["ups"] += 1
            while True:
                self._tell(up)
                self._behind.clear()
                try:
                    step, limit_s = "listing", times.sync_s
                    async with asyncio.timeout(limit_s):
                        await self._sync()
                    self._tell(Synced())
                    step, limit_s = "sign of life", times.ping_s
                    await self._watch()
                except BehindError:
                    await asyncio.sleep(RESYNC_APART_S)
        except TimeoutError:
            self._lose(Loss.SILENT, f"no answer to the {step} within {limit_s:g} s")
        except DeniedError as error:
            self._lose(Loss.DENIED, str(error))
        except (ControlError, WireError) as error:
            self._lose(Loss.PROTOCOL, f"{step}: {error}")
        except Exception as error:
            self._own_fault(error)

    async def _watch(self) -> None:
        """Raises BehindError as soon as something was dropped."""
        loop, times = asyncio.get_running_loop(), self._times
        report_at = loop.time()
        while True:
            now, ping_at = loop.time(), self._heard_at + times.quiet_s
            report = now >= report_at
            if report:
                report_at = now + times.report_s
            elif now < ping_at:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(report_at, ping_at) - now):
                        await self._behind.wait()
                    raise BehindError
                continue
            try:
                async with asyncio.timeout(times.ping_s):
                    await (self._report() if report else self._ping())
            except TimeoutError:
                if self._heard_at <= now:
                    raise

    # Bytes

    def _receive(self, data: bytes) -> None:
        assert self._decoder is not None
        self._counters["bytes"] += len(data)
        try:
            self._decoder.feed(data)
        except WireError as error:
            self._lose(Loss.PROTOCOL, str(error))
            return
        if self._drain_later is None:
            self._drain()

    def _drain(self) -> None:
        self._drain_later = None
        decoder, lost, loop = self._decoder, self._lost, asyncio.get_running_loop()
        assert decoder is not None and lost is not None
        self._heard_at = loop.time()
        try:
            for _ in range(self.slice_messages):
                message = decoder.take()
                if message is None:
                    return
                self._counters["messages"] += 1
                self._take(message)
                if lost.done():
                    return
        except WireError as error:
            self._lose(Loss.PROTOCOL, str(error))
            return
        except Exception as error:
            self._own_fault(error)
            return
        self._drain_later = loop.call_soon(self._drain)

    def _own_fault(self, error: Exception) -> None:
        """Something came that we should have been ready for: a session that begins anew is better than a deaf one."""
        log.error("control session with %s:%d failed", *self._remote, exc_info=error)
        self._lose(Loss.PROTOCOL, f"our own fault: {error!r}")

    def _closed(self, error: OSError | None) -> None:
        if self._drain_later is not None:  # its last words
            self._drain_later.cancel()
            self._drain()
        loss = Loss.STOPPING if self._stopping else Loss.CLOSED
        self._lose(loss, str(error) if error else "the backend closed the connection")

    def _hang_up(self) -> None:
        if self._drain_later is not None:
            self._drain_later.cancel()
            self._drain_later = None
        if self._stream is not None:
            stream, self._stream = self._stream, None
            stream.on_data = stream.on_close = _nobody
            stream.close()


def fail(waiting: Iterable[asyncio.Future[Any]], error: ControlError) -> None:
    """Nobody will answer them any more."""
    for each in waiting:
        if not each.done():
            each.set_exception(error)
            each.exception()  # who no longer waits need not be told of it


def _nobody(_: object) -> None:
    """Who hears what comes too late."""
