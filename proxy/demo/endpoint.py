"""What backend and callers share: a user agent on a UDP address, RTP ports on the same host, and a 20 ms clock."""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import signal
from collections.abc import Callable

from proxy.demo.rtp import RtpPorts, every_frame
from proxy.net.api import Address
from proxy.net.asyncio_network import AsyncioNetwork
from proxy.net.timers import Timers
from proxy.sip.stack import Stack
from proxy.sip.transport import UdpTransport
from proxy.sip.user_agent import UserAgent


class Endpoint:
    """Made inside a running loop. Raises OSError when the address cannot be bound."""

    def __init__(self, address: Address, ports: range, name: str, on_frame: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self.rng = random.Random()
        stack = Stack(Timers(loop), self.rng)
        stack.transports.append(UdpTransport(AsyncioNetwork(loop), address, stack.receive))
        self.agent = UserAgent(stack, name)
        self.rtp = RtpPorts(address[0], ports, self.rng)
        self._clock = loop.create_task(every_frame(on_frame))

    async def close(self) -> None:
        self._clock.cancel()
        self.rtp.close()
        await self.agent.close()


def address(text: str) -> Address:
    """HOST:PORT of a command line."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def port_range(text: str) -> range:
    """FIRST-LAST of a command line."""
    first, _, last = text.partition("-")
    if not (first.isdigit() and last.isdigit()) or int(first) >= int(last):
        raise argparse.ArgumentTypeError(f"{text!r} is not FIRST-LAST")
    return range(int(first), int(last) + 1)


async def until_terminated() -> None:
    """Until SIGTERM or SIGINT. What is there now is kept out of the collector's way: its pauses would be heard."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    gc.collect()
    gc.freeze()
    await stopped.wait()
