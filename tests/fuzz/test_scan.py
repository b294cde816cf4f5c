"""The compiled way through plain messages reads them as the parser in Python does, and nothing that it would refuse."""

from __future__ import annotations

import random

import pytest

from proxy.sip import message as sip
from proxy.sip.message import Request, Response, SipError, parse_any
from tests.fuzz.test_parser_fuzz import CORPUS, ROUNDS, mutate

pytestmark = pytest.mark.skipif(sip.scan is None, reason="built without a compiler")

PLAIN = [
    b"INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z1\r\nMax-Forwards: 70\r\n"
    b'From: "Alice" <sip:alice@example.com>;tag=a1;x=y\r\nTo: <sip:bob@example.com>\r\nCall-ID: c1@192.0.2.1\r\n'
    b"CSeq: 7 INVITE\r\nX-Campaign: a:b\r\nContent-Type: application/sdp\r\nContent-Length: 3\r\n\r\nv=0trailing",
    b"SIP/2.0 200 OK\r\nv: SIP/2.0/TCP [2001:db8::1];branch=z9hG4bK1\r\nVia: SIP/2.0/UDP b, SIP/2.0/UDP c\r\n"
    b"f: sip:alice@example.com;tag=a1\r\nt: <sip:bob@example.com>;tag=b1\r\nI: c1\r\nCSEQ:\t7 INVITE \r\n\r\n",
    b"SIP/2.0 404 \r\nvia:SIP/2.0/UDP 192.0.2.1\r\nFROM:<sip:a@b>;tag=\r\nto:<sip:a@b>\r\ncall-id:x\r\n"
    b"cseq:0 BYE\r\n\r\n",
]  # fmt: skip


def seen(message: Request | Response) -> dict[str, object]:
    names = (
        "fields",
        "body",
        "call_id",
        "cseq",
        "from_tag",
        "to_tag",
        "method",
        "sdp",
        "sent_by",
        "branch",
        "uri",
        "status",
        "reason",
    )
    values: dict[str, object] = {name: getattr(message, name, None) for name in names}
    values |= {repr(key): (message.get(key), message.all(key), message.line(key)) for key, _ in message.fields}
    return values


def compare(data: bytes) -> bool:
    """True when the compiled way took the message."""
    assert sip.scan is not None
    if sip.scan(data, sip._KEYS) is None:
        return False
    fast = sip.parse(data)
    try:
        plain = parse_any(data)
    except SipError as error:
        raise AssertionError(f"taken, but refused in Python: {error}: {data!r}") from error
    assert type(fast) is type(plain)
    assert seen(fast) == seen(plain), data
    return True


@pytest.mark.parametrize("data", PLAIN)
def test_plain_messages_are_read_alike(data: bytes) -> None:
    assert compare(data)


def test_torture_messages_are_read_alike() -> None:
    assert sum(map(compare, CORPUS)) > len(CORPUS) // 4


def test_mutated_messages_are_read_alike() -> None:
    rng = random.Random(20251)
    taken = sum(compare(mutate(rng.choice([*CORPUS, *PLAIN]), rng)) for _ in range(5 * ROUNDS))
    assert taken > ROUNDS // 2


def test_every_byte_in_every_place_is_read_alike() -> None:
    for data in PLAIN:
        for at in range(len(data)):
            for byte in b'\x00\t\n\r "(,-/09:;<=>A[]tT\x7f\xff':
                compare(data[:at] + bytes((byte,)) + data[at + 1 :])
                compare(data[:at] + bytes((byte,)) + data[at:])
            compare(data[:at] + data[at + 1 :])
