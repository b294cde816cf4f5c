"""SIP URIs and addresses: RFC 3261 §19.1 and §20.10."""

from __future__ import annotations

import pytest

from proxy.sip.uri import UriError, addr_spec, param, parse_uri, user_of


@pytest.mark.parametrize(
    ("text", "scheme", "user", "host", "port", "params", "headers"),
    [
        (b"sip:example.com", b"sip", b"", "example.com", 0, b"", b""),
        (b"sip:alice@example.com", b"sip", b"alice", "example.com", 0, b"", b""),
        (b"SIPS:alice:secret@EXAMPLE.com:5061", b"sips", b"alice:secret", "example.com", 5061, b"", b""),
        (b"sip:a@192.0.2.1:5070;transport=tcp;lr", b"sip", b"a", "192.0.2.1", 5070, b";transport=tcp;lr", b""),
        (b"sip:a@b?subject=x&to=y", b"sip", b"a", "b", 0, b"", b"?subject=x&to=y"),
        (b"sip:a@b;x?y=z", b"sip", b"a", "b", 0, b";x", b"?y=z"),
        (b"sip:[2001:db8::1]", b"sip", b"", "2001:db8::1", 0, b"", b""),
        (b"sip:a@[2001:DB8::1]:5060;lr", b"sip", b"a", "2001:db8::1", 5060, b";lr", b""),
        (b"sip:a@[::ffff:192.0.2.1]", b"sip", b"a", "::ffff:192.0.2.1", 0, b"", b""),
        (b"sip:+1-212-555:1234@gw.com;user=phone", b"sip", b"+1-212-555:1234", "gw.com", 0, b";user=phone", b""),
        (b"sip:alice;day=tuesday@atlanta.com", b"sip", b"alice;day=tuesday", "atlanta.com", 0, b"", b""),
        (b"sip:a%40b@c", b"sip", b"a%40b", "c", 0, b"", b""),
        (b"sip:a?b@c", b"sip", b"a?b", "c", 0, b"", b""),
        (b" sip:a_b.example.com. ", b"sip", b"", "a_b.example.com.", 0, b"", b""),
    ],
)  # fmt: skip
def test_uri(text: bytes, scheme: bytes, user: bytes, host: str, port: int, params: bytes, headers: bytes) -> None:
    uri = parse_uri(text)
    assert (uri.scheme, uri.user, uri.host, uri.port) == (scheme, user, host, port)
    assert (uri.params, uri.headers) == (params, headers)
    assert parse_uri(bytes(uri)) == uri


@pytest.mark.parametrize(
    "text",
    [
        b"", b"sip:", b"sip:@", b"alice@example.com", b"tel:+1", b"http://example.com", b"sip:a@b:x", b"sip:a@b:65536",
        b"sip:a@b:123456", b"sip:2001:db8::1", b"sip:[2001:db8::1", b"sip:a@b c", b"sip:a@b;x y", b"sip:a@@b",
        b"<sip:a@b>", b"sip:a@\xff", b"sip:a@b\r\nx", b'sip:"a"@b',
    ],
)  # fmt: skip
def test_not_a_uri(text: bytes) -> None:
    with pytest.raises(UriError):
        parse_uri(text)


def test_parameters_are_found_without_case() -> None:
    uri = parse_uri(b"sip:a@b;Transport=TCP;lr;x=")
    assert (uri.param(b"transport"), uri.transport) == (b"TCP", "tcp")
    assert (uri.param(b"lr"), uri.param(b"x"), uri.param(b"y")) == (b"", b"", None)
    assert parse_uri(b"sip:a@b").transport == ""
    assert param(b'; A = "b" ;c', b"a") == b'"b"'


@pytest.mark.parametrize(
    ("value", "uri"),
    [
        (b"sip:a@b", b"sip:a@b"),
        (b"sip:a@b;tag=1", b"sip:a@b"),
        (b"<sip:a@b;lr>;tag=1", b"sip:a@b;lr"),
        (b'"Alice <sip:evil@x>" <sip:a@b>;tag=1', b"sip:a@b"),
        (b'"A \\" <sip:evil@x>" <sip:a@b>', b"sip:a@b"),
        (b'<sip:a@b>;note="<sip:evil@x>"', b"sip:a@b"),
        (b"Alice < sip:a@b >", b"sip:a@b"),
        (b'"never closed <sip:a@b>', b"sip:a@b"),
    ],
)
def test_address_of_a_header(value: bytes, uri: bytes) -> None:
    assert addr_spec(value) == uri


@pytest.mark.parametrize("value", [b"<sip:a@b", b'"<sip:a@b>" <sip:c', b'"<sip:a@b>" x'])
def test_brackets_that_do_not_close(value: bytes) -> None:
    assert value.count(b"<") > 0
    with pytest.raises(UriError):
        addr_spec(value)


@pytest.mark.parametrize(
    ("uri", "user"),
    [
        (b"sip:alice@example.com", b"alice"),
        (b"sip:alice:pw@example.com", b"alice"),
        (b"sip:example.com", b""),
        (b"tel:+1-201;phone-context=x", b"+1-201"),
        (b"TEL:911", b"911"),
        (b"nonsense", b""),
    ],
)
def test_user(uri: bytes, user: bytes) -> None:
    assert user_of(uri) == user
