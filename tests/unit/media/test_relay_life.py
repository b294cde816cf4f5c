"""The relay and its clients come and go; audio stays. Deaths of either, orphans, bad clients."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
from pathlib import Path

import pytest

from media.api import MediaError, MediaEvent, MediaRestarted
from media.relay.client import RelayPlane
from media.relay.protocol import MAX_FRAME, VERSION, Frames, frame
from tests.unit.media.descriptions import audio
from tests.unit.media.relay_bed import (
    BACKEND,
    BACKUP,
    CALLER,
    PATIENCE_S,
    RELAY,
    Bed,
    address,
    port,
    relay_bed,
    run,
    version,
    when,
)


async def killed(bed: Bed) -> MediaRestarted:
    """Kill the relay and wait until the plane says that it is back."""
    events: asyncio.Queue[MediaEvent] = asyncio.Queue()
    bed.plane.subscribe(events.put_nowait)
    assert bed.plane.relay_pid is not None
    os.kill(bed.plane.relay_pid, signal.SIGKILL)
    event = await asyncio.wait_for(events.get(), PATIENCE_S)
    assert isinstance(event, MediaRestarted)
    return event


async def ended(pid: int | None) -> None:
    async def look() -> bool | None:
        assert pid is not None
        return os.waitpid(pid, os.WNOHANG)[0] == pid or None

    await when(look)


def test_sessions_are_built_anew_on_the_same_ports_when_the_relay_dies(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, backup = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(BACKUP)
            for_caller, for_backend = await bed.call(caller, backend)
            for_backup = address(await bed.plane.offer("c", "a", "b2", caller.sdp()))
            former = bed.plane.relay_pid
            event = await killed(bed)
            assert event.lost == () and bed.plane.relay_pid != former
            backend.say(for_backend, b"to whom was signalled")  # the caller has not been heard since
            assert caller.hear() == b"to whom was signalled"
            caller.say(for_caller, b"and back")
            assert backend.hear() == b"and back"
            # A recovery that was under way goes on.
            answer = await bed.plane.answer("c", "b2", "a", backup.sdp())
            assert address(answer) == for_caller
            await bed.plane.switch("c", "a", "b2")
            await bed.settle()
            backup.say(for_backup, b"backup")
            assert caller.hear() == b"backup"

    run(test())


def test_fence_survives_the_death_of_the_relay(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, backup = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(BACKUP)
            _, for_backend = await bed.call(caller, backend)
            for_backup = address(await bed.plane.offer("c", "a", "b2", caller.sdp()))
            await bed.plane.answer("c", "b2", "a", backup.sdp())
            await bed.plane.switch("c", "a", "b2")
            await killed(bed)
            backend.say(for_backend, b"from the grave")
            await bed.stats_when(lambda stats: any(stream.lost_to_fence for stream in stats.streams))
            backup.say(for_backup, b"here I am")
            assert caller.hear() == b"here I am"

    run(test())


def test_a_relay_that_dies_again_at_once_is_built_anew_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, _ = await bed.call(caller, backend)
            await killed(bed)
            await killed(bed)
            caller.say(for_caller, b"still here")
            assert backend.hear() == b"still here"
            assert bed.plane.counters["relay_restarts"] == 2

    run(test())


def test_a_relay_that_is_being_built_anew_gives_no_port_twice(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path, ports=(31000, 32999)) as bed:
            names = [f"c{number}" for number in range(300)]
            ports = [port(await bed.plane.offer(name, "a", "b1", audio(CALLER, 4000))) for name in names]
            events: asyncio.Queue[MediaEvent] = asyncio.Queue()
            bed.plane.subscribe(events.put_nowait)
            assert bed.plane.relay_pid is not None
            os.kill(bed.plane.relay_pid, signal.SIGKILL)
            offers = []
            while events.empty():
                offers.append(bed.plane.offer(f"d{len(offers)}", "a", "b1", audio(CALLER, 4000)))
                for _ in range(50 if len(offers) < 400 else 1):
                    await asyncio.sleep(0)
            ports += [port(await offer) for offer in offers[:100]]
            assert len(ports) == len(set(ports))

    run(test())


def test_sessions_whose_port_was_taken_meanwhile_are_named_as_lost(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, _ = await bed.call(caller, backend)
            for_other, _ = await bed.call(caller, backend, "d")
            assert bed.plane.relay_pid is not None
            os.kill(bed.plane.relay_pid, signal.SIGSTOP)
            events: asyncio.Queue[MediaRestarted] = asyncio.Queue()
            bed.plane.subscribe(events.put_nowait)
            os.kill(bed.plane.relay_pid, signal.SIGKILL)
            os.waitid(os.P_PID, bed.plane.relay_pid, os.WEXITED | os.WNOWAIT)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
                thief.bind(for_caller)
                event = await asyncio.wait_for(events.get(), PATIENCE_S)
                assert event.lost == ("c",)
                caller.say(for_other, b"not lost")
                assert backend.hear() == b"not lost"
                anew, _ = await bed.call(caller, backend)
            assert anew != for_caller
            caller.say(anew, b"found again")
            assert backend.hear() == b"found again"

    run(test())


def test_offers_while_the_relay_is_down_are_done_when_it_is_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            assert bed.plane.relay_pid is not None
            os.kill(bed.plane.relay_pid, signal.SIGKILL)
            with pytest.raises(MediaError, match="down"):
                await bed.plane.relay_counters()
            offer = bed.plane.offer("c", "a", "b1", audio(CALLER, 4000))
            assert not offer.done()
            assert address(await offer)[0] == RELAY

    run(test())


def test_offers_fail_when_the_relay_stays_away(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            attached = await RelayPlane.connect(bed.options.socket, random.Random(8))
            await bed.plane.close()  # the relay goes on for the sake of the other client, until it is killed
            assert bed.plane.relay_pid is not None
            os.kill(bed.plane.relay_pid, signal.SIGKILL)
            with pytest.raises(MediaError, match="down"):
                await attached.relay_counters()
            with pytest.raises(MediaError, match="no relay at"):
                await attached.offer("c", "a", "b1", audio(CALLER, 4000))
            await attached.close()

    run(test())


def test_audio_flows_on_when_the_proxy_is_gone_and_its_successor_takes_the_session_up(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend, backup = bed.peer(CALLER), bed.peer(BACKEND), bed.peer(BACKUP)
            for_caller, for_backend = await bed.call(caller, backend)
            told = await bed.plane.answer("c", "b1", "a", backend.sdp())
            snapshot = bed.plane.snapshot("c")
            pid = bed.plane.relay_pid
            await bed.plane.close()
            caller.say(for_caller, b"nobody at the controls")
            assert backend.hear() == b"nobody at the controls"

            bed.plane = await RelayPlane.start(bed.options, random.Random(8))
            assert bed.plane.relay_pid is None  # the one that runs was taken up
            bed.plane.restore("c", snapshot)
            counters = await bed.settle()
            assert (counters["lines"], counters["orphans"]) == (2, 0)
            backend.say(for_backend, b"still latched")
            assert caller.hear() == b"still latched"
            assert await bed.plane.answer("c", "b1", "a", backend.sdp()) == told
            held = await bed.plane.answer("c", "b1", "a", backend.sdp(b"a=inactive"))
            assert version(held) == version(told) + 1
            for_backup = address(await bed.plane.offer("c", "a", "b2", caller.sdp()))
            assert for_backup not in (for_caller, for_backend)
            await bed.plane.answer("c", "b2", "a", backup.sdp())
            await bed.plane.switch("c", "a", "b2")
            await bed.settle()
            caller.say(for_caller, b"moved")
            assert backup.hear() == b"moved"
            bed.plane.delete("c")
            await bed.settle()
            await bed.plane.close()
            await ended(pid)  # by itself: nobody needs it

    run(test())


def test_a_session_is_restored_although_its_relay_died_with_the_proxy(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, for_backend = await bed.call(caller, backend)
            snapshot = bed.plane.snapshot("c")
            await bed.plane.close()
            assert bed.plane.relay_pid is not None
            os.kill(bed.plane.relay_pid, signal.SIGKILL)
            await ended(bed.plane.relay_pid)

            bed.plane = await RelayPlane.start(bed.options, random.Random(8))
            bed.plane.restore("c", snapshot)  # its ports may be in the new stock, or on their way there
            others = [await bed.plane.offer(f"d{index}", "a", "b1", audio(CALLER, 4000)) for index in range(150)]
            assert not {port(offer) for offer in others} & {for_caller[1], for_backend[1]}
            await bed.settle()
            caller.say(for_caller, b"hello")
            assert backend.hear() == b"hello"
            backend.say(for_backend, b"hello")
            assert caller.hear() == b"hello"

    run(test())


def test_orphans_that_nobody_takes_up_are_removed_and_an_idle_relay_ends(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path, orphan_s=0.2) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            await bed.call(caller, backend)
            await bed.call(caller, backend, "d")
            snapshot = bed.plane.snapshot("d")
            await bed.plane.close()
            bed.plane = await RelayPlane.connect(bed.options.socket, random.Random(8))
            bed.plane.restore("d", snapshot)

            async def orphans_gone() -> dict[str, int] | None:
                counters = await bed.plane.relay_counters()
                return counters if counters["orphans"] == 0 and counters["lines"] == 2 else None

            counters = await when(orphans_gone)
            assert counters["orphans_removed"] == 2

    run(test())


def test_a_lost_connection_to_a_living_relay_is_taken_up_again_and_is_no_restart(tmp_path: Path) -> None:
    wires: list[asyncio.StreamWriter] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def test() -> None:
        async with relay_bed(tmp_path) as bed:

            async def splice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                inner_reader, inner_writer = await asyncio.open_unix_connection(bed.options.socket)
                wires.extend((writer, inner_writer))
                await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

            async with await asyncio.start_unix_server(splice, tmp_path / "splice.sock"):
                caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
                keeper = bed.plane
                bed.plane = await RelayPlane.connect(str(tmp_path / "splice.sock"), random.Random(8))
                bed.plane.subscribe(lambda event: pytest.fail(f"{event}"))
                for_caller, _ = await bed.call(caller, backend)
                caller.say(for_caller, b"1")
                assert backend.hear() == b"1"
                for wire in wires.copy():
                    wire.close()
                with pytest.raises(MediaError, match="down"):
                    await bed.plane.relay_counters()

                async def adopted() -> bool | None:
                    counters = await keeper.relay_counters()
                    return (counters["connections"] == 3 and counters["orphans"] == 0) or None

                await when(adopted)
                await bed.plane.offer("d", "a", "b1", audio(CALLER, 4000))
                stats = await bed.plane.query("c")
                assert stats.streams[0].packets == 1  # as it was: nothing has been built anew
                for name in ("c", "d"):
                    bed.plane.delete(name)
                await bed.plane.close()
                bed.plane = keeper

    run(test())


async def talk(path: str, data: bytes) -> list[list[object]]:
    """What the relay says to a client that sends `data`, until it hangs up."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    received = await asyncio.wait_for(reader.read(), PATIENCE_S)
    writer.close()
    return Frames().feed(received)


HELLO = ["hello", VERSION]


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        (MAX_FRAME + 1).to_bytes(4, "big"),
        b"\x00\x00\x00\x01\xc1",
        b"\x00\x00\x00\x00",
        frame([1]),
        frame([["open", 31000]]),  # no hello
        frame([HELLO, ["unheard-of"]]),
        frame([HELLO, ["open"]]),
        frame([HELLO, ["open", "x"]]),
        frame([HELLO, ["open", 99 << 16 | 31000]]),
        frame([HELLO, ["open", 31000, 1]]),
        frame([HELLO, ["stock", 7, 1]]),
        frame([HELLO, ["stock", 0, "many"]]),
        frame([HELLO, ["query", 1, 2]]),
        frame([HELLO, ["open", 31998], ["remote", 31998, 1, 2, 3, 4, False, True, ""]]),
        frame([["hello", VERSION + 1]]),
    ],
)
def test_a_client_that_does_not_speak_our_protocol_loses_its_connection_and_nobody_else(
    tmp_path: Path, data: bytes
) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path, orphan_s=0.1) as bed:
            caller, backend = bed.peer(CALLER), bed.peer(BACKEND)
            for_caller, _ = await bed.call(caller, backend)
            await talk(bed.options.socket, data)
            assert (await bed.settle())["protocol_errors"] == 1
            caller.say(for_caller, b"undisturbed")
            assert backend.hear() == b"undisturbed"

    run(test())


def test_what_cannot_be_done_is_answered(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path, orphan_s=0.1) as bed:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.bind((RELAY, 32100))
                reader, writer = await asyncio.open_unix_connection(bed.options.socket)
                remotes = [
                    ["remote", 32200, host, port, CALLER, 4001, False, True, ""]
                    for host, port in (("phone.example", 4000), ("::1", 4000), (CALLER, 0), (CALLER, 65536))
                ]
                commands = [["open", 32100], ["open", 32200]]
                commands += [["remote", 32300, CALLER, 4000, CALLER, 4001, False, True, ""]]
                writer.write(
                    frame([HELLO, *commands, *remotes, ["close", 5], ["fence", 5], ["link", 5, 6], ["sync", 9]])
                )
                frames, answers = Frames(), []
                while not answers or answers[-1] != ["sync", 9]:
                    answers += frames.feed(await asyncio.wait_for(reader.read(65536), PATIENCE_S))
                writer.close()
            failed = [answer[1] for answer in answers if answer[0] == "failed"]
            assert failed == [32100, 32300, 32200, 32200, 32200, 32200]

    run(test())


def test_frames_may_arrive_in_pieces() -> None:
    data = frame([["sync", 1]]) + frame([["sync", 2], ["sync", 3]])
    frames = Frames()
    commands = [command for index in range(len(data)) for command in frames.feed(data[index : index + 1])]
    assert commands == [["sync", 1], ["sync", 2], ["sync", 3]]


def test_a_relay_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(MediaError, match="ended at once"):
            async with relay_bed(tmp_path, hosts=("not-an-address",)):
                pass
        with pytest.raises(MediaError, match="no relay at"):
            await RelayPlane.connect(str(tmp_path / "nobody.sock"), random.Random(1))

    run(test())


def test_a_stale_socket_is_replaced_and_a_second_relay_refuses(tmp_path: Path) -> None:
    async def test() -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / "relay.sock"))
        async with relay_bed(tmp_path) as bed:
            second = await asyncio.create_subprocess_exec(*bed.options.argv(), stderr=asyncio.subprocess.PIPE)
            _, words = await asyncio.wait_for(second.communicate(), PATIENCE_S)
            assert second.returncode == 1 and b"a relay is running" in words

    run(test())
