"""The parser and the serialiser: RFC 3261 §7 and what a proxy needs of a message."""

from __future__ import annotations

import pytest

from proxy.sip.message import Message, Request, Response, field, key_of, response, split_list, tag_of
from proxy.sip.parser import SipError, parse

INVITE = (
    b"INVITE sip:bob@example.com SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport\r\n"
    b"Via: SIP/2.0/TCP 192.0.2.2;branch=z9hG4bK2\r\n"
    b'From: "Alice" <sip:alice@example.com>;tag=a1\r\n'
    b"To: <sip:bob@example.com>\r\n"
    b"Call-ID: c1@example.com\r\n"
    b"CSeq: 7 INVITE\r\n"
    b"Contact: <sip:alice@192.0.2.1>\r\n"
    b"Supported: timer, 100rel\r\n"
    b"Content-Type: application/sdp\r\n"
    b"Content-Length: 5\r\n"
    b"\r\n"
    b"v=0\r\n"
)


def invite(old: bytes = b"", new: bytes = b"") -> Request:
    assert old in INVITE
    message = parse(INVITE.replace(old, new, 1) if old else INVITE)
    assert isinstance(message, Request)
    return message


def test_request_is_read() -> None:
    message = invite()
    assert (message.method, message.uri) == (b"INVITE", b"sip:bob@example.com")
    assert (message.call_id, message.cseq, message.from_tag, message.to_tag) == (b"c1@example.com", 7, b"a1", b"")
    assert message.from_ == b'"Alice" <sip:alice@example.com>;tag=a1'
    assert message.to == b"<sip:bob@example.com>"
    assert (message.content_type, message.body, message.sdp) == (b"application/sdp", b"v=0\r\n", b"v=0\r\n")
    assert repr(message) == "<INVITE sip:bob@example.com c1@example.com>"


def test_response_is_read() -> None:
    message = parse(INVITE.replace(b"INVITE sip:bob@example.com SIP/2.0", b"SIP/2.0 183 Session Progress"))
    assert isinstance(message, Response)
    assert (message.status, message.reason, message.method) == (183, b"Session Progress", b"INVITE")
    assert repr(message) == "<183 INVITE c1@example.com>"


def test_message_is_written_as_it_came_with_the_length_at_the_end() -> None:
    message = invite(b"Call-ID: ", b"i:")
    assert message.encode() == INVITE.replace(b"Call-ID: ", b"i:")


def test_length_follows_the_body() -> None:
    message = invite()
    message.body = b"v=0\r\ns=-\r\n"
    assert message.encode().endswith(b"\r\nContent-Length: 10\r\n\r\nv=0\r\ns=-\r\n")
    assert message.encode().count(b"Content-Length") == 1


@pytest.mark.parametrize("name", [b"i", b"I", b"Call-ID", b"call-id", b"CALL-ID", b"Call-ID ", b"i\t"])
def test_names_have_one_key_whatever_their_form(name: bytes) -> None:
    assert invite(b"Call-ID:", name + b":").call_id == b"c1@example.com"
    assert key_of(name) == b"call-id"


def test_folded_lines_are_unfolded() -> None:
    message = invite(b"CSeq: 7 INVITE", b"CSeq:\r\n\t7\r\n    INVITE")
    assert message.cseq == 7
    assert message.get(b"cseq") == b"7 INVITE"
    assert invite(b"Content-Length: 5", b"Content-Length\r\n :\r\n 5").body == b"v=0\r\n"


def test_a_rewritten_line_is_what_is_read_and_sent() -> None:
    alone = INVITE.replace(b"Via: SIP/2.0/TCP 192.0.2.2;branch=z9hG4bK2\r\n", b"")
    for message in (parse(INVITE), parse(alone)):  # with a header that repeats, and without
        index = next(place for place, (key, _) in enumerate(message.fields) if key == b"via")
        message.rewrite(index, b"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport=5070")
        assert message.get(b"via") == b"SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport=5070"
        assert b"rport=5070" in message.encode()


def test_every_value_of_a_repeated_header_is_found() -> None:
    assert parse(INVITE).all(b"via") == [
        b"SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport",
        b"SIP/2.0/TCP 192.0.2.2;branch=z9hG4bK2",
    ]
    assert parse(INVITE).all(b"x-none") == []


def test_options_are_found_in_any_case_and_line() -> None:
    message = invite(b"Supported: timer, 100rel", b"k: Timer\r\nSupported: path , 100REL")
    assert message.list(b"supported") == [b"Timer", b"path", b"100REL"]
    assert message.has_option(b"supported", b"100rel") and message.has_option(b"supported", b"timer")
    assert not message.has_option(b"supported", b"replaces") and not message.has_option(b"require", b"timer")


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        (b"", []),
        (b"a", [b"a"]),
        (b"a,b , c", [b"a", b"b", b"c"]),
        (b"a,,b,", [b"a", b"b"]),
        (b'"x, y" <sip:a@b>, <sip:c,d@e>;q=1', [b'"x, y" <sip:a@b>', b"<sip:c,d@e>;q=1"]),
        (b'"x\\", y" <sip:a>,b', [b'"x\\", y" <sip:a>', b"b"]),
        (b'"x\\\\", y', [b'"x\\\\"', b"y"]),
        (b'"never closed, x', [b'"never closed, x']),
        (b"<never closed, x", [b"<never closed, x"]),
    ],
)
def test_lists_are_split_outside_quotes_and_brackets(value: bytes, parts: list[bytes]) -> None:
    assert split_list(value) == parts


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        (b"<sip:a@b>;tag=x", b"x"),
        (b"<sip:a@b>;x=y;tag=x;z", b"x"),
        (b"sip:a@b;tag=x", b"x"),
        (b"<sip:a@b> ; TAG = x ;y", b"x"),
        (b"<sip:a@b;tag=no>", b""),
        (b'"<sip:c>;tag=no" <sip:a@b>;tag=x', b"x"),
        (b"<sip:a@b>;mytag=no", b""),
        (b"<sip:a@b>", b""),
        (b"", b""),
    ],
)
def test_tag(value: bytes, tag: bytes) -> None:
    assert tag_of(value) == tag


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b"Call-ID: c1@example.com\r\n", b"", "call-id: missing"),
        (b"CSeq: 7 INVITE", b"CSeq: 2147483648 INVITE", "cseq"),
        (b"CSeq: 7 INVITE", b"CSeq: " + b"7" * 5000 + b" INVITE", "cseq"),
        (b"CSeq: 7 INVITE", b"CSeq: -7 INVITE", "cseq"),
        (b"CSeq: 7 INVITE", b"CSeq: 7", "cseq"),
        (b"CSeq: 7 INVITE", b"CSeq: 7 BYE", "another method"),
        (b"CSeq: 7 INVITE", b"CSeq: 7 INVITE\r\nCSeq: 8 INVITE", "cseq: more than one"),
        (b"To: ", b"t: <sip:x>\r\nTo: ", "to: more than one"),
        (b"Content-Length: 5", b"Content-Length: 6", "6' but 5 bytes"),
        (b"Content-Length: 5", b"Content-Length: +5", "Content-Length"),
        (b"Content-Length: 5", b"Content-Length: 0_5", "Content-Length"),
        (b"Content-Length: 5", b"l: 5\r\nContent-Length: 5", "content-length: more than one"),
        (b"Supported:", b"Supp orted:", "not a header field"),
        (b"Supported:", b"Supported", "not a header field"),
        (b"CSeq:", b"CSeq\r\nCSeq:", "not a header field"),
        (b"Supported: timer", b"Supported: timer\nP-Asserted-Identity: <sip:boss@x>", "on its own"),
        (b"Supported: timer", b"Supported: timer\rP-Asserted-Identity: <sip:boss@x>", "on its own"),
        (b"SIP/2.0\r\n", b"SIP/2.0 \r\n", "not a request line"),
        (b"sip:bob@example.com SIP", b"<sip:bob@example.com> SIP", "angle brackets"),
    ],
)
def test_fault_is_located_and_can_be_answered(old: bytes, new: bytes, problem: str) -> None:
    with pytest.raises(SipError, match=problem.replace("'", ".")) as caught:
        invite(old, new)
    partial = caught.value.partial
    assert partial is not None and caught.value.status == 400
    answer = response(partial, 400, b"t")
    assert answer.all(b"via") == invite().all(b"via")
    assert answer.get(b"cseq") and answer.from_tag == b"a1"


def test_version_that_nobody_knows_is_answered_505() -> None:
    with pytest.raises(SipError) as caught:
        invite(b"SIP/2.0\r\n", b"SIP/3.0\r\n")
    assert caught.value.status == 505 and caught.value.partial is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        INVITE.partition(b"\r\n\r\n")[0],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        INVITE.replace(b"Via:", b"X:"),
        INVITE.replace(b"Via: SIP/2.0/UDP 192.0.2.1", b"Via: ;"),
        INVITE.replace(b"INVITE sip:bob@example.com SIP/2.0", b"SIP/2.0 099 x"),
        INVITE.replace(b"INVITE sip:bob@example.com SIP/2.0", b"SIP/2.0 2000 x"),
        INVITE.replace(b"INVITE sip:bob@example.com SIP/2.0", b"SIP/2.0 200 OK").replace(b"CSeq: 7", b"CSeq: x"),
    ],
)
def test_what_cannot_be_answered_is_only_an_error(data: bytes) -> None:
    with pytest.raises(SipError) as caught:
        parse(data)
    assert caught.value.partial is None


def test_octets_after_the_body_are_dropped() -> None:
    assert parse(INVITE + b"more").body == b"v=0\r\n"


def test_without_a_length_the_body_is_the_rest() -> None:
    assert invite(b"Content-Length: 5\r\n", b"").body == b"v=0\r\n"


def test_body_of_another_type_is_no_session_description() -> None:
    message = invite(b"application/sdp", b"application/isup;version=x")
    assert (message.content_type, message.sdp, message.body) == (b"application/isup", b"", b"v=0\r\n")
    assert invite(b"application/sdp", b"Application/SDP ; charset=x").sdp == b"v=0\r\n"


def test_response_copies_what_a_response_must() -> None:
    answer = response(invite(), 180, b"b1", [field(b"Contact", b"<sip:us@x>")])
    assert answer.encode() == (
        b"SIP/2.0 180 Ringing\r\n"
        b"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport\r\n"
        b"Via: SIP/2.0/TCP 192.0.2.2;branch=z9hG4bK2\r\n"
        b'From: "Alice" <sip:alice@example.com>;tag=a1\r\n'
        b"To: <sip:bob@example.com>;tag=b1\r\n"
        b"Call-ID: c1@example.com\r\n"
        b"CSeq: 7 INVITE\r\n"
        b"Contact: <sip:us@x>\r\n"
        b"Content-Length: 0\r\n\r\n"
    )


def test_response_keeps_a_to_tag_that_is_there() -> None:
    message = invite(b"To: <sip:bob@example.com>", b"To: <sip:bob@example.com> ;TAG=z")
    assert response(message, 200, b"b1").to_tag == b"z"


def test_status_without_a_name_has_some_reason() -> None:
    assert response(invite(), 699).encode().startswith(b"SIP/2.0 699 Status\r\n")
    assert response(invite(), 480, reason=b"Gone Fishing").reason == b"Gone Fishing"


def test_message_without_a_header_says_so() -> None:
    empty = Message([])
    assert (empty.get(b"to"), empty.call_id, empty.cseq, empty.content_type) == (None, b"", 0, b"")
