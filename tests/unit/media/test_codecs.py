"""Whether a caller that was told one answer can be left with it when another backend answers."""

from __future__ import annotations

import pytest

from media.sdp import Codec, agree, codecs, parse
from tests.unit.media.descriptions import ICE, T38, audio

TOLD = audio(
    "192.0.2.1", 4000, b"a=rtpmap:101 telephone-event/8000", b"a=fmtp:101 0-16", b"a=ptime:20", formats=b"0 101"
)


def changed(old: bytes, new: bytes) -> bytes:
    assert old in TOLD
    return TOLD.replace(old, new)


def test_codecs_are_named_by_rtpmap_or_by_their_static_payload_type() -> None:
    body = parse(audio("192.0.2.1", 4000, b"a=rtpmap:97 opus/48000/2", b"a=fmtp:97 useinbandfec=1", formats=b"8 97"))
    assert codecs(body, body.media[0]) == (
        Codec(b"8", b"PCMA/8000", b""),
        Codec(b"97", b"OPUS/48000/2", b"useinbandfec=1"),
    )


@pytest.mark.parametrize(
    "new",
    [
        TOLD,
        changed(b"m=audio 4000", b"m=audio 5000"),
        changed(b"192.0.2.1", b"192.0.2.2"),
        changed(b"0 101\r\n", b"8 0 101\r\n"),  # may send more than was told
        changed(b"a=ptime", b"a=rtpmap:0 pcmu/8000/1\r\na=ptime"),  # the same codec in other words
        changed(b"101 0-16", b"101 0-15"),
        changed(b"a=ptime:20\r\n", b"a=ptime:20\r\na=sendrecv\r\n"),
    ],
    ids=["same", "port", "address", "one codec more", "rtpmap", "events", "default direction"],
)
def test_answers_that_mean_the_same_agree(new: bytes) -> None:
    assert agree(parse(TOLD), parse(new))


@pytest.mark.parametrize(
    "new",
    [
        changed(b"0 101\r\n", b"8 101\r\n"),
        changed(b"0 101\r\n", b"0\r\n"),  # digits would be sent to nobody
        TOLD.replace(b"101", b"96"),  # payload type of digits
        changed(b"a=ptime:20\r\n", b"a=ptime:20\r\na=sendonly\r\n"),
        changed(b"c=IN IP4 192.0.2.1", b"c=IN IP4 0.0.0.0"),
        changed(b"a=ptime:20", b"a=ptime:40"),
        changed(b"m=audio 4000", b"m=audio 0"),
        changed(b"RTP/AVP", b"RTP/SAVP"),
        changed(b"a=ptime:20\r\n", b"a=ptime:20\r\na=rtcp-mux\r\n"),
        changed(b"a=ptime:20\r\n", b"a=ptime:20\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n"),
        TOLD + b"m=video 4002 RTP/AVP 96\r\n",
        T38,
        ICE,
    ],
    ids=["codec", "no events", "payload type", "direction", "hold", "ptime", "rejected", "transport", "mux", "keys",
         "lines", "t38", "ice"],
)  # fmt: skip
def test_answers_that_ask_for_something_else_do_not_agree(new: bytes) -> None:
    assert not agree(parse(TOLD), parse(new))


def test_parameters_of_a_codec_count() -> None:
    with_annex, without = (
        parse(audio("192.0.2.1", 4000, b"a=fmtp:18 annexb=" + word, formats=b"18")) for word in (b"yes", b"no")
    )
    assert not agree(with_annex, without)
