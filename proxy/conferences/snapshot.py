"""A conference as a plain, versioned list, for another process to take up (msgpack-able), beside its calls.

Membership is the bond of each call, in that call's own snapshot; here is what the roster adds. Who talks just now is
not kept. Times are ages.
"""

from __future__ import annotations

from typing import Any

from proxy.conferences.roster import Conference, Participant, Segment

VERSION = 1
_MODERATOR, _MUTED, _DEAF, _SEATED = 1, 2, 4, 8


class RosterError(ValueError):
    """Not the snapshot of a conference, or one of a version that is not known here."""


def snapshot(conference: Conference, now: float) -> list[Any]:
    return [
        VERSION,
        conference.pool,
        conference.name,
        conference.locked,
        [[each.call, each.order, _flags(each)] for each in conference],
        _segment(conference.segment, now),
    ]


def _flags(each: Participant) -> int:
    return each.moderator * _MODERATOR | each.muted * _MUTED | each.deaf * _DEAF | each.seated * _SEATED


def _segment(segment: Segment | None, now: float) -> list[Any] | None:
    if segment is None:
        return None
    ended = None if segment.ended_at is None else now - segment.ended_at
    return [
        segment.recording,
        segment.number,
        segment.backend,
        segment.file,
        now - segment.began_at,
        ended,
        segment.cut,
    ]


def key(state: Any) -> tuple[str, str]:
    """Pool and name. Raises RosterError."""
    try:
        version, pool, name, *_ = state
    except (TypeError, ValueError) as error:
        raise RosterError(f"not a conference: {str(state)[:60]!r}") from error
    if version != VERSION:
        raise RosterError(f"conference of version {version!r} (this is version {VERSION})")
    return str(pool), str(name)


def restore(conference: Conference, state: Any, now: float, elapsed_s: float) -> None:
    """Take up what was known of it, of those who are in it again. Raises RosterError."""
    key(state)
    try:
        _, _, _, conference.locked, people, segment = state
        for call, order, flags in people:
            participant = conference.participants.get(call)
            if participant is not None:
                participant.order = order
                participant.moderator, participant.muted = bool(flags & _MODERATOR), bool(flags & _MUTED)
                participant.deaf, participant.seated = bool(flags & _DEAF), bool(flags & _SEATED)
        conference.resume_order(max((order for _, order, _ in people), default=0))
        if segment is not None:
            name, number, backend, file, began, ended, cut = segment
            conference.segment = Segment(
                name, number, backend, file, conference.name, tuple(conference.participants),
                now - elapsed_s - began, None if ended is None else now - elapsed_s - ended, cut,
            )  # fmt: skip
    except (TypeError, ValueError, AttributeError) as error:
        raise RosterError(f"conference {conference.name!r}: {error!r}") from error
