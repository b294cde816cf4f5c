"""A call as a plain, versioned dict, for another process to take up (msgpack-able: bytes, numbers, lists, None).

Only a call that talks can be restored: one that rings has its life in transactions, which die with the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.calls import session_timer
from proxy.calls.listening import listen
from proxy.calls.standby import Standby
from proxy.calls.waiting import Waiting
from proxy.sip.dialog import Dialog

if TYPE_CHECKING:
    from proxy.backends import Backend
    from proxy.calls.call import Call
    from proxy.calls.calls import Calls
    from proxy.calls.leg import Leg
    from proxy.net.api import Address

VERSION = 3
CSEQ_GAP = 16  # RFC 3261 §12.2.2: a CSeq that is higher by more than one is no error


class SnapshotError(ValueError):
    """Not a snapshot of a call, or one of a version that is not known here."""


def snapshot(call: Call) -> dict[str, Any]:
    """The call as it stands, without its clock: ages are in seconds."""
    now = call.calls.now()
    return {
        "v": VERSION,
        "id": call.id,
        "state": call.state,
        "age_s": now - call.created_at,
        "talked_s": now - call.answered_at if call.answered_at else 0.0,
        "uri": call.uri,
        "from": call.from_value,
        "to": call.to_value,
        "fields": [list(entry) for entry in call.fields],
        "legs_made": call.legs_made,
        "a": _leg(call.a, now),
        "b": _leg(call.b, now) if call.b else None,
        "standby": _standby(call.standby, now) if call.standby else None,
        "bond": [call.bond.kind, call.bond.name, call.bond.pool] if call.bond else None,
        "waiting": _waiting(call.waiting, now) if call.waiting else None,
        "media": call.media.snapshot(call.id),
        "mode": call.calls.media_mode(call),
    }


def _waiting(waiting: Waiting, now: float) -> list[Any]:
    return [waiting.point, waiting.queue, now - waiting.since]


def _standby(standby: Standby, now: float) -> dict[str, Any]:
    return {"leg": _leg(standby.leg, now), "side": standby.side, "offered": standby.offered}


def _leg(leg: Leg, now: float) -> dict[str, Any]:
    return {
        "name": leg.name,
        "tag": leg.tag,
        "transport": leg.flow.transport.decode(),
        "remote": list(leg.flow.remote),
        "bound": list(leg.flow.bound),
        "backend": leg.backend.name if leg.backend else None,
        "dialog": leg.dialog.snapshot() if leg.dialog else None,
        "local_sdp": leg.local_sdp,
        "remote_sdp": leg.remote_sdp,
        "timer": session_timer.snapshot(leg, now),
    }


def restore(calls: Calls, state: Any, elapsed_s: float = 0.0, *, complete: bool = True) -> Call:
    """Take a call up again, `elapsed_s` after its snapshot. Not `complete`: requests may have been sent since then.
    Raises SnapshotError; nothing of it is registered then."""
    if not isinstance(state, dict):
        raise SnapshotError(f"not a call: {str(state)[:60]!r}")
    if state.get("v") != VERSION:
        raise SnapshotError(f"version {state.get('v')!r} is not known (this is version {VERSION})")
    legs: list[Leg] = []
    try:
        call = _restore(calls, state, legs, elapsed_s)
    except Exception as error:  # whatever a file can be wrong in
        for leg in legs:
            if leg.backend is not None:
                leg.backend.calls -= 1
            leg.unlink()
        raise SnapshotError(f"call {state.get('id')!r}: {error!r}") from error
    for leg in legs:
        if leg.dialog is not None and not complete:
            leg.dialog.local_cseq += CSEQ_GAP
    return call


def _restore(calls: Calls, state: dict[str, Any], legs: list[Leg], elapsed_s: float) -> Call:
    if state["id"] in calls.live:
        raise ValueError("it is live here")
    if state["state"] != "talking":
        raise ValueError(f"a call that is {state['state']} cannot be restored")
    call = calls.new_call(state["id"], state["mode"])
    now = calls.now()
    call.state = state["state"]
    call.created_at = now - elapsed_s - state["age_s"]
    call.answered_at = now - elapsed_s - state["talked_s"]
    call.uri, call.from_value, call.to_value = state["uri"], state["from"], state["to"]
    call.fields = tuple((key, line) for key, line in state["fields"])
    call.pack_fields()
    call.legs_made = state["legs_made"]
    if state.get("waiting") is not None:  # one that was written before there were any has none
        point, queue, waited_s = state["waiting"]
        call.waiting = Waiting(point, queue, now - elapsed_s - waited_s)
    call.a = _restore_leg(calls, call, state["a"], legs, elapsed_s)
    call.b = _restore_leg(calls, call, state["b"], legs, elapsed_s)
    second = state["standby"]
    if second is not None:
        leg = _restore_leg(calls, call, second["leg"], legs, elapsed_s)
        call.standby = Standby(leg, second["side"], second["offered"], now)
    call.media.restore(call.id, state["media"])
    calls.register(call)
    listen(calls, call)
    if state["bond"] is not None:
        _join(calls, call, *state["bond"])
    return call


def _join(calls: Calls, call: Call, kind: str, name: bytes, told: str = "") -> None:
    """In the pool that was told; in the one that the call is in, if that has another name now, or none was told."""
    backends = [leg.backend for leg in (call.b, call.a) if leg is not None and leg.backend is not None]
    pools = [each.pool for each in backends if calls.backends.pool_of(each).settings.recover]
    pool = told if told in pools else next(iter(pools), None)
    if pool is not None:
        calls.pairs.join(call, kind, name, pool)


def _backend(calls: Calls, name: str, address: Address) -> Backend | None:
    """Who is at that address, whatever it is called now; else who has that name."""
    backend = calls.backends.get(name)
    if backend is not None and backend.address == address:
        return backend
    return calls.backends.from_source(address) or backend


def _restore_leg(calls: Calls, call: Call, state: dict[str, Any], legs: list[Leg], elapsed_s: float) -> Leg:
    remote, bound = state["remote"], state.get("bound") or ("", 0)
    flow = calls.stack.flow(state["transport"], (remote[0], remote[1]), (bound[0], bound[1]))
    backend = _backend(calls, state["backend"], flow.remote) if state["backend"] else None
    leg = calls.make_leg(call, state["name"], state["tag"], flow, backend)
    legs.append(leg)
    leg.dialog = Dialog.restore(state["dialog"])
    leg.local_sdp, leg.remote_sdp = state["local_sdp"], state["remote_sdp"]
    session_timer.restore(calls, leg, state["timer"], elapsed_s)
    return leg
