"""Traps of what must not cross from one leg to the other, and of whom a call may be sent to."""

from __future__ import annotations

import asyncio

import pytest

from proxy.backends import Admin
from proxy.sip.dialog import Dialog
from proxy.sip.message import SDP, Request, Response, field
from proxy.sip.server_transaction import ServerTransaction
from proxy.sip.user_agent import CallFailed, Incoming, Session
from tests.sim.acting import all_moved, answering, both_modes
from tests.sim.agents import Conversation, Server
from tests.sim.raw_peer import RawPeer, sdp
from tests.sim.scenario import FIRST, SECOND, THIRD, hears, play, until
from tests.sim.tap import Tap
from tests.sim.world import World

# -- abilities


def test_session_timers_of_one_side_are_not_demanded_of_the_other() -> None:
    async def script(world: World) -> None:
        server, tap = world.servers[FIRST], Tap(world, FIRST)
        timed = [(b"Session-Expires", b"1800;refresher=uac"), (b"Require", b"timer"), (b"Supported", b"timer")]
        server.ua.on_invite = answering(server, lambda end: end.describe(), timed)
        phone = RawPeer(world)
        phone.talk()
        answer = await phone.call(b"X-Call: 1", b"Require: timer, x-any", b"Session-Expires: 1800;refresher=uas")
        invite = tap.of(b"INVITE")[0]
        assert invite.list(b"require") == [b"x-any"]
        assert invite.has_option(b"supported", b"timer"), "that is our own"
        assert not answer.has_option(b"require", b"timer") and not answer.has_option(b"supported", b"timer")
        await phone.bye(2)

    assert play(script) == []


def test_a_re_invite_does_not_ask_for_reliable_responses_that_nobody_would_acknowledge() -> None:
    async def script(world: World) -> None:
        tap = Tap(world, FIRST)
        phone = RawPeer(world)
        phone.talk()
        await phone.call(b"X-Call: 1", b"Supported: 100rel, replaces")
        body = sdp(phone.address, version=2, lines=b"a=sendonly\r\n")
        phone.request(b"INVITE", 2, b"Supported: 100rel, replaces", b"Require: 100rel", body=body)
        await phone.expect("200 INVITE")
        phone.request(b"ACK", 2)
        first, again = tap.of(b"INVITE")
        assert first.has_option(b"supported", b"100rel")
        assert again.list(b"supported") == [b"replaces", b"timer"] and again.get(b"require") is None
        await phone.bye(3)

    assert play(script) == []


def test_an_update_that_crosses_keeps_the_session_timer_of_the_other_leg() -> None:
    async def script(world: World) -> None:
        server, tap = world.servers[FIRST], Tap(world, FIRST)
        timed = [(b"Session-Expires", b"90;refresher=uac"), (b"Require", b"timer")]
        server.ua.on_invite = answering(server, lambda end: end.describe(), timed)
        phone = RawPeer(world)
        phone.talk()
        await phone.call(b"X-Call: 1")
        phone.request(b"UPDATE", 2, body=sdp(phone.address, version=2, lines=b"a=sendonly\r\n"))
        await phone.expect("200 UPDATE")
        (update,) = tap.of(b"UPDATE")
        assert update.get(b"session-expires") == b"90;refresher=uac" and update.has_option(b"supported", b"timer")
        await phone.bye(3)

    assert play(script) == []


# -- redirects


def redirects_to(*addresses: str) -> object:
    async def on_invite(incoming: Incoming) -> None:
        contacts = ", ".join(f"<sip:100@{address}>" for address in addresses)
        incoming.reject(302, [(b"Contact", contacts.encode())])

    return on_invite


def follows_redirects(world: World) -> None:
    calls = world.node.calls
    sip = calls.settings.sip.model_copy(update={"follow_redirects": True})
    calls.settings = calls.settings.model_copy(update={"sip": sip})


def test_a_redirect_is_not_followed_to_a_backend_that_takes_no_calls() -> None:
    async def script(world: World) -> None:
        follows_redirects(world)
        second = world.node.backends.get("as2")
        assert second is not None
        second.admin = Admin.DRAIN
        world.servers[FIRST].ua.on_invite = redirects_to(SECOND, THIRD)  # type: ignore[assignment]
        call = await world.place(1)
        assert hears(call, THIRD) and not world.servers[SECOND].calls
        assert call.session is not None
        await call.session.bye()
        world.servers[FIRST].ua.on_invite = redirects_to(SECOND)  # type: ignore[assignment]
        with pytest.raises(CallFailed, match="302"):
            await world.place(2)

    assert play(script, servers=3) == []


# -- pace


def test_calls_that_ring_are_paced_by_the_answers_of_the_backup() -> None:
    """A backup that does not even say 100 Trying is not sent more INVITEs at once than it may have unanswered."""

    async def script(world: World) -> None:
        world.servers[FIRST].ring_s = (30.0, 30.0)
        placing = [asyncio.create_task(world.place(number)) for number in range(20)]
        await asyncio.sleep(0.2)
        world.network.freeze(SECOND)
        world.network.kill(FIRST)
        tap = Tap(world, SECOND)
        await asyncio.sleep(0.15)
        assert len(tap.of(b"INVITE")) == 4
        world.network.thaw(SECOND)
        await asyncio.gather(*placing)
        assert all(pace.unanswered == 0 for pace in world.node.failovers._paces.values())

    assert play(script, recovery={"unanswered_max": 4}) == []


# -- bodies of several parts

MIXED = b'Content-Type: multipart/mixed;boundary="--part"'
ISUP = b"----part\r\nContent-Type: application/ISUP;version=itu-t92+\r\n\r\n\x01\x11\x48\x00\r\n"


def mixed(description: bytes) -> bytes:
    return ISUP + b"----part\r\nContent-Type: application/sdp\r\n\r\n" + description + b"\r\n----part--\r\n"


@both_modes
def test_a_description_among_other_parts_passes_through_media_and_the_rest_as_it_is(mode: str) -> None:
    async def script(world: World) -> None:
        server, tap = world.servers[FIRST], Tap(world, FIRST)

        async def on_invite(incoming: Incoming) -> None:
            end = Conversation(server, b"1")
            end.listen()
            answer = end.answer(incoming.offer)
            extra = (server.ua.contact(incoming.transaction.flow), field(*MIXED.split(b": ", 1)))
            incoming.transaction.reply(200, incoming.tag, extra, mixed(answer))
            dialog = Dialog.uas(incoming.request, incoming.tag)
            session = Session(server.ua, dialog, incoming.transaction.flow, answer, incoming.offer)
            session._invited[incoming.request.cseq] = incoming.transaction
            end.talk(session)

        server.ua.on_invite = on_invite
        phone = RawPeer(world)
        phone.talk()
        phone.request(b"INVITE", 1, b"X-Call: 1", body=mixed(sdp(phone.address)), content=MIXED)
        answer = await phone.expect("200 INVITE")
        assert isinstance(answer, Response)
        phone.stand(answer)
        phone.request(b"ACK", 1)
        (invite,) = tap.of(b"INVITE")
        for message in (invite, answer):
            assert message.line(b"content-type") == MIXED
            assert message.body == mixed(message.sdp) and b"IN IP4 10.0.0.1" in message.sdp.split(b"\r\n")[1]
        (call,) = world.node.calls.live.values()
        assert [leg.local_sdp for leg in call.legs()] == [answer.sdp, invite.sdp]
        body = sdp(phone.address, version=2, lines=b"a=sendonly\r\n")
        phone.request(b"INVITE", 2, body=mixed(body), content=MIXED)
        await phone.expect("200 INVITE")
        phone.request(b"ACK", 2)
        again = tap.of(b"INVITE")[1]
        assert again.body == mixed(again.sdp) and b"a=sendonly" in again.sdp
        backup = Tap(world, SECOND)
        world.network.kill(FIRST)
        if mode == "direct":
            phone.reply(await phone.expect_request("INVITE"), 200, body=body)
        await until(lambda: all_moved(world), 2.0)
        (carried,) = backup.of(b"INVITE")
        assert carried.body == carried.sdp and carried.content_type == b"application/sdp"
        await phone.bye(3)

    assert play(script, mode=mode) == []


class Preconditions:
    """A server that answers in a reliable 183, and takes a new offer in the PRACK of it (RFC 3262 §5)."""

    def __init__(self, server: Server) -> None:
        self.usual = server.ua
        self.stack = server.stack
        self.stack.core = self
        self.told: list[bytes] = []
        self.invited: ServerTransaction | None = None

    def on_request(self, request: Request, transaction: ServerTransaction) -> None:
        if request.method not in (b"INVITE", b"PRACK"):
            self.usual.on_request(request, transaction)
            return
        self.told.append(request.sdp)
        answer = sdp(FIRST, 4100, version=len(self.told))
        extra = (self.usual.contact(transaction.flow), SDP)
        if request.method == b"INVITE":
            self.invited = transaction
            reliable = (field(b"Require", b"100rel"), field(b"RSeq", b"1"))
            transaction.reply(183, b"there", (*extra, *reliable), answer)
        else:
            transaction.reply(200, extra=extra, body=answer)

    def on_ack(self, request: Request) -> None: ...

    def on_stray(self, message: Response) -> None: ...


def test_an_offer_in_a_prack_and_its_answer_pass_through_media() -> None:
    async def script(world: World) -> None:
        server = Preconditions(world.servers[FIRST])
        phone = RawPeer(world)
        phone.request(b"INVITE", 1, b"X-Call: 1", b"Supported: 100rel", body=sdp(phone.address))
        progress = await phone.expect("183 INVITE")
        assert isinstance(progress, Response) and b"10.0.0.1" in progress.sdp
        phone.stand(progress)
        phone.request(b"PRACK", 2, b"RAck: 1 1 INVITE", body=sdp(phone.address, 5000, version=2))
        answer = await phone.expect("200 PRACK")
        assert all(FIRST.encode() not in message.sdp for message in (progress, answer))
        assert all(b"10.0.0.1" in told for told in server.told) and len(server.told) == 2
        assert server.invited is not None
        server.invited.reply(486, b"there")
        await phone.expect("486 INVITE")

    assert play(script) == []
