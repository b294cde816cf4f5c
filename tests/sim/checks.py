"""What must hold of a world whatever befalls it. Each check is one method; what fails is collected in words.

`Checks.watch` looks at the phones all the time; `Checks.at_rest` looks at everything once all calls are over. A
call that fails, ends or falls silent is held against the node only when for a while one server had been up
and reachable all the time: with nobody there, nobody can be connected.
"""

from __future__ import annotations

import asyncio

from proxy.sip.user_agent import CallFailed
from tests.sim.agents import Agent, Conversation, direction_of
from tests.sim.world import World

LOOK_EACH_S = 0.1
PATIENCE_S = 10.0  # within this a call must have been carried over to a server that is there
STEP_S = 2.0  # three answers in a row bring a server back
SENDS = (b"sendrecv", b"sendonly")


class Checks:
    def __init__(self, world: World, patience_s: float = PATIENCE_S) -> None:
        self.world = world
        self.patience_s = patience_s
        self.violations: list[str] = []
        self.deaf_s: dict[bytes, float] = {}  # by call: the longest time without a voice that it should hear
        self._heard_at: dict[Conversation, float] = {}
        self._met: dict[Conversation, float] = {}  # of people who have been connected: when they last were

    def violation(self, text: str) -> None:
        self.violations.append(f"t={self.world.loop.time():.6f} {text}")

    # While it goes on

    async def watch(self) -> None:
        watched: dict[Conversation, None] = {}
        while True:
            for phone in (*self.world.phones, self.world.carrier):
                watched.update(phone.live)
            for conversation in list(watched):
                if conversation.ended:
                    del watched[conversation]
                    self._ended(conversation)
                else:
                    self._listen(conversation.agent, conversation)
                    if conversation.bond:
                        self._talk(conversation)
            await asyncio.sleep(LOOK_EACH_S)

    def _listen(self, phone: Agent, conversation: Conversation) -> None:
        """Who talks to somebody hears him, or does so again before long."""
        now = self.world.loop.time()
        source = conversation.hears()
        expected = direction_of(conversation.told) in SENDS
        if source is not None or not expected:
            self._heard_at[conversation] = now
            return
        since = self._heard_at.setdefault(conversation, now)
        number = conversation.number
        self.deaf_s[number] = max(self.deaf_s.get(number, 0.0), now - since)
        calm = self.world.calm_since(phone.host.address)
        if calm is not None and now - max(since, calm) > self.patience_s:
            self.violation(f"call {number.decode()}: {phone.ua.name.decode()} hears nobody since t={since:.3f}")
            self._heard_at[conversation] = now

    def _talk(self, conversation: Conversation) -> None:
        """Who has once been connected to somebody stays so, or is so again before long, as long as both want to."""
        now, world = self.world.loop.time(), self.world
        mates = [
            m for phone in world.phones for m in phone.live if m.bond == conversation.bond and m is not conversation
        ]
        if len(mates) != 1 or any(one.direction != b"sendrecv" for one in (conversation, *mates)):
            self._met.pop(conversation, None)
            return
        mate = mates[0]
        if world.talks_to(conversation) == (mate.agent.host.address, mate.port):
            self._met[conversation] = now
            return
        since = self._met.get(conversation)
        calms = [world.calm_since(one.agent.host.address) for one in (conversation, mate)]
        if since is None or None in calms:
            return
        if now - max(since, *(calm for calm in calms if calm is not None)) > self.patience_s:
            text = f"does not hear call {mate.number.decode()} any more since t={since:.3f}"
            self.violation(f"call {conversation.number.decode()}: {text}")
            del self._met[conversation]

    def calm(self, phone: Agent) -> bool:
        """Somebody has been there for this phone for long enough."""
        since = self.world.calm_since(phone.host.address)
        return since is not None and self.world.loop.time() - since > self.patience_s

    def failed(self, phone: Agent, number: int, failure: CallFailed) -> None:
        """A call did not come about. A path that becomes slower is an outage of its new round trip: while that looks
        like death, and nobody else is there, a new call is rightly refused."""
        step = self.world.loop.time() - self.world.path_changed_at
        if self.calm(phone) and not (failure.status == 503 and step < STEP_S):
            self.violation(f"call {number}: failed with {failure} although a server was there")

    def refused(self, conversation: Conversation, began: float, what: str) -> None:
        """A request in a call, sent at `began`, was refused: there must have been trouble around it."""
        calm = self.world.calm_since(conversation.agent.host.address)
        quiet = began - self.patience_s
        if self.world.last_fault_at < quiet and calm is not None and calm < quiet:
            self.violation(f"call {conversation.number.decode()}: {what} although all had been well")

    def _ended(self, conversation: Conversation) -> None:
        """A phone's session has ended: who ended it?"""
        session = conversation.session
        assert session is not None and session.ended.done()
        how = session.ended.result()
        if how == "bye sent" or conversation.number in self.world.hung_up:
            return
        phone = conversation.agent
        if self.calm(phone):
            number, name = conversation.number.decode(), phone.ua.name.decode()
            self.violation(f"call {number}: dropped ({how} by {name}) although a server was there")

    # When all is over

    def at_rest(self) -> None:
        """Every call is over, everybody is up and connected, and the longest transaction has had its time."""
        world, node = self.world, self.world.node
        self.violations += world.wire.violations
        self.violations += [f"logged: {text}" for text in world.journal.complaints]
        left = {
            "calls": len(node.calls.live),
            "legs in the index": len(node.calls.index),
            "dialogs left behind": len(node.calls.left_behind),
            "client transactions": len(node.stack.clients),
            "server transactions": len(node.stack.servers),
            "relay sessions": len(world.relay),
            "rtpengine sessions": len(world.rtpengine or ()),
            "calls at rtpengines": sum(len(engine.calls) for engine in world.engines.values()),
            "direct sessions": len(world.direct),
            "calls that want a standby": len(node.failovers.standbys),
            "counted calls": sum(backend.calls for backend in node.backends),
        }
        for what, count in left.items():
            if count:
                self.violation(f"the node has {count} {what} left")
        for where, count in node.stack.errors.items():
            self.violation(f"the node refused {count} messages: {where}")
        for agent in (*world.phones, world.carrier, *world.servers.values()):
            self._agent_at_rest(agent)

    def _agent_at_rest(self, agent: Agent) -> None:
        where = agent.host.address
        for tag, session in agent.ua.sessions.items():
            self.violation(f"{where} still has a session: {session.dialog.call_id.decode()} {tag.decode()}")
        waiting = [t for t in agent.stack.servers.values() if t.request.method != b"OPTIONS"]
        for transaction in (*agent.stack.clients.values(), *waiting):
            self.violation(f"{where} still has a transaction: {transaction.request!r}")
        if agent.stack.errors:
            self.violation(f"{where} could not read what it got: {dict(agent.stack.errors)}")
