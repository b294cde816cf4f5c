"""Every message of RFC 4475 and RFC 5118, and what must become of it.

`None` means taken as it is; a status, refused with that; DROP, silently discarded. Where the RFC leaves a choice,
the reason for ours stands beside it. What only a layer above can refuse (420, 415, 483, …) is taken here.
"""

from __future__ import annotations

import re

import pytest

from proxy.sip.framing import FramingError, StreamFramer
from proxy.sip.message import Request, Response, response
from proxy.sip.parser import SipError, parse
from proxy.sip.screening import screen
from proxy.sip.uri import addr_spec, parse_uri, user_of
from tests.fuzz.torture import load

RFC4475 = load("rfc4475.txt")
RFC5118 = load("rfc5118.txt")
DROP = 0

EXPECTED: dict[str, int | None] = {
    "wsinv": None,
    "intmeth": None,
    "esc01": None,
    "escnull": None,
    "esc02": None,
    "lwsdisp": None,
    "longreq": None,
    "dblreq": None,
    "semiuri": None,
    "transports": None,
    "mpart01": None,
    "unreason": None,
    "noreason": None,
    "badinv01": 400,
    "clerr": 400,
    "ncl": 400,
    "scalar02": 400,
    "scalarlg": DROP,
    "quotbal": 400,
    "ltgtruri": 400,
    "lwsruri": 400,
    "lwsstart": 400,  # acceptable to reject; who writes this gets more wrong
    "trws": 400,  # the same
    "escruri": 400,
    "baddate": None,  # nobody here uses the Date
    "regbadct": 400,
    "badaspec": 400,
    "baddn": 400,  # must not be passed on as it is
    "badvers": 505,
    "mismatch01": 400,
    "mismatch02": 400,  # or 501
    "bigcode": DROP,
    "badbranch": None,  # falls back to the transaction identifier of RFC 2543
    "insuf": 400,
    "unkscm": 416,
    "novelsc": 416,
    "unksm2": None,
    "bext01": None,
    "invut": None,
    "regaut01": None,
    "multi01": 400,
    "mcl01": 400,
    "bcast": None,  # a B2BUA never sends a response by its second Via
    "zeromf": None,
    "cparam01": None,
    "cparam02": None,
    "regescrt": None,
    "sdp01": None,
    "inv2543": None,
    "ipv6-good": None,
    "ipv6-bad": 400,
    "port-ambiguous": None,
    "port-unambiguous": None,
    "via-received-param-with-delim": None,
    "via-received-param-no-delim": None,
    "ipv6-in-sdp": None,
    "mult-ip-in-header": None,
    "mult-ip-in-sdp": None,
    "ipv4-mapped-ipv6": None,
    "ipv6-bug-abnf-3-colons": None,
    "ipv6-correct-abnf-2-colons": None,
}
MESSAGES = RFC4475 | RFC5118
# Their Content-Length is not that of what follows; multi01 in the RFC itself is two octets short.
UNFRAMED = {"clerr", "ncl", "mcl01", "inv2543", "dblreq", "multi01"}


def outcome(data: bytes) -> tuple[int | None, Request | Response | None]:
    try:
        message = parse(data)
    except SipError as error:
        return (error.status if error.partial else DROP), error.partial
    refused = screen(message) if isinstance(message, Request) else None
    return (refused[0] if refused else None), message


def taken(name: str) -> Request:
    message = parse(MESSAGES[name])
    assert isinstance(message, Request)
    return message


def test_all_messages_are_there() -> None:
    assert (len(RFC4475), len(RFC5118)) == (49, 12)
    assert set(MESSAGES) == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(set(RFC4475) - UNFRAMED))
def test_our_copy_is_true_to_its_own_content_length(name: str) -> None:
    head, _, body = RFC4475[name].partition(b"\r\n\r\n")
    (length,) = re.findall(rb"\r\n(?:content-length|l)\s*:\s*(\d+)", head, re.IGNORECASE)
    assert len(body) == int(length)


@pytest.mark.parametrize("name", MESSAGES)
def test_outcome(name: str) -> None:
    assert outcome(MESSAGES[name])[0] == EXPECTED[name]


@pytest.mark.parametrize("name", [name for name, expected in EXPECTED.items() if expected])
def test_refusal_can_be_sent_and_read(name: str) -> None:
    status, request = outcome(MESSAGES[name])
    assert status and isinstance(request, Request)
    answer = response(request, status, b"tag")
    assert answer.fields and answer.encode().startswith(b"SIP/2.0 %d " % status)
    assert answer.all(b"via") == request.all(b"via")


@pytest.mark.parametrize("name", [name for name, expected in EXPECTED.items() if expected is None])
def test_what_is_taken_is_the_same_after_passing_through(name: str) -> None:
    first = parse(MESSAGES[name])
    again = parse(first.encode())
    assert (type(again), again.body) == (type(first), first.body)
    kept = [entry for entry in first.fields if entry[0] != b"content-length"]
    assert [entry for entry in again.fields if entry[0] != b"content-length"] == kept


def test_short_tortuous_invite() -> None:
    message = taken("wsinv")
    assert message.uri == b"sip:vivekg@chair-dnrc.example.com;unknownparam"
    assert (message.to_tag, message.from_tag) == (b"1918181833n", b"98asjd8")
    assert (message.cseq, message.get(b"max-forwards"), message.get(b"subject")) == (9, b"0068", b"")
    assert addr_spec(message.from_) == b"sip:jdrosen@example.com"
    assert addr_spec(message.get(b"contact") or b"") == b"sip:jdrosen@example.com"
    assert len(message.list(b"via")) == 3
    assert message.list(b"via")[2].startswith(b"SIP  /    2.0   / UDP")
    assert message.get(b"unknownheaderwithunusualvalue") == b";;,,;;,;"
    assert len(message.sdp) == 150


def test_wide_range_of_characters() -> None:
    message = taken("intmeth")
    assert message.method == b"!interesting-Method0123456789_*+`.%indeed'~"
    assert message.from_tag == b"_token~1'+`*%!-."
    assert message.call_id == b"intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"
    assert b"NUL:\\\x00" in message.to
    uri = parse_uri(message.uri)
    assert uri.host == "example.com"
    assert uri.user == b"1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
    assert message.get(b"extensionheader-!.%*+_`'~") == "\ufeff大停電".encode()


def test_escapes_stay_as_they_are() -> None:
    message = taken("esc01")
    assert parse_uri(message.uri).user == b"sips%3Auser%40example.com"
    assert addr_spec(message.to) == b"sip:%75se%72@example.com"
    assert [user_of(addr_spec(value)) for value in taken("escnull").all(b"contact")] == [b"%00", b"%00%00"]


def test_percent_in_a_header_name_is_no_escape() -> None:
    message = taken("esc02")
    assert message.method == b"RE%47IST%45R"
    assert len(message.all(b"contact")) == 2
    assert message.get(b"c%6fntact") == b"<sip:alias2@host2.example.com>"


def test_long_values() -> None:
    message = taken("longreq")
    assert message.from_tag == b"12" + b"982" * 50 + b"424"
    assert len(message.list(b"via")) == 34
    assert addr_spec(message.from_) == b"sip:" + b"amazinglylongcallername" * 5 + b"@example.net"
    assert parse_uri(addr_spec(message.to)).port == 6000


def test_octets_after_the_body_of_a_datagram_are_ignored_and_on_a_stream_are_the_next_message() -> None:
    assert taken("dblreq").body == b""
    assert b"INVITE" not in taken("dblreq").encode()
    assert [parse(data).call_id.partition(b".")[0] for data in StreamFramer(65535).feed(RFC4475["dblreq"])] == [
        b"dblreq"
    ] * 2


def test_parameters_in_the_user_part() -> None:
    assert parse_uri(taken("semiuri").uri).user == b"user;par=u%40example.net"


def test_binary_body_is_whole() -> None:
    body = taken("mpart01").body
    assert len(body) == 553 and b"\x30\x82\x01\x52" in body and b"\x00" in body


def test_reason_phrases() -> None:
    message = parse(RFC4475["unreason"])
    assert isinstance(message, Response) and message.reason.decode().startswith("= 2**3 * 5**2 но сто")
    empty = parse(RFC4475["noreason"])
    assert isinstance(empty, Response) and (empty.status, empty.reason) == (100, b"")


def test_rfc_2543_has_neither_tag_nor_branch_nor_length() -> None:
    message = taken("inv2543")
    assert message.from_tag == b""
    assert message.sdp.startswith(b"v=0\r\n") and message.sdp.endswith(b"RTP/AVP 0\r\n")


def test_contact_parameters_belong_to_the_header_without_brackets() -> None:
    assert addr_spec(taken("cparam01").get(b"contact") or b"") == b"sip:+19725552222@gw1.example.net"
    assert addr_spec(taken("cparam02").get(b"contact") or b"") == b"sip:+19725552222@gw1.example.net;unknownparam"


@pytest.mark.parametrize("name", sorted(set(MESSAGES) - UNFRAMED))
@pytest.mark.parametrize("size", [1, 7, 1460])
def test_every_message_comes_whole_out_of_a_stream(name: str, size: int) -> None:
    framer, data = StreamFramer(65535), MESSAGES[name]
    assert [m for at in range(0, len(data), size) for m in framer.feed(data[at : at + size])] == [data]


@pytest.mark.parametrize("name", ["ncl", "mcl01", "inv2543"])
def test_unclear_length_closes_the_stream(name: str) -> None:
    with pytest.raises(FramingError) as caught:
        StreamFramer(65535).feed(MESSAGES[name])
    assert caught.value.head.endswith(b"\r\n\r\n")


def test_body_that_does_not_come_leaves_the_stream_half_open() -> None:
    framer = StreamFramer(65535)
    assert framer.feed(RFC4475["clerr"]) == []
    assert framer.half_open


@pytest.mark.parametrize(
    ("name", "host", "port"),
    [
        ("ipv6-good", "2001:db8::10", 0),
        ("port-ambiguous", "2001:db8::10:5070", 0),
        ("port-unambiguous", "2001:db8::10", 5070),
        ("ipv6-bug-abnf-3-colons", "2001:db8::192.0.2.1", 0),
        ("ipv6-correct-abnf-2-colons", "2001:db8::192.0.2.1", 0),
    ],
)
def test_ipv6_reference(name: str, host: str, port: int) -> None:
    uri = parse_uri(taken(name).uri)
    assert (uri.host, uri.port) == (host, port)
    assert b"[" + host.encode() + b"]" in bytes(uri)
