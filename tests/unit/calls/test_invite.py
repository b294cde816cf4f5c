"""The request URI of what we send to a backend, and the hops that are left."""

from __future__ import annotations

import pytest

from proxy.calls.invite import forwarded, retarget
from proxy.sip.message import Request, field

AS1 = ("192.0.2.1", 5060)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (b"sip:100@example.com", b"sip:100@192.0.2.1:5060"),
        (b"sip:100@example.com:5080", b"sip:100@192.0.2.1:5060"),
        (b"sip:100@[2001:db8::9]:5080", b"sip:100@192.0.2.1:5060"),
        (b"sips:100@example.com", b"sip:100@192.0.2.1:5060"),
        (b"sip:100:secret@example.com", b"sip:100:secret@192.0.2.1:5060"),
        (b"sip:+49123;npdi@example.com;user=phone", b"sip:+49123;npdi@192.0.2.1:5060;user=phone"),
        (b"sip:100@example.com;transport=tcp;maddr=192.0.2.7;lr;ob", b"sip:100@192.0.2.1:5060"),
        (b"sip:100@example.com;TRANSPORT=TCP;x=1", b"sip:100@192.0.2.1:5060;x=1"),
        (b"sip:100@example.com;x=1?Subject=hello", b"sip:100@192.0.2.1:5060;x=1"),
        (b"sip:example.com", b"sip:192.0.2.1:5060"),
        (b"sip:example.com;x=1", b"sip:192.0.2.1:5060;x=1"),
        (b"tel:+4912345", b"sip:+4912345@192.0.2.1:5060;user=phone"),
        (b"tel:100;phone-context=example.com", b"sip:100@192.0.2.1:5060;user=phone"),
    ],
)
def test_the_user_stays_and_what_speaks_of_the_hop_goes(uri: bytes, expected: bytes) -> None:
    assert retarget(uri, AS1, "udp") == expected


def test_the_transport_of_the_backend_is_named() -> None:
    assert retarget(b"sip:100@example.com;transport=udp", AS1, "tcp") == b"sip:100@192.0.2.1:5060;transport=tcp"


def test_an_ipv6_backend_stands_in_brackets() -> None:
    assert retarget(b"sip:100@example.com", ("2001:db8::1", 5062), "udp") == b"sip:100@[2001:db8::1]:5062"


def test_another_user_takes_the_place_of_the_one_dialled() -> None:
    assert retarget(b"sip:200@example.com;x=1", AS1, "udp", b"rescue") == b"sip:rescue@192.0.2.1:5060;x=1"
    assert retarget(b"sip:example.com", AS1, "udp", b"rescue") == b"sip:rescue@192.0.2.1:5060"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"70", b"Max-Forwards: 69"),
        (b"1", b"Max-Forwards: 0"),
        (b"0", None),
        (None, b"Max-Forwards: 69"),
        (b"many", b"Max-Forwards: 69"),
        (b"0068", b"Max-Forwards: 67"),
        (b"255", b"Max-Forwards: 254"),
        (b"256", b"Max-Forwards: 69"),  # RFC 4475 §3.1.2.4: as if it were not there
        (b"9" * 5000, b"Max-Forwards: 69"),
    ],
)
def test_each_hop_takes_one_off(value: bytes | None, expected: bytes | None) -> None:
    given = [field(b"Max-Forwards", value)] if value is not None else []
    found = forwarded(Request(b"INVITE", b"sip:x", given))
    assert (found[1] if found else None) == expected
