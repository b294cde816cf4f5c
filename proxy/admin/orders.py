"""What can be asked of a node, and ordered: the models behind the control socket."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from media.api import MediaError, MediaPlane
from media.relay.client import RelayPlane
from proxy.admin.control import ControlError, Handler
from proxy.admin.rosters import conference_row
from proxy.backends import Backend
from proxy.calls import Call
from proxy.config import MediaMode
from proxy.failover import RefusedOrder
from proxy.failover.report import Report
from proxy.net.address import host_port
from proxy.sip.flow import Transport
from proxy.upkeep import RefusedRolling, Rollout

if TYPE_CHECKING:
    from proxy.node import Node


def handlers(node: Node) -> dict[str, Handler]:
    return {
        "status": lambda command: _status(node, command),
        "calls": lambda command: (call_row(node, call) for call in list(node.calls.live.values())),
        "conferences": lambda command: [conference_row(node, each) for each in node.conferences],
        "backends": lambda command: [backend_row(node, backend) for backend in node.backends],
        "failovers": lambda command: (report_row(node, report) for report in list(node.failovers.reports)),
        "drain": lambda command: _drain(node, command),
        "ready": lambda command: _ready(node, command),
        "failover": lambda command: _failover(node, command),
        "rolling-restart": lambda command: _rolling_restart(node, command),
        "rolling-stop": lambda command: _rolling_stop(node, command),
        "rolling": lambda command: _rolling(node, command),
    }


def status(node: Node, *, reset_stall: bool) -> dict[str, Any]:
    stall = node.stall.worst_ms
    if reset_stall:
        node.stall.worst_ms = 0.0
    stack = node.stack
    return {
        "node": node.settings.node.name,
        "started": _time(node, node.started_at),
        "uptime_s": round(node.loop.time() - node.started_at, 1),
        "calls": len(node.calls.live),
        "loop_stall_ms_max": round(stall, 2),
        "transactions": {"client": len(stack.clients), "server": len(stack.servers)},
        "retransmissions": {"sent": stack.retransmissions, "received": stack.retransmissions_seen},
        "errors": dict(stack.errors),
        "counts": dict(node.calls.counts),
        "conferences": {"live": len(node.conferences), **node.conferences.counts},
        "transports": [transport_row(transport) for transport in stack.transports],
        "media": {mode: dict(plane.counters) for mode, plane in _planes(node).items()},
        "refusals": {str(refusal): count for refusal, count in node.failovers.refusals.items()},
        "moving": sorted({*(backend.name for backend in node.failovers.moving), *node.reanchors.moving}),
        "alerts": {
            "firing": [alert.as_dict(node.settings.node.name) for alert in node.alerts.firing.values()],
            "undelivered": node.alerts.undelivered,
            "problems": node.alerts.problems(),
        },
        "backends": [backend_row(node, backend) for backend in node.backends],
        "rtpengines": [
            {"name": each.name, "up": each.up, "sessions": len(each.sessions)}
            for each in (node.rtpengine.nodes if node.rtpengine is not None else ())
        ],
    }


async def _status(node: Node, command: dict[str, Any]) -> dict[str, Any]:
    told = status(node, reset_stall=bool(command.get("reset_stall")))
    try:
        return {**told, "relay": await node.relay.figures() if isinstance(node.relay, RelayPlane) else None}
    except MediaError as error:
        return {**told, "relay": {"down": str(error)}}


def _planes(node: Node) -> dict[str, MediaPlane]:
    """Those that this node uses, by the mode that uses them."""
    planes: dict[MediaMode, MediaPlane | None] = {
        "relay": node.relay, "rtpengine": node.rtpengine, "direct": node.direct
    }  # fmt: skip
    return {mode: plane for mode, plane in planes.items() if plane is not None and node.settings.uses_media(mode)}


def transport_row(transport: Transport) -> dict[str, Any]:
    name = transport.name.decode().lower()
    return {"transport": name, "address": host_port(transport.bound), **transport.figures()}


def _time(node: Node, at: float) -> str:
    """A moment of the node's clock as people read it: ISO 8601, local time, milliseconds."""
    moment = datetime.fromtimestamp(time.time() - node.loop.time() + at)
    return moment.astimezone().isoformat(timespec="milliseconds")


def backend_row(node: Node, backend: Backend) -> dict[str, Any]:
    known = node.health.explain(backend)
    for change in known["changes"]:
        change["time"] = _time(node, change["at"])
    return {
        "name": backend.name,
        "pool": backend.pool,
        "address": host_port(backend.address),
        "role": str(backend.role),
        "admin": str(backend.admin),
        "power": str(backend.power),
        "parity": node.upkeep.parity.faults.get(backend.name, []),
        "calls": backend.calls,
        "fenced": backend.fenced,
        **known,
        "synthetic": node.synthetic.explain(backend),
        "control": node.controls.explain(backend),
    }


def call_row(node: Node, call: Call) -> dict[str, Any]:
    now = node.loop.time()
    return {
        "id": call.id,
        "state": call.state,
        "on_hold": call.on_hold,
        "from": call.from_value.decode(errors="replace"),
        "to": call.to_value.decode(errors="replace"),
        "age_s": round(now - call.created_at, 1),
        "media": node.calls.media_mode(call),
        "legs": [
            {
                "name": leg.name,
                "peer": host_port(leg.flow.remote),
                "transport": leg.flow.transport.decode(),
                "backend": leg.backend.name if leg.backend else None,
            }
            for leg in call.legs()
        ],
    }


def report_row(node: Node, report: Report) -> dict[str, Any]:
    return {
        **report.summary(),
        "time": _time(node, report.detected_at),
        "results": (asdict(each) for each in list(report.results)),
    }


def _backend(node: Node, command: dict[str, Any]) -> Backend:
    name = command.get("backend")
    backend = node.backends.get(name) if isinstance(name, str) else None
    if backend is None:
        known = ", ".join(sorted(each.name for each in node.backends))
        raise ControlError(f"no backend {name!r}; known are {known}")
    return backend


def _failover(node: Node, command: dict[str, Any]) -> Any:
    try:
        return report_row(node, node.failovers.failover(_backend(node, command)))
    except RefusedOrder as refused:
        raise ControlError(str(refused)) from refused


def _drain(node: Node, command: dict[str, Any]) -> Any:
    try:
        report = node.failovers.drain(_backend(node, command), move=bool(command.get("move")))
    except RefusedOrder as refused:
        raise ControlError(str(refused)) from refused
    return report_row(node, report) if report else None


def _ready(node: Node, command: dict[str, Any]) -> Any:
    backend = _backend(node, command)
    node.failovers.ready(backend)
    return backend_row(node, backend)


def _rolling_restart(node: Node, command: dict[str, Any]) -> Any:
    drain_s = command.get("drain_s")
    if not isinstance(drain_s, int | float) or not 0 < drain_s <= 86400:
        raise ControlError(f"drain_s: {drain_s!r} is not a number of seconds, at most 86400")
    try:
        return _rollout_row(node, node.upkeep.rolling.begin(str(command.get("pool")), drain_s=drain_s))
    except RefusedRolling as refused:
        raise ControlError(str(refused)) from refused


def _rolling_stop(node: Node, command: dict[str, Any]) -> Any:
    try:
        return _rollout_row(node, node.upkeep.rolling.stop(str(command.get("pool"))))
    except RefusedRolling as refused:
        raise ControlError(str(refused)) from refused


def _rolling(node: Node, command: dict[str, Any]) -> Any:
    """The last one of that pool."""
    rollout = node.upkeep.rolling.rollouts.get(str(command.get("pool")))
    if rollout is None:
        raise ControlError(f"no rolling restart of pool {command.get('pool')!r} since the node was started")
    return _rollout_row(node, rollout)


def _rollout_row(node: Node, rollout: Rollout) -> dict[str, Any]:
    return {**rollout.row(node.backends.pools[rollout.pool].members), "time": _time(node, rollout.began_at)}
