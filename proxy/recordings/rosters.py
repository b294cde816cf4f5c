"""Recordings of conferences: what their rosters tell, told on to `Recordings`.

A backend that does not name its files (Asterisk of a ConfBridge) is expected to call them as the supplied dialplans do:
NAME for the first, NAME.2 for the second, where NAME is that of the conference.
"""

from __future__ import annotations

from proxy.calls import Call
from proxy.conferences import Conference, Conferences, Segment
from proxy.conferences.rebuilt import segment_file
from proxy.conferences.roster import UNNAMED
from proxy.recordings.recordings import Recordings


def follow(conferences: Conferences, recordings: Recordings) -> None:
    """From now on."""

    def members(conference: Conference) -> list[tuple[Call, bool]]:
        return [(call, conference.participants[call.id].muted) for call in conferences.calls_of(conference)]

    def on_segment(conference: Conference, segment: Segment) -> None:
        key = (conference.pool, segment.recording)
        if segment.ended_at is not None:
            recordings.end(key, segment.ended_at, cut=segment.cut)
            return
        file = segment.file if segment.file != UNNAMED else segment_file(segment.recording, segment.number)
        recordings.begin(
            key, segment.number, segment.backend, file, conference.name, members(conference), segment.began_at
        )

    def on_changed(conference: Conference) -> None:
        if conference.segment is not None:
            recordings.roster((conference.pool, conference.segment.recording), members(conference))

    conferences.on_segment = on_segment
    conferences.follow(on_changed)
