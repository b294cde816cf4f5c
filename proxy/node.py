"""The composition root: builds a node from Settings, runs it, stops it cleanly.

Everything that touches the world comes in from outside: the network, the media planes, the source of chance. So the
same node runs on real sockets (`proxy.cli`) and in virtual time (`tests.sim`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from functools import partial

from media.api import MediaPlane
from media.rtpengine import RtpenginePlane
from proxy.alerts import Alerts
from proxy.backends import Backends
from proxy.backends.control.sessions import Sessions
from proxy.calls import TALKING, Calls, listening
from proxy.conferences import Conferences
from proxy.config import Listen, Settings
from proxy.failover import Comfort, Failovers, Reanchors
from proxy.health import Health
from proxy.health.control import ControlWatch
from proxy.health.synthetic import Synthetic
from proxy.net.api import Network
from proxy.net.timers import Timers
from proxy.recordings import Recordings, Repair, follow
from proxy.sip.stack import Stack
from proxy.sip.times import Times
from proxy.sip.transport import TcpTransport, UdpTransport
from proxy.stall import Stall
from proxy.upkeep import Upkeep

log = logging.getLogger(__name__)


class Node:
    def __init__(
        self,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        network: Network,
        relay: MediaPlane,
        direct: MediaPlane,
        rng: random.Random,
        rtpengine: RtpenginePlane | None = None,
        repair: Repair | None = None,
    ) -> None:
        self.settings = settings
        self.loop = loop
        self.network = network
        self.timers = Timers(loop)
        sip = settings.sip
        self.stack = Stack(self.timers, rng, Times(t1=sip.t1_ms / 1000, t2=sip.t2_ms / 1000))
        self.backends = Backends(settings)
        self.calls = Calls(settings, self.stack, self.backends, relay, direct, rng, rtpengine)
        self.health = Health(self.backends, network, loop, rng, sip.listen[0].host, settings.node.name)
        self.conferences = Conferences(self.calls, self.backends)
        self.controls = Sessions(self.backends, network, loop, rng, settings.node.name)
        self.controls.subscribe(ControlWatch(self.health).hear)  # first: it counts in milliseconds
        self.controls.subscribe(self.conferences.hear)
        self.conferences.sessions = self.controls.of
        self.failovers = Failovers(self.calls, self.backends, self.health, self.conferences, loop)
        self.reanchors = Reanchors(self.calls, self.backends, self.failovers.open_report, loop)
        Comfort((relay, rtpengine) if rtpengine is not None else (relay,), self.health)
        self.calls.on_live_result = self.health.report_live
        self.recordings: Recordings | None = None
        if repair is not None and settings.recordings.folders:
            self.recordings = Recordings(self.calls, self.backends, repair, loop)
            self.recordings.hear_of_calls()
            self.health.subscribe(self.recordings.verdict_changed)
            self.controls.subscribe(self.recordings.hear)
            follow(self.conferences, self.recordings)
        self.synthetic = Synthetic(self.backends, self.health, loop, rng)
        self.alerts = Alerts(settings.alerts, settings.node.name, loop, rng)
        self.upkeep = Upkeep(
            self.calls, self.backends, self.health, self.synthetic, self.controls.of, self.failovers, self.alerts,
            settings.node.name, loop,
        )  # fmt: skip
        relay.subscribe(self.health.media)
        relay.subscribe(partial(listening.media, self.calls))
        self.relay = relay
        self.direct = direct
        self.rtpengine = rtpengine
        for plane in (relay, rtpengine):
            if plane is not None:
                self.reanchors.watch(plane)
        self.stall = Stall(loop)
        self.started_at = loop.time()

    async def start(self) -> None:
        """Open the sockets and begin to watch. Raises OSError, which says of which listener."""
        # TCP first: its sockets are opened by the loop's leave, and what comes over UDP meanwhile would meet no call.
        for listen in sorted(self.settings.sip.listen, key=lambda listen: listen.transport == "udp"):
            try:
                await self._listen(listen)
            except OSError as error:
                raise OSError(error.errno, f"cannot listen on {listen}: {error.strerror or error}") from error
        self.health.start()
        self.synthetic.start()
        self.controls.start()
        self.alerts.start()
        self.upkeep.start()

    async def _listen(self, listen: Listen) -> None:
        sip = self.settings.sip
        bind, advertised = (listen.host, listen.port), sip.advertised(listen.host)
        if listen.transport == "udp":
            self.stack.transports.append(UdpTransport(self.network, bind, self.stack.receive, advertised))
            return
        tcp = TcpTransport(
            self.network, self.timers, bind, self.stack.receive, self.stack.flow_closed, advertise=advertised,
            message_bytes_max=sip.message_bytes_max,
        )  # fmt: skip
        await tcp.listen()
        self.stack.transports.append(tcp)

    async def stop(self) -> None:
        """Stop without ending the calls: their legs stand, the relay goes on, a successor may take them up
        (`proxy.journal`). Those that ring have their life in transactions, which end here."""
        self.stall.stop()
        for call in [call for call in self.calls.live.values() if call.state != TALKING]:
            self.calls.end(call, "the node stops", failed=True)
        await self.upkeep.stop()
        await self.alerts.stop()
        await self.controls.stop()
        await self.synthetic.stop()
        self.health.stop()
        await self.failovers.close()
        await self.reanchors.close()
        if self.recordings is not None:
            await self.recordings.close()
        await self.stack.close()
        await self.relay.close()
        await self.direct.close()
        if self.rtpengine is not None:
            await self.rtpengine.close()
