"""An in-memory network in virtual time: hosts, UDP with ICMP, the faults that happen to hosts and to paths.

`SimNetwork.host(address)` is a machine with one address and one process on it; it implements
`proxy.net.api.Network` for that process. The process runs in a loop of its own, `host.loop`, so it can be
killed, frozen, thawed and started again; a host that is given the loop of the test (a phone that the test plays
itself) cannot. A killed process leaves a living kernel, which answers with ICMP and RST; `power_off` leaves
nothing.
"""

from __future__ import annotations

import contextvars
import errno
from collections.abc import Callable
from random import Random
from typing import Any

from proxy.net.api import Address, OnDatagram, OnError
from tests.sim.link import Link, LinkModel
from tests.sim.loop import ProcessLoop, SimulatedLoop, SimulationError, VirtualLoop
from tests.sim.tcp import SimListener, SimStream, dial
from tests.sim.trace import Trace
from tests.sim.udp import SimUdpPort

ICMP_BURST = 6.0  # Linux: six ICMP unreachables at once to one peer, …
ICMP_INTERVAL_S = 1.0  # … then one a second (net.ipv4.icmp_ratelimit)
EPHEMERAL = 32_768


class SimHost:
    """A machine; its process sees it as its `proxy.net.api.Network`."""

    def __init__(self, network: SimNetwork, address: str, loop: SimulatedLoop) -> None:
        self.network = network
        self.address = address
        self.loop = loop
        self.powered = True
        self.udp_ports: dict[int, SimUdpPort] = {}
        self.listeners: dict[int, SimListener] = {}
        self.streams: dict[SimStream, None] = {}  # in order of birth: the history must not depend on hashes
        self._next_port = EPHEMERAL

    def __repr__(self) -> str:
        return f"<host {self.address}>"

    @property
    def alive(self) -> bool:
        """Its process runs, or is frozen."""
        return not isinstance(self.loop, ProcessLoop) or self.loop.alive

    @property
    def process(self) -> ProcessLoop:
        if not isinstance(self.loop, ProcessLoop):
            raise SimulationError(f"{self.address} runs in the loop of the test: no process of its own")
        return self.loop

    def claim(self, local: Address, taken: dict[int, Any]) -> Address:
        """The address that a socket gets when it is bound to `local`."""
        host, port = local
        if host not in (self.address, "0.0.0.0", "::", ""):
            raise OSError(errno.EADDRNOTAVAIL, f"cannot assign {host} on {self.address}")
        if port == 0:
            self._next_port += 1
            while self._next_port in taken:
                self._next_port += 1
            port = self._next_port
        elif port in taken:
            raise OSError(errno.EADDRINUSE, f"{self.address}:{port} is in use")
        return (self.address, port)

    def udp(
        self,
        local: Address,
        on_datagram: OnDatagram,
        *,
        remote: Address | None = None,
        on_error: OnError | None = None,
    ) -> SimUdpPort:
        local = self.claim(local, self.udp_ports)
        port = self.udp_ports[local[1]] = SimUdpPort(self, local, on_datagram, remote, on_error)
        return port

    async def connect_tcp(self, remote: Address, local_host: str | None = None) -> SimStream:
        return await dial(self, remote, local_host)

    async def listen_tcp(self, local: Address, on_accept: Callable[[SimStream], None]) -> SimListener:
        local = self.claim(local, self.listeners)
        listener = self.listeners[local[1]] = SimListener(self, local, on_accept)
        return listener


class SimNetwork:
    def __init__(
        self, loop: VirtualLoop, rng: Random, model: LinkModel | None = None, trace: Trace | None = None
    ) -> None:
        self.loop = loop
        self.rng = rng
        self.model = model or LinkModel()
        self.trace = trace or Trace()
        self.hosts: dict[str, SimHost] = {}
        self.on_datagram: list[Callable[[Address, Address, bytes], None]] = []  # called for all that is sent
        self.on_fault: list[Callable[[], None]] = []  # called after every fault, and its end
        self.overflowed = 0  # datagrams that found a receive buffer full
        self._links: dict[tuple[str, str], Link] = {}
        self._icmp: dict[tuple[str, str], tuple[float, float]] = {}  # (from, to): tokens, at
        self._context = contextvars.copy_context()

    def host(self, address: str, loop: SimulatedLoop | None = None) -> SimHost:
        """The host at `address`, made if need be; its process has its own loop unless one is given."""
        host = self.hosts.get(address)
        if host is None:
            host = self.hosts[address] = SimHost(self, address, loop or self.loop.process(address))
        return host

    # Paths

    def link(self, source: str, target: str) -> Link:
        link = self._links.get((source, target))
        if link is None:
            link = self._links[source, target] = Link(self.model, self.rng)
            if source == target:
                link.model = LinkModel(delay_s=0.00002)
        return link

    def shape(self, model: LinkModel, source: str | None = None, target: str | None = None) -> None:
        """From now on `model` holds for all paths between hosts, or for those from `source`, to `target`."""
        for source_host in [source] if source else list(self.hosts):
            for target_host in [target] if target else list(self.hosts):
                if source_host != target_host:
                    self.link(source_host, target_host).model = model
        if source is None and target is None:
            self.model = model
        self._happened(f"path {source or '*'} > {target or '*'}: {model}")

    def cut(self, one: str, other: str, *, both: bool = True) -> None:
        """Nothing passes from `one` to `other`, nor (`both`) the other way; what is under way arrives."""
        self._set_cut(one, other, both, True)

    def join(self, one: str, other: str, *, both: bool = True) -> None:
        self._set_cut(one, other, both, False)

    def _set_cut(self, one: str, other: str, both: bool, cut: bool) -> None:
        self.link(one, other).cut = cut
        if both:
            self.link(other, one).cut = cut
        self._happened(f"{'cut' if cut else 'join'} {one} {'<>' if both else '>'} {other}")

    def carry(self, source: str, target: str, callback: Callable[..., object], *args: Any) -> tuple[float, ...]:
        """Call `callback(*args)` each time a packet sent now by `source` arrives at `target`; returns when."""
        arrivals = self.link(source, target).arrivals(self.loop.time())
        for arrival in arrivals:
            self.at(arrival, callback, *args)
        return arrivals

    def at(self, when: float, callback: Callable[..., object], *args: Any) -> None:
        self.loop.call_at(when, callback, *args, context=self._context)

    def after(self, delay_s: float, callback: Callable[..., object], *args: Any) -> None:
        self.at(self.loop.time() + delay_s, callback, *args)

    # UDP

    def send(self, port: SimUdpPort, data: bytes, to: Address) -> None:
        source, now = port.local, self.loop.time()
        arrivals = self.carry(source[0], to[0], self._arrive, data, port, to)
        fate = f"+{(arrivals[0] - now) * 1000:.1f}ms" if arrivals else "lost"
        self.trace.message(now, source, to, fate if len(arrivals) < 2 else f"{fate} x2", data)
        for listener in self.on_datagram:
            listener(source, to, data)

    def _arrive(self, data: bytes, sender: SimUdpPort, to: Address) -> None:
        host = self.hosts.get(to[0])
        if host is None or not host.powered:
            return
        port = host.udp_ports.get(to[1])
        if port is None:
            self._unreachable(host.address, sender)
        elif not port.arrive(data, sender.local):
            self.overflowed += 1
            self.trace.message(self.loop.time(), sender.local, to, "overflow", data)

    def _unreachable(self, address: str, sender: SimUdpPort) -> None:
        now, path = self.loop.time(), (address, sender.local[0])
        tokens, at = self._icmp.get(path, (ICMP_BURST, now))
        tokens = min(ICMP_BURST, tokens + (now - at) / ICMP_INTERVAL_S)
        if tokens >= 1.0:
            tokens -= 1.0
            self.carry(*path, sender.refused)
        self._icmp[path] = (tokens, now)

    # What happens to hosts

    def kill(self, address: str, teardown_s: float = 0.0) -> None:
        """SIGKILL. Its sockets close `teardown_s` later: Linux takes apart a big address space first."""
        host = self.hosts[address]
        host.process.kill()
        if teardown_s:
            self.after(teardown_s, self._close_sockets, host, host.loop)
        else:
            self._close_sockets(host, host.loop)
        self._happened(f"kill {address}")

    def _close_sockets(self, host: SimHost, of: SimulatedLoop) -> None:
        if host.loop is not of:
            return  # started again in the meantime: `restart` closed them
        for closing in (*host.udp_ports.values(), *host.listeners.values()):
            closing.close()
        for stream in list(host.streams):
            stream.close()

    def power_off(self, address: str) -> None:
        """The machine is gone: no ICMP, no RST, nothing."""
        host = self.hosts[address]
        host.process.kill()
        host.powered = False
        for closing in (*host.udp_ports.values(), *host.listeners.values()):
            closing.close()
        host.streams.clear()
        self._happened(f"power off {address}")

    def freeze(self, address: str) -> None:
        """SIGSTOP: its sockets stay, fill up and overflow; nothing runs."""
        self.hosts[address].process.freeze()
        self._happened(f"freeze {address}")

    def thaw(self, address: str) -> None:
        self.hosts[address].process.thaw()
        self._happened(f"thaw {address}")

    def restart(self, address: str) -> SimHost:
        """A new process on the host (the old one is killed if it still runs), with no sockets yet."""
        host = self.hosts[address]
        host.process.kill()
        self._close_sockets(host, host.loop)
        host.powered = True
        host.loop = self.loop.process(address)
        self._happened(f"restart {address}")
        return host

    def _happened(self, text: str) -> None:
        self.trace.event(self.loop.time(), text)
        for listener in self.on_fault:
            listener()
