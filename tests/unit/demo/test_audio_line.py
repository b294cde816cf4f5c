"""Offer and answer of the demo's parties (RFC 3264)."""

from __future__ import annotations

import random

import pytest

from media.rtp.g711 import PCMA, PCMU
from media.sdp import parse
from proxy.demo.audio_line import AudioLine

HEAD = b"v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n"
EVENTS_96 = b"a=rtpmap:96 telephone-event/8000\r\n"


def line() -> AudioLine:
    return AudioLine(("192.0.2.1", 4000), random.Random(1))


def offer(formats: bytes = b"0 8 96", rest: bytes = EVENTS_96, head: bytes = HEAD) -> bytes:
    return head + b"m=audio 5000 RTP/AVP " + formats + b"\r\n" + rest


def answered(audio: AudioLine, body: bytes) -> bytes:
    answer = audio.answer(body)
    assert isinstance(answer, bytes)
    return answer


def test_the_answer_takes_the_first_g711_codec_and_the_events_as_offered() -> None:
    audio = line()
    answer = parse(answered(audio, offer(b"18 8 0 96")))
    assert answer.media[0].formats == b"8 96"
    assert (answer.media[0].host, answer.media[0].port) == ("192.0.2.1", 4000)
    assert audio.agreed is not None
    assert (audio.agreed.codec, audio.agreed.payload_type, audio.agreed.events) == (PCMA, 8, 96)
    assert audio.agreed.remote == ("192.0.2.9", 5000)


def test_a_dynamic_payload_type_of_g711_is_kept() -> None:
    audio = line()
    answer = answered(audio, offer(b"120", b"a=rtpmap:120 PCMU/8000\r\n"))
    assert b"a=rtpmap:120 PCMU/8000\r\n" in answer
    assert audio.agreed is not None
    assert (audio.agreed.codec, audio.agreed.payload_type) == (PCMU, 120)


@pytest.mark.parametrize(
    ("offered", "ours", "sends"),
    [
        (b"sendrecv", b"sendrecv", True),
        (b"sendonly", b"recvonly", False),
        (b"recvonly", b"sendonly", True),
        (b"inactive", b"inactive", False),
    ],
)
def test_the_direction_of_an_answer_mirrors_the_offer(offered: bytes, ours: bytes, sends: bool) -> None:
    audio = line()
    answer = parse(answered(audio, offer(rest=b"a=" + offered + b"\r\n")))
    assert answer.direction(answer.media[0]) == ours
    assert audio.agreed is not None
    assert audio.agreed.sends is sends


def test_nothing_is_sent_to_an_offer_with_the_address_of_rfc_2543_hold() -> None:
    audio = line()
    answered(audio, offer(head=HEAD.replace(b"c=IN IP4 192.0.2.9", b"c=IN IP4 0.0.0.0")))
    assert audio.agreed is not None
    assert not audio.agreed.sends


def test_the_version_rises_only_with_a_changed_answer() -> None:
    audio = line()
    first, same = answered(audio, offer()), answered(audio, offer())
    held = answered(audio, offer(rest=b"a=sendonly\r\n"))
    assert first == same
    origins = [body.split(b"\r\n")[1].split()[1:3] for body in (first, held)]
    assert origins[0][0] == origins[1][0]
    assert int(origins[1][1]) == int(origins[0][1]) + 1


def test_other_media_lines_are_refused_with_port_0_in_their_order() -> None:
    video = b"m=video 6000 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\n"
    answer = parse(answered(line(), HEAD + video + b"m=audio 5000 RTP/AVP 0\r\n" + b"m=audio 5002 RTP/AVP 0\r\n"))
    assert [(media.kind, media.rejected) for media in answer.media] == [
        (b"video", True),
        (b"audio", False),
        (b"audio", True),
    ]


@pytest.mark.parametrize(
    "body",
    [
        offer(b"9 18", b""),
        HEAD,
        HEAD + b"m=audio 0 RTP/AVP 0\r\n",
        HEAD + b"m=audio 5000 RTP/SAVP 0\r\n",
        b"no description",
    ],
)
def test_an_offer_without_usable_audio_is_not_acceptable_here(body: bytes) -> None:
    audio = line()
    assert audio.answer(body) == 488
    assert audio.agreed is None


def test_two_lines_agree_with_each_other() -> None:
    caller, backend = line(), AudioLine(("2001:db8::1", 6000), random.Random(2))
    answer = answered(backend, caller.offer())
    assert caller.accept(answer)
    assert caller.agreed is not None
    assert backend.agreed is not None
    assert caller.agreed.remote == ("2001:db8::1", 6000)
    assert backend.agreed.remote == ("192.0.2.1", 4000)
    assert caller.agreed.sends
    assert caller.agreed.codec == backend.agreed.codec == PCMU


def test_an_answer_that_refuses_the_line_leaves_nothing_to_talk_with() -> None:
    assert not line().accept(HEAD + b"m=audio 0 RTP/AVP 0\r\n")
    assert not line().accept(b"no description")
