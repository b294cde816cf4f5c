"""One rtpengine as the driver sees it, in virtual time: commands, repetitions, time-outs, and whether it is there.

The daemon is a list of what it was sent, and a rule how it answers. What a real one does is in `tests/integration`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from media.api import MediaError, NodeLost
from media.rtpengine.bencode import decode, encode
from media.rtpengine.channel import Address
from media.rtpengine.exchanges import UNANSWERED_MAX, Exchanges, NgError, NodeGoneError
from media.rtpengine.node import Node, NodeOptions, Watch
from media.rtpengine.nodes import Nodes
from media.rtpengine.session import Session
from tests.sim.loop import VirtualLoop

WATCH = Watch()
DEATH_S = 2 * WATCH.interval_s + WATCH.silence_s + WATCH.fall * WATCH.fast_interval_s


def run(test: Callable[[VirtualLoop], Coroutine[Any, Any, None]]) -> None:
    loop = VirtualLoop()
    loop.run(test(loop))


class Daemon:
    """What is connected to the node instead of a socket. `answers`: it does; `delay_s`: so much later; `refuses`: its
    host says that nobody is there."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.sent: list[tuple[float, bytes]] = []
        self.held: list[bytes] = []  # replies that lie in the socket, unread
        self.answers, self.refuses, self.holds = True, False, False
        self.delay_s = 0.001
        self.deaf_to = b"nothing"
        self.began = loop.time()
        self.received: Callable[[bytes], object] = lambda data: None
        self.refused: Callable[[], None] = lambda: None

    def connect(
        self, loop: Any, remote: Address, received: Callable[[bytes], object], refused: Callable[[], None]
    ) -> Daemon:
        self.received, self.refused = received, refused
        return self

    def send(self, datagram: bytes) -> None:
        self.sent.append((self.loop.time(), datagram))
        if self.refuses:
            self.loop.call_later(self.delay_s, self.refused)
        elif self.answers and self.deaf_to not in datagram:
            self.loop.call_later(self.delay_s, self.reply, datagram)

    def reply(self, datagram: bytes, **more: Any) -> None:
        cookie, _, body = datagram.partition(b" ")
        command: Any = decode(body)
        uptime = b"%d" % int(self.loop.time() - self.began)
        fields: dict[str, Any] = {"result": "pong" if command["command"] == b"ping" else "ok", **more}
        if command["command"] == b"statistics":
            fields["statistics"] = {"totalstatistics": {"uptime": uptime}}
        reply = cookie + b" " + encode(fields)
        if self.holds:
            self.held.append(reply)
        else:
            self.received(reply)

    def drain(self) -> None:
        held, self.held = self.held, []
        for each in held:
            self.received(each)

    def close(self) -> None:
        return None

    def commands(self) -> list[dict[str, Any]]:
        bodies: list[Any] = [decode(datagram.partition(b" ")[2]) for _, datagram in self.sent]
        return [body for body in bodies if body["command"] not in (b"ping", b"statistics")]


class Heard:
    """What a node says of itself."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.events: list[str] = []
        self.times: list[float] = []

    def __call__(self, what: str) -> Callable[[Node], None]:
        def note(node: Node) -> None:
            self.events.append(what)
            self.times.append(self.loop.time())

        return note


def node_of(loop: VirtualLoop, daemon: Daemon, heard: Heard) -> Node:
    options = NodeOptions(("192.0.2.7", 2223))
    return Node(loop, random.Random(1), options, WATCH, heard("begun"), heard("down"), daemon.connect)


def exchanges_of(loop: VirtualLoop, daemon: Daemon) -> Exchanges:
    exchanges = Exchanges(loop, random.Random(1), daemon.send, daemon.drain)
    daemon.received = exchanges.received
    return exchanges


# -- commands and replies


def test_a_command_is_repeated_word_for_word_until_it_is_answered() -> None:
    async def test(loop: VirtualLoop) -> None:
        daemon = Daemon(loop)
        daemon.answers = False
        began = loop.time()
        future = exchanges_of(loop, daemon).ask({"command": "offer", "sdp": b"v=0\r\n"})
        await asyncio.sleep(0.4)
        assert [round(at - began, 3) for at, _ in daemon.sent] == [0.0, 0.05, 0.15, 0.35]
        assert len({datagram for _, datagram in daemon.sent}) == 1
        daemon.reply(daemon.sent[0][1], sdp=b"v=0\r\n")
        assert (await future)["sdp"] == b"v=0\r\n"
        await asyncio.sleep(5.0)
        assert len(daemon.sent) == 4

    run(test)


def test_a_command_without_an_answer_ends_after_a_second() -> None:
    async def test(loop: VirtualLoop) -> None:
        daemon = Daemon(loop)
        daemon.answers = False
        began = loop.time()
        with pytest.raises(NodeGoneError):
            await exchanges_of(loop, daemon).ask({"command": "offer"})
        assert loop.time() - began == pytest.approx(1.0)

    run(test)


def test_a_refusal_of_the_node_is_an_error_with_its_reason() -> None:
    async def test(loop: VirtualLoop) -> None:
        daemon = Daemon(loop)
        daemon.answers = False
        future = exchanges_of(loop, daemon).ask({"command": "answer"})
        daemon.reply(daemon.sent[0][1], result="error", **{"error-reason": "Unknown call-id"})
        with pytest.raises(NgError, match="Unknown call-id"):
            await future

    run(test)


def test_a_burst_waits_for_its_turn_and_a_probe_does_not() -> None:
    async def test(loop: VirtualLoop) -> None:
        daemon = Daemon(loop)
        daemon.answers = False
        exchanges = exchanges_of(loop, daemon)
        futures = [exchanges.ask({"command": "offer", "n": n}) for n in range(UNANSWERED_MAX + 2)]
        assert len(daemon.sent) == UNANSWERED_MAX
        exchanges.ask({"command": "ping"}, retry=False)
        assert len(daemon.sent) == UNANSWERED_MAX + 1
        for _, datagram in daemon.sent[:3]:  # the probe is one of those that are open
            daemon.reply(datagram)
        assert [command["n"] for command in daemon.commands()][-2:] == [UNANSWERED_MAX, UNANSWERED_MAX + 1]
        for _, datagram in daemon.sent[3:]:
            daemon.reply(datagram)
        await asyncio.gather(*futures)

    run(test)


@pytest.mark.parametrize("drains", [True, False])
def test_a_reply_that_waits_in_the_socket_while_we_stall_counts(drains: bool) -> None:
    """And the ablation: who does not look there first calls a node dead that has answered."""

    async def test(loop: VirtualLoop) -> None:
        daemon = Daemon(loop)
        daemon.holds = True
        exchanges = exchanges_of(loop, daemon)
        if not drains:
            exchanges._drain = lambda: None
        future = exchanges.ask({"command": "ping"}, timeout_s=0.1, retry=False)
        if drains:
            assert (await future)["result"] == b"pong"
        else:
            with pytest.raises(NodeGoneError):
                await future

    run(test)


def test_who_has_gone_costs_no_more_repetitions() -> None:
    async def test(loop: VirtualLoop) -> None:
        daemon = Daemon(loop)
        daemon.answers = False
        future = exchanges_of(loop, daemon).ask({"command": "offer"})
        future.cancel()
        await asyncio.sleep(5.0)
        assert len(daemon.sent) == 1

    run(test)


# -- is it there?


def test_a_node_is_up_from_its_first_reply() -> None:
    async def test(loop: VirtualLoop) -> None:
        daemon, heard = Daemon(loop), Heard(loop)
        node = node_of(loop, daemon, heard)
        assert node.up is None
        await asyncio.sleep(0.01)
        assert node.up and heard.events == ["begun"]
        await asyncio.sleep(60.0)
        assert heard.events == ["begun"]

    run(test)


def test_a_node_that_never_answered_is_down() -> None:
    async def test(loop: VirtualLoop) -> None:
        daemon, heard = Daemon(loop), Heard(loop)
        daemon.answers = False
        node = node_of(loop, daemon, heard)
        await asyncio.sleep(DEATH_S)
        assert node.up is False and heard.events == ["down"]

    run(test)


def test_silence_is_death_neither_too_early_nor_too_late() -> None:
    async def test(loop: VirtualLoop) -> None:
        daemon, heard = Daemon(loop), Heard(loop)
        node = node_of(loop, daemon, heard)
        await asyncio.sleep(5.05)
        daemon.answers = False
        silent_at = loop.time()
        waiting = node.ask({"command": "query"})
        await asyncio.sleep(2.0)
        assert heard.events == ["begun", "down"]
        assert WATCH.silence_s - WATCH.interval_s < heard.times[1] - silent_at <= DEATH_S
        with pytest.raises(NodeGoneError):
            await waiting
        daemon.answers = True
        await asyncio.sleep(2 * WATCH.interval_s)
        assert node.up and heard.events == ["begun", "down", "begun"]

    run(test)


def test_two_refusals_are_death_and_one_is_not() -> None:
    async def test(loop: VirtualLoop) -> None:
        daemon, heard = Daemon(loop), Heard(loop)
        node_of(loop, daemon, heard)
        await asyncio.sleep(1.0)
        daemon.refused()
        await asyncio.sleep(1.0)
        assert heard.events == ["begun"]
        daemon.refuses = True
        refused_at = loop.time()
        await asyncio.sleep(1.0)
        assert heard.events == ["begun", "down"]
        assert heard.times[1] - refused_at < WATCH.interval_s + 0.02

    run(test)


def test_late_replies_are_signs_of_life() -> None:
    async def test(loop: VirtualLoop) -> None:
        daemon, heard = Daemon(loop), Heard(loop)
        daemon.delay_s = 3 * WATCH.interval_s
        node_of(loop, daemon, heard)
        await asyncio.sleep(60.0)
        assert heard.events == ["begun"]

    run(test)


def test_what_others_send_is_no_sign_of_life() -> None:
    async def test(loop: VirtualLoop) -> None:
        daemon, heard = Daemon(loop), Heard(loop)
        daemon.answers = False
        node_of(loop, daemon, heard)
        for _ in range(20):
            daemon.received(b"someone d6:result4:ponge")
            await asyncio.sleep(0.1)
        assert heard.events == ["down"]

    run(test)


def test_a_restart_between_two_probes_shows_in_the_uptime() -> None:
    async def test(loop: VirtualLoop) -> None:
        daemon, heard = Daemon(loop), Heard(loop)
        node_of(loop, daemon, heard)
        await asyncio.sleep(30.4)
        assert heard.events == ["begun"]  # whole seconds, told at any moment, are no restart
        daemon.began = loop.time()
        await asyncio.sleep(2.5)
        assert heard.events == ["begun", "begun"]
        await asyncio.sleep(30.0)
        assert heard.events == ["begun", "begun"]

    run(test)


def test_what_is_not_wanted_is_deleted_at_once_or_when_the_node_is_back() -> None:
    async def test(loop: VirtualLoop) -> None:
        daemon = Daemon(loop)
        node = node_of(loop, daemon, Heard(loop))
        await asyncio.sleep(1.0)
        node.forget("c-1")
        await asyncio.sleep(0.1)
        assert [command["call-id"] for command in daemon.commands()] == [b"c-1"] and not node.unwanted
        daemon.answers = False
        await asyncio.sleep(DEATH_S)
        assert node.up is False
        node.forget("d-1")
        assert len(daemon.commands()) == 1
        daemon.answers = True
        await asyncio.sleep(1.0)
        assert [command["call-id"] for command in daemon.commands()] == [b"c-1", b"d-1"] and not node.unwanted

    run(test)


def test_a_deletion_that_was_lost_with_all_its_repetitions_is_tried_again() -> None:
    async def test(loop: VirtualLoop) -> None:
        daemon = Daemon(loop)
        node = node_of(loop, daemon, Heard(loop))
        await asyncio.sleep(1.0)
        daemon.deaf_to = b"6:delete"
        node.forget("c-1")
        await asyncio.sleep(3.0)
        assert node.up and node.unwanted
        daemon.deaf_to = b"nothing"
        await asyncio.sleep(3.0)
        assert not node.unwanted and daemon.commands()[-1]["call-id"] == b"c-1"

    run(test)


# -- which one?


def nodes_of(loop: VirtualLoop, weights: dict[str, int], lost: list[NodeLost]) -> Nodes:
    options = [NodeOptions((host, 2223), weight) for host, weight in weights.items()]

    def connect(loop_: Any, remote: Address, received: Any, refused: Any) -> Daemon:
        return Daemon(loop).connect(loop_, remote, received, refused)

    return Nodes(loop, random.Random(1), options, WATCH, connect, lambda node: None, lost.append)


async def nothing() -> None:
    return None


def test_sessions_are_spread_by_weight() -> None:
    async def test(loop: VirtualLoop) -> None:
        nodes = nodes_of(loop, {"192.0.2.1": 1, "192.0.2.2": 3}, [])
        await asyncio.sleep(0.1)
        for number in range(40):
            await nodes.placed(Session(f"s{number}"), nothing)
        assert [len(node.sessions) for node in nodes.all] == [10, 30]

    run(test)


def test_a_session_stays_where_it_is_and_leaves_a_dead_node() -> None:
    async def test(loop: VirtualLoop) -> None:
        lost: list[NodeLost] = []
        nodes = nodes_of(loop, {"192.0.2.1": 1, "192.0.2.2": 1}, lost)
        await asyncio.sleep(0.1)
        sessions = [Session(f"s{number}") for number in range(4)]
        for session in sessions:
            await nodes.placed(session, nothing)
        dead, other = nodes.all
        gone = [session.name for session in sessions if session.node is dead]
        for _ in range(2):
            dead._refused()
        await asyncio.sleep(0.0)
        assert [(event.node, list(event.sessions)) for event in lost] == [("192.0.2.1:2223", gone)]
        for session in sessions:
            before = session.call
            await nodes.placed(session, nothing)
            assert session.node is other and (session.call != before) is (session.name in gone)
        assert [f"{name}-1" for name in gone] == list(dead.unwanted)

    run(test)


def test_a_node_that_forgot_is_taken_again_only_when_there_is_no_other() -> None:
    async def test(loop: VirtualLoop) -> None:
        for hosts in (["192.0.2.1"], ["192.0.2.1", "192.0.2.2"]):
            nodes = nodes_of(loop, dict.fromkeys(hosts, 1), [])
            await asyncio.sleep(0.1)
            session = Session("s")
            await nodes.placed(session, nothing)
            former, session.lost = session.node, True
            await nodes.placed(session, nothing)
            assert (session.node is former) is (len(hosts) == 1) and session.call == "s-2" and not session.lost
            nodes.close()

    run(test)


def test_without_a_node_that_is_up_it_says_so() -> None:
    async def test(loop: VirtualLoop) -> None:
        nodes = nodes_of(loop, {"192.0.2.1": 1}, [])
        with pytest.raises(MediaError, match="no rtpengine is up"):
            await nodes.placed(Session("s"), nothing)

    run(test)


def test_losses_of_one_turn_are_told_together() -> None:
    async def test(loop: VirtualLoop) -> None:
        lost: list[NodeLost] = []
        nodes = nodes_of(loop, {"192.0.2.1": 1}, lost)
        for name in ("s1", "s2"):
            nodes.tell_lost("gone", [Session(name)])
        await asyncio.sleep(0.0)
        assert [(event.node, event.sessions) for event in lost] == [("gone", ("s1", "s2"))]

    run(test)
