"""Who has whose keys, as descriptions say it."""

from __future__ import annotations

import pytest

from media.sdp import agree, begin_handshake, keys_known, parse
from tests.unit.media.descriptions import audio

SUITE = b"AES_CM_128_HMAC_SHA1_80"
PRINT = b"a=fingerprint:SHA-256 AB:CD\r\n"


def crypto(key: bytes, tag: int = 1, suite: bytes = SUITE) -> bytes:
    return b"a=crypto:%d %b inline:%b\r\n" % (tag, suite, key)


def secure(lines: bytes, proto: bytes = b"RTP/SAVP") -> bytes:
    return audio("192.0.2.1", 4000, *lines.splitlines()).replace(b"RTP/AVP", proto)


def of_session(lines: bytes) -> bytes:
    return secure(b"").replace(b"t=0 0\r\n", b"t=0 0\r\n" + lines)


@pytest.mark.parametrize(
    ("told", "now", "known"),
    [
        (secure(crypto(b"A")), secure(crypto(b"A")), True),
        (secure(crypto(b"A")), secure(crypto(b"B")), False),
        (secure(crypto(b"A") + crypto(b"B", 2, b"F8")), secure(crypto(b"B", 1, b"F8")), True),  # the tag is the offer's
        (secure(crypto(b"A") + crypto(b"B", 2, b"F8")), secure(crypto(b"A", 1, b"F8")), False),
        (secure(crypto(b"A")), secure(crypto(b"B")).replace(b"m=audio 4000", b"m=audio 0"), True),
        (of_session(PRINT), secure(PRINT), True),
        (of_session(PRINT), of_session(PRINT.replace(b"AB", b"EF")), False),
        (secure(PRINT + b"a=tls-id:1\r\n"), secure(PRINT + b"a=tls-id:2\r\n"), False),
        (secure(b"", b"RTP/AVP"), secure(b"", b"RTP/AVP"), True),
        (b"", secure(crypto(b"A")), True),
    ],
    ids=["same", "other key", "one of two", "other suite", "rejected", "anywhere", "other print", "other tls-id",
         "none", "nothing"],
)  # fmt: skip
def test_new_keys_are_noticed(told: bytes, now: bytes, known: bool) -> None:
    assert keys_known(told, now) is known


@pytest.mark.parametrize("said", [secure(PRINT), of_session(PRINT), secure(PRINT, b"UDP/TLS/RTP/SAVPF")])
def test_a_dtls_association_is_never_taken_over(said: bytes) -> None:
    assert not agree(parse(said), parse(said))


def test_keys_in_the_description_can_be_taken_over() -> None:
    assert agree(parse(secure(crypto(b"A"))), parse(secure(crypto(b"A"))))
    assert not agree(parse(secure(crypto(b"A"))), parse(secure(crypto(b"B"))))


@pytest.mark.parametrize("role", [b"actpass", b"passive", b"holdconn", b"active"])
def test_who_is_to_hear_of_a_new_peer_begins_the_handshake(role: bytes) -> None:
    offer = secure(PRINT + b"a=setup:%b\r\na=ptime:20\r\n" % role)
    assert begin_handshake(offer) == secure(PRINT + b"a=setup:active\r\na=ptime:20\r\n")


def test_without_a_handshake_the_offer_stays_as_it_is() -> None:
    offer = secure(crypto(b"A"))
    assert begin_handshake(offer) is offer
