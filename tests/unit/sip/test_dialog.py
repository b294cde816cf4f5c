"""Dialogs (RFC 3261 §12): roles, route sets, strict routers, sequence numbers, target refresh, snapshots."""

from __future__ import annotations

import msgpack
import pytest

from proxy.sip.dialog import CONFIRMED, EARLY, Dialog, without_tag
from proxy.sip.message import Request, Response, response
from proxy.sip.parser import parse

EDGE, CORE = b"<sip:edge.example.com;lr>", b"<sip:core.example.com;lr>"


def invite(*extra: str, from_: str = "<sip:a@example.com>;tag=alice", to: str = "<sip:b@example.com>") -> Request:
    lines = [
        "INVITE sip:b@192.0.2.1 SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1",
        f"From: {from_}",
        f"To: {to}",
        "Call-ID: call",
        "CSeq: 7 INVITE",
        "Contact: <sip:a@192.0.2.9:5070>",
        *extra,
    ]
    found = parse("\r\n".join([*lines, "", ""]).encode())
    assert isinstance(found, Request)
    return found


def ok(request: Request, *routes: bytes, contact: bytes = b"<sip:b@192.0.2.2>") -> Response:
    fields = [(b"record-route", b"Record-Route: " + route) for route in routes]
    return response(request, 200, b"bob", [*fields, (b"contact", b"Contact: " + contact)])


def uas(*extra: str, **how: str) -> Dialog:
    return Dialog.uas(invite(*extra, **how), b"bob")


def uac(*routes: bytes) -> Dialog:
    request = invite()
    return Dialog.uac(request, ok(request, *routes))


def test_who_is_called_sends_the_to_of_the_invite_as_its_from() -> None:
    bye = uas().request(b"BYE", [])
    assert (bye.from_, bye.to) == (b"<sip:b@example.com>;tag=bob", b"<sip:a@example.com>;tag=alice")
    assert bye.uri == b"sip:a@192.0.2.9:5070"


def test_who_calls_sends_the_from_of_the_invite_as_its_from() -> None:
    bye = uac().request(b"BYE", [])
    assert (bye.from_, bye.to) == (b"<sip:a@example.com>;tag=alice", b"<sip:b@example.com>;tag=bob")
    assert bye.uri == b"sip:b@192.0.2.2"


def test_the_route_set_of_who_is_called_is_in_order_that_of_who_calls_reversed() -> None:
    record = f"Record-Route: {EDGE.decode()}, {CORE.decode()}"
    assert uas(record).request(b"BYE", []).list(b"route") == [EDGE, CORE]
    assert uac(EDGE, CORE).request(b"BYE", []).list(b"route") == [CORE, EDGE]


def test_the_2xx_decides_on_the_routes_of_who_calls() -> None:
    request = invite()
    dialog = Dialog.uac(request, ok(request, EDGE))
    assert dialog.state == EARLY
    dialog.confirm(ok(request, CORE, contact=b"<sip:b@192.0.2.3>"))
    assert (dialog.routes, dialog.target, dialog.state) == ((CORE,), b"sip:b@192.0.2.3", CONFIRMED)


def test_a_strict_router_gets_the_request_uri_and_the_target_goes_last() -> None:
    record = f"Record-Route: <sip:old.example.com>, {CORE.decode()}"
    request = uas(record).request(b"BYE", [])
    assert request.uri == b"sip:old.example.com"
    assert request.list(b"route") == [CORE, b"<sip:a@192.0.2.9:5070>"]


def test_the_next_hop_is_the_first_route_else_the_target() -> None:
    assert uas(f"Record-Route: {EDGE.decode()}").next_hop().host == "edge.example.com"
    assert (uas().next_hop().host, uas().next_hop().port) == ("192.0.2.9", 5070)


def test_lr_counts_in_any_spelling() -> None:
    request = uas("Record-Route: <sip:edge.example.com;LR=on>").request(b"BYE", [])
    assert request.uri == b"sip:a@192.0.2.9:5070"


def test_cseq_rises_with_each_request_but_ack_has_that_of_its_invite() -> None:
    dialog = uac()
    assert [dialog.request(b"INFO", []).cseq for _ in range(3)] == [8, 9, 10]
    assert dialog.request(b"ACK", [], cseq=7).cseq == 7
    assert dialog.request(b"BYE", []).cseq == 11


def test_who_is_called_counts_from_one_whatever_the_peer_counts_from() -> None:
    assert uas().request(b"BYE", []).cseq == 1


@pytest.mark.parametrize(("cseq", "welcome"), [(6, False), (7, False), (8, True), (100, True)])
def test_a_request_must_be_newer_than_what_was_seen(cseq: int, welcome: bool) -> None:
    dialog = uas()
    request = dialog.request(b"INFO", [], cseq=cseq)
    assert dialog.accepts(request) is welcome
    assert not dialog.accepts(request)


def test_the_first_request_of_who_is_called_is_welcome_whatever_its_number() -> None:
    dialog = uac()
    assert dialog.accepts(dialog.request(b"INFO", [], cseq=1))


def test_a_target_refresh_changes_where_the_peer_is_and_keeps_the_route() -> None:
    dialog = uas(f"Record-Route: {EDGE.decode()}")
    dialog.refresh(ok(invite(), CORE, contact=b"<sip:a@192.0.2.77>"))
    assert (dialog.target, dialog.routes) == (b"sip:a@192.0.2.77", (EDGE,))


@pytest.mark.parametrize("contact", [b"", b"<sip:unclosed"])
def test_a_contact_that_cannot_be_read_changes_nothing(contact: bytes) -> None:
    dialog = uas()
    dialog.refresh(ok(invite(), contact=contact))
    assert dialog.target == b"sip:a@192.0.2.9:5070"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"<sip:a@x>;tag=1", b"<sip:a@x>"),
        (b"<sip:a@x>;tag=1;x=2", b"<sip:a@x>;x=2"),
        (b"<sip:a@x>;x=2;tag=1", b"<sip:a@x>;x=2"),
        (b"<sip:a@x> ; TAG = 1", b"<sip:a@x> "),
        (b"<sip:a;tag=1@x>;tag=1", b"<sip:a;tag=1@x>"),  # the URI is the peer's own business
        (b"<sip:a@x;tag=12>;tag=1", b"<sip:a@x;tag=12>"),
        (b"sip:a@x;tag=1", b"sip:a@x"),
        (b"<sip:a@x>", b"<sip:a@x>"),
    ],
)
def test_names_are_kept_without_their_tag(value: bytes, expected: bytes) -> None:
    assert without_tag(value) == expected


def test_a_tag_in_another_spelling_is_not_sent_twice() -> None:
    dialog = uas(from_="<sip:a@example.com>;Tag=alice")
    assert dialog.request(b"BYE", []).to == b"<sip:a@example.com>;tag=alice"


def test_a_dialog_comes_back_from_a_snapshot_as_it_was() -> None:
    dialog = uac(EDGE, CORE)
    dialog.request(b"INFO", [])
    dialog.accepts(dialog.request(b"INFO", [], cseq=30))
    again = Dialog.restore(msgpack.unpackb(msgpack.packb(dialog.snapshot())))
    assert again.snapshot() == dialog.snapshot()
    assert (again.target, again.routes, again.remote_cseq) == (dialog.target, dialog.routes, 30)
    assert again.request(b"BYE", []).encode() == dialog.request(b"BYE", []).encode()
