"""The event socket's bytes: frames however they are cut, events in both formats, what is no event socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.backends.control.esl_codec import (
    BACKLOG_BYTES_MAX,
    BODY_BYTES_MAX,
    HEAD_BYTES_MAX,
    EslDecoder,
    Frame,
    command,
    event,
)
from proxy.backends.control.session import WireError
from tests.testbed.freeswitch.listener import in_json, in_plain

# As `nc 127.0.0.1 8021` shows it: a greeting, two answers (that of bgapi ends in an empty line too many), an api's
# answer, an event.
STREAM = (
    b"Content-Type: auth/request\n\n"
    b"Content-Type: command/reply\nReply-Text: +OK accepted\n\n"
    b"Content-Type: command/reply\nReply-Text: +OK Job-UUID: 7f4d\nJob-UUID: 7f4d\n\n\n"
    b"Content-Type: api/response\nContent-Length: 4\n\n+OK\n"
    b"Content-Length: 28\nContent-Type: text/event-json\n\n" + b'{"Event-Name":"HEARTBEAT"}\n\n'
    b"Content-Type: text/disconnect-notice\nContent-Length: 8\n\nGoodbye\n"
)
KINDS = [
    "auth/request",
    "command/reply",
    "command/reply",
    "api/response",
    "text/event-json",
    "text/disconnect-notice",
]


def frames(decoder: EslDecoder) -> list[Frame]:
    return list(iter(decoder.take, None))


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_frames_are_the_same_however_the_stream_is_cut(cuts: list[int]) -> None:
    decoder, found, at = EslDecoder(), [], 0
    for cut in [*sorted(cuts), len(STREAM)]:
        decoder.feed(STREAM[at:cut])
        found += frames(decoder)
        at = cut
    assert [frame.kind for frame in found] == KINDS
    assert [frame.reply for frame in found[1:4]] == ["+OK accepted", "+OK Job-UUID: 7f4d", "+OK"]
    assert found[2].headers["job-uuid"] == "7f4d"
    assert event(found[4]) == {"Event-Name": "HEARTBEAT"}
    assert found[5].body == b"Goodbye\n"


def test_lines_may_end_in_crlf() -> None:
    decoder = EslDecoder()
    decoder.feed(b"Content-Type: api/response\r\nContent-Length: 3\r\n\r\nabcContent-Type: auth/request\r\n\r\n")
    assert [(frame.kind, frame.body) for frame in frames(decoder)] == [("api/response", b"abc"), ("auth/request", b"")]


def test_the_old_rejection_without_a_colon_is_known_all_the_same() -> None:
    decoder = EslDecoder()
    decoder.feed(b"Content-Type: rude/rejection\nContent-Length 24\n\nAccess Denied, go away.\n")
    first = decoder.take()
    assert first is not None and first.kind == "rude/rejection"
    assert decoder.malformed == 1


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,20}", fullmatch=True).filter(lambda name: name != "Content-Length"),
        st.text(st.characters(blacklist_categories=["Cs"])).map(str.strip),
        min_size=1,
        max_size=10,
    ),
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=50),
)
def test_both_formats_of_an_event_say_the_same(fields: dict[str, str], body: str) -> None:
    plain = event(Frame("text/event-plain", {}, in_plain(fields, body).encode()))
    in_object = event(Frame("text/event-json", {}, in_json(fields, body).encode()))
    in_object.pop("Content-Length", None)
    expected = {**fields, "_body": body} if body else fields
    assert plain == in_object == expected


def test_of_a_header_that_is_an_array_the_first_counts() -> None:
    frame = Frame("text/event-json", {}, b'{"Unique-ID": ["a", "b"], "Empty": [], "Number": 5, "None": null}')
    assert event(frame) == {"Unique-ID": "a", "Empty": "", "Number": "5", "None": ""}


@pytest.mark.parametrize(
    ("kind", "body", "why"),
    [
        ("text/event-json", b"{", "event in JSON"),
        ("text/event-json", b"[]", "list, not an object"),
        ("text/event-json", b"[" * 100_000, "event in JSON"),
        ("text/event-plain", b"", "without headers"),
        ("text/event-plain", b"Event-Name: A\nno header\n\n", "line 2: no header in 'no header'"),
        ("text/event-plain", b"Event-Name: A\nContent-Length: x\n\n", "Content-Length 'x'"),
    ],
)
def test_a_bad_event_is_said_to_be_one(kind: str, body: bytes, why: str) -> None:
    with pytest.raises(WireError, match=why):
        event(Frame(kind, {}, body))


def test_errors_say_where_in_the_stream() -> None:
    decoder = EslDecoder()
    decoder.feed(STREAM)
    frames(decoder)
    with pytest.raises(WireError, match=rf"byte {len(STREAM)}: Content-Length 'many'"):
        decoder.feed(b"Content-Length: many\n\n")
        decoder.take()


def test_what_a_peer_can_make_us_hold_is_bounded() -> None:
    decoder = EslDecoder()
    with pytest.raises(WireError, match="a head of more than"):
        decoder.feed(b"a" * (HEAD_BYTES_MAX + 1))
        decoder.take()
    decoder = EslDecoder()
    with pytest.raises(WireError, match="wait to be taken"):
        decoder.feed(b"Content-Type: a\n\n" + bytes(BACKLOG_BYTES_MAX))
    decoder = EslDecoder()
    with pytest.raises(WireError, match="a body of"):
        decoder.feed(b"Content-Length: %d\n\n" % (BODY_BYTES_MAX + 1))
        decoder.take()


def test_a_big_list_does_not_count_as_backlog() -> None:
    decoder, length = EslDecoder(), 2 * BACKLOG_BYTES_MAX
    decoder.feed(b"Content-Type: api/response\nContent-Length: %d\n\n" % length)
    assert decoder.take() is None
    decoder.feed(bytes(length))
    frame = decoder.take()
    assert frame is not None and len(frame.body) == length


@given(st.binary(max_size=300))
def test_any_bytes_are_frames_or_a_wire_error(data: bytes) -> None:
    decoder = EslDecoder()
    try:
        decoder.feed(data + b"\n\n")
        for frame in frames(decoder):
            event(Frame("text/event-plain", {}, frame.body))
    except WireError:
        pass


def test_a_command_is_one_command() -> None:
    assert command("bgapi status", {"Job-UUID": "7f4d"}) == b"bgapi status\nJob-UUID: 7f4d\n\n"
    for line, headers in (("api a\n\nexit", {}), ("api a", {"Job-UUID": "a\nb: c"}), ("api \0", {})):
        with pytest.raises(ValueError, match="a control character in a command"):
            command(line, headers)
