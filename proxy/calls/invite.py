"""The INVITE that we send to a backend: for a new call, and for a call that is carried over."""

from __future__ import annotations

from collections.abc import Iterable

from proxy.calls.call import Call
from proxy.calls.headers import repeated
from proxy.calls.leg import Leg
from proxy.net.api import Address
from proxy.sip.flow import host_port
from proxy.sip.message import SDP, Field, Request, contact
from proxy.sip.stack import MAX_FORWARDS

HOPS_MAX = 255


def invite(call: Call, leg: Leg, body: bytes, extra: Iterable[Field], user: bytes | None = None) -> Request:
    """R-URI user, From and To are the caller's; the dialog is ours. The session description must be in `body`
    already; `user` replaces the user part of the R-URI."""
    assert leg.backend
    asked: Iterable[Field] = call.fields
    if call.setup is None:  # it is carried over, with the description that holds now
        asked = (*repeated(call.fields), SDP)
    uri = retarget(call.uri, leg.backend.address, leg.backend.transport, user)
    fields: list[Field] = [
        (b"from", b"From: %b;tag=%b" % (call.from_value, leg.tag)),
        (b"to", b"To: " + call.to_value),
        (b"call-id", b"Call-ID: " + call_id(call, leg)),
        (b"cseq", b"CSeq: 1 INVITE"),
        contact(leg.flow),
        *asked,
        *extra,
    ]
    return Request(b"INVITE", uri, fields, body)


def call_id(call: Call, leg: Leg) -> bytes:
    """Of the dialog that we begin on that leg."""
    return f"{call.id}-{leg.name}".encode()


def retarget(uri: bytes, address: Address, transport: str, user: bytes | None = None) -> bytes:
    """The same user at another address; URI parameters that speak of the hop are dropped."""
    scheme, _, rest = uri.partition(b":")
    kept, at, hop = rest.partition(b"@")
    params = b""
    if not at:
        if scheme.lower() == b"tel":
            kept, _, _ = rest.partition(b";")
            params = b";user=phone"
        else:
            kept, hop = b"", rest
    if b";" in hop:
        for param in hop.partition(b"?")[0].split(b";")[1:]:
            if param.partition(b"=")[0].lower() not in (b"transport", b"maddr", b"lr", b"ob"):
                params += b";" + param
    if user is not None:
        kept = user
    if transport != "udp":
        params += b";transport=" + transport.encode()
    return b"sip:%b%b%b%b" % (kept, b"@" if kept else b"", host_port(address), params)


def forwarded(request: Request) -> Field | None:
    """Max-Forwards, one less than it came with; None: it had run out (RFC 3261 §16.3 step 3). A value that is none,
    or above 255 (§20.22), counts as absent (RFC 4475 §3.1.2.4)."""
    value = request.get(b"max-forwards") or b""
    hops = int(value) if value.isdigit() and len(value) < 10 else MAX_FORWARDS
    if hops > HOPS_MAX:
        hops = MAX_FORWARDS
    return (b"max-forwards", b"Max-Forwards: %d" % (hops - 1)) if hops > 0 else None
