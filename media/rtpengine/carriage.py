"""What is done about one session on its node: offers and answers, and the connected legs kept as they were asked for.

rtpengine connects two legs with each offer and answer between them, and knows no third leg beside them. `settle` puts
things back after an exchange with a third one: the connected legs are connected again, out of their last
descriptions, and what any other leg sends is blocked. Our ports stay the same ("port latching").
"""

from __future__ import annotations

import logging
import random

from media.api import MediaError
from media.rtpengine import comfort, commands
from media.rtpengine.exchanges import NodeGoneError, Reply
from media.rtpengine.nodes import Nodes
from media.rtpengine.session import Leg, Session
from media.sdp import SdpError, after_origin

log = logging.getLogger(__name__)


class Carriage:
    """`address` ("IN IP4 192.0.2.1") is for our o= lines, `flags` go with each offer and answer. All of it raises
    MediaError."""

    def __init__(self, nodes: Nodes, rng: random.Random, address: bytes, flags: tuple[str, ...]) -> None:
        self._nodes = nodes
        self._rng = rng
        self._address = address
        self._flags = flags
        self.silent_groups: set[str] = set()  # who is connected to a peer of one of these is played something

    async def offer(self, session: Session, source: str, target: str, sdp: bytes, record: bool) -> bytes:
        _check(session, source, sdp)
        giver, taker = self._leg(session, source), self._leg(session, target)
        rest = await self._nodes.placed(session, lambda: self._offer(session, giver, taker, sdp))
        giver.offered = sdp
        return taker.stamp(rest, self._address, record)

    async def answer(self, session: Session, source: str, target: str, sdp: bytes, record: bool) -> bytes:
        _check(session, source, sdp)
        taker = session.legs.get(target)
        if taker is None:
            raise MediaError(f"answer for leg {target}, which is not known")
        giver = self._leg(session, source)

        async def ask() -> bytes:
            if not taker.known or not giver.known:  # this node has not heard the offer
                await self._offer(session, taker, giver, taker.offered or taker.sdp)
            return await self._answer(session, taker, giver, sdp)

        rest = await self._nodes.placed(session, ask)
        giver.sdp, giver.offered = sdp, b""
        taker.sdp, taker.offered = taker.offered or taker.sdp, b""
        if session.connected is None:
            session.connected = (target, source)
        return taker.stamp(rest, self._address, record)

    async def switch(self, session: Session, leg: str, other: str) -> None:
        _check_alive(session)
        for name in (leg, other):
            if name not in session.legs or not session.legs[name].sdp:
                raise MediaError(f"no legs {leg} and {other} to connect")
        session.connected = (leg, other)
        await self._nodes.placed(session, lambda: self.settle(session))

    async def settle(self, session: Session) -> None:
        """Make it so that on the node the connected legs are connected, no other one is heard, and who would hear
        nothing is comforted."""
        if session.connected is None or session.deleted or session.lost or session.node is None:
            return
        first, second = (session.legs[name] for name in session.connected)
        if session.actual != frozenset(session.connected):
            await self._offer(session, first, second, first.sdp)
            await self._answer(session, first, second, second.sdp)
        for leg in list(session.legs.values()):
            blocked = leg is not first and leg is not second
            if leg.known and leg.blocked != blocked:
                command = "block media" if blocked else "unblock media"
                await self._nodes.ask(session, commands.of_leg(command, session.call, leg.name))
                leg.blocked = blocked
        await self._comfort(session, first, second)
        await self._comfort(session, second, first)

    async def _comfort(self, session: Session, leg: Leg, partner: Leg) -> None:
        comforted = session.groups.get(partner.name) in self.silent_groups
        if not leg.known or leg.comforted == comforted:
            return
        leg.comforted = comforted
        if comforted:
            command = commands.play(session.call, leg.name, comfort.noise(), comfort.REPEAT)
        else:
            command = commands.of_leg("stop media", session.call, leg.name)
        try:
            await self._nodes.ask(session, command)
        except NodeGoneError:
            raise
        except MediaError as error:  # a codec that it cannot speak; silence is no reason to fail
            log.info("session %s: %s: %s", session.name, command["command"], error)

    async def delete_leg(self, session: Session, name: str) -> None:
        session.groups.pop(name, None)
        leg = session.legs.pop(name, None)
        if leg is None or session.deleted:
            return
        if session.connected is not None and name in session.connected:
            session.connected = None
        if session.legs and leg.known and session.node is not None and not session.lost:
            await self._nodes.ask(session, commands.delete(session.call, name))

    def delete(self, session: Session) -> None:
        node = session.node
        session.leave()
        if node is not None:
            node.forget(session.call)

    async def query(self, session: Session) -> Reply | None:
        """None: nothing carries it now."""
        _check_alive(session)
        if session.node is None or session.lost:
            return None
        await self.settle(session)
        return await self._nodes.ask(session, commands.query(session.call))

    async def _offer(self, session: Session, offerer: Leg, answerer: Leg, sdp: bytes) -> bytes:
        command = commands.offer(session.call, offerer.name, answerer.name, sdp, self._flags)
        return await self._exchange(session, offerer, answerer, command)

    async def _answer(self, session: Session, offerer: Leg, answerer: Leg, sdp: bytes) -> bytes:
        command = commands.answer(session.call, offerer.name, answerer.name, sdp, self._flags)
        return await self._exchange(session, offerer, answerer, command)

    async def _exchange(self, session: Session, offerer: Leg, answerer: Leg, command: commands.Command) -> bytes:
        session.actual = frozenset()  # until we know what came of it
        reply = await self._nodes.ask(session, command)
        session.actual = frozenset((offerer.name, answerer.name))
        offerer.known = answerer.known = True
        sdp = reply.get("sdp")
        try:
            return after_origin(sdp if isinstance(sdp, bytes) else b"")
        except SdpError as error:
            raise MediaError(f"description of the node: {error}") from error

    def _leg(self, session: Session, name: str) -> Leg:
        leg = session.legs.get(name)
        if leg is None:
            leg = session.legs[name] = Leg(name, self._rng.getrandbits(48))
        return leg


def _check_alive(session: Session) -> None:
    if session.deleted:
        raise MediaError("deleted")


def _check(session: Session, leg: str, sdp: bytes) -> None:
    _check_alive(session)
    try:
        after_origin(sdp)
    except SdpError as error:
        raise MediaError(f"leg {leg}: {error}") from error
