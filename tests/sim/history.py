"""One random history of a world: calls that people make and faults that befall hosts and paths, all from one seed.

For the first minute anything may happen; then every fault is undone, people talk on for a while, so that a call
that was lost shows, and hang up. Generated histories keep away from what nobody can judge: a server that hangs up
while it is not clear whether it still has the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from proxy.failover.report import MOVED
from proxy.sip.user_agent import CallFailed
from tests.sim.agents import Conversation, Server
from tests.sim.checks import PATIENCE_S, Checks
from tests.sim.link import Burst, LinkModel
from tests.sim.world import NODE, World

SPAN_S = 60.0  # faults and new calls
TALK_ON_S = PATIENCE_S + 5.0  # with all faults undone
MOVED_S = 2.0  # a failover of the last moment is over by then
TRANSACTIONS_S = 105.0  # three times 64·T1 and a little: a lost BYE, its answer, and what crossed them
SETTLED_S = 3.0  # a server this long without trouble knows which calls it has


class History:
    def __init__(self, world: World, rng: Random) -> None:
        self.world = world
        self.rng = rng
        self.checks = Checks(world)
        self.calls = 0
        self.answered = 0
        self.faults: list[str] = []
        self._over = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        world, rng = self.world, self.rng
        watch = asyncio.create_task(self.checks.watch())
        for server in world.servers.values():
            server.ring_s = (0.0, rng.choice((0.0, 0.5, 4.0)))
        await asyncio.sleep(2.0)
        for number in range(rng.randint(1, 6)):
            self._start(self._one_call(number))
        for number in range(200, 200 + rng.choice((0, 1, 3))):
            self._start(self._one_pair(number))
        for number in range(100, 100 + rng.randint(0, 2)):
            self._start(self._one_outbound(number))
        faults = [asyncio.create_task(self._one_fault()) for _ in range(rng.randint(1, 4))]
        await asyncio.sleep(SPAN_S)
        await asyncio.gather(*faults)
        self._undo_all()
        await asyncio.sleep(TALK_ON_S)
        self._over.set()
        await asyncio.gather(*self._tasks)
        began = world.loop.time()
        await self._hang_up_all()
        await asyncio.sleep(MOVED_S)
        await self._hang_up_moved(began)
        await asyncio.sleep(TRANSACTIONS_S)
        watch.cancel()
        self.checks.at_rest()

    def _start(self, coro: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(coro))

    async def _pause(self, least_s: float, most_s: float) -> bool:
        """Wait for a random time; True when the history nears its end meanwhile."""
        try:
            async with asyncio.timeout(self.rng.uniform(least_s, most_s)):
                await self._over.wait()
        except TimeoutError:
            return False
        return True

    # What people do

    async def _one_call(self, number: int) -> None:
        rng, world = self.rng, self.world
        phone = rng.randrange(len(world.phones))
        gives_up = rng.uniform(0.0, 5.0) if rng.random() < 0.15 else 90.0
        if await self._pause(0.0, SPAN_S / 2):
            return
        conversation = await self._place(number, phone, timeout_s=gives_up)
        if conversation is not None:
            await self._talk(conversation)

    async def _one_pair(self, number: int) -> None:
        """Two people whom the server connects: a customer, and an agent a moment later."""
        if await self._pause(0.0, SPAN_S / 2):
            return
        headers = [(b"X-Bond", b"pair%d" % number)]
        customer = await self._place(number, 0, headers=headers)
        if customer is None or await self._pause(0.0, 3.0) or customer.ended:
            return
        agent = await self._place(number + 1000, 1, headers=headers)
        if agent is not None:
            self._start(self._talk(agent, 60.0))
        await self._talk(customer, 60.0)

    async def _place(self, number: int, phone: int, **options: Any) -> Conversation | None:
        self.calls += 1
        try:
            conversation = await self.world.place(number, phone, **options)
        except CallFailed as failure:
            if failure.status != 487:
                self.checks.failed(self.world.phones[phone], number, failure)
            return None
        self.answered += 1
        return conversation

    async def _talk(self, conversation: Conversation, most_s: float = 15.0) -> None:
        """Now and then somebody does something, at the latest after `most_s`."""
        while not await self._pause(0.5, most_s):
            if conversation.ended:
                return
            await self._act(conversation)

    async def _act(self, conversation: Conversation) -> None:
        session = conversation.session
        assert session is not None
        began = self.world.loop.time()
        action = self.rng.choices(("hold", "far hold", "info", "bye", "far bye", "both"), (4, 3, 2, 1, 1, 2))[0]
        if action == "bye":
            self._end_with(conversation)
            await session.bye()
        elif action == "info":
            status = await session.info(b"application/dtmf-relay", b"Signal=5\r\n")
            if status >= 300 and not conversation.ended:
                self.checks.refused(conversation, began, f"INFO was refused with {status}")
        elif action == "far bye":
            if self._settled(conversation):
                self._far(conversation, self._bye)
        else:
            if action != "hold" and self._settled(conversation):
                self._far(conversation, self._toggle_hold)
            if action != "far hold":
                await self._toggle_hold(conversation)

    def _end_with(self, conversation: Conversation) -> None:
        """Whoever is connected to this one is hung up on too."""
        if conversation.bond:
            mates = (each for phone in self.world.phones for each in phone.live if each.bond == conversation.bond)
            self.world.hung_up.update(each.number for each in mates)

    def _settled(self, conversation: Conversation) -> bool:
        """It is clear that the server which the phone hears still has the call."""
        far = self.world.far_end(conversation)
        since = self.world.well_since(far.agent.host.address) if far is not None else None
        return since is not None and self.world.loop.time() - since > SETTLED_S

    def _far(self, conversation: Conversation, do: Callable[[Conversation], Coroutine[Any, Any, None]]) -> None:
        """Let the server's end do something, in its process, which may die of something else meanwhile."""
        far = self.world.far_end(conversation)
        if far is not None:
            self.world.on_server(far.agent.host.address, do(far))

    async def _bye(self, far: Conversation) -> None:
        if far.session is not None and not far.ended:
            self.world.hung_up.add(far.number)
            self._end_with(far)
            await far.session.bye()

    async def _toggle_hold(self, conversation: Conversation) -> None:
        """Hold, or talk again. What is refused stays as it was (RFC 3261 §14.1)."""
        began = self.world.loop.time()
        direction = b"sendonly" if conversation.direction == b"sendrecv" else b"sendrecv"
        try:
            await conversation.hold(direction)
        except CallFailed as failure:
            if not conversation.ended:
                self.checks.refused(conversation, began, f"a re-INVITE was refused with {failure}")

    async def _one_outbound(self, number: int) -> None:
        rng, world = self.rng, self.world
        if await self._pause(0.0, SPAN_S / 2):
            return
        able = [address for address in world.addresses if world.is_there(address)]
        if not able:
            return
        self.calls += 1
        server = world.servers[rng.choice(able)]

        async def place() -> None:
            try:
                await server.call(f"sip:200@{NODE}", number)
            except CallFailed:
                return

        world.on_server(server.host.address, place())

    async def _hang_up_all(self) -> None:
        for phone in (*self.world.phones, self.world.carrier):
            for conversation in list(phone.live):
                assert conversation.session is not None
                self._end_with(conversation)
                if self.rng.random() < 0.3 and self._settled(conversation):
                    self._far(conversation, self._bye)
                else:
                    await conversation.session.bye()

    async def _hang_up_moved(self, since: float) -> None:
        """A server whose BYE was lost, and that was taken for dead before the next one, is not listened to any more
        (seed 8876). The call goes on elsewhere: it is for the phone to end it."""
        reports = [report for report in self.world.node.failovers.reports if report.detected_at >= since]
        moved = {result.call for report in reports for result in report.results if result.result == MOVED}
        live = self.world.node.calls.live
        tags = {live[call].a.dialog.remote_tag for call in moved if call in live and live[call].a.dialog}
        for phone in self.world.phones:
            for conversation in list(phone.live):
                if conversation.session is not None and conversation.session.dialog.local_tag in tags:
                    await conversation.session.bye()

    # What befalls them

    async def _one_fault(self) -> None:
        rng, world = self.rng, self.world
        await asyncio.sleep(rng.uniform(1.0, SPAN_S * 0.75))
        address = rng.choice([*world.addresses, *world.engines])
        kinds: dict[str, Callable[[str], Coroutine[Any, Any, None]]] = {
            "kill": self._kill,
            "freeze": self._freeze,
            "cut": self._cut,
            "cut phone": self._cut_phone,
            "freeze node": self._freeze_node,
            "bad path": self._bad_path,
        }
        kind = rng.choices(list(kinds), (5, 4, 4, 1, 2, 2))[0]
        self.faults.append(f"{kind} {address}")
        await kinds[kind](address)

    async def _kill(self, address: str) -> None:
        rng, network = self.rng, self.world.network
        if not network.hosts[address].alive:
            return
        if rng.random() < 0.3:
            network.power_off(address)
        else:
            network.kill(address, rng.choice((0.0, 0.09)))
        await asyncio.sleep(rng.uniform(1.5, 20.0))
        if not network.hosts[address].alive and rng.random() < 0.7:
            self.world.restart(address)

    async def _freeze(self, address: str) -> None:
        rng, world = self.rng, self.world
        began = world.loop.time()
        process = world.network.hosts[address].process
        if process.halted:
            return
        world.network.freeze(address)
        await asyncio.sleep(rng.choice((rng.uniform(0.02, 0.5), rng.uniform(0.5, 20.0))))
        calm = all(
            since is not None and since <= began for since in (world.calm_since(p.host.address) for p in world.phones)
        )
        moved = calm and world.loop.time() - began > PATIENCE_S
        world.network.thaw(address)
        if moved and process.alive and address in world.servers and rng.random() < 0.5:
            # It wakes up, finds that nothing came for a while, and ends calls that are not its own any more.
            process.spawn(self._end_all(world.servers[address]))

    @staticmethod
    async def _end_all(server: Server) -> None:
        for conversation in list(server.live):
            if conversation.session is not None:
                await conversation.session.bye()

    async def _cut(self, address: str) -> None:
        both = self.rng.random() < 0.6
        ends = (NODE, address) if self.rng.random() < 0.5 else (address, NODE)
        self.world.network.cut(*ends, both=both)
        await asyncio.sleep(self.rng.choice((self.rng.uniform(0.02, 0.5), self.rng.uniform(0.5, 20.0))))
        self.world.network.join(*ends, both=both)

    async def _cut_phone(self, _: str) -> None:
        phone = self.rng.choice(self.world.phones).host.address
        self.world.network.cut(NODE, phone)
        await asyncio.sleep(self.rng.uniform(0.1, 5.0))
        self.world.network.join(NODE, phone)

    async def _freeze_node(self, _: str) -> None:
        self.world.network.freeze(NODE)
        await asyncio.sleep(self.rng.uniform(0.02, 2.0))
        self.world.network.thaw(NODE)

    async def _bad_path(self, _: str) -> None:
        rng, network = self.rng, self.world.network
        usual = network.model
        burst = Burst(rng.uniform(0.5, 5.0), rng.uniform(0.02, 0.2), 0.7) if rng.random() < 0.5 else None
        bad = LinkModel(
            delay_s=rng.uniform(0.0002, 0.08),
            jitter_s=rng.uniform(0.0, 0.1),
            loss=rng.choice((0.0, 0.01, 0.05, 0.12)),
            burst=burst,
            duplicate=rng.choice((0.0, 0.05)),
            reorder=rng.choice((0.0, 0.05)),
        )
        self.world.path_changed_at = self.world.loop.time()
        network.shape(bad)
        await asyncio.sleep(rng.uniform(1.0, 20.0))
        network.shape(usual)

    def _undo_all(self) -> None:
        world = self.world
        world.network.thaw(NODE)
        for address in (*world.addresses, *world.engines):
            world.network.join(NODE, address)
            world.network.thaw(address)
            if not world.network.hosts[address].alive:
                world.restart(address)
