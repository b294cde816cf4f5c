"""The contract of `media.api`, held by what really carries media: the embedded relay, and real rtpengine.

Each case runs against both. What is special to one of them is tested beside it (`tests/unit/media`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from media.api import MediaError, MediaPlane, SessionStats
from media.relay.client import RelayPlane
from media.relay.link import RelayOptions
from media.rtpengine import NodeOptions, RtpenginePlane
from tests.testbed.hosts import host
from tests.testbed.rtpengine import Rtpengine
from tests.unit.media.descriptions import audio
from tests.unit.media.relay_bed import Peer, address, heard, port, version, when

CALLER, BACKEND, BACKUP, ENGINE = (host(number) for number in (41, 42, 43, 45))
OFFER, ANSWER, OTHER_ANSWER = audio(CALLER, 4000), audio(BACKEND, 5000), audio(BACKUP, 6000)


class Bed:
    """A plane, its engine, and a second plane that takes up what the first one leaves."""

    def __init__(self, start: Callable[[random.Random], Awaitable[RelayPlane | RtpenginePlane]]) -> None:
        self._start = start
        self.plane: RelayPlane | RtpenginePlane
        self.planes: list[RelayPlane | RtpenginePlane] = []
        self.peers: list[Peer] = []

    async def new_plane(self) -> MediaPlane:
        self.plane = await self._start(random.Random(len(self.planes)))
        self.planes.append(self.plane)
        return self.plane

    def peers_of_a_call(self) -> tuple[Peer, Peer, Peer]:
        self.peers += [Peer(each) for each in (CALLER, BACKEND, BACKUP)]
        first, second, third = self.peers[-3:]
        return first, second, third

    async def call(self, caller: Peer, backend: Peer) -> tuple[tuple[str, int], tuple[str, int]]:
        """A connected session "c"; where the caller and where the backend must send."""
        for_backend = await self.plane.offer("c", "a", "b1", caller.sdp())
        for_caller = await self.plane.answer("c", "b1", "a", backend.sdp())
        await self.settle()
        return address(for_caller), address(for_backend)

    async def settle(self) -> SessionStats:
        """What was asked before is done when this is answered."""
        return await self.plane.query("c")

    async def stats_when(self, condition: Callable[[SessionStats], bool]) -> SessionStats:
        async def look() -> SessionStats | None:
            stats = await self.plane.query("c")
            return stats if condition(stats) else None

        return await when(look)


@asynccontextmanager
async def bed_of(engine: str, folder: Path) -> AsyncIterator[Bed]:
    async with AsyncExitStack() as stack:
        if engine == "relay":
            options = RelayOptions(str(folder / "relay.sock"), (ENGINE,), (31000, 31999))
            bed = Bed(lambda rng: RelayPlane.start(options, rng))
        else:
            daemon = stack.enter_context(Rtpengine(ENGINE, folder))
            daemon.wait_ready()
            nodes = [NodeOptions(daemon.address)]
            bed = Bed(lambda rng: RtpenginePlane.start(ENGINE, nodes, rng))
        await bed.new_plane()
        try:
            yield bed
        finally:
            for name in bed.plane.sessions():
                bed.plane.delete(name)
            for plane in bed.planes:
                await plane.close()
            for peer in bed.peers:
                peer.close()


Test = Callable[[Bed], Coroutine[None, None, None]]


@pytest.fixture(params=["relay", "rtpengine"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Test], None]:
    async def on_a_bed(test: Test) -> None:
        async with bed_of(request.param, tmp_path) as bed:
            await asyncio.wait_for(test(bed), 30)

    return lambda test: asyncio.run(on_a_bed(test))


Run = Callable[[Test], None]


def test_media_flows_both_ways_and_is_counted(run: Run) -> None:
    async def test(bed: Bed) -> None:
        caller, backend, _ = bed.peers_of_a_call()
        for_caller, for_backend = await bed.call(caller, backend)
        for _ in range(3):
            caller.say(for_caller, b"hello")
            assert backend.hear() == b"hello"
        backend.say(for_backend, b"welcome")
        assert caller.hear() == b"welcome"
        stats = await bed.stats_when(lambda stats: heard(stats, "a") == 3 and heard(stats, "b1") == 1)
        assert set(stats.connected or ()) == {"a", "b1"}
        ours, _ = sorted(stats.streams, key=lambda stream: stream.leg)
        assert (ours.line, ours.packets, ours.source) == (0, 3, (caller.host, caller.port))
        assert 0.0 < ours.last_packet_at <= asyncio.get_running_loop().time()

    run(test)


def test_rtcp_passes(run: Run) -> None:
    async def test(bed: Bed) -> None:
        caller, backend, _ = bed.peers_of_a_call()
        for_caller, _ = await bed.call(caller, backend)
        caller.report(for_caller, b"caller")
        assert b"caller" in backend.hear_report()

    run(test)


def test_a_stream_that_never_came_has_no_times(run: Run) -> None:
    async def test(bed: Bed) -> None:
        caller, backend, _ = bed.peers_of_a_call()
        await bed.call(caller, backend)
        for stream in (await bed.settle()).streams:
            assert (stream.packets, stream.source) == (0, None)
            assert stream.first_packet_at == stream.last_packet_at == 0.0

    run(test)


def test_version_grows_with_hold_and_resume_and_not_with_repetition(run: Run) -> None:
    async def test(bed: Bed) -> None:
        offer = await bed.plane.offer("c", "a", "b1", OFFER)
        early = await bed.plane.answer("c", "b1", "a", ANSWER)
        final = await bed.plane.answer("c", "b1", "a", ANSWER)
        assert early == final and version(early) == 1
        held = await bed.plane.offer("c", "a", "b1", OFFER + b"a=sendonly\r\n")
        assert b"a=sendonly" in held
        assert await bed.plane.offer("c", "a", "b1", OFFER + b"a=sendonly\r\n") == held
        agreed = await bed.plane.answer("c", "b1", "a", ANSWER + b"a=recvonly\r\n")
        assert b"a=recvonly" in agreed and version(agreed) == 2
        resumed = await bed.plane.offer("c", "a", "b1", OFFER)
        assert [version(body) for body in (offer, held, resumed)] == [1, 2, 3]
        assert port(offer) == port(held) == port(resumed)
        assert offer.split()[2] == held.split()[2] == resumed.split()[2]  # the id

    run(test)


def test_a_hold_by_address_keeps_it(run: Run) -> None:
    async def test(bed: Bed) -> None:
        await bed.plane.offer("c", "a", "b1", OFFER)
        await bed.plane.answer("c", "b1", "a", ANSWER)
        assert address(await bed.plane.offer("c", "a", "b1", audio("0.0.0.0", 4000)))[0] == "0.0.0.0"

    run(test)


def test_lines_that_say_what_is_sent_cross_unchanged(run: Run) -> None:
    lines = (b"a=rtpmap:101 telephone-event/8000", b"a=fmtp:101 0-16", b"a=ptime:30", b"a=rtpmap:96 opus/48000/2")

    async def test(bed: Bed) -> None:
        offer = await bed.plane.offer("c", "a", "b1", audio(CALLER, 4000, *lines, formats=b"8 96 101"))
        assert b"RTP/AVP 8 96 101\r\n" in offer
        for line in lines:
            assert line in offer.split(b"\r\n")

    run(test)


def test_another_backend_leaves_the_ports_of_the_caller_as_they_are(run: Run) -> None:
    async def test(bed: Bed) -> None:
        offer = audio(CALLER, 4000, formats=b"0 8")
        first = await bed.plane.offer("c", "a", "b1", offer)
        told = await bed.plane.answer("c", "b1", "a", ANSWER)
        second = await bed.plane.offer("c", "a", "b2", offer)
        preview = await bed.plane.answer("c", "b2", "a", OTHER_ANSWER, preview=True)
        assert preview == told
        assert port(second) != port(first)
        await bed.plane.offer("c", "a", "b3", offer)
        changed = await bed.plane.answer("c", "b3", "a", audio(BACKUP, 6002, formats=b"8"), preview=True)
        assert b"RTP/AVP 8\r\n" in changed and version(changed) == 2 and port(changed) == port(told)
        assert set((await bed.settle()).connected or ()) == {"a", "b1"}
        await bed.plane.switch("c", "a", "b3")
        assert set((await bed.settle()).connected or ()) == {"a", "b3"}
        sent = await bed.plane.offer("c", "b3", "a", audio(BACKUP, 6002, formats=b"8"))
        assert sent == changed

    run(test)


def test_a_third_leg_is_heard_after_the_switch_and_the_old_one_no_more(run: Run) -> None:
    async def test(bed: Bed) -> None:
        caller, backend, backup = bed.peers_of_a_call()
        for_caller, for_backend = await bed.call(caller, backend)
        for_backup = address(await bed.plane.offer("c", "a", "b2", caller.sdp()))
        await bed.settle()
        caller.say(for_caller, b"1")
        assert backend.hear() == b"1"  # an offer elsewhere has changed nothing
        await bed.plane.answer("c", "b2", "a", backup.sdp())
        await bed.settle()

        caller.say(for_caller, b"2")
        assert backend.hear() == b"2"
        backup.say(for_backup, b"too early")
        backend.say(for_backend, b"still there")
        assert caller.hear() == b"still there"

        await bed.plane.switch("c", "a", "b2")
        await bed.settle()
        backend.say(for_backend, b"from the grave")
        caller.say(for_caller, b"3")
        assert backup.hear() == b"3"
        backup.say(for_backup, b"here I am")
        assert caller.hear() == b"here I am"  # and nothing before it
        assert backend.has_heard_nothing()

        bed.plane.delete("c", "b1")
        await bed.settle()
        caller.say(for_caller, b"4")
        assert backup.hear() == b"4"
        backup.say(for_backup, b"5")
        assert caller.hear() == b"5"

    run(test)


def test_a_switch_back_lets_the_first_leg_be_heard_again(run: Run) -> None:
    async def test(bed: Bed) -> None:
        caller, backend, backup = bed.peers_of_a_call()
        for_caller, for_backend = await bed.call(caller, backend)
        for_backup = address(await bed.plane.offer("c", "a", "b2", caller.sdp()))
        await bed.plane.answer("c", "b2", "a", backup.sdp())
        await bed.plane.switch("c", "a", "b2")
        await bed.plane.switch("c", "a", "b1")
        await bed.settle()
        backup.say(for_backup, b"away")
        backend.say(for_backend, b"back")
        assert caller.hear() == b"back"
        caller.say(for_caller, b"good")
        assert backend.hear() == b"good"
        assert backup.has_heard_nothing()

    run(test)


def test_a_late_offer_goes_the_other_way_round(run: Run) -> None:
    async def test(bed: Bed) -> None:
        caller, backend, _ = bed.peers_of_a_call()
        for_caller = address(await bed.plane.offer("c", "b1", "a", backend.sdp()))
        for_backend = address(await bed.plane.answer("c", "a", "b1", caller.sdp()))
        assert set((await bed.settle()).connected or ()) == {"a", "b1"}
        caller.say(for_caller, b"1")
        assert backend.hear() == b"1"
        backend.say(for_backend, b"2")
        assert caller.hear() == b"2"

    run(test)


def test_a_backend_that_fails_before_the_answer_is_replaced(run: Run) -> None:
    async def test(bed: Bed) -> None:
        caller, backend, backup = bed.peers_of_a_call()
        await bed.plane.offer("c", "a", "b1", caller.sdp())
        bed.plane.delete("c", "b1")
        for_backup = address(await bed.plane.offer("c", "a", "b2", caller.sdp()))
        for_caller = address(await bed.plane.answer("c", "b2", "a", backup.sdp()))
        await bed.settle()
        caller.say(for_caller, b"1")
        assert backup.hear() == b"1"
        backup.say(for_backup, b"2")
        assert caller.hear() == b"2"
        assert backend.has_heard_nothing()

    run(test)


def test_a_peer_that_moves_is_followed(run: Run) -> None:
    async def test(bed: Bed) -> None:
        caller, backend, elsewhere = bed.peers_of_a_call()
        _, for_backend = await bed.call(caller, backend)
        assert address(await bed.plane.offer("c", "a", "b1", elsewhere.sdp())) == for_backend
        await bed.plane.answer("c", "b1", "a", backend.sdp())
        await bed.settle()
        backend.say(for_backend, b"over there")
        assert elsewhere.hear() == b"over there"

    run(test)


def test_a_session_is_taken_up_by_another_process(run: Run) -> None:
    async def test(bed: Bed) -> None:
        caller, backend, backup = bed.peers_of_a_call()
        for_caller, for_backend = await bed.call(caller, backend)
        snapshot = bed.plane.snapshot("c")
        told = await bed.plane.answer("c", "b1", "a", backend.sdp())
        await bed.plane.close()

        successor = await bed.new_plane()
        successor.restore("c", snapshot)
        caller.say(for_caller, b"1")
        assert backend.hear() == b"1"
        assert await successor.answer("c", "b1", "a", backend.sdp()) == told
        for_backup = address(await successor.offer("c", "a", "b2", caller.sdp()))
        await successor.answer("c", "b2", "a", backup.sdp(), preview=True)
        await successor.switch("c", "a", "b2")
        await bed.settle()
        backup.say(for_backup, b"2")
        backend.say(for_backend, b"from the grave")
        assert caller.hear() == b"2"
        caller.say(for_caller, b"3")
        assert backup.hear() == b"3"
        assert version(await successor.offer("c", "b2", "a", backup.sdp(b"a=sendonly"))) == version(told) + 1

    run(test)


def test_what_cannot_be_done_is_an_error_that_says_so(run: Run) -> None:
    async def test(bed: Bed) -> None:
        for future in (
            bed.plane.answer("none", "b1", "a", ANSWER),
            bed.plane.switch("none", "a", "b1"),
            bed.plane.query("none"),
        ):
            with pytest.raises(MediaError, match=r"session none: .*not known"):
                await future
        with pytest.raises(MediaError, match="session c: leg a: not a session description"):
            await bed.plane.offer("c", "a", "b1", b"hello")
        await bed.plane.offer("c", "a", "b1", OFFER)
        with pytest.raises(MediaError, match=r"session c: .*b9"):
            await bed.plane.switch("c", "a", "b9")
        with pytest.raises(MediaError, match="session c: answer for leg b9, which is not known"):
            await bed.plane.answer("c", "a", "b9", ANSWER)
        with pytest.raises(MediaError, match="session d: "):
            bed.plane.snapshot("d")
        with pytest.raises(MediaError, match=r"session d: .*version 99"):
            bed.plane.restore("d", {"version": 99})

    run(test)


def test_an_ability_that_is_not_claimed_is_refused(run: Run) -> None:
    async def test(bed: Bed) -> None:
        caller, backend, _ = bed.peers_of_a_call()
        await bed.call(caller, backend)
        asks: dict[str, Callable[[], Awaitable[object]]] = {
            "fork": lambda: bed.plane.fork("c", "a", "b1"),
            "bridge": lambda: bed.plane.bridge("c", "a", "c", "b1"),
            "mix": lambda: bed.plane.mix([("c", "a"), ("c", "b1"), ("c", "b2")]),
            "keep": lambda: bed.plane.kept("c"),
        }
        for ability, ask in asks.items():
            if ability not in bed.plane.capabilities:
                with pytest.raises(MediaError):
                    await ask()

    run(test)


def test_deleting_twice_or_in_the_middle_of_things_is_no_error(run: Run) -> None:
    async def test(bed: Bed) -> None:
        await bed.plane.offer("c", "a", "b1", OFFER)
        bed.plane.delete("c", "b1")
        bed.plane.delete("c", "b1")
        bed.plane.delete("c")
        bed.plane.delete("c")
        with pytest.raises(MediaError):
            await bed.plane.query("c")
        assert bed.plane.sessions() == []

    run(test)
