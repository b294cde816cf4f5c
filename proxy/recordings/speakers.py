"""Who is heard in a recording: the legs whose streams the relay keeps for it, and what it kept of them.

A speaker is one leg of one call. Of a conference these are its participants; of a single call who calls, and the
backend that speaks to him (a recording has both ways). In a pair a third one stands by: the other one of the pair, who
was heard through the dead backend and is heard past it while the bypass lasts.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from media.api import MediaError, MediaPlane
from proxy.recordings.job import Packet, Voice

log = logging.getLogger(__name__)

AUDIO = 0  # the line that is recorded


@dataclass(slots=True)
class Speaker:
    """`hushed`: when he was muted, up to the last change. `left_at`: he is not in the recording any more. `instead_of`:
    speakers through whom he is heard, or was."""

    media: MediaPlane
    call: str
    leg: str
    instead_of: list[str] = field(default_factory=list)
    hushed: list[tuple[float, float]] = field(default_factory=list)
    muted_since: float | None = None
    left_at: float | None = None
    packets: list[Packet] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.call} {self.leg}"

    def mute(self, on: bool, now: float) -> None:
        if on and self.muted_since is None:
            self.muted_since = now
        elif not on and self.muted_since is not None:
            self.hushed.append((self.muted_since, now))
            self.muted_since = None

    def voice(self, now: float) -> Voice:
        since = [at for at in (self.muted_since, self.left_at) if at is not None]
        return Voice(self.name, self.packets, [*self.hushed, *((at, now) for at in since)], self.instead_of)


class Speakers:
    """Of one recording."""

    def __init__(self, keep_s: float, held: Counter[str]) -> None:
        """`held`: by name, in how many recordings each is."""
        self._keep_s = keep_s
        self._held = held
        self._of: dict[str, Speaker] = {}

    def __iter__(self) -> Iterator[Speaker]:
        return iter(self._of.values())

    def listen(self, media: MediaPlane, call: str, leg: str, *, instead_of: str | None = None) -> Speaker | None:
        """From now on he belongs to it. None: his media cannot be kept."""
        speaker = self._of.get(f"{call} {leg}")
        if speaker is None:
            if "keep" not in media.capabilities:
                return None
            speaker = Speaker(media, call, leg)
            self._of[speaker.name] = speaker
            self._held[speaker.name] += 1
            media.keep(call, leg, self._keep_s)
        speaker.left_at = None
        if instead_of is not None and instead_of not in speaker.instead_of:
            speaker.instead_of.append(instead_of)
        return speaker

    def only(self, names: set[str], now: float) -> None:
        """The others have left. What they said lately still belongs to it."""
        for speaker in list(self._of.values()):
            if speaker.name not in names and speaker.left_at is None:
                speaker.left_at = now
            elif speaker.left_at is not None and speaker.left_at < now - self._keep_s:
                self._forget(speaker)

    async def collect(self) -> None:
        """Take what the relay has kept since the last time."""
        for call, media in {speaker.call: speaker.media for speaker in self._of.values()}.items():
            here = {each.leg: each for each in self._of.values() if each.call == call}
            if not here:
                continue  # he was forgotten while others were asked for
            since = min(each.packets[-1][0] if each.packets else 0.0 for each in here.values())
            try:
                kept = await media.kept(call, since)
            except MediaError as error:
                log.warning("call=%s what was kept of it cannot be read: %s", call, error)
                continue
            for stream in kept:
                speaker = here.get(stream.leg)
                if speaker is not None and stream.line == AUDIO:
                    last = speaker.packets[-1][0] if speaker.packets else 0.0
                    speaker.packets.extend(each for each in stream.packets if each[0] > last)

    def voices(self, now: float) -> list[Voice]:
        return [speaker.voice(now) for speaker in self._of.values() if speaker.packets]

    def clear(self) -> None:
        """What was collected is of no use any more."""
        for speaker in self._of.values():
            speaker.packets.clear()

    def end(self) -> None:
        for speaker in list(self._of.values()):
            self._forget(speaker)

    def _forget(self, speaker: Speaker) -> None:
        del self._of[speaker.name]
        self._held[speaker.name] -= 1
        if not self._held[speaker.name]:
            del self._held[speaker.name]
            speaker.media.keep(speaker.call, speaker.leg, 0.0)
