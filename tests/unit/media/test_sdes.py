"""Keys of SDES as they are settled by offers and answers, and how far a stream of SRTP has come."""

from __future__ import annotations

import pytest

from media.rtp import packet
from media.rtp.srtp import MASTER_OCTETS, Progress
from media.sdp import parse, sdes
from tests.unit.media.descriptions import audio
from tests.unit.media.secure_peer import crypto, key

SUITE = "AES_CM_128_HMAC_SHA1_80"


class End:
    def __init__(self) -> None:
        self.asked: tuple[sdes.Lines, ...] = ()
        self.ring: sdes.Ring = ()


def value(line: bytes) -> bytes:
    return line.removeprefix(b"a=crypto:")


def describe(*lines: bytes) -> bytes:
    return audio("192.0.2.1", 4000, *lines).replace(b"RTP/AVP", b"RTP/SAVP")


def exchange(offerer: End, offer: tuple[bytes, ...], answerer: End, answer: bytes, *, told: bool = True) -> None:
    answerer.asked = sdes.proposals(parse(describe(*offer)))
    sdes.agree(answerer, offerer, sdes.proposals(parse(describe(answer))), MASTER_OCTETS.keys(), told=told)


def test_an_answer_settles_four_keys() -> None:
    caller, backend = End(), End()
    exchange(caller, (crypto("A"), crypto("A2", 2)), backend, crypto("B", 2))
    assert caller.ring == (sdes.Keys(SUITE, key("A2"), key("B"), (value(crypto("B", 2)),)),)
    both = (value(crypto("A")), value(crypto("A2", 2)))
    assert backend.ring == (sdes.Keys(SUITE, key("B"), key("A2"), both),)


def test_who_is_not_told_of_an_answer_keeps_his_keys_and_does_not_see_others() -> None:
    caller, backend, backup = End(), End(), End()
    exchange(caller, (crypto("A"),), backend, crypto("B"))
    before = caller.ring
    exchange(caller, (crypto("A"),), backup, crypto("C"), told=False)
    assert caller.ring == before
    description = parse(describe(crypto("C")))
    sdes.keep_told(description, backup.ring, caller.ring)
    assert description.serialise() == describe(crypto("B"))


def test_one_who_was_told_of_several_sees_all_of_them_again() -> None:
    """He answered: what he knows is the whole offer."""
    backend, callee, backup = End(), End(), End()
    offer = (crypto("B"), crypto("B2", 2))
    exchange(backend, offer, callee, crypto("A", 2))
    exchange(callee, (crypto("A", 2),), backup, crypto("C", 2), told=False)
    description = parse(describe(crypto("C", 2), b"a=sendrecv"))
    sdes.keep_told(description, backup.ring, callee.ring)
    assert description.serialise() == describe(*offer, b"a=sendrecv")


def test_an_answer_is_to_what_was_offered_then() -> None:
    """The caller has made another offer meanwhile, which only his first peer was sent."""
    caller, backend, standby = End(), End(), End()
    exchange(caller, (crypto("A"), crypto("A2", 2)), backend, crypto("B", 2))
    standby.asked = sdes.proposals(parse(describe(crypto("A"), crypto("A2", 2))))
    exchange(caller, (crypto("A3"),), backend, crypto("B3"))
    sdes.agree(standby, caller, ((value(crypto("S", 2)),),), MASTER_OCTETS.keys(), told=False)
    assert caller.ring[0] is not None and (caller.ring[0].own, caller.ring[0].told) == (key("A3"), key("B3"))
    assert standby.ring[0] is not None and (standby.ring[0].own, standby.ring[0].told) == (key("S"), key("A2"))


def test_the_answer_to_a_refresh_changes_what_its_sender_encrypts_with() -> None:
    caller, backend = End(), End()
    exchange(caller, (crypto("A"),), backend, crypto("B"))
    sdes.agree(caller, backend, ((value(crypto("NEW")),),), MASTER_OCTETS.keys(), told=False)
    assert caller.ring == (sdes.Keys(SUITE, key("NEW"), key("B"), (value(crypto("B")),)),)
    assert backend.ring[0] is not None and backend.ring[0].told == key("A")


@pytest.mark.parametrize(
    "answer",
    [
        crypto("B") + b" KDR=1",
        crypto("B") + b"|1:4",
        crypto("B") + b";inline:AAAA",
        crypto("B", 3),
        crypto("B", suite=b"F8_128_HMAC_SHA1_80"),
        crypto("B", suite=b"AES_CM_128_HMAC_SHA1_32"),
        b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:%%%",
        b"a=crypto:1 AES_CM_128_HMAC_SHA1_80",
        b"a=crypto:",
    ],
)
def test_what_cannot_be_used_is_no_key(answer: bytes) -> None:
    caller, backend = End(), End()
    exchange(caller, (crypto("A"),), backend, answer)
    assert caller.ring == backend.ring == (None,)
    description = parse(describe(answer))
    sdes.keep_told(description, backend.ring, caller.ring)
    assert description.serialise() == describe(answer)


def test_lifetime_and_window_do_not_matter() -> None:
    caller, backend = End(), End()
    exchange(caller, (crypto("A"),), backend, crypto("B") + b"|2^20 WSH=64")
    assert caller.ring[0] is not None and caller.ring[0].told == key("B")


def test_the_index_of_a_stream_is_counted_over_its_wraps_by_ssrc() -> None:
    """RFC 3711 §3.3.1"""
    progress = Progress()
    for sequence in (65000, 65535, 1, 65534, 30000, 60000, 300):
        progress.note(packet.pack(0, sequence, 0, 7, b""))
    assert progress.last() == (7, 2 << 16 | 300)
    assert progress.rolled_over
    progress.note(packet.pack(0, 5, 0, 8, b""))
    assert progress.last() == (8, 5)
    assert not progress.rolled_over
    progress.note(packet.pack(0, 301, 0, 7, b""))
    assert progress.last() == (7, 2 << 16 | 301)
    for ssrc in range(100, 200):
        progress.note(packet.pack(0, 1, 0, ssrc, b""))
    assert len(progress.indexes) == 8
