"""A node on real sockets: what `aqueduct run` does, from the configuration to a clean stop.

The collector is put to rest: a full pass over 10,000 calls would stall the loop for 100 ms. Calls are free of cycles
and go by reference counting; what garbage there is, is collected when the node is idle.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import resource
import signal
import time

from media.api import MediaError
from media.direct import DirectPlane
from media.probe.call import Caller
from media.probe.client import ProbeCaller, ProbeOptions, installed
from media.relay.client import RelayPlane
from media.relay.latch import LatchPolicy
from media.relay.link import RelayOptions
from media.rtpengine import NodeOptions, RtpenginePlane, Watch
from proxy.admin.control import ControlServer, control_path
from proxy.admin.orders import handlers
from proxy.backends.power.drivers import drivers
from proxy.config import WILDCARDS, Settings
from proxy.journal import Journal
from proxy.lock import Lock
from proxy.net.api import Network
from proxy.net.asyncio_network import AsyncioNetwork
from proxy.net.http import Http
from proxy.node import Node
from proxy.recordings.worker import repair
from proxy.sip.lookup import DnsLookup, read_hosts
from proxy.sip.resolver import Resolver
from proxy.text import counted

log = logging.getLogger(__name__)

IDLE_COLLECT_S = 60.0
PROBE_PORTS = 32  # of the upper end of media.ports: the relay begins at the lower one


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises OSError when a socket cannot be had, MediaError when the relay cannot."""
    loop = asyncio.get_running_loop()
    # Where other servers read their configuration again; it must not end the calls' node.
    loop.add_signal_handler(signal.SIGHUP, log.warning, "SIGHUP: the configuration is not read again while calls live")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a TCP connection each
    state_dir = settings.node.state_dir
    state_dir.mkdir(parents=True, exist_ok=True)
    lock = Lock(state_dir)
    try:
        await _serve(settings, loop)
    finally:
        lock.close()


async def _serve(settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
    rng = random.Random()
    state_dir = settings.node.state_dir
    direct = DirectPlane(loop, rng, settings.media.seen_as)
    relay = await RelayPlane.start(relay_options(settings), rng) if settings.uses_media("relay") else direct
    rtpengine = await start_rtpengine(settings, rng) if settings.uses_media("rtpengine") else None
    node = Node(settings, loop, AsyncioNetwork(loop), relay, direct, rng, rtpengine, repair)
    node.synthetic.callers.update(synthetic_callers(settings, node.network, rng))
    node.upkeep.starts.drivers.update(drivers(settings))
    node.upkeep.parity.http, node.alerts.http, node.alerts.wall_clock = Http(), Http(), time.time
    await node.start()
    carried = tuple(dict.fromkeys(listen.transport for listen in settings.sip.listen))
    node.stack.resolver = Resolver(loop, rng, DnsLookup(), transports=carried, hosts=read_hosts())
    journal = Journal(state_dir, node.calls, node.backends, node.conferences, loop, time.time)
    restored, problems = journal.load()
    for problem in problems:
        log.warning("what a predecessor left: %s", problem)
    if restored:
        log.warning("restored %s", counted(restored, "call"))
    journal.start()
    control = ControlServer(control_path(state_dir), handlers(node))
    await control.start()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    log.info("node=%s listens on %s", settings.node.name, ", ".join(str(each) for each in settings.sip.listen))
    gc.collect()
    gc.freeze()
    gc.disable()
    node.stall.start()
    collector = loop.create_task(_collect_when_idle(node))
    ending = loop.create_task(_end_unknown(relay)) if isinstance(relay, RelayPlane) else None
    try:
        await stopped.wait()
    finally:
        collector.cancel()
        if ending is not None:
            ending.cancel()
        gc.enable()
        await control.close()
        saved = journal.close()
        await node.stop()
        level = logging.WARNING if saved else logging.INFO
        log.log(level, "stopped; %s left to the next start", counted(saved, "call"))


def relay_options(settings: Settings) -> RelayOptions:
    return RelayOptions(
        socket=str(settings.node.state_dir / "relay.sock"),
        hosts=tuple(str(host) for host in settings.media.address),
        ports=(settings.media.ports.first, settings.media.ports.last),
        latch=LatchPolicy(settings.media.latch),
        prompt=str(settings.media.prompt.resolve()) if settings.media.prompt else "",
    )


def synthetic_callers(settings: Settings, network: Network, rng: random.Random) -> dict[str, Caller]:
    """Who places the test calls of the pools that want them, by the names that settings give them."""
    wanted = {pool.health.synthetic.caller for pool in settings.pools.values() if pool.health.synthetic.extension}
    callers: dict[str, Caller] = {}
    media, name = settings.media, settings.node.name
    sip_hosts, media_host = _sip_hosts(settings), media.address[0].bind
    if "pjsua2" in wanted and not installed():
        log.warning("pjsua2 is not installed: synthetic calls are placed by the built-in caller")
    elif "pjsua2" in wanted:
        ports = (max(media.ports.first, media.ports.last + 1 - PROBE_PORTS), media.ports.last)
        callers["pjsua2"] = ProbeCaller(ProbeOptions(sip_hosts, media_host, ports, name))
    if wanted - callers.keys():
        from proxy.health.caller import BuiltInCaller  # it needs numpy, which this process otherwise does without

        builtin = BuiltInCaller(network, asyncio.get_running_loop(), rng, sip_hosts, media_host, media.ports, name)
        callers.update(dict.fromkeys(wanted - callers.keys(), builtin))
    return callers


def _sip_hosts(settings: Settings) -> tuple[str, ...]:
    """An address of ours for each family that we listen in."""
    media = {":" in host.bind: host.bind for host in settings.media.address}
    hosts: dict[bool, str] = {}
    for listen in settings.sip.listen:
        inet6 = ":" in listen.host
        hosts.setdefault(inet6, media.get(inet6, listen.host) if listen.host in WILDCARDS else listen.host)
    return tuple(hosts.values())


async def start_rtpengine(settings: Settings, rng: random.Random) -> RtpenginePlane:
    media = settings.media
    interval_s = media.ping_interval_ms / 1000
    watch = Watch(interval_s, interval_s / 5, media.ping_fall, media.ping_silence_ms / 1000)
    nodes = [NodeOptions(node.address, node.weight) for node in media.nodes]
    return await RtpenginePlane.start(media.seen_as, nodes, rng, latch=media.latch, watch=watch)


async def _end_unknown(relay: RelayPlane) -> None:
    """What the relay carries for a predecessor and nobody has taken up: calls of its last moments."""
    with contextlib.suppress(MediaError):
        lines = await relay.release_orphans()
        if lines:
            log.warning("the media relay carried %s of calls that nobody knows: ended", counted(lines, "line"))


async def _collect_when_idle(node: Node) -> None:
    while True:
        await asyncio.sleep(IDLE_COLLECT_S)
        if not node.calls.live:
            began = time.monotonic()
            gc.collect()
            gc.freeze()
            log.debug("collected garbage in %.1f ms", (time.monotonic() - began) * 1000)
