"""A whole world in virtual time: phones, a carrier, the node under test, servers behind it, and what befalls them.

The node is the real `proxy.node.Node` in a process of its own; only its sockets and its relay are simulated. Phones
and the carrier live in the loop of the test, servers in processes that can be killed, frozen and cut off. The
world keeps the books that checkers need: since when all is calm, and who rightly ended which call.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Executor, Future
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from media.direct import DirectPlane
from media.rtpengine import NodeOptions, RtpenginePlane
from proxy.backends.power import Driver
from proxy.config import Settings
from proxy.journal import Journal as CallJournal
from proxy.net.api import Address
from proxy.node import Node
from tests.sim.agents import Agent, Conversation, Server
from tests.sim.link import LinkModel
from tests.sim.loop import VirtualLoop
from tests.sim.media import Audio, SimMedia
from tests.sim.network import SimNetwork
from tests.sim.rtpengine import NG_PORT, SimRtpengine, connecting
from tests.sim.trace import is_probe
from tests.sim.wire import Wire

T = TypeVar("T")

NODE = "10.0.0.1"
CARRIER = "10.0.3.1"
ENGINES = ("10.0.4.1", "10.0.4.2")
HEAVY_LOSS = 0.3  # a path that loses more is as good as cut


def server_address(number: int) -> str:
    return f"10.0.2.{number + 1}"


def phone_address(number: int) -> str:
    return f"10.0.1.{number + 1}"


def settings(
    servers: int, mode: str, health: dict[str, Any] | None = None, recovery: dict[str, Any] | None = None,
    standby: dict[str, Any] | None = None,
) -> Settings:  # fmt: skip
    """One primary and its backups; the servers themselves call out through a carrier."""
    backends = {
        f"as{number + 1}": {
            "address": f"{server_address(number)}:5060",
            "role": "backup" if number else "primary",
        }
        for number in range(servers)
    }
    return Settings.model_validate(
        {
            "sip": {"listen": [f"udp:{NODE}:5060"]},
            "media": {"mode": mode, "address": NODE, "nodes": [{"address": engine} for engine in ENGINES]},
            "pools": {
                "pbx": {"backends": backends, "health": health or {}, "recovery": recovery or {}, **(standby or {})},
                "carrier": {
                    "recover": False,
                    "backends": {"trunk": {"address": f"{CARRIER}:5060"}},
                    "health": health or {},
                },
            },
            "routes": [{"from_pool": "pbx", "pool": "carrier"}, {"pool": "pbx"}],
        }
    )


class Journal(logging.Handler):
    """What the node logs, as part of the history; what it logs as an error is a complaint."""

    def __init__(self, network: SimNetwork) -> None:
        super().__init__(logging.INFO)
        self._network = network
        self.complaints: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._network.trace.event(self._network.loop.time(), f"log: {record.getMessage()}")
        if record.levelno >= logging.ERROR:
            self.complaints.append(self.format(record))


class SimDisk(Executor):
    """What is written is there at once."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(*arguments, **options))
        return future


async def at_once(work: Callable[[], T]) -> T:
    """What blocks takes no time."""
    return work()


class World:
    def __init__(
        self,
        loop: VirtualLoop,
        seed: int,
        *,
        servers: int = 2,
        phones: int = 2,
        mode: str = "relay",
        model: LinkModel | None = None,
        health: dict[str, Any] | None = None,
        recovery: dict[str, Any] | None = None,
        standby: dict[str, Any] | None = None,
    ) -> None:
        self.loop = loop
        self.seed = seed
        self.settings = settings(servers, mode, health, recovery, standby)
        self.network = SimNetwork(loop, self._rng("network"), model)
        self.audio = Audio(self.network)
        self.wire = Wire(NODE, loop.time)
        self.network.on_datagram.append(self._sip)
        self.network.on_fault.append(self._note_calm)
        self.journal = Journal(self.network)
        self.host = self.network.host(NODE)
        self.relay = SimMedia(self.audio, self.host, self._rng("relay"))
        self.engines = {address: self._engine(address) for address in ENGINES} if mode == "rtpengine" else {}
        self.rtpengine: RtpenginePlane | None = None
        self._started: Counter[str] = Counter()
        self.addresses = [server_address(number) for number in range(servers)]
        self.servers = {address: self._server(address) for address in self.addresses}
        self.phones = [self._phone(phone_address(number), f"phone{number}") for number in range(phones)]
        self.carrier = Server(self.network.host(CARRIER, loop), self.audio, self._rng("carrier"), "carrier")
        self.sent_to: Counter[str] = Counter()  # by host: what the node sent that is no probe
        self.drivers: dict[str, Driver] = {}  # by backend: who can start and stop it
        self.hung_up: set[bytes] = set()  # numbers of calls that a server ended, as it may
        self.last_fault_at = 0.0
        self.path_changed_at = 0.0  # when the delay of the paths last took a step
        self.node: Node
        self.direct: DirectPlane
        self._well: dict[str, float | None] = {}  # server or phone -> since when it is there for the node

    def _rng(self, purpose: str) -> Random:
        """A source of chance for each part, so that a change of one does not stir all the others."""
        return Random(f"{self.seed} {purpose}")

    def _new_rng(self, host: str) -> Random:
        """For a new process: it draws other branches, tags and Call-IDs than the one before it."""
        self._started[host] += 1
        return self._rng(f"{host} {self._started[host]}")

    def _phone(self, address: str, name: str) -> Agent:
        return Agent(self.network.host(address, self.loop), self.audio, self._rng(address), name)

    def _engine(self, address: str) -> SimRtpengine:
        return SimRtpengine(self.audio, self.network.host(address))

    def _server(self, address: str) -> Server:
        return Server(self.network.host(address), self.audio, self._new_rng(address), "pbx")

    async def start(self) -> None:
        """Start the node and let it get to know its backends."""
        logger = logging.getLogger("proxy")
        logger.addHandler(self.journal)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        await self.host.process.spawn(self._start_node())
        self._note_calm()

    async def _start_node(self) -> None:
        self.direct = DirectPlane(self.host.loop, self._rng("direct"), NODE)
        rng = self._new_rng(NODE)
        if self.engines:
            nodes = [NodeOptions((address, NG_PORT)) for address in ENGINES]
            connect = connecting(self.host)
            self.rtpengine = RtpenginePlane(self.host.loop, self._new_rng("rtpengine"), NODE, nodes, connect=connect)
        self.node = Node(self.settings, self.host.loop, self.host, self.relay, self.direct, rng, self.rtpengine)
        self.node.upkeep.starts.drivers.update(self.drivers)
        self.node.upkeep.provision.aside = self.node.upkeep.parity.aside = at_once
        await self.node.start()

    def keep_journal(self, folder: Path) -> None:
        """The node writes its calls down from now on."""
        self._journal_of_calls(folder).start()

    def take_up(self, folder: Path) -> tuple[int, list[str]]:
        """The node takes up what its predecessor has written, and goes on writing."""
        journal = self._journal_of_calls(folder)
        taken = journal.load()
        journal.start()
        return taken

    def _journal_of_calls(self, folder: Path) -> CallJournal:
        node, loop = self.node, self.host.loop
        return CallJournal(folder, node.calls, node.backends, node.conferences, loop, self.loop.time, SimDisk())

    def stop(self) -> None:
        logger = logging.getLogger("proxy")
        logger.removeHandler(self.journal)
        logger.setLevel(logging.NOTSET)
        logger.propagate = True

    # Orders

    def on_server(self, address: str, do: Coroutine[Any, Any, T]) -> Any:
        """Let the server's process do something; the test can wait for it."""
        return self.network.hosts[address].process.spawn(do)

    async def place(self, number: int, phone: int = 0, **options: Any) -> Conversation:
        """A call from a phone to the pool. Raises CallFailed."""
        return await self.phones[phone].call(f"sip:100@{NODE}", number, **options)

    async def place_out(self, number: int, server: str) -> Conversation:
        """A call from a server to the carrier. Raises CallFailed."""
        agent = self.servers[server]
        placed: Conversation = await self.on_server(server, agent.call(f"sip:200@{NODE}", number))
        return placed

    def far_end(self, conversation: Conversation) -> Conversation | None:
        """The server's end that a phone hears now."""
        source = conversation.hears()
        server = self.servers.get(source[0]) if source else None
        if server is None:
            return None
        return next((each for each in server.live if source == (server.host.address, each.port)), None)

    def talks_to(self, conversation: Conversation) -> Address | None:
        """Whose voice a phone hears in the end: of the person that the server connects it to, or that the relay does
        past the server. The server's own address when it connects it to nobody."""
        far = self.far_end(conversation)
        if far is None or not far.bond:
            return conversation.hears()
        server = self.servers[far.agent.host.address]
        voices = [mate.hears() for mate in server.mates(far)]
        return voices[0] if voices else None

    async def hang_up_far(self, conversation: Conversation) -> None:
        """The server that the phone hears ends the call, as it may."""
        far = self.far_end(conversation)
        assert far is not None and far.session is not None
        self.hung_up.add(conversation.number)
        await self.on_server(far.agent.host.address, far.session.bye())

    def restart(self, address: str) -> None:
        """A new process of a server or an rtpengine, which knows nothing of the calls of the old one."""
        self.network.restart(address)
        if address in self.engines:
            self.engines[address] = self._engine(address)
        else:
            self.servers[address] = self._server(address)
        self._note_calm()

    # Books

    def _sip(self, source: Address, target: Address, data: bytes) -> None:
        if NG_PORT in (source[1], target[1]):
            return
        self.wire(source, target, data)
        if source[0] == NODE and not is_probe(data):
            self.sent_to[target[0]] += 1

    def is_there(self, address: str) -> bool:
        """Is this server or phone up, and reachable from the node both ways?"""
        host = self.network.hosts[address]
        paths = (self.network.link(NODE, address), self.network.link(address, NODE))
        return (
            host.powered
            and not host.loop.halted
            and (NG_PORT if address in self.engines else 5060) in host.udp_ports
            and not self.host.loop.halted
            and all(not path.cut and path.model.loss <= HEAVY_LOSS for path in paths)
        )

    def _note_calm(self) -> None:
        self.last_fault_at = self.loop.time()
        for address in self.network.hosts:
            if not self.is_there(address):
                self._well[address] = None
            elif self._well.get(address) is None:
                self._well[address] = self.loop.time()

    def well_since(self, address: str) -> float | None:
        """Since when this host has been there without a break."""
        return self._well.get(address)

    def calm_since(self, phone: str) -> float | None:
        """Since when one and the same server, one engine (if any), and this phone have been there without a break."""
        engines = (tuple(self.engines),) if self.engines else ()
        since = [self._longest_there(any_of) for any_of in (self.addresses, *engines, (phone,))]
        return max(since) if math.isfinite(max(since)) else None

    def _longest_there(self, any_of: Iterable[str]) -> float:
        return min((at for address in any_of if (at := self._well.get(address)) is not None), default=math.inf)
