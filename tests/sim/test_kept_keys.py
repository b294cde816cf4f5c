"""A relay that terminates SDES (RFC 4568): the caller keeps the keys that he has, whoever takes over.

Media is not decrypted here (that is done in tests/unit/media/test_relay_srtp.py): what counts is who was told which
keys.
"""

from __future__ import annotations

import asyncio
import base64

import pytest

from media.rtp.srtp import MASTER_OCTETS
from media.sdp import sdes
from tests.sim.acting import all_moved
from tests.sim.scenario import FIRST, SECOND, THIRD, play, until
from tests.sim.test_trap_keys import Vault, crypto, keys, over, reinvited, secured, talk
from tests.sim.world import World


def master(name: bytes) -> bytes:
    return base64.b64encode(name.ljust(30, b"."))


CALLER, NEW = master(b"CALLER"), master(b"NEW")
BACKEND_KEYS = {FIRST: master(b"FIRST"), SECOND: master(b"SECOND"), THIRD: master(b"THIRD")}


def vaults(world: World) -> dict[str, Vault]:
    world.relay.suites = frozenset(MASTER_OCTETS)
    return {address: Vault(world, address, crypto(BACKEND_KEYS[address])) for address in world.servers}


async def moved(world: World, count: int) -> None:
    await until(lambda: sum(report.as_dict()["moved"] for report in world.node.failovers.reports) == count, 5.0)


async def the_caller_keeps_his_keys(world: World) -> None:
    servers = vaults(world)
    peer, answer = await talk(world, crypto(CALLER))
    assert keys(answer) == [BACKEND_KEYS[FIRST]]
    world.network.kill(FIRST)
    await over(world, peer)
    assert [keys(offer) for offer in servers[SECOND].offers] == [[CALLER]]
    assert peer.count("INVITE") == 0


def test_the_caller_keeps_his_keys() -> None:
    assert play(the_caller_keeps_his_keys) == []


def test_one_who_is_told_of_others_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdes, "keep_told", lambda description, own, other: None)
    with pytest.raises(AssertionError):
        play(the_caller_keeps_his_keys)


def test_he_keeps_them_over_a_second_failover_too() -> None:
    async def script(world: World) -> None:
        servers = vaults(world)
        peer, _ = await talk(world, crypto(CALLER))
        (call,) = world.node.calls.live.values()
        for count in (1, 2):
            assert call.b is not None and call.b.backend is not None
            world.network.kill(call.b.backend.address[0])
            await moved(world, count)
        assert [[keys(offer) for offer in servers[address].offers] for address in (SECOND, THIRD)] == [[[CALLER]]] * 2
        assert peer.count("INVITE") == 0
        await peer.bye(2)

    assert play(script, servers=3) == []


def test_a_hot_standby_with_keys_of_its_own_takes_over_unnoticed() -> None:
    async def script(world: World) -> None:
        servers = vaults(world)
        peer, _ = await talk(world, crypto(CALLER))
        (call,) = world.node.calls.live.values()
        await until(lambda: call.standby, 2.0)
        assert [keys(offer) for offer in servers[SECOND].offers] == [[CALLER]]
        world.network.kill(FIRST)
        await over(world, peer)
        assert len(servers[SECOND].offers) == 1
        assert peer.count("INVITE") == 0

    assert play(script, standby={"standby": "hot"}) == []


def test_what_the_relay_cannot_do_the_caller_is_told_of() -> None:
    async def script(world: World) -> None:
        vaults(world)
        Vault(world, SECOND, crypto(BACKEND_KEYS[SECOND]).replace(b"AES_CM_128", b"AES_256_CM"))
        peer, _ = await talk(world, crypto(CALLER))
        world.network.kill(FIRST)
        assert keys(await reinvited(peer, crypto(CALLER))) == [BACKEND_KEYS[SECOND]]
        await over(world, peer)

    assert play(script) == []


def test_a_key_that_the_caller_makes_anew_is_the_backups_to_know() -> None:
    """His own re-INVITE goes on to the backup, whose answer with its own keys comes to him."""

    async def script(world: World) -> None:
        servers = vaults(world)
        peer, _ = await talk(world, crypto(CALLER))
        world.network.kill(FIRST)
        await until(lambda: all_moved(world), 5.0)
        peer.request(b"INVITE", 2, body=secured(peer.address, 4000, crypto(NEW), 2))
        answer = await peer.expect("200 INVITE")
        peer.request(b"ACK", 2)
        assert keys(answer.body) == [BACKEND_KEYS[SECOND]]
        assert [keys(offer) for offer in servers[SECOND].offers] == [[CALLER], [NEW]]
        await asyncio.sleep(1.0)
        assert peer.count("INVITE") == 0
        await peer.bye(3)

    assert play(script) == []
