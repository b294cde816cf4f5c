"""Traps of encryption: after a failover each side must have the keys of the one that it talks to now.

Media is not decrypted here (that is done in tests/integration/test_srtp.py): what counts is who was told which keys.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest

from proxy.failover import bring_up, survivor
from proxy.sip.user_agent import Incoming
from tests.sim.acting import all_moved, both_modes
from tests.sim.agents import Conversation, Server
from tests.sim.raw_peer import RawPeer, sdp
from tests.sim.scenario import FIRST, SECOND, play, until
from tests.sim.world import World

SUITE = b"AES_CM_128_HMAC_SHA1_80"


def crypto(key: bytes) -> bytes:
    return b"a=crypto:1 %b inline:%b\r\n" % (SUITE, key)


def dtls(fingerprint: bytes, setup: bytes) -> bytes:
    return b"a=fingerprint:SHA-256 %b\r\na=setup:%b\r\n" % (fingerprint, setup)


def secured(host: str, port: int, lines: bytes, version: int = 1) -> bytes:
    return sdp(host, port, version, lines).replace(b"RTP/AVP", b"RTP/SAVP")


def keys(body: bytes) -> list[bytes]:
    return re.findall(rb"inline:(\S+)", body)


class Vault:
    """A server that answers with these lines, one after the other, the last for ever. It keeps what it was offered."""

    def __init__(self, world: World, address: str, *lines: bytes) -> None:
        self.server: Server = world.servers[address]
        self.lines = list(lines)
        self.offers: list[bytes] = []
        self.version = 0
        self.server.ua.on_invite = self._invited

    async def _invited(self, incoming: Incoming) -> None:
        conversation = Conversation(self.server, incoming.request.get(b"x-call") or b"?")
        conversation.listen()

        def answer(offer: bytes) -> bytes:
            self.offers.append(offer)
            self.version += 1
            lines = self.lines.pop(0) if len(self.lines) > 1 else self.lines[0]
            return secured(self.server.host.address, conversation.port, lines, self.version)

        session = incoming.accept(answer(incoming.offer))
        if session is not None:
            conversation.talk(session)
            session.on_offer = answer


async def talk(world: World, lines: bytes) -> tuple[RawPeer, bytes]:
    """A caller with those lines in its offer talks to the first server. Also what it was answered."""
    peer = RawPeer(world)
    peer.talk()
    answer = await peer.call(body=secured(peer.address, 4000, lines))
    await asyncio.sleep(0.5)
    return peer, answer.sdp


async def reinvited(peer: RawPeer, lines: bytes, version: int = 2) -> bytes:
    """It answers a re-INVITE with those lines. What it was offered."""
    offer = await peer.expect_request("INVITE")
    peer.reply(offer, 200, body=secured(peer.address, 4000, lines, version))
    await peer.expect("ACK")
    return offer.sdp


async def over(world: World, peer: RawPeer) -> None:
    await until(lambda: all_moved(world), 5.0)
    assert [report.as_dict()["moved"] for report in world.node.failovers.reports] == [1]
    assert not peer.count("BYE")
    await peer.bye(2)


@both_modes
def test_the_caller_gets_the_keys_of_the_backup(mode: str) -> None:
    async def script(world: World) -> None:
        first, second = Vault(world, FIRST, crypto(b"FIRST")), Vault(world, SECOND, crypto(b"SECOND"))
        peer, answer = await talk(world, crypto(b"CALLER"))
        assert (keys(first.offers[0]), keys(answer)) == ([b"CALLER"], [b"FIRST"])
        world.network.kill(FIRST)
        assert keys(await reinvited(peer, crypto(b"CALLER"))) == [b"SECOND"]
        await over(world, peer)
        assert [keys(offer) for offer in second.offers] == [[b"CALLER"]]  # nothing new: it is not asked again

    assert play(script, mode=mode) == []


async def the_caller_answers_with_a_new_key(world: World) -> None:
    Vault(world, FIRST, crypto(b"FIRST"))
    second = Vault(world, SECOND, crypto(b"SECOND"))
    peer, _ = await talk(world, crypto(b"CALLER"))
    world.network.kill(FIRST)
    assert keys(await reinvited(peer, crypto(b"NEW"))) == [b"SECOND"]
    await over(world, peer)
    assert [keys(offer) for offer in second.offers] == [[b"CALLER"], [b"NEW"]]
    assert peer.count("INVITE") == 1


@both_modes
def test_the_backup_gets_a_key_that_the_caller_made_anew(mode: str) -> None:
    assert play(the_caller_answers_with_a_new_key, mode=mode) == []


def test_a_new_key_that_is_kept_from_the_backup_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survivor, "keys_known", lambda told, now: True)
    with pytest.raises(AssertionError, match="NEW"):
        play(the_caller_answers_with_a_new_key)


@both_modes
def test_each_side_hears_of_the_others_new_keys_until_both_have_them(mode: str) -> None:
    async def script(world: World) -> None:
        Vault(world, FIRST, crypto(b"FIRST"))
        second = Vault(world, SECOND, crypto(b"SECOND"), crypto(b"THIRD"))
        peer, _ = await talk(world, crypto(b"CALLER"))
        world.network.kill(FIRST)
        assert keys(await reinvited(peer, crypto(b"NEW"))) == [b"SECOND"]
        assert keys(await reinvited(peer, crypto(b"NEW"), 3)) == [b"THIRD"]
        await over(world, peer)
        assert [keys(offer) for offer in second.offers] == [[b"CALLER"], [b"NEW"]]

    assert play(script, mode=mode) == []


def test_a_caller_without_encryption_hears_nothing() -> None:
    async def script(world: World) -> None:
        Vault(world, FIRST, b"")
        Vault(world, SECOND, b"")
        peer, _ = await talk(world, b"")
        world.network.kill(FIRST)
        await until(lambda: all_moved(world), 5.0)
        assert peer.count("INVITE") == 0
        await over(world, peer)

    assert play(script) == []


def the_backup(prints: tuple[bytes, bytes]) -> Callable[[World], Awaitable[None]]:
    async def script(world: World) -> None:
        first = Vault(world, FIRST, dtls(prints[0], b"active"))
        second = Vault(world, SECOND, dtls(prints[1], b"passive"))
        peer, answer = await talk(world, dtls(b"CA:11", b"actpass"))
        assert b"a=setup:actpass" in first.offers[0] and prints[0] in answer
        world.network.kill(FIRST)
        offered = await reinvited(peer, dtls(b"CA:11", b"active"))
        assert prints[1] in offered and b"a=setup:passive" in offered
        await over(world, peer)
        assert len(second.offers) == 1
        assert (
            b"CA:11" in second.offers[0] and b"a=setup:active" in second.offers[0]
        )  # the caller begins: it knows when

    return script


@both_modes
def test_the_caller_begins_a_handshake_with_the_backup_whose_fingerprint_it_gets(mode: str) -> None:
    assert play(the_backup((b"F1:22", b"5E:33")), mode=mode) == []


def test_it_does_so_too_when_both_backends_have_one_certificate() -> None:
    assert play(the_backup((b"F1:22", b"F1:22"))) == []


def test_a_backup_that_would_begin_the_handshake_itself_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bring_up, "begin_handshake", lambda offer: offer)
    with pytest.raises(AssertionError, match="a=setup:active"):
        play(the_backup((b"F1:22", b"5E:33")))
