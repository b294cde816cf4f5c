"""Traps of dialogs and descriptions that others fell into: what the caller and the backup see on the wire when a
call is carried over. What befalls a call at a bad moment is in `test_trap_moments`, whole failovers in
`test_scenarios`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.net.timers import Timers
from proxy.sip.dialog import Dialog
from proxy.sip.message import Request, Response
from proxy.sip.stack import Stack
from proxy.sip.transport import TcpTransport
from tests.sim.acting import answering, asks, both_modes, end_at, moved_to
from tests.sim.agents import Conversation
from tests.sim.network import SimHost
from tests.sim.raw_peer import RawPeer, sdp
from tests.sim.scenario import FIRST, PHONE, SECOND, play, until
from tests.sim.tap import Tap
from tests.sim.world import NODE, World

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


@pytest.mark.plain
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


# -- descriptions


def origins(descriptions: list[bytes]) -> list[tuple[bytes, int]]:
    return [(words[1], int(words[2])) for sdp in descriptions for words in [sdp.split(b"\r\n")[1].split()]]


def test_the_origin_keeps_its_id_and_its_version_counts_what_changed() -> None:
    async def script(world: World) -> None:
        tap = Tap(world, PHONE)
        call = await world.place(1)
        await call.hold()
        await call.hold()  # says the same again
        await call.hold(b"sendrecv")
        world.network.kill(FIRST)
        await moved_to(world, call, SECOND)  # the caller is re-INVITEd: media is direct
        told = origins(tap.descriptions)
        assert len(told) == 5 and len({identity for identity, _ in told}) == 1
        first = told[0][1]
        assert [version - first for _, version in told] == [0, 1, 1, 2, 3]

    assert play(script, mode="direct") == []


@both_modes
@pytest.mark.parametrize("direction", [b"sendonly", b"inactive"])
def test_a_call_that_the_backend_put_on_hold_is_offered_on_hold_to_the_backup(mode: str, direction: bytes) -> None:
    async def script(world: World) -> None:
        tap = Tap(world, SECOND)
        call = await world.place(1)
        await world.on_server(FIRST, end_at(world, FIRST).hold(direction))
        said = call.direction
        world.network.kill(FIRST)
        await until(lambda: world.servers[SECOND].live, 3.0)
        (invite,) = tap.of(b"INVITE")
        assert b"a=" + said in invite.sdp and said in (b"recvonly", b"inactive")
        assert invite.get(b"x-aqueduct-state") == b"held"
        await asyncio.sleep(2.0)
        assert call.direction == said

    assert play(script, mode=mode) == []


def test_telephone_events_keep_payload_type_and_rate() -> None:
    async def script(world: World) -> None:
        tap, told = Tap(world, SECOND), Tap(world, PHONE)
        call = await world.place(1)
        world.network.kill(FIRST)
        await moved_to(world, call, SECOND)
        (invite,) = tap.of(b"INVITE")
        assert b"RTP/AVP 8 101\r\n" in invite.sdp and b"a=rtpmap:101 telephone-event/8000\r\n" in invite.sdp
        assert told.of(b"INVITE") == []

    assert play(script) == []


def test_a_backup_that_numbers_telephone_events_otherwise_makes_the_caller_hear_of_it() -> None:
    async def script(world: World) -> None:
        told = Tap(world, PHONE)
        call = await world.place(1)
        world.servers[SECOND].ua.on_invite = answering(
            world.servers[SECOND], lambda end: end.describe().replace(b" 101", b" 96").replace(b":101", b":96")
        )
        world.network.kill(FIRST)
        await moved_to(world, call, SECOND)
        (reinvite,) = told.of(b"INVITE")
        assert b"a=rtpmap:96 telephone-event/8000\r\n" in reinvite.sdp

    assert play(script) == []


T38 = b"m=image %d udptl t38\r\na=T38FaxVersion:0\r\n"


@both_modes
def test_a_t38_re_invite_crosses_and_holds_over_a_failover(mode: str) -> None:
    async def script(world: World) -> None:
        tap = Tap(world, SECOND)
        call = await world.place(1)
        end = end_at(world, FIRST)
        assert call.session is not None and end.session is not None

        def takes_image(offer: bytes) -> bytes:
            call.told = offer
            return image(call, 2)

        call.session.on_offer = takes_image
        answer: bytes = await world.on_server(FIRST, end.session.reinvite(image(end, 2)))
        assert b"m=image" in call.session.remote_sdp and b"a=T38FaxVersion:0" in answer
        world.network.kill(FIRST)
        await until(lambda: tap.of(b"INVITE"), 2.0)
        assert b"udptl t38\r\na=T38FaxVersion:0" in tap.of(b"INVITE")[0].sdp
        call.session.on_offer = call.answer
        await asyncio.sleep(2.0)
        assert not call.ended

    assert play(script, mode=mode) == []


def image(end: Conversation, version: int) -> bytes:
    host = end.agent.host.address.encode()
    end.version = version
    head = b"v=0\r\no=- %d %d IN IP4 %b\r\ns=-\r\nc=IN IP4 %b\r\nt=0 0\r\n" % (end.port, version, host, host)
    return head + T38 % end.port
