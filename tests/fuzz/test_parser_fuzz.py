"""Bad input: the parser answers with a message or with SipError, never with anything else, and in linear time.

Seeded; a failure prints the seed and the datagram. `FUZZ_ROUNDS` in the environment makes the runs longer.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.sip.digest import parse_challenges
from proxy.sip.message import Request, Response, response, split_list, tag_of
from proxy.sip.parser import SipError, parse
from proxy.sip.screening import screen
from proxy.sip.session_timer import min_se, session_expires
from proxy.sip.uri import UriError, addr_spec, param, parse_uri, user_of
from tests.fuzz.torture import load

ROUNDS = int(os.environ.get("FUZZ_ROUNDS", "3000"))
CORPUS = [*load("rfc4475.txt").values(), *load("rfc5118.txt").values()]
SPLICES = [
    b"\r\n", b"\r\n\r\n", b"\r", b"\n", b"\x00", b"\xff", b" ", b"\t", b"\r\n ", b":", b";", b",", b"<", b">", b'"',
    b"\\", b"SIP/2.0", b"Via: ", b"Content-Length: ", b"l:", b"-1", b"9" * 30, b"9" * 5000, b";tag=", b"sip:", b"%00",
    b"[", b"]", b"From:", b"CSeq: 1 INVITE\r\n", b"z9hG4bK", b"=", b"@", b"?",
]  # fmt: skip


def mutate(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randint(0, len(out))
        match rng.randint(0, 6):
            case 0:
                out[at : at + 1] = bytes((rng.randrange(256),))
            case 1:
                del out[at : at + rng.randint(1, 40)]
            case 2:
                out[at:at] = rng.choice(SPLICES)
            case 3:
                out[at : at + len(splice)] = (splice := rng.choice(SPLICES))
            case 4:
                del out[at:]
            case 5:
                other = rng.choice(CORPUS)
                start = rng.randrange(len(other))
                out[at:at] = other[start : start + rng.randint(1, 200)]
            case 6:
                lines = bytes(out).split(b"\r\n")
                rng.shuffle(lines)
                out[:] = b"\r\n".join(lines)
    return bytes(out)


def exercise(data: bytes) -> Request | Response | None:
    """Everything that looks into a message, for any datagram."""
    try:
        message = parse(data)
    except SipError as error:
        if error.partial is not None:
            assert response(error.partial, error.status, b"t").encode().startswith(b"SIP/2.0 %d " % error.status)
        return None
    assert message.cseq < 2**31 and message.method
    repr(message)
    for value in (message.from_, message.to, *message.all(b"contact"), *message.all(b"via")):
        tag_of(value), split_list(value), param(value, b"branch")
        with contextlib.suppress(UriError):
            parse_uri(addr_spec(value))
    session_expires(message), min_se(message), parse_challenges(message.all(b"authorization"))
    if isinstance(message, Request):
        user_of(message.uri), screen(message)
        parse(response(message, 200, b"t").encode())
    again = parse(message.encode())  # what we would send on can be read, and is the same
    assert again.body == message.body
    assert [f for f in again.fields if f[0] != b"content-length"] == [
        f for f in message.fields if f[0] != b"content-length"
    ]
    return message


def test_mutated_torture_messages() -> None:
    taken = 0
    for seed in range(ROUNDS):
        rng = random.Random(seed)
        data = mutate(rng.choice(CORPUS), rng)
        try:
            taken += exercise(data) is not None
        except Exception:
            print(f"seed {seed}: {data!r}")
            raise
    assert ROUNDS * 0.1 < taken < ROUNDS * 0.9  # the mutations neither spare nor break everything


def test_every_truncation_of_a_datagram() -> None:
    for data in CORPUS:
        for end in range(len(data)):
            exercise(data[:end])


def test_random_bytes() -> None:
    rng = random.Random(1)
    for _ in range(ROUNDS):
        assert exercise(rng.randbytes(rng.randint(0, 300))) is None
        assert exercise(b"INVITE sip:a SIP/2.0\r\n" + rng.randbytes(rng.randint(0, 300)) + b"\r\n\r\n") is None


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([*SPLICES, b"INVITE sip:a@b SIP/2.0", b"Via: SIP/2.0/UDP a", b"To: <sip:a@b>"]), max_size=60
    )
)
def test_any_sequence_of_grammar_pieces(pieces: list[bytes]) -> None:
    exercise(b"".join(pieces) + b"\r\n\r\n")


HEAD = (
    b"INVITE sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n"
    b"From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n"
)
Builder = Callable[[int], bytes]
LARGE: dict[str, Builder] = {
    "one long header": lambda n: HEAD + b"X: " + b"x" * n + b"\r\n\r\n",
    "thousands of headers": lambda n: HEAD + b"X: y\r\n" * (n // 6) + b"\r\n",
    "thousands of Vias": lambda n: HEAD + b"Via: SIP/2.0/UDP 192.0.2.1\r\n" * (n // 28) + b"\r\n",
    "thousands of different headers": lambda n: HEAD + b"".join(b"X%d: y\r\n" % i for i in range(n // 9)) + b"\r\n",
    "a list of thousands": lambda n: HEAD + b"Contact: " + b"<sip:a@b>," * (n // 10) + b"<sip:a@b>\r\n\r\n",
    "a Via list of thousands": lambda n: HEAD + b"Via: " + b"SIP/2.0/UDP a," * (n // 14) + b"SIP/2.0/UDP a\r\n\r\n",
    "blanks and a fold": lambda n: HEAD + b"X: " + b" " * n + b"x\r\n y\r\n\r\n",
    "folds": lambda n: HEAD + b"X: " + b"\r\n x" * (n // 4) + b"\r\n\r\n",
    "blanks in the start line": lambda n: b"INVITE " + b" " * n + HEAD[7:] + b"\r\n",
    "no header at all": lambda n: b"x" * n,
    "colons": lambda n: HEAD + b":" * n + b"\r\n\r\n",
    "a From of semicolons": lambda n: HEAD.replace(b">;tag=1", b">" + b" ; " * (n // 3)) + b"\r\n",
    "a From of parameters": lambda n: HEAD.replace(b">;tag=1", b">" + b";a=b" * (n // 4) + b"!@") + b"\r\n",
    "a From of blanks": lambda n: HEAD.replace(b">;tag=1", b">;" + b" " * n + b"@") + b"\r\n",
    "a From of quotes": lambda n: HEAD.replace(b"From: ", b"From: " + b'"' * n) + b"\r\n",
    "a From of backslashes": lambda n: HEAD.replace(b"From: ", b'From: "' + b"\\" * n) + b"\r\n",
    "a From of brackets": lambda n: HEAD.replace(b"From: ", b"From: " + b"<" * n) + b"\r\n",
    "a URI of semicolons": lambda n: HEAD.replace(b"sip:b@example.com S", b"sip:b@e" + b";" * n + b"< S") + b"\r\n",
    "a URI without an end": lambda n: HEAD.replace(b"sip:b@example.com S", b"sip:" + b"a" * n + b" S") + b"\r\n",
    "a URI of at signs": lambda n: HEAD.replace(b"sip:b@example.com S", b"sip:" + b"a@" * (n // 2) + b" S") + b"\r\n",
    "a CSeq of digits": lambda n: HEAD.replace(b"CSeq: 1", b"CSeq: " + b"1" * n) + b"\r\n",
    "a Content-Length of digits": lambda n: HEAD + b"l: " + b"0" * n + b"\r\n\r\n",
    "a Session-Expires of digits": lambda n: HEAD + b"x: " + b"9" * n + b"\r\n\r\n",
    "an Authorization of quotes": lambda n: HEAD + b"Authorization: Digest a=" + b'"\\"' * (n // 3) + b"\r\n\r\n",
    "a large body": lambda n: HEAD + b"\r\n" + b"\r\n\r\n" * (n // 4),
}  # fmt: skip


@pytest.mark.parametrize("build", LARGE.values(), ids=LARGE.keys())
def test_large_input_takes_linear_time(build: Builder) -> None:
    """Eight times the bytes may take at most 24 times as long (a square would take 64), or next to nothing."""

    def cost(size: int) -> float:
        data = build(size)
        best = 9.0
        for _ in range(3):
            start = time.process_time()
            exercise(data)
            best = min(best, time.process_time() - start)
        return best

    small, large = cost(8_000), cost(64_000)
    assert large < max(24 * small, 0.01)
    assert large < 0.25


def test_unknown_headers_compact_forms_and_methods_survive_unchanged() -> None:
    data = (
        b"FLY%21 sip:b@example.com;x=%41 SIP/2.0\r\nv: SIP/2.0/UDP 192.0.2.1 ;branch=z9hG4bK1\r\nF:<sip:a@b>;Tag=1\r\n"
        b"tO : <sip:b@c>\r\ni:  x@y \r\nCSeq: 1 FLY%21\r\nX-a:\xff\x00\r\nx-A:  second;;,,\r\n~odd~: z\r\nM: *\r\n"
        b"Content-Length: 3\r\n\r\n\x00\r\n"
    )
    message = parse(data)
    assert message.encode() == data
    assert (message.method, message.from_tag, message.call_id) == (b"FLY%21", b"1", b"x@y")
    assert message.all(b"x-a") == [b"\xff\x00", b"second;;,,"]
