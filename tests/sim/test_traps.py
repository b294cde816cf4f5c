"""Traps of dialogs and descriptions that others fell into: what the caller and the backup see on the wire when a
call is carried over. What befalls a call at a bad moment is in `test_trap_moments`, whole failovers in
`test_scenarios`."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.net.timers import Timers
from proxy.sip.dialog import Dialog
from proxy.sip.message import Request, Response
from proxy.sip.stack import Stack
from proxy.sip.transport import TcpTransport
from tests.sim.agents import Conversation
from tests.sim.network import SimHost
from tests.sim.raw_peer import RawPeer, sdp
from tests.sim.scenario import FIRST, PHONE, SECOND, hears, play, until
from tests.sim.tap import Tap
from tests.sim.world import NODE, World

both_modes = pytest.mark.parametrize("mode", ["relay", "direct"])


def end_at(world: World, address: str, number: bytes = b"1") -> Conversation:
    """The latest end of a call at a server."""
    return world.servers[address].calls[number][-1]


async def asks(world: World, end: Conversation, method: bytes) -> int:
    """A server sends a request in its dialog; the status of the answer."""
    assert end.session is not None
    answer: Response = await world.on_server(end.agent.host.address, end.session.request(method))
    return answer.status


async def moved_to(world: World, call: Conversation, address: str, within_s: float = 2.0) -> None:
    await until(lambda: hears(call, address) and all(each.finished for each in world.node.failovers.reports), within_s)


# -- numbers, tags, routes


def restarts_cseq(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the dialog with the caller began anew when the backend is another one."""
    real = Dialog.request

    def request(self: Dialog, method: bytes, extra: list[Any], body: bytes = b"", cseq: int = 0) -> Request:
        if method == b"MESSAGE":
            self.local_cseq = 0
        return real(self, method, extra, body, cseq)

    monkeypatch.setattr(Dialog, "request", request)


async def backends_speak_to_the_caller_one_after_the_other(world: World) -> None:
    tap = Tap(world, PHONE)
    call = await world.place(1)
    assert [await asks(world, end_at(world, FIRST), b"INFO") for _ in range(3)] == [200, 200, 200]
    world.network.kill(FIRST)
    await moved_to(world, call, SECOND)
    assert await asks(world, end_at(world, SECOND), b"MESSAGE") == 200
    assert await asks(world, end_at(world, SECOND), b"MESSAGE") == 200
    numbers = [request.cseq for request in tap.requests if request.method in (b"INFO", b"MESSAGE")]
    assert len(numbers) == 5 and numbers == sorted(set(numbers))


def test_cseq_rises_above_all_that_the_caller_saw_whichever_backend_asks() -> None:
    assert play(backends_speak_to_the_caller_one_after_the_other) == []


def test_a_cseq_that_begins_anew_with_the_backup_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    restarts_cseq(monkeypatch)
    with pytest.raises(AssertionError):
        play(backends_speak_to_the_caller_one_after_the_other)


def test_a_caller_that_counts_from_far_above_is_not_asked_to_count_anew() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.request(b"INVITE", 2_000_000_000, body=sdp(phone.address))
        answer = await phone.expect("200 INVITE")
        assert isinstance(answer, Response)
        phone.stand(answer)
        phone.request(b"ACK", 2_000_000_000)
        phone.request(b"INFO", 2_000_000_001)
        await phone.expect("200 INFO")
        world.network.kill(FIRST)
        await until(lambda: world.node.failovers.reports and world.node.failovers.reports[0].finished, 2.0)
        phone.request(b"INFO", 2_000_000_002)
        await phone.expect("200 INFO")
        await phone.bye(2_000_000_003)

    assert play(script) == []


def test_tags_follow_the_role_in_the_dialog_not_the_direction_of_the_call() -> None:
    async def script(world: World) -> None:
        tap = Tap(world, SECOND)
        await world.place_out(1, FIRST)  # the backend calls: it is the A side, and its backup will be called
        (carried,) = world.carrier.live
        world.network.kill(FIRST)
        await moved_to(world, carried, SECOND)
        assert carried.session is not None
        end = end_at(world, SECOND)
        assert end.session is not None
        await carried.session.bye()
        await until(lambda: end.ended, 1.0)
        (invite,), (bye,) = tap.of(b"INVITE"), tap.of(b"BYE")
        assert bye.from_tag == invite.from_tag == end.session.dialog.remote_tag
        assert bye.to_tag == end.session.dialog.local_tag

    assert play(script) == []


def test_requests_to_the_caller_take_the_route_that_was_recorded_also_after_a_failover() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        edge = RawPeer(world, "10.0.1.78")
        routes = [f"<sip:{edge.address};lr>".encode(), b"<sip:10.0.1.79;lr>"]
        phone.talk()
        await phone.call(*(b"Record-Route: " + route for route in routes))
        world.network.kill(FIRST)
        reinvite = await edge.expect_request("INVITE")  # direct media: the caller must hear of the backup
        assert reinvite.list(b"route") == routes
        assert reinvite.uri == b"sip:raw@" + phone.address.encode()
        edge.tag = phone.tag
        edge.reply(reinvite, 200, body=sdp(phone.address))
        ack = await edge.expect_request("ACK")
        assert ack.list(b"route") == routes and ack.cseq == reinvite.cseq
        await phone.bye(2)

    assert play(script, mode="direct") == []


def test_a_contact_that_the_caller_changes_is_used_after_a_failover() -> None:
    async def script(world: World) -> None:
        phone = RawPeer(world)
        phone.talk()
        await phone.call()
        phone.contact = b"Contact: <sip:elsewhere@%b>" % phone.address.encode()
        phone.request(b"INVITE", 2, body=sdp(phone.address))
        await phone.expect("200 INVITE")
        phone.request(b"ACK", 2)
        world.network.kill(FIRST)
        reinvite = await phone.expect_request("INVITE")
        assert reinvite.uri == b"sip:elsewhere@" + phone.address.encode()
        phone.reply(reinvite, 200, body=sdp(phone.address))
        await phone.bye(3)

    assert play(script, mode="direct") == []


async def hung_up_over_tcp(world: World) -> None:
    phone = world.phones[0]
    await world.host.process.spawn(listen_on_tcp(world.host, world.node.stack))
    await listen_on_tcp(phone.host, phone.stack)
    tap = Tap(world, PHONE)
    call = await phone.call(f"sip:100@{NODE};transport=tcp", 1)
    world.network.kill(FIRST)
    await moved_to(world, call, SECOND)
    await call.hold()
    await call.hold(b"sendrecv")
    world.hung_up.add(b"1")
    end = end_at(world, SECOND)
    assert end.session is not None
    await world.on_server(SECOND, end.session.bye())
    await until(lambda: call.ended, 1.0)
    assert call.session is not None and call.session.flow.transport == b"TCP"
    assert tap.heard == []  # it sees datagrams only


async def listen_on_tcp(host: SimHost, stack: Stack) -> None:
    tcp = TcpTransport(host, Timers(host.loop), (host.address, 5060), stack.receive, stack.flow_closed)
    await tcp.listen()
    stack.transports.append(tcp)


@both_modes
def test_a_caller_on_tcp_is_spoken_to_on_tcp_to_the_end(mode: str) -> None:
    assert play(hung_up_over_tcp, mode=mode) == []
