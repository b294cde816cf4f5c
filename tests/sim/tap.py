"""A tap on the wire: every SIP message but probes that the node sends to one host, once each, in order."""

from __future__ import annotations

from proxy.net.api import Address
from proxy.sip.message import Request, Response
from proxy.sip.parser import parse
from tests.sim.trace import is_probe
from tests.sim.world import NODE, World


class Tap:
    def __init__(self, world: World, address: str) -> None:
        self.heard: list[Request | Response] = []
        self.times: list[float] = []
        self._world = world
        self._address = address
        self._seen: set[bytes] = set()
        world.network.on_datagram.append(self._datagram)

    def _datagram(self, source: Address, target: Address, data: bytes) -> None:
        if source[0] != NODE or target != (self._address, 5060) or is_probe(data) or data in self._seen:
            return
        self._seen.add(data)
        self.heard.append(parse(data))
        self.times.append(self._world.loop.time())

    @property
    def requests(self) -> list[Request]:
        return [message for message in self.heard if isinstance(message, Request)]

    def of(self, method: bytes) -> list[Request]:
        return [request for request in self.requests if request.method == method]

    @property
    def descriptions(self) -> list[bytes]:
        return [message.sdp for message in self.heard if message.sdp]

    def when(self, method: bytes) -> list[float]:
        """When requests of that method left."""
        both = zip(self.heard, self.times, strict=True)
        return [at for message, at in both if isinstance(message, Request) and message.method == method]
