"""Conferences as they are told to people and programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.conferences import Conference

if TYPE_CHECKING:
    from proxy.node import Node


def conference_row(node: Node, conference: Conference) -> dict[str, Any]:
    known = node.conferences
    segment = conference.segment
    return {
        "name": conference.name,
        "pool": conference.pool,
        "backends": {backend.name: count for backend, count in known.parts(conference).most_common()},
        "locked": conference.locked,
        "recording": {"name": segment.recording, "segment": segment.number} if segment is not None else None,
        "moving": known.is_moving(conference),
        "participants": [
            {
                "call": call.id,
                "from": call.from_value.decode(errors="replace"),
                "moderator": participant.moderator,
                "muted": participant.muted,
                "deaf": participant.deaf,
                "talking": participant.talking,
                "on_hold": call.on_hold,
            }
            for call in known.calls_of(conference)
            for participant in (conference.participants[call.id],)
        ],
    }
