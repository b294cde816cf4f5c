"""Recordings of conferences: what their rosters tell, told on to `Recordings`."""

from __future__ import annotations

from proxy.calls import Call
from proxy.conferences import Conference, Conferences, Segment
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
        recordings.begin(
            key, segment.number, segment.backend, segment.file, conference.name, members(conference), segment.began_at
        )

    def on_changed(conference: Conference) -> None:
        if conference.segment is not None:
            recordings.roster((conference.pool, conference.segment.recording), members(conference))

    conferences.on_segment = on_segment
    conferences.follow(on_changed)
