"""A stream of anything: whole messages, or FramingError and nothing after it; never more than the limits held."""

from __future__ import annotations

import os
import random
import time

import pytest

from proxy.sip.framing import FramingError, StreamFramer
from tests.fuzz.test_parser_fuzz import CORPUS, mutate

ROUNDS = int(os.environ.get("FUZZ_ROUNDS", "3000"))
LIMIT = 20_000


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    chunks = []
    while data:
        size = rng.choice((1, 2, 3, rng.randint(1, 40), rng.randint(1, 2000)))
        chunks.append(data[:size])
        data = data[size:]
    return chunks


def feed(chunks: list[bytes]) -> tuple[list[bytes], str]:
    """All messages, and the problem that ended the stream."""
    framer = StreamFramer(LIMIT, 8_000)
    messages: list[bytes] = []
    for chunk in chunks:
        try:
            messages += framer.feed(chunk)
        except FramingError as error:
            messages += error.messages
            assert not framer.half_open
            with pytest.raises(FramingError):
                framer.feed(b"x")
            return messages, str(error)
    return messages, ""


def test_mutated_streams_give_the_same_however_they_are_cut() -> None:
    ended = 0
    for seed in range(ROUNDS // 3):
        rng = random.Random(seed)
        stream = b"".join(mutate(rng.choice(CORPUS), rng) for _ in range(rng.randint(1, 4)))
        once, problem = feed([stream])
        twice, same = feed(cut(stream, rng))
        assert (once, problem) == (twice, same), f"seed {seed}"
        at = 0
        for message in once:  # in their order, and nothing but blank lines between them
            found = stream.index(message, at)
            assert stream[at:found].strip(b"\r\n") == b""
            at = found + len(message)
            assert len(message) <= LIMIT
        ended += bool(problem)
    assert ROUNDS / 3 * 0.1 < ended < ROUNDS / 3 * 0.9


def test_random_bytes_end_at_the_header_limit_at_the_latest() -> None:
    rng = random.Random(2)
    for _ in range(100):
        messages, problem = feed(cut(b"x" + rng.randbytes(9_000).replace(b"\r\n\r\n", b""), rng))
        assert (messages, problem) == ([], "headers longer than 8000 bytes")


@pytest.mark.parametrize(
    "pattern",
    [b"x", b"\r", b"\r\n", b"\n", b"a\r\nb:", b"l: 0\r\n", b"\r\n ", b"\r\n\r"],
    ids=repr,
)
def test_byte_by_byte_takes_linear_time(pattern: bytes) -> None:
    def cost(size: int) -> float:
        data = (b"A" + pattern * size)[:size]
        best = 9.0
        for _ in range(3):
            framer = StreamFramer(1 << 20, 1 << 20)
            start = time.process_time()
            try:
                for byte in data:
                    framer.feed(bytes((byte,)))
            except FramingError:
                pass
            best = min(best, time.process_time() - start)
        return best

    small, large = cost(4_000), cost(32_000)
    assert large < max(24 * small, 0.01)


def test_many_small_messages_in_one_chunk_take_linear_time() -> None:
    message = b"OPTIONS sip:a SIP/2.0\r\nl: 0\r\n\r\n"

    def cost(count: int) -> float:
        start = time.process_time()
        assert len(StreamFramer(1000).feed(message * count)) == count
        return time.process_time() - start

    assert min(cost(16_000) for _ in range(3)) < 24 * min(cost(2_000) for _ in range(3))
