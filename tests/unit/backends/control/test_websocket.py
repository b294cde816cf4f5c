"""RFC 6455 from the client's side: the handshake, frames however they are cut, what a server must not send."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.backends.control.session import WireError
from proxy.backends.control.websocket import (
    BACKLOG_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    Kind,
    Message,
    WebSocketDecoder,
    frame,
    handshake,
)

KEY = b"the sample nonce"  # RFC 6455 §1.3 and §4.2.2: the example's key and its answer
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: ari\r\n\r\n"
)


def messages(decoder: WebSocketDecoder) -> list[Message]:
    return list(iter(decoder.take, None))


def upgraded() -> WebSocketDecoder:
    decoder = WebSocketDecoder(KEY)
    decoder.feed(ANSWER)
    assert messages(decoder) == [Message(Kind.UPGRADED)]
    return decoder


def test_the_handshake_is_that_of_the_rfc() -> None:
    lines = handshake("192.0.2.1:8088", "/ari/events?app=a", KEY, {"Authorization": "Basic eA=="}).split(b"\r\n")
    assert lines[0] == b"GET /ari/events?app=a HTTP/1.1"
    assert {b"Host: 192.0.2.1:8088", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13"} < set(
        lines
    )
    assert b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==" in lines
    assert b"Authorization: Basic eA==" in lines


# RFC 6455 §5.7
SINGLE = b"\x81\x05Hello"
FRAGMENTED = b"\x01\x03Hel\x80\x02lo"
PING = b"\x89\x05Hello"
LONG = b"\x82\x7e\x01\x00" + bytes(256)
LONGER = b"\x82\x7f" + (65_536).to_bytes(8, "big") + bytes(65_536)
CLOSE = b"\x88\x06\x03\xe9bye!"
SAID = [
    Message(Kind.UPGRADED),
    Message(Kind.TEXT, b"Hello"),
    Message(Kind.TEXT, b"Hello"),
    Message(Kind.PING, b"Hello"),
    Message(Kind.BINARY, bytes(256)),
    Message(Kind.BINARY, bytes(65_536)),
    Message(Kind.CLOSE, b"bye!", 1001),
]
STREAM = ANSWER + SINGLE + FRAGMENTED + PING + LONG + LONGER + CLOSE


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_messages_are_the_same_however_the_stream_is_cut(cuts: list[int]) -> None:
    decoder, found, at = WebSocketDecoder(KEY), [], 0
    for cut in [*sorted(cuts), len(STREAM)]:
        decoder.feed(STREAM[at:cut])
        found += messages(decoder)
        at = cut
    assert found == SAID


def test_a_control_frame_may_come_between_the_parts_of_a_message() -> None:
    decoder = upgraded()
    decoder.feed(b"\x01\x03Hel" + PING + b"\x80\x02lo")
    assert messages(decoder) == [Message(Kind.PING, b"Hello"), Message(Kind.TEXT, b"Hello")]


@pytest.mark.parametrize("length", [0, 1, 3, 4, 125, 126, 65_535, 65_536, 70_001])
def test_what_we_send_is_masked_and_whole(length: int) -> None:
    data, mask = bytes(number % 251 for number in range(length)), b"\x01\x02\x03\x04"
    sent = frame(Kind.TEXT, data, mask)
    assert sent[0] == 0x81 and sent[1] & 0x80
    start = 2 if length < 126 else 4 if length < 65_536 else 10
    assert sent[start : start + 4] == mask
    assert bytes(byte ^ mask[at % 4] for at, byte in enumerate(sent[start + 4 :])) == data


def test_a_refusal_says_its_status() -> None:
    decoder = WebSocketDecoder(KEY)
    decoder.feed(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}")
    assert decoder.take() == Message(Kind.REFUSED, b"401 Unauthorized", 401)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (b"SIP/2.0 200 OK\r\n\r\n", "no answer to a handshake: 'SIP/2.0 200 OK'"),
        (b"HTTP/1.1 abc\r\n\r\n", "no answer to a handshake"),
        (b"x" * 20_000, "more than 16384 bytes"),
        (ANSWER.replace(b"s3p", b"S3P"), "a handshake that answers another one"),
        (ANSWER.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: x\r\n\r\n"), "an extension that was not offered"),
    ],
)
def test_a_bad_answer_to_the_handshake_is_said_to_be_one(words: bytes, why: str) -> None:
    decoder = WebSocketDecoder(KEY)
    decoder.feed(words)
    with pytest.raises(WireError, match=why):
        decoder.take()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (b"\xc1\x00", "a reserved bit is set"),
        (b"\x81\x85\x00\x00\x00\x00Hello", "a server masks nothing"),
        (b"\x83\x00", "opcode 3"),
        (b"\x09\x00", "a control frame in parts"),
        (b"\x89\x7e\x00\x80" + bytes(128), "a control frame in parts"),
        (b"\x80\x00", "the rest of no message"),
        (b"\x01\x01a\x81\x01b", "a message within a message"),
        (b"\x81\x7f" + (MESSAGE_BYTES_MAX + 1).to_bytes(8, "big"), "a frame of"),
    ],
)
def test_what_a_server_must_not_send_is_located(words: bytes, why: str) -> None:
    decoder = upgraded()
    decoder.feed(words)
    with pytest.raises(WireError, match=rf"websocket, byte \d+: {why}"):
        messages(decoder)


def test_what_a_peer_can_make_us_hold_is_bounded() -> None:
    decoder = upgraded()
    with pytest.raises(WireError, match="wait to be taken"):
        decoder.feed(SINGLE * (BACKLOG_BYTES_MAX // len(SINGLE) + 1))
    decoder, part = upgraded(), b"\x7f" + (3 << 20).to_bytes(8, "big") + bytes(3 << 20)
    with pytest.raises(WireError, match="a message of more than"):
        for number in range(30):
            decoder.feed((b"\x00" if number else b"\x01") + part)
            messages(decoder)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_messages_or_a_wire_error(data: bytes, after: bool) -> None:
    make: Callable[[], WebSocketDecoder] = upgraded if after else lambda: WebSocketDecoder(KEY)
    decoder = make()
    try:
        decoder.feed(data)
        for _ in range(200):
            if decoder.take() is None:
                break
    except WireError:
        pass
