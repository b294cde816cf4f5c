"""SDP: parsing, rewriting and the o= line. RFC 8866, RFC 3264."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.sdp import Origin, SdpError, after_origin, parse, rewrite
from tests.unit.media.descriptions import AUDIO, ICE, IPV6, T38, audio

OURS = b"c=IN IP4 127.0.1.1"


@pytest.mark.parametrize("body", [AUDIO, ICE, T38, IPV6], ids=["audio", "ice", "t38", "ipv6"])
def test_what_is_read_is_given_back_unchanged(body: bytes) -> None:
    assert parse(body).serialise() == body


def test_lines_nobody_knows_keep_their_place() -> None:
    body = AUDIO + b"a=x-unheard-of: \xff\xfe \r\nz=2882844526 -1h\r\nq=\r\n"
    assert parse(body).serialise() == body
    assert rewrite(parse(body), OURS, [30000]).endswith(b"a=x-unheard-of: \xff\xfe \r\nz=2882844526 -1h\r\nq=\r\n")


def test_bare_newlines_are_understood_and_leave_as_crlf() -> None:
    description = parse(AUDIO.replace(b"\r\n", b"\n"))
    assert description.media[0].port == 49170
    assert description.serialise() == AUDIO


def test_media_line_is_read() -> None:
    media = parse(AUDIO).media[0]
    assert (media.kind, media.port, media.proto, media.formats) == (b"audio", 49170, b"RTP/AVP", b"0 8 101")
    assert media.host == "192.0.2.7"
    assert media.rtcp_address() == ("192.0.2.7", 49171)
    assert not media.opaque


def test_rtcp_attribute_says_where_rtcp_goes() -> None:
    assert parse(ICE).media[0].rtcp_address() == ("198.51.100.5", 54402)
    assert parse(audio("192.0.2.1", 4000, b"a=rtcp:4007")).media[0].rtcp_address() == ("192.0.2.1", 4007)


@pytest.mark.parametrize("value", [b"x", b"0", b"70000", b"9" * 5000, b"4007 IN IP4 nowhere.example", b""])
def test_bad_rtcp_attribute_falls_back_to_the_next_port(value: bytes) -> None:
    assert parse(audio("192.0.2.1", 4000, b"a=rtcp:" + value)).media[0].rtcp_address() == ("192.0.2.1", 4001)


def test_address_is_in_the_form_in_which_the_kernel_reports_sources() -> None:
    assert parse(IPV6).media[0].host == "2001:db8::7"


def test_media_level_address_goes_before_that_of_the_session() -> None:
    body = AUDIO + b"m=video 5000 RTP/AVP 96\r\nc=IN IP4 192.0.2.99\r\n"
    assert [media.host for media in parse(body).media] == ["192.0.2.7", "192.0.2.99"]


@pytest.mark.parametrize(
    ("lines", "direction"),
    [
        (b"", b"sendrecv"),
        (b"a=sendonly\r\n", b"sendonly"),
        (b"a=recvonly\r\n", b"recvonly"),
        (b"a=inactive\r\n", b"inactive"),
    ],
)
def test_direction_of_the_line_or_else_of_the_session(lines: bytes, direction: bytes) -> None:
    head, media = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\n", b"m=audio 4000 RTP/AVP 0\r\n"
    of_line = parse(head + media + lines)
    assert of_line.direction(of_line.media[0]) == direction
    of_session = parse(head + lines + media)
    assert of_session.direction(of_session.media[0]) == direction


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "not a session description"),
        (b"hello\r\n", "not a session description"),
        (b"v=0\r\ns=-\r\n", "not a session description"),
        (AUDIO.replace(b"49170", b"70000"), "line 6: bad media line"),
        (AUDIO.replace(b"49170", b"-1"), "line 6: bad media line"),
        (AUDIO.replace(b" RTP/AVP 0 8 101", b""), "line 6: bad media line"),
        (AUDIO.replace(b"c=IN IP4 192.0.2.7\r\n", b""), "line 5: media line 0 ('audio') has no c= line"),
        (AUDIO.replace(b"c=IN IP4 192.0.2.7", b"c=IN IP4 phone.example"), "not a unicast IP address"),
        (AUDIO.replace(b"c=IN IP4 192.0.2.7", b"c=IN IP4 224.2.1.1/127"), "not a unicast IP address"),
        (AUDIO.replace(b"c=IN IP4 192.0.2.7", b"c=IN IP4"), "not a unicast IP address"),
        (AUDIO.replace(b"c=IN IP4 192.0.2.7", b"c=IN IP6 192.0.2.7"), "not a unicast IP address"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(body: bytes, text: str) -> None:
    with pytest.raises(SdpError) as caught:
        parse(body)
    assert text in str(caught.value)


def test_rejected_line_needs_no_address() -> None:
    body = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\n"
    assert parse(body).media[0].rejected


@given(st.binary(max_size=300))
def test_garbage_is_refused_or_read_and_nothing_else(garbage: bytes) -> None:
    for body in (garbage, b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n" + garbage):
        try:
            description = parse(body)
        except SdpError:
            continue
        rewrite(description, OURS, [30000] * len(description.media))


@given(st.lists(st.sampled_from(AUDIO.split(b"\r\n") + ICE.split(b"\r\n") + T38.split(b"\r\n")), max_size=20))
def test_lines_in_any_order_are_refused_or_read(lines: list[bytes]) -> None:
    try:
        description = parse(b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n" + b"\r\n".join(lines))
    except SdpError:
        return
    again = parse(b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n" + rewrite(description, OURS, [30000] * 20))
    assert [media.rejected for media in again.media] == [media.rejected for media in description.media]
    assert all(media.host in ("127.0.1.1", "") or media.rejected for media in again.media)


LINES = [line for body in (AUDIO, ICE, T38, IPV6) for line in body.split(b"\r\n")[2:]]
ODD = [
    b"c=IN IP4 pbx.example.com",
    b"c=IN IP4 224.2.1.1/127",
    b"m=audio 70000 RTP/AVP 0",
    b"m=audio 6000 RTP/AVP",
    b"x",
]


@given(st.lists(st.sampled_from(LINES + ODD), max_size=12), st.sampled_from([b"\r\n", b"", b"\n", b"\r\n\r\n"]))
def test_what_follows_the_origin_is_found_as_the_parser_finds_it(lines: list[bytes], end: bytes) -> None:
    body = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n" + b"\r\n".join(lines) + end
    try:
        expected = parse(body).serialise().split(b"\r\n", 2)[2]
    except SdpError as error:
        with pytest.raises(SdpError) as caught:
            after_origin(body)
        assert str(caught.value) == str(error)
    else:
        assert after_origin(body) == expected


def test_rewrite_changes_address_and_port_only() -> None:
    expected = after_origin(AUDIO).replace(b"c=IN IP4 192.0.2.7", OURS).replace(b"49170", b"30000")
    assert rewrite(parse(AUDIO), OURS, [30000]) == expected


def test_rewrite_takes_out_what_leads_around_the_relay() -> None:
    assert rewrite(parse(ICE), OURS, [30000, 0]) == (
        b"s=-\r\nt=0 0\r\nm=audio 30000 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 127.0.1.1\r\na=rtcp-mux\r\n"
        b"a=rtcp-fb:111 transport-cc\r\na=rtpmap:111 opus/48000/2\r\na=mid:0\r\n"
        b"m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n"
    )


def test_rewrite_leaves_rejected_lines_rejected_and_relays_t38() -> None:
    body = rewrite(parse(T38), OURS, [0, 30002])
    assert b"m=audio 0 RTP/AVP 0\r\nm=image 30002 udptl t38\r\na=T38FaxVersion:0\r\n" in body
    assert parse(T38).media[1].opaque


@pytest.mark.parametrize("address", [b"IN IP4 0.0.0.0", b"IN IP6 ::"])
def test_rewrite_keeps_hold_by_unspecified_address(address: bytes) -> None:
    held = AUDIO.replace(b"c=IN IP4 192.0.2.7", b"c=" + address)
    assert parse(held).media[0].held
    assert b"c=" + address + b"\r\n" in rewrite(parse(held), OURS, [30000])


def test_rewrite_leaves_media_over_tcp_to_the_endpoints() -> None:
    body = AUDIO + b"m=message 7394 TCP/MSRP *\r\ni=chat\r\na=path:msrp://192.0.2.7:7394/x;tcp\r\n"
    rewritten = rewrite(parse(body), OURS, [30000, 0])
    assert rewritten.startswith(b"s=-\r\n" + OURS)
    assert b"m=message 7394 TCP/MSRP *\r\ni=chat\r\nc=IN IP4 192.0.2.7\r\na=path" in rewritten


def test_origin_keeps_its_id_and_counts_changes_only() -> None:
    origin = Origin(4711)
    first = origin.stamp(b"s=-\r\n", b"IN IP4 127.0.1.1")
    assert first == b"v=0\r\no=- 4711 1 IN IP4 127.0.1.1\r\ns=-\r\n"
    assert origin.stamp(b"s=-\r\n", b"IN IP4 127.0.1.1") == first
    assert b"o=- 4711 2 " in origin.stamp(b"s=hold\r\n", b"IN IP4 127.0.1.1")
    assert b"o=- 4711 3 " in origin.stamp(b"s=-\r\n", b"IN IP4 127.0.1.1")


def test_origin_of_a_preview_is_not_counted() -> None:
    origin = Origin(4711)
    origin.stamp(b"s=1\r\n", b"IN IP4 127.0.1.1")
    assert b"o=- 4711 2 " in origin.stamp(b"s=2\r\n", b"IN IP4 127.0.1.1", record=False)
    assert b"o=- 4711 2 " in origin.stamp(b"s=3\r\n", b"IN IP4 127.0.1.1")
