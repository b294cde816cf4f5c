"""The wire of the manager interface."""

from __future__ import annotations

import pytest

from proxy.backends.control.ami_codec import MALFORMED_MAX, MESSAGE_BYTES_MAX, AmiDecoder, Message, encode
from proxy.backends.control.session import WireError
from tests.testbed.manager.manager import GREETING, event, message

HANGUP = event("Hangup", [("Uniqueid", "1.0"), ("AccountCode", ""), ("Cause", "16")])


def decode(data: bytes, wanted: tuple[str, ...] = ("Hangup",), step: int = 1 << 20) -> tuple[list[Message], AmiDecoder]:
    decoder = AmiDecoder(wanted)
    found = []
    for start in range(0, len(data), step):
        decoder.feed(data[start : start + step])
        while (taken := decoder.take()) is not None:
            found.append(taken)
    return found, decoder


def test_events_and_responses() -> None:
    answer = message([("Response", "Success"), ("ActionID", "7"), ("Ping", "Pong")])
    (hangup, pong), decoder = decode(GREETING + HANGUP + answer)
    assert (hangup.kind, hangup.name, hangup.get("Cause"), hangup.get("AccountCode")) == ("Event", "Hangup", "16", "")
    assert (pong.kind, pong.name, pong.action_id) == ("Response", "Success", "7")
    assert decoder.version == "11.0.0"


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64])
def test_any_cut_gives_the_same(step: int) -> None:
    data = GREETING + 3 * HANGUP + event("Hangup", [("X", "ünïcode")])
    assert decode(data, step=step)[0] == decode(data)[0]


def test_what_nobody_wants_is_dropped_unless_it_answers() -> None:
    row = event("VarSet", [("ActionID", "7"), ("Variable", "x")])
    found, decoder = decode(GREETING + event("VarSet", [("Variable", "x")]) + row)
    assert [each.action_id for each in found] == ["7"]
    assert (decoder.counters["events"], decoder.counters["ignored"]) == (2, 1)


def test_variables_of_a_channel_and_the_lines_of_a_command() -> None:
    data = event("Hangup", [("ChanVariable", "A=1"), ("ChanVariable", "CHANNEL(x,y)=a=b"), ("Cause", "16")])
    answer = message([("Response", "Success"), ("ActionID", "1"), ("Output", "one"), ("Output", "two: 2")])
    (hangup, command), _ = decode(GREETING + data + answer)
    assert hangup.variables == {"A": "1", "CHANNEL(x,y)": "a=b"}
    assert hangup.get("Cause") == "16" and "AQUEDUCT_CALL" not in hangup.variables
    assert command.output == ("one", "two: 2")


def test_a_line_without_a_key_costs_that_line() -> None:
    (found,), decoder = decode(GREETING + b"Event: Hangup\r\ngarbage\r\n: x\r\nCause:16\r\n\r\n")
    assert found.fields == {"Event": "Hangup", "Cause": "16"}
    assert decoder.counters["malformed"] == 2 and "byte" in decoder.fault


def test_a_message_that_makes_no_sense_costs_that_message_and_many_in_a_row_the_session() -> None:
    found, decoder = decode(GREETING + b"what: is this\r\n\r\n" + HANGUP)
    assert [each.name for each in found] == ["Hangup"] and decoder.counters["malformed"] == 1
    with pytest.raises(WireError, match="in a row make no sense"):
        decode(GREETING + MALFORMED_MAX * b"what: is this\r\n\r\n")


@pytest.mark.parametrize("first", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400\r\n", b"\x00\x01\x02", b"A" * 128])
def test_what_does_not_greet_as_asterisk_is_not_it(first: bytes) -> None:
    with pytest.raises(WireError, match="greets with"):
        decode(first)


def test_what_has_no_end_is_not_waited_for() -> None:
    with pytest.raises(WireError, match="no end of a message"):
        decode(GREETING + b"Event: X\r\n" + b"a" * (MESSAGE_BYTES_MAX + 1))
    with pytest.raises(WireError, match=f"at byte {len(GREETING) + len(HANGUP)}"):
        decode(GREETING + HANGUP + b"Event: X\r\n" + b"a" * MESSAGE_BYTES_MAX + b"\r\n\r\n")


def test_what_waits_can_be_skipped_and_the_next_message_is_good() -> None:
    decoder = AmiDecoder(["Hangup"])
    decoder.feed(GREETING + 1000 * HANGUP + HANGUP[:20])
    assert decoder.take() is not None
    decoder.skip()
    assert decoder.backlog == 20 and decoder.counters["dropped"] == 999
    decoder.feed(HANGUP[20:])
    taken = decoder.take()
    assert taken is not None and taken.get("Cause") == "16"
    assert decoder.take() is None


def test_an_action_is_lines() -> None:
    data = encode("Getvar", [("Channel", "PJSIP/a-1"), ("Variable", "X")], "3")
    assert data == b"Action: Getvar\r\nActionID: 3\r\nChannel: PJSIP/a-1\r\nVariable: X\r\n\r\n"


@pytest.mark.parametrize("value", ["a\r\nAction: Originate", "a\nb", "a\rb", "a\0b", "x" * 1000])
def test_nothing_can_be_smuggled_into_an_action(value: str) -> None:
    with pytest.raises(ValueError, match="the value of Channel"):
        encode("Hangup", [("Channel", value)], "1")
    with pytest.raises(ValueError, match="no key"):
        encode("Hangup", [("Cha\r\nnnel", "x")], "1")
