"""Where a request in a dialog goes: `Stack.way`."""

from __future__ import annotations

import asyncio
import random

from proxy.net.api import Address, OnDatagram, OnError
from proxy.net.timers import Timers
from proxy.sip.dialog import Dialog
from proxy.sip.lookup import Answer, LookupFailed
from proxy.sip.resolver import Resolver
from proxy.sip.stack import Stack
from proxy.sip.transport import UdpTransport

PEER: Address = ("192.0.2.7", 5062)


class Port:
    local: Address = ("192.0.2.1", 5060)

    def send(self, data: bytes, to: Address) -> None: ...

    def close(self) -> None: ...


class Network:
    def udp(
        self, local: Address, on_datagram: OnDatagram, *, remote: Address | None = None, on_error: OnError | None = None
    ) -> Port:
        return Port()


class Lookup:
    """Knows one name."""

    async def query(self, name: str, kind: str) -> Answer:
        if (name.rstrip("."), kind) == ("pbx.example.com", "A"):
            return Answer(("192.0.2.33",), ttl_s=60.0)
        if name.rstrip(".").endswith("pbx.example.com"):
            return Answer(ttl_s=60.0)
        raise LookupFailed(name)


def stack_of(loop: asyncio.AbstractEventLoop) -> Stack:
    stack = Stack(Timers(loop), random.Random(1))
    stack.transports.append(UdpTransport(Network(), ("192.0.2.1", 5060), stack.receive))  # type: ignore[arg-type]
    stack.resolver = Resolver(loop, random.Random(1), Lookup(), transports=("udp",))
    return stack


def dialog_to(target: bytes) -> Dialog:
    dialog = Dialog(b"c1", b"<sip:us@192.0.2.1>", b"a", b"<sip:them@192.0.2.7>", b"b")
    dialog.target = target
    return dialog


def way(target: bytes, source: Address = PEER) -> Address:
    async def find() -> Address:
        stack = stack_of(asyncio.get_running_loop())
        return stack.way(dialog_to(target), stack.flow("udp", source)).remote

    return asyncio.run(find())


def test_a_request_goes_to_the_contact() -> None:
    assert way(b"sip:them@192.0.2.9:5070") == ("192.0.2.9", 5070)
    assert way(b"sip:them@192.0.2.9") == ("192.0.2.9", 5060)


def test_a_private_contact_behind_a_public_source_is_a_nat() -> None:
    assert way(b"sip:them@10.0.0.5:5060", ("8.8.4.4", 33000)) == ("8.8.4.4", 33000)


def test_a_contact_that_cannot_be_read_goes_back_where_the_dialog_came_from() -> None:
    assert way(b"sip:") == PEER
    assert way(b"sip:them@[2001:db8::1]:5060") == PEER  # no transport of that family


def test_a_name_is_used_as_soon_as_it_is_known_and_nothing_waits_for_it() -> None:
    async def find() -> tuple[Address, Address]:
        stack = stack_of(asyncio.get_running_loop())
        dialog, flow = dialog_to(b"sip:them@pbx.example.com:5080"), stack.flow("udp", PEER)
        first = stack.way(dialog, flow).remote
        await asyncio.sleep(0.01)
        return first, stack.way(dialog, flow).remote

    assert asyncio.run(find()) == (PEER, ("192.0.2.33", 5080))


def test_a_name_that_nobody_knows_goes_back_and_is_counted() -> None:
    async def find() -> tuple[Address, int]:
        stack = stack_of(asyncio.get_running_loop())
        dialog, flow = dialog_to(b"sip:them@nowhere.invalid:5080"), stack.flow("udp", PEER)
        stack.way(dialog, flow)
        await asyncio.sleep(0.01)
        return stack.way(dialog, flow).remote, stack.errors["resolve"]

    assert asyncio.run(find()) == (PEER, 1)
