"""What belongs to nothing that is known here: mostly to calls that rang when the process before this one ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.sip.dialog import Dialog, without_tag
from proxy.sip.message import Response

if TYPE_CHECKING:
    from proxy.calls.calls import Calls


def receive(calls: Calls, message: Response) -> None:
    """A response without a transaction. A backend that has answered an INVITE of ours, which nobody waits for any more,
    is told so at once: ACK and BYE (RFC 3261 §13.2.2.4). Else somebody there would talk to nobody."""
    calls.counts["stray_responses"] += 1
    flow = message.flow
    if message.method != b"INVITE" or not 200 <= message.status < 300 or message.from_tag in calls.index:
        return
    if flow is None or not message.to_tag or calls.backends.from_source(flow.remote) is None:
        return
    tag = message.from_tag
    dialog = Dialog(message.call_id, without_tag(message.from_), tag, without_tag(message.to), message.to_tag)
    dialog.local_cseq = message.cseq
    dialog.confirm(message)
    stack = calls.stack
    way = stack.way(dialog, flow)
    way.send(stack.ack(dialog.request(b"ACK", [], cseq=message.cseq), way))
    stack.request(dialog.request(b"BYE", []), way, lambda _: None)
