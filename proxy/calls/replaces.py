"""A dialog that another request names: Replaces (RFC 3891) or Join (RFC 3911), in an INVITE or in the URI of Refer-To.

A phone that transfers with consultation names the dialog that it has with us; the backend knows that call by the dialog
on the other leg. So what crosses names that one, whichever side asks. A dialog that is none of ours crosses as it came.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from proxy.backends import Backend
from proxy.calls.headers import crossing
from proxy.calls.leg import Leg
from proxy.sip.dialog import Dialog
from proxy.sip.message import Field, Request
from proxy.sip.uri import param

if TYPE_CHECKING:
    from proxy.calls.calls import Calls

NAMING = (b"replaces", b"join")
_IN_URI = re.compile(rb"(?<=[?&])((?:Replaces|Join)=)([^&>\s]+)", re.IGNORECASE)


def crossing_named(calls: Calls, request: Request) -> list[Field]:
    """The fields of `request` that cross, with the dialogs that they name as the other side knows them."""
    fields = crossing(request)
    if not any(request.line(key) for key in (*NAMING, b"refer-to")):
        return fields
    return [_crossed(calls, entry) for entry in fields]


def backend_of(calls: Calls, request: Request) -> Backend | None:
    """Where the dialog is that an INVITE replaces or joins: nobody else can do that."""
    for key in NAMING:
        named = _named(calls, request.get(key) or b"")
        if named is not None and named[0].backend is not None:
            return named[0].backend
    return None


def _crossed(calls: Calls, entry: Field) -> Field:
    key, line = entry
    if key in NAMING:
        name, _, value = line.partition(b":")
        return (key, b"%b: %b" % (name, _translated(calls, value.strip())))
    if key == b"refer-to":
        return (key, _IN_URI.sub(lambda found: found[1] + _in_uri(calls, found[2]), line))
    return entry


def _in_uri(calls: Calls, escaped: bytes) -> bytes:
    value = unquote_to_bytes(escaped)
    translated = _translated(calls, value)
    return escaped if translated == value else quote(translated, safe="").encode()


def _translated(calls: Calls, value: bytes) -> bytes:
    named = _named(calls, value)
    if named is None:
        return value
    dialog = named[1]
    others = [
        b";" + each
        for each in value.split(b";")[1:]
        if each.partition(b"=")[0].strip().lower() not in (b"to-tag", b"from-tag")
    ]
    return b"%b;to-tag=%b;from-tag=%b" % (dialog.call_id, dialog.remote_tag, dialog.local_tag) + b"".join(others)


def _named(calls: Calls, value: bytes) -> tuple[Leg, Dialog] | None:
    """The other leg of the call that `value` names by its dialog with us, and the dialog there."""
    call_id, _, params = value.partition(b";")
    leg = calls.index.get(param(params, b"to-tag") or b"")  # of who is asked: of us (RFC 3891 §3)
    if leg is None or leg.call is None or leg.dialog is None:
        return None
    dialog = leg.dialog
    if dialog.call_id != call_id.strip() or dialog.remote_tag != param(params, b"from-tag"):
        return None
    other = leg.call.b if leg is leg.call.a else leg.call.a
    return (other, other.dialog) if other is not None and other.dialog is not None else None
