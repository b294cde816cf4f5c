"""What a request outside a dialog is refused for before anything is made of it."""

from __future__ import annotations

import pytest

from proxy.sip.message import Request
from proxy.sip.parser import parse
from proxy.sip.screening import screen


def request(
    uri: bytes = b"sip:b@example.com",
    from_: bytes = b"<sip:a@example.com>;tag=1",
    to: bytes = b"<sip:b@example.com>",
    contact: bytes = b"<sip:a@192.0.2.1>",
    via: bytes = b"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1",
) -> Request:
    lines = [b"INVITE %b SIP/2.0" % uri, b"Via: " + via, b"From: " + from_, b"To: " + to, b"Contact: " + contact]
    message = parse(b"\r\n".join([*lines, b"Call-ID: x", b"CSeq: 1 INVITE", b"", b""]))
    assert isinstance(message, Request)
    return message


@pytest.mark.parametrize("uri", [b"sip:b@example.com;x=y", b"sips:[::1]:5061", b"tel:+1-201", b"SIP:b@c"])
def test_request_uri_passes(uri: bytes) -> None:
    assert screen(request(uri=uri)) is None


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        (b"sip:b@example.com?Route=x", 400),
        (b"sip:b@", 400),
        (b"b@example.com", 400),
        (b"mailto:b@example.com", 416),
        (b"urn:service:sos", 416),
    ],
)
def test_request_uri_is_refused(uri: bytes, status: int) -> None:
    refusal = screen(request(uri=uri))
    assert refusal is not None and refusal[0] == status


@pytest.mark.parametrize(
    "address",
    [
        b"sip:a@b",
        b"sip:a@b;tag=1;x",
        b'"Alice" <sip:a@b;lr>;tag=1',
        b'"A \\"\\\\" <sip:a@b?x=y> ; tag = 1 ; z="a;b,<"',
        b"Alice van D. <sip:a@b>",
        b"Alice<sip:a@b>",
        b'""<sip:a@b>',
        "Zoë <sip:a@b>".encode(),
        b"<tel:+1>",
        b"<urn:uuid:x>",
        b"<sip:a@[::1]:5060;transport=tcp>;+sip.instance=\"<urn:uuid:1>\";q=0.5",
    ],
)  # fmt: skip
def test_address_passes(address: bytes) -> None:
    assert screen(request(from_=address, to=address, contact=address)) is None


@pytest.mark.parametrize(
    "address",
    [
        b"",
        b'"Alice <sip:a@b>',
        b"Alice, Bell <sip:a@b>;tag=1",
        b"<sip:a@b",
        b"<sip:a b>",
        b"<>",
        b"sip:a@b?x=y",
        b"<sip:a@b>;;",
        b"<sip:a@b> x",
        b"<<sip:a@b>>",
        b"a@b",
    ],
)
def test_address_is_refused(address: bytes) -> None:
    assert screen(request(from_=address)) == (400, "From cannot be read")
    assert screen(request(to=address)) == (400, "To cannot be read")
    assert screen(request(contact=address or b"<>")) == (400, "Contact cannot be read")


def test_contact_may_be_a_list_or_a_star() -> None:
    assert screen(request(contact=b'"a, b" <sip:a@b>, <sip:c@d>;expires=5')) is None
    assert screen(request(contact=b"*")) is None
    assert screen(request(contact=b"<sip:a@b>, x y")) == (400, "Contact cannot be read")


@pytest.mark.parametrize(
    ("via", "passes"),
    [
        (b"SIP/2.0/UDP host_1.example.com", True),
        (b"SIP / 2.0 / TCP [2001:db8::1] : 5060 ; branch = x;rport;received=::1", True),
        (b"SIP/2.0/UDP a;branch=1,SIP/2.0/TLS b;x=\"y,z\"", True),
        (b"SIP/2.0/UDP a;received=[::1]", True),
        (b"SIP/2.0/UDP a;;", False),
        (b"SIP/2.0/UDP a:123456", False),
        (b"SIP/2.0/UDP a, ", False),
        (b"SIP/2.0/UDP a, b", False),
        (b"SIP/2.0/UDP a<b>", False),
    ],
)  # fmt: skip
def test_via(via: bytes, passes: bool) -> None:
    assert screen(request(via=via)) == (None if passes else (400, "Via cannot be read"))
