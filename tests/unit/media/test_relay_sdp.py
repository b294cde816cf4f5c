"""Offer and answer through the plane: ports, o= lines, holds, forks. A relay runs, media does not matter here."""

from __future__ import annotations

from pathlib import Path

import pytest

from media.api import MediaError
from tests.unit.media.descriptions import AUDIO, ICE, T38, audio
from tests.unit.media.relay_bed import BACKEND, BACKUP, CALLER, RELAY, address, port, relay_bed, run, version

OFFER = audio(CALLER, 4000)
ANSWER = audio(BACKEND, 5000)


def test_offer_and_answer_are_done_at_once_with_our_address(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            offer = bed.plane.offer("c", "a", "b1", OFFER)
            answer = bed.plane.answer("c", "b1", "a", ANSWER)
            assert offer.done() and answer.done()
            assert address(offer.result())[0] == address(answer.result())[0] == RELAY
            assert port(offer.result()) != port(answer.result())
            assert port(offer.result()) % 2 == port(answer.result()) % 2 == 0

    run(test())


def test_version_grows_with_hold_and_resume_and_not_with_repetition(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            offer = await bed.plane.offer("c", "a", "b1", OFFER)
            early = await bed.plane.answer("c", "b1", "a", ANSWER)
            final = await bed.plane.answer("c", "b1", "a", ANSWER)
            assert early == final and version(early) == 1
            held = await bed.plane.offer("c", "a", "b1", OFFER + b"a=sendonly\r\n")
            assert await bed.plane.offer("c", "a", "b1", OFFER + b"a=sendonly\r\n") == held
            resumed = await bed.plane.offer("c", "a", "b1", OFFER)
            assert [version(body) for body in (offer, held, resumed)] == [1, 2, 3]
            assert port(offer) == port(held) == port(resumed)
            assert offer.split()[1] == held.split()[1] == resumed.split()[1]  # the id

    run(test())


def test_a_hold_by_address_keeps_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            await bed.plane.offer("c", "a", "b1", OFFER)
            await bed.plane.answer("c", "b1", "a", ANSWER)
            held = await bed.plane.offer("c", "a", "b1", audio("0.0.0.0", 4000))
            assert address(held)[0] == "0.0.0.0"

    run(test())


def test_an_offer_that_is_taken_back_does_not_count_as_sent(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            await bed.plane.offer("c", "a", "b1", OFFER)
            await bed.plane.answer("c", "b1", "a", ANSWER)
            refused = await bed.plane.offer("c", "a", "b1", OFFER + b"a=sendonly\r\n")
            taken_back = await bed.plane.offer("c", "a", "b1", OFFER, preview=True)
            assert (version(refused), version(taken_back)) == (2, 3)
            assert await bed.plane.offer("c", "a", "b1", OFFER + b"a=sendonly\r\n") == refused

    run(test())


def test_answer_of_another_backend_keeps_the_ports_of_the_caller(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            first = await bed.plane.offer("c", "a", "b1", OFFER)
            told = await bed.plane.answer("c", "b1", "a", ANSWER)
            second = await bed.plane.offer("c", "a", "b2", OFFER)
            preview = await bed.plane.answer("c", "b2", "a", audio(BACKUP, 6000), preview=True)
            assert preview == told
            assert port(second) != port(first)
            changed = await bed.plane.answer("c", "b2", "a", audio(BACKUP, 6000, formats=b"8"), preview=True)
            assert version(changed) == 2 and port(changed) == port(told)
            assert (await bed.plane.query("c")).connected == ("a", "b1")
            await bed.plane.switch("c", "a", "b2")
            assert (await bed.plane.query("c")).connected == ("a", "b2")
            sent = await bed.plane.offer("c", "b2", "a", audio(BACKUP, 6000, formats=b"8"))
            assert sent == changed

    run(test())


def test_late_offer_goes_the_other_way_round(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            towards_caller = await bed.plane.offer("c", "b1", "a", ANSWER)
            towards_backend = await bed.plane.answer("c", "a", "b1", OFFER)
            assert port(towards_caller) != port(towards_backend)
            assert set((await bed.plane.query("c")).connected or ()) == {"a", "b1"}
            assert (await bed.settle())["lines"] == 2

    run(test())


def test_forks_that_answer_one_offer_share_its_ports(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            await bed.plane.offer("c", "a", "b1", OFFER)
            first = await bed.plane.answer("c", "b1", "a", ANSWER)
            fork = await bed.plane.answer("c", "b1.2", "a", audio(BACKUP, 6000))
            assert port(fork) == port(first)
            assert (await bed.settle())["lines"] == 2
            await bed.plane.switch("c", "a", "b1.2")
            bed.plane.delete("c", "b1")
            assert (await bed.settle())["lines"] == 2
            bed.plane.delete("c")
            assert (await bed.settle())["lines"] == 0

    run(test())


def test_rejected_lines_cost_no_ports_and_later_ones_keep_the_first(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            offer = await bed.plane.offer("c", "a", "b1", AUDIO)
            await bed.plane.answer("c", "b1", "a", ANSWER)
            fax = await bed.plane.offer("c", "a", "b1", T38)
            assert [port(fax, 0), port(fax, 1) > 0] == [0, True]
            assert (await bed.settle())["lines"] == 4
            back = await bed.plane.offer("c", "a", "b1", AUDIO)
            assert port(back) == port(offer) != port(fax, 1)

    run(test())


def test_candidates_do_not_pass(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            offer = await bed.plane.offer("c", "a", "b1", ICE)
            assert b"candidate" not in offer and b"198.51.100" not in offer

    run(test())


def test_advertised_address_is_what_sdp_says(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path, hosts=(f"{RELAY}=203.0.113.9",)) as bed:
            offer = await bed.plane.offer("c", "a", "b1", OFFER)
            assert address(offer)[0] == "203.0.113.9"
            assert b"o=- " in offer and b" IN IP4 203.0.113.9\r\n" in offer

    run(test())


@pytest.mark.parametrize("sdp", [b"", b"garbage", AUDIO.replace(b"c=IN IP4 192.0.2.7\r\n", b"")])
def test_bad_sdp_is_an_error_and_leaves_nothing_behind(tmp_path: Path, sdp: bytes) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            with pytest.raises(MediaError, match="session c: leg a: "):
                await bed.plane.offer("c", "a", "b1", sdp)
            assert bed.plane.sessions() == []
            await bed.plane.offer("c", "a", "b1", OFFER)
            with pytest.raises(MediaError, match="session c: leg b1: "):
                await bed.plane.answer("c", "b1", "a", sdp)
            assert (await bed.plane.answer("c", "b1", "a", ANSWER)).startswith(b"v=0")
            assert bed.plane.counters["bad_sdp"] == 2

    run(test())


def test_answers_and_switches_of_unknown_sessions_are_errors(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            with pytest.raises(MediaError, match="not known"):
                await bed.plane.answer("c", "b1", "a", ANSWER)
            with pytest.raises(MediaError, match="not known"):
                await bed.plane.query("c")
            with pytest.raises(MediaError, match="session c: not known"):
                await bed.plane.switch("c", "a", "b1")
            await bed.plane.offer("c", "a", "b1", OFFER)
            with pytest.raises(MediaError, match="session c: no legs a and b2"):
                await bed.plane.switch("c", "a", "b2")
            with pytest.raises(MediaError, match="leg x"):
                await bed.plane.answer("c", "b1", "x", ANSWER)
            bed.plane.delete("unknown")
            bed.plane.delete("c", "unknown")
            bed.plane.delete("c")
            bed.plane.delete("c")

    run(test())


def test_offer_waits_for_the_stock_and_fails_when_the_range_is_exhausted(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path, ports=(31000, 31009)) as bed:
            for name in ("c1", "c2"):
                await bed.plane.offer(name, "a", "b1", OFFER)
            with pytest.raises(MediaError, match="session c3: no free media ports"):
                await bed.plane.offer("c3", "a", "b1", OFFER)
            assert bed.plane.sessions() == ["c1", "c2"]
            bed.plane.delete("c1")
            waiting = bed.plane.offer("c3", "a", "b1", OFFER)
            assert not waiting.done()  # the stock must be filled first
            assert port(await waiting) in range(31000, 31010)

    run(test())


def test_offers_beyond_the_stock_are_all_served(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path) as bed:
            offers = [bed.plane.offer(f"c{index}", "a", "b1", OFFER) for index in range(200)]
            assert not all(offer.done() for offer in offers)
            ports = {port(await offer) for offer in offers}
            assert len(ports) == 200

    run(test())


def test_deleting_a_session_that_waits_for_ports_ends_the_wait(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay_bed(tmp_path, ports=(31000, 31003)) as bed:
            await bed.plane.offer("c", "a", "b1", OFFER)
            waiting = bed.plane.offer("c", "a", "b2", OFFER)
            bed.plane.delete("c")
            with pytest.raises(MediaError, match="deleted"):
                await waiting

    run(test())
