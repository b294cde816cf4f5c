"""Messages out of a TCP stream: RFC 3261 §18.3 and §7.5, RFC 5626 §4.4.1."""

from __future__ import annotations

import pytest

from proxy.sip.framing import FramingError, StreamFramer


def message(body: bytes = b"", length: bytes | None = None, name: bytes = b"Content-Length") -> bytes:
    count = b"%d" % len(body) if length is None else length
    return b"MESSAGE sip:b@example.com SIP/2.0\r\nX: y\r\n" + name + b": " + count + b"\r\n\r\n" + body


FIRST = message(b"one")
SECOND = message(b"\r\n\r\nSIP/2.0 200 OK\r\n\r\n")
THIRD = message()
STREAM = FIRST + SECOND + b"\r\n" + THIRD


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
def test_messages_are_the_same_however_the_stream_is_cut(size: int) -> None:
    framer = StreamFramer(65535)
    out = [m for at in range(0, len(STREAM), size) for m in framer.feed(STREAM[at : at + size])]
    assert out == [FIRST, SECOND, THIRD]
    assert (framer.half_open, framer.pong_due) == (False, False)


def test_every_single_cut_gives_the_same_messages() -> None:
    for at in range(len(STREAM)):
        framer = StreamFramer(65535)
        assert framer.feed(STREAM[:at]) + framer.feed(STREAM[at:]) == [FIRST, SECOND, THIRD]


def test_half_open_says_that_a_message_has_begun() -> None:
    framer = StreamFramer(65535)
    assert not framer.half_open
    framer.feed(FIRST[:30])
    assert framer.half_open
    framer.feed(FIRST[30:-1])
    assert framer.half_open
    framer.feed(FIRST[-1:] + SECOND[:5])
    assert framer.half_open
    framer.feed(SECOND[5:])
    assert not framer.half_open


def test_double_crlf_is_a_ping_and_wants_one_crlf_back() -> None:
    framer = StreamFramer(65535)
    assert (framer.feed(b"\r\n\r\n"), framer.pong_due) == ([], True)
    assert (framer.feed(FIRST), framer.pong_due) == ([FIRST], False)
    assert (framer.feed(FIRST + b"\r\n\r\n" + SECOND), framer.pong_due) == ([FIRST, SECOND], True)
    assert not framer.half_open


def test_ping_in_pieces_is_due_with_its_last_byte() -> None:
    framer = StreamFramer(65535)
    due = []
    for byte in b"\r\n\r\n" * 2:
        framer.feed(bytes([byte]))
        due.append(framer.pong_due)
    assert due == [False, False, False, True] * 2


def test_single_crlf_wants_nothing_back() -> None:
    framer = StreamFramer(65535)
    assert framer.feed(b"\r\n" + FIRST + b"\r\n" + SECOND) == [FIRST, SECOND]
    assert not framer.pong_due


@pytest.mark.parametrize(
    "header",
    [b"Content-Length: 3", b"l: 3", b"L:3", b"CONTENT-LENGTH  :\t3  ", b"Content-Length:\r\n 3", b"l: 3\r\nL: 3"],
)
def test_every_way_to_write_content_length(header: bytes) -> None:
    whole = b"OPTIONS sip:a SIP/2.0\r\nSubject: l: 9\r\nXl: 9\r\n" + header + b"\r\nX: y\r\n\r\nabc"
    assert StreamFramer(65535).feed(whole + FIRST) == [whole, FIRST]


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (b"X: y", "no Content-Length"),
        (b"Content-Length: 1\r\nl: 2", "contradicting"),
        (b"Content-Length: -1", "not a number"),
        (b"Content-Length: +1", "not a number"),
        (b"Content-Length: 1_0", "not a number"),
        (b"Content-Length:", "not a number"),
        (b"Content-Length: 0x1", "not a number"),
        (b"Content-Length: 99999999999999999999", "not a number"),
        (b"Content-Length: 1 1", "not a number"),
    ],
)
def test_unclear_length_ends_the_stream_and_gives_the_head(header: bytes, problem: str) -> None:
    framer = StreamFramer(65535)
    head = b"OPTIONS sip:a SIP/2.0\r\n" + header + b"\r\n\r\n"
    with pytest.raises(FramingError, match=problem) as caught:
        framer.feed(FIRST + head + SECOND)
    assert caught.value.messages == [FIRST]
    assert caught.value.head == head
    with pytest.raises(FramingError, match="failed before"):
        framer.feed(THIRD)
    assert not framer.half_open


def test_headers_may_reach_the_limit_and_not_pass_it() -> None:
    head = b"OPTIONS sip:a SIP/2.0\r\nl: 0\r\nX: %s\r\n\r\n"
    exact = head % (b"x" * (1000 - len(head) + 2))
    assert len(exact) == 1000
    assert StreamFramer(65535, 1000).feed(exact) == [exact]
    with pytest.raises(FramingError, match="longer than 999"):
        StreamFramer(65535, 999).feed(exact)


def test_endless_header_is_given_up_at_the_limit_when_it_drips() -> None:
    framer = StreamFramer(65535, 1000)
    fed = 0
    with pytest.raises(FramingError, match="longer than 1000"):
        while fed < 2000:
            framer.feed(b"x")
            fed += 1
    assert fed == 999


def test_message_may_reach_the_limit_and_not_pass_it() -> None:
    whole = message(b"x" * 500)
    assert StreamFramer(len(whole)).feed(whole) == [whole]
    with pytest.raises(FramingError, match="are allowed") as caught:
        StreamFramer(len(whole) - 1).feed(whole)
    assert caught.value.head == whole[:-500]


def test_too_large_a_message_is_refused_before_its_body_comes() -> None:
    with pytest.raises(FramingError, match="are allowed"):
        StreamFramer(65535).feed(message(length=b"65536"))


def test_message_at_fault_does_not_cost_the_one_before_it() -> None:
    framer = StreamFramer(65535)
    with pytest.raises(FramingError) as caught:
        framer.feed(FIRST + message(length=b"none"))
    assert caught.value.messages == [FIRST]
