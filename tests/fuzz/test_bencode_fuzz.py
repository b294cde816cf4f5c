"""Whatever a datagram holds, `bencode.decode` gives a value or says at which byte it cannot; what it gives is what was
encoded."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.rtpengine.bencode import DEPTH_MAX, BencodeError, decode, encode
from media.rtpengine.exchanges import Exchanges, NgError
from tests.sim.loop import VirtualLoop

KEYS = st.text(st.characters(max_codepoint=127), max_size=12)
VALUES = st.recursive(
    st.integers(-(10**18), 10**18) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_encoded_comes_back(value: object) -> None:
    assert decode(encode(value)) == value  # type: ignore[arg-type]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_an_error_with_its_place(data: bytes) -> None:
    try:
        decode(data)
    except BencodeError as error:
        assert str(error).startswith("byte ")


@given(VALUES, st.data())
def test_a_damaged_reply_raises_nothing_else(value: object, data: st.DataObject) -> None:
    good = bytearray(encode(value))  # type: ignore[arg-type]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(good) - 1))
        good[at] = data.draw(st.sampled_from(b"0123456789:-ilde\x00\xff"))
    with contextlib.suppress(BencodeError):
        decode(bytes(good))


@given(st.binary(max_size=60))
def test_whatever_comes_in_place_of_a_reply_ends_its_exchange_or_is_not_taken(noise: bytes) -> None:
    loop = VirtualLoop()

    async def main() -> None:
        sent: list[bytes] = []
        exchanges = Exchanges(loop, random.Random(1), sent.append, lambda: None)
        future = exchanges.ask({"command": "ping"})
        cookie = sent[0].partition(b" ")[0]
        for datagram in (noise, cookie, cookie + noise, cookie + b" " + noise, cookie + b" d6:result4:ponge"):
            exchanges.received(datagram)
        assert future.done()
        assert isinstance(future.exception(), NgError) or future.result()["result"] == b"pong"

    loop.run(main())


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "byte 0: the end comes too early"),
        (b"i12", "byte 0: not an integer"),
        (b"i--1e", "byte 0: not an integer"),
        (b"5:abc", "byte 0: a string of 5 bytes, but 3 are left"),
        (b"l1:ai1e", "byte 7: the end comes too early"),
        (b"di1e1:ae", "byte 1: not the length of a string"),
        (b"d1:ae", r"byte 4: b'e' begins no value"),
        (b"i1ei2e", "byte 3: 3 bytes too many"),
        (b"99999999999:a", "byte 0: not the length of a string"),
        (b"l" * (DEPTH_MAX + 1) + b"e" * (DEPTH_MAX + 1), f"byte {DEPTH_MAX}: nested deeper than {DEPTH_MAX}"),
    ],
)
def test_a_fault_is_named_with_its_place(data: bytes, problem: str) -> None:
    with pytest.raises(BencodeError) as caught:
        decode(data)
    assert str(caught.value) == problem


def test_keys_need_not_be_sorted_and_lose_no_byte() -> None:
    assert decode(b"d1:bi1e1:ai2e2:\xc3\xa4i3ee") == {"b": 1, "a": 2, "\xc3\xa4": 3}
