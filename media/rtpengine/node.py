"""One rtpengine: its socket, its commands, and whether it is there.

It is probed with `ping`, and once in a while with `statistics`, which says since when it runs: one that was restarted
between two probes answers as before, and has forgotten its calls. When a probe is not answered in time, more follow
quickly; it is down after so many unanswered ones in a row and so long a silence, or at once when its host refuses
twice. Any reply is a sign of life, however late.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from media.rtpengine import commands
from media.rtpengine.bencode import Encodable, Value
from media.rtpengine.channel import Address, Connect, UdpChannel
from media.rtpengine.exchanges import Exchanges, NgError, NodeGoneError, Reply

if TYPE_CHECKING:
    from media.rtpengine.session import Session

log = logging.getLogger(__name__)

REFUSALS = 2
REFUSED_AGAIN_S = 0.01
UPTIME_STEP_S = 1.5  # it is told in whole seconds
UNWANTED_MAX = 20_000


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """Where its ng port is, and its share of the sessions relative to the others."""

    address: Address
    weight: int = 1

    @property
    def name(self) -> str:
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Watch:
    """How a node is probed. Down: `fall` unanswered probes in a row, and nothing heard for `silence_s`. With these, a
    node that is well is called dead by chance once in a thousand years at 5 % loss each way."""

    interval_s: float = 0.1
    fast_interval_s: float = 0.02
    fall: int = 10
    silence_s: float = 0.4
    uptime_every: int = 10  # so many probes; that one asks since when it runs


class Node:
    """`up` is None until it has answered, or kept silent, for the first time. `on_begun`: it is there, or there again,
    perhaps without the calls that it had."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        options: NodeOptions,
        watch: Watch,
        on_begun: Callable[[Node], None],
        on_down: Callable[[Node], None],
        connect: Connect = UdpChannel,
    ) -> None:
        self._loop = loop
        self._watch = watch
        self._on_begun, self._on_down = on_begun, on_down
        self.name = options.name
        self.weight = options.weight
        self.up: bool | None = None
        self.sessions: dict[str, Session] = {}
        self.unwanted: dict[str, bool] = {}  # calls that may still be there -> it is being told to delete them
        self._channel = connect(loop, options.address, self._received, self._refused)
        self.exchanges = Exchanges(loop, rng, self._channel.send, self._channel.drain)
        self._heard_at = loop.time()
        self._unanswered = 0
        self._refusals = 0
        self._probes = 0
        self._began = math.inf  # on our clock; inf: not known
        self._alarm: asyncio.Handle | None = loop.call_soon(self._probe)

    def __repr__(self) -> str:
        return f"<Node {self.name} up={self.up} sessions={len(self.sessions)}>"

    @property
    def load(self) -> float:
        return (len(self.sessions) + 1) / self.weight

    def ask(self, command: Mapping[str, Encodable]) -> asyncio.Future[Reply]:
        return self.exchanges.ask(command)

    def forget(self, call: str) -> None:
        """Delete a call here: it is over, or lives elsewhere now. That waits for as long as the node is silent."""
        if len(self.unwanted) < UNWANTED_MAX:
            self.unwanted[call] = False
        if self.up:
            self._delete_unwanted()

    def _delete_unwanted(self) -> None:
        for call, asked in self.unwanted.items():
            if not asked:
                self.unwanted[call] = True
                self.ask(commands.delete(call)).add_done_callback(partial(self._deleted, call))

    def _deleted(self, call: str, reply: asyncio.Future[Reply]) -> None:
        if isinstance(reply.exception(), NodeGoneError):
            self.unwanted[call] = False  # once more, when it is known to be there
        else:
            self.unwanted.pop(call, None)

    def close(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._channel.close()
        self.exchanges.fail(NodeGoneError("closed"))

    # -- probes

    def _probe(self) -> None:
        self._probes += 1
        command = "statistics" if self.up and self._probes % self._watch.uptime_every == 1 else "ping"
        doubtful = self.up is not False and self._unanswered > 0
        self._arm(self._watch.fast_interval_s if doubtful else self._watch.interval_s)
        reply = self.exchanges.ask({"command": command}, timeout_s=self._watch.interval_s, retry=False)
        reply.add_done_callback(self._probed)

    def _arm(self, wait_s: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_later(wait_s, self._probe)

    def _probed(self, reply: asyncio.Future[Reply]) -> None:
        error = reply.exception()
        if isinstance(error, NodeGoneError):
            self._unanswered += 1
            silent_s = self._loop.time() - self._heard_at
            if self._unanswered >= self._watch.fall and silent_s >= self._watch.silence_s:
                self._lost(f"no answer for {silent_s * 1000:.0f} ms")
            elif self._unanswered == 1 and self.up is not False and self._alarm is not None:
                self._arm(0.0)
        elif error is None and "statistics" in reply.result():
            self._compare_uptime(reply.result())
            self._delete_unwanted()

    def _received(self, datagram: bytes) -> None:
        if not self.exchanges.received(datagram):
            return
        self._heard_at = self._loop.time()
        self._unanswered = self._refusals = 0
        if not self.up:
            log.warning("rtpengine %s is up", self.name)
            self.up = True
            self._began = math.inf
            self._probes = 0  # the next probe asks since when it runs
            self._delete_unwanted()
            self._on_begun(self)

    def _refused(self) -> None:
        """ICMP: nobody listens at its port."""
        self._refusals += 1
        if self._refusals >= REFUSALS:
            self._lost("refused")
        elif self.up and self._alarm is not None:
            self._arm(REFUSED_AGAIN_S)

    def _lost(self, why: str) -> None:
        if self.up is False:
            return
        log.warning("rtpengine %s is down: %s; it had %d sessions", self.name, why, len(self.sessions))
        self.up = False
        self.exchanges.fail(NodeGoneError(why))
        self._on_down(self)

    def _compare_uptime(self, reply: Reply) -> None:
        uptime = _uptime(reply)
        if uptime is None:
            return
        began = self._loop.time() - uptime
        if began > self._began + UPTIME_STEP_S:
            log.warning("rtpengine %s was restarted", self.name)
            self._on_begun(self)
        self._began = began


def _uptime(reply: Reply) -> int | None:
    """In whole seconds; text in some versions of rtpengine, a number in others."""
    value: Value | None = reply.get("statistics")
    for key in ("totalstatistics", "uptime"):
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, bytes) and value.isdigit():
        return int(value)
    return value if isinstance(value, int) else None


__all__ = ["NgError", "Node", "NodeGoneError", "NodeOptions", "Watch"]
