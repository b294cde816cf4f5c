"""A user agent that is asked who it is (RFC 3261 §22), in virtual time."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from proxy.net.timers import Timers
from proxy.sip.digest import DigestClient
from proxy.sip.stack import Stack
from proxy.sip.transport import UdpTransport
from proxy.sip.user_agent import CallFailed, Incoming, UserAgent
from tests.sim.loop import VirtualLoop
from tests.sim.network import SimNetwork

CHALLENGE = (b"WWW-Authenticate", b'Digest realm="pbx", nonce="n1", qop="auth", algorithm=MD5')


def agent(network: SimNetwork, address: str, credentials: DigestClient | None = None) -> UserAgent:
    stack = Stack(Timers(network.loop), Random(address))
    stack.transports.append(UdpTransport(network.host(address), (address, 5060), stack.receive))
    return UserAgent(stack, credentials=credentials)


def place(credentials: DigestClient | None, accept_second: bool = True) -> list[bytes | None]:
    """The credentials that the callee saw, INVITE by INVITE; raises CallFailed as the caller sees it."""
    seen: list[bytes | None] = []

    async def main() -> list[bytes | None]:
        network = SimNetwork(loop, Random(1))
        callee = agent(network, "10.0.0.2")

        async def answer(call: Incoming) -> None:
            seen.append(call.request.get(b"authorization"))
            if seen[-1] is None or not accept_second:
                call.reject(401, [CHALLENGE])
            else:
                call.accept(b"v=0\r\n")

        callee.on_invite = answer
        caller = agent(network, "10.0.0.1", credentials)
        session = await caller.invite("sip:600@10.0.0.2", b"v=0\r\n")
        assert await session.bye() == 200
        await asyncio.sleep(40)
        assert not caller.stack.clients and not callee.stack.servers
        return seen

    loop = VirtualLoop()
    return loop.run(main())


def test_a_challenge_is_answered_with_the_same_dialog_identity() -> None:
    first, second = place(DigestClient(b"alice", b"secret", Random(1)))
    assert first is None
    assert second is not None and second.startswith(b"Digest ") and b'username="alice"' in second


def test_without_credentials_the_refusal_is_told() -> None:
    with pytest.raises(CallFailed) as failure:
        place(None)
    assert failure.value.status == 401


def test_rejected_credentials_are_not_tried_again() -> None:
    with pytest.raises(CallFailed) as failure:
        place(DigestClient(b"alice", b"wrong", Random(1)), accept_second=False)
    assert failure.value.status == 401
