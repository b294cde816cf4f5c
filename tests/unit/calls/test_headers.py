"""What crosses from one leg to the other, and what a call that is carried over says again."""

from __future__ import annotations

import pytest

from proxy.calls.headers import crossing, own, repeated
from proxy.sip.message import Field, contact
from proxy.sip.parser import parse


class Flow:
    reliable = False
    open = True
    remote = ("192.0.2.9", 5060)

    def __init__(self, transport: bytes, local: tuple[str, int]) -> None:
        self.transport = transport
        self.local = local

    def send(self, data: bytes) -> None:
        raise AssertionError("nothing is sent here")


def fields(*lines: str) -> list[Field]:
    head = [
        "INVITE sip:100@192.0.2.1 SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK1",
        "From: <sip:a@example.com>;tag=1",
        "To: <sip:b@example.com>",
        "Call-ID: x",
        "CSeq: 1 INVITE",
    ]
    return crossing(parse("\r\n".join([*head, *lines, "", ""]).encode()))


@pytest.mark.parametrize(
    "line",
    [
        "P-Asserted-Identity: <sip:a@example.com>",
        "Diversion: <sip:c@example.com>;reason=busy",
        "Privacy: id",
        "User-to-User: 56a390f3d2b7310023a2;encoding=hex",
        "X-Customer: 4711",
        "Allow: INVITE, ACK",
        "Require: 100rel",
        "Authorization: Digest username=a",
        "Reason: Q.850;cause=16",
        "Nobody-Knows-This: at all ;;; \t really",
        "X-Aqueductive: another one's",
    ],
)
def test_what_belongs_to_the_call_crosses_byte_for_byte(line: str) -> None:
    assert [crossed for _, crossed in fields(line)] == [line.encode()]


@pytest.mark.parametrize(
    "line",
    [
        "Contact: <sip:a@192.0.2.9>",
        "m: <sip:a@192.0.2.9>",
        "Max-Forwards: 70",
        "Route: <sip:192.0.2.1;lr>",
        "Record-Route: <sip:192.0.2.2;lr>",
        "Session-Expires: 1800",
        "x: 1800",
        "Min-SE: 90",
        "RAck: 1 1 INVITE",
        "X-Aqueduct-Call: forged",
        "x-aqueduct-state: talking",
        "X-AQUEDUCT-ANYTHING: else",
    ],
)
def test_what_belongs_to_the_hop_or_only_we_may_say_does_not_cross(line: str) -> None:
    assert fields(line) == []


def test_fields_that_cross_keep_their_order_and_their_number() -> None:
    lines = ["X-B: 1", "X-A: 2", "X-B: 3"]
    assert [line.decode() for _, line in fields(*lines)] == lines


def test_a_call_that_is_carried_over_says_again_who_it_is() -> None:
    said = fields("P-Asserted-Identity: <sip:a@example.com>", "X-Call: 1", "Supported: replaces, timer")
    assert list(repeated(said)) == said


@pytest.mark.parametrize(
    "line",
    [
        "Proxy-Authorization: Digest username=a",  # its nonce was for that INVITE
        "Authorization: Digest username=a",
        "Replaces: abc;to-tag=1;from-tag=2",  # that dialog was replaced already
        "Join: abc;to-tag=1;from-tag=2",
        "Require: 100rel",
        "Expires: 60",
        "Content-Type: multipart/mixed;boundary=x",  # the new INVITE bears a session description
        "Supported: 100rel",  # a recovery acknowledges no provisional response
    ],
)
def test_a_call_that_is_carried_over_does_not_say_again_what_has_had_its_time(line: str) -> None:
    assert list(repeated(fields(line))) == []


def test_abilities_that_a_recovery_lacks_are_left_out_of_supported() -> None:
    (kept,) = repeated(fields("k: 100rel, replaces,Precondition, norefersub"))
    assert kept == (b"supported", b"Supported: replaces, norefersub")


def test_our_contact_names_the_transport_unless_it_is_udp() -> None:
    assert contact(Flow(b"UDP", ("192.0.2.1", 5060)))[1] == b"Contact: <sip:192.0.2.1:5060>"
    assert contact(Flow(b"TCP", ("2001:db8::1", 5062)))[1] == b"Contact: <sip:[2001:db8::1]:5062;transport=tcp>"


def test_our_own_headers_never_cross_back() -> None:
    key, line = own("Recovered-From", "as1")
    assert line == b"X-Aqueduct-Recovered-From: as1" and fields(line.decode()) == []
    assert key == b"x-aqueduct-recovered-from"


@pytest.mark.parametrize(
    ("line", "crosses"),
    [
        ("Supported: timer", []),
        ("k: timer", []),
        ("Require: TIMER", []),
        ("Supported: replaces, timer, 100rel", ["Supported: replaces, 100rel"]),
        ("Supported: replaces,100rel", ["Supported: replaces,100rel"]),
        ("Require: 100rel", ["Require: 100rel"]),
    ],
)
def test_session_timers_are_each_legs_own(line: str, crosses: list[str]) -> None:
    assert [each.decode() for _, each in fields(line)] == crosses
