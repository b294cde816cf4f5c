"""The contract of a media plane: what signalling may ask of media, and what media reports back.

A *session* belongs to one call. It has *legs*, named by the caller of this API ("a", "b1", "b2", …):
one per SIP dialog that carries media. Two legs of a session are *connected*: what one receives the other
sends. During a recovery a third leg exists beside them; `switch` moves the connection over to it.

Everything is said at the level of SDP (RFC 8866, offer/answer RFC 3264); who implements it (the embedded
relay, rtpengine, nothing at all in `direct` mode) is not visible here. Methods return futures. An
implementation that can answer at once returns one that is already done, and a caller on a hot path looks at
`future.done()` before it waits: nothing then goes through the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Capability = Literal["liveness", "comfort", "fork", "bridge", "mix", "keep", "srtp"]


class MediaError(Exception):
    """Media could not do what was asked; the text says what and for which session. The call decides what follows."""


class MediaFull(MediaError):
    """There is no room for another session; those that are carried are well, and can still be carried over."""


@dataclass(slots=True, frozen=True)
class StreamStats:
    """One direction of one media line: what a leg has received from its peer.

    `last_packet_at` and `first_packet_at` are on CLOCK_MONOTONIC in seconds (0.0: never; with packets: not known).
    `source` is the latched (host, port).
    """

    leg: str
    line: int  # index of the m= line
    packets: int
    bytes: int
    last_packet_at: float
    source: tuple[str, int] | None
    lost_to_fence: int  # packets that came for a leg that is fenced, or from a source that is not the latched one
    first_packet_at: float = 0.0


@dataclass(slots=True, frozen=True)
class SessionStats:
    session: str
    connected: tuple[str, str] | None
    streams: tuple[StreamStats, ...]


@dataclass(slots=True, frozen=True)
class Kept:
    """What a leg has received from its peer lately, oldest first: when each packet came (on CLOCK_MONOTONIC), and the
    RTP packet as it was."""

    leg: str
    line: int
    packets: tuple[tuple[float, bytes], ...]


@dataclass(slots=True, frozen=True)
class MediaRestarted:
    """The media plane died and is back; its sessions were re-established as far as possible. Of those that are `lost`
    other processes have taken ports meanwhile: the next offer or answer gives them others, of which both peers must be
    told."""

    at: float
    lost: tuple[str, ...]


@dataclass(slots=True, frozen=True)
class FlowsSilent:
    """How the streams of one group (`MediaPlane.watch`) flow: told when many fall silent at once, every 10 ms while
    that lasts, and when it is over; and ten times a second while they flow (`silent` is 0 then).

    A stream is active when it has flowed steadily. `silent` counts the active ones that are overdue by now;
    `silent_s` is the silence that at least 80 % of them have reached (all of them, if there are fewer than five), in
    the measure of a stream with a packet each 20 ms. Times are on CLOCK_MONOTONIC in seconds.
    """

    group: str
    active: int
    silent: int
    silent_s: float
    last_packet_at: float  # of any of them
    at: float


@dataclass(slots=True, frozen=True)
class LegSilent:
    """Neither RTP nor RTCP came on a leg for longer than the media timeout that `watch` was given, though it should.
    Told once; again after a further silence."""

    session: str
    leg: str
    silent_s: float


@dataclass(slots=True, frozen=True)
class NodeLost:
    """One of several engines behind this plane is gone, or has forgotten these sessions: nobody hears anybody there.
    Each is put on another node by the next offer or answer for it, whose descriptions name other ports: both its
    peers must be told."""

    node: str
    sessions: tuple[str, ...]
    at: float


MediaEvent = MediaRestarted | NodeLost | FlowsSilent | LegSilent


class MediaPlane(Protocol):
    """What signalling asks of media. Sessions come into being with the first `offer` that names them."""

    anchors: bool  # False: SDP passes through and media flows between the endpoints (`direct`)
    capabilities: frozenset[Capability]  # what an engine cannot do is not faked: MediaError

    @property
    def counters(self) -> Mapping[str, int]:
        """What has gone wrong since it was started, by name."""
        ...

    def offer(
        self, session: str, source: str, target: str, sdp: bytes, *, preview: bool = False
    ) -> asyncio.Future[bytes]:
        """The peer of leg `source` offered `sdp`: returns the offer to send to the peer of leg `target`.

        The origin line of what is returned is ours and stable per leg: its version grows by one when, and only
        when, the body changed since the last one sent on that leg (RFC 3264 §8). With `preview` what is returned does
        not count as sent: an offer that was refused is taken back by offering what holds once more. Raises MediaError.
        """
        ...

    def answer(
        self, session: str, source: str, target: str, sdp: bytes, *, preview: bool = False
    ) -> asyncio.Future[bytes]:
        """The peer of leg `source` answered `sdp`: returns the answer to send to the peer of leg `target`,
        and connects both legs when neither is connected yet. With `preview` what is returned does not count as
        sent on `target`: a recovery looks at it first, and mostly need not send it. A plane that terminates SRTP
        (`srtp`) puts the keys into it that the target has: it stands between. Raises MediaError."""
        ...

    def switch(self, session: str, leg: str, other: str) -> asyncio.Future[None]:
        """Connect `leg` and `other` from now on; every other leg of the session is fenced: what it receives is
        counted and dropped."""
        ...

    def fork(self, session: str, source: str, standby: str | None) -> asyncio.Future[None]:
        """What `source` receives goes to the leg it is connected to and to `standby` too; what `standby` receives is
        counted and not forwarded. None ends it. A `switch` of both afterwards is a local operation."""
        ...

    def bridge(self, session: str, leg: str, other_session: str, other_leg: str) -> asyncio.Future[None]:
        """What one receives the other sends, until `switch` connects either leg anew: the same codec packet by packet,
        PCMU and PCMA transcoded, else MediaError."""
        ...

    def mix(
        self, parties: Sequence[tuple[str, str]], muted: Collection[tuple[str, str]] = ()
    ) -> asyncio.Future[None]:  # fmt: skip
        """Lifeboat of a conference: the (session, leg) of three and more G.711 parties hear each other, until `switch`.
        Those who are `muted` hear and are not heard; with one of them, two are enough."""
        ...

    def delete(self, session: str, leg: str | None = None) -> None:
        """Forget one leg, or the whole session. Unknown names are fine: deleting twice is not an error."""
        ...

    def watch(self, session: str, leg: str, group: str, timeout_s: float = 0.0) -> None:
        """The peer of `leg` belongs to `group` (the name of a backend; "" for none): from now on the flows of that
        group are told of (`FlowsSilent`). With a media timeout the leg's own silence is, too (`LegSilent`; 0: never).
        An unknown leg is not an error; `restore` does not bring this back."""
        ...

    def comfort(self, group: str, on: bool) -> None:
        """Who hears a leg of `group` hears comfort noise, or a prompt, while nothing comes from there. One command for
        all calls. It ends with the first packet of whoever comes instead, also after `on` was taken back. Raises
        MediaError where it is no capability."""
        ...

    def keep(self, session: str, leg: str | None, seconds: float) -> None:
        """Of what the peer of `leg` says, the last `seconds` (at most 60) are kept from now on; 0: no more. None: of
        every leg, also those to come. When a leg is deleted it can still be read for so long. An unknown leg is not an
        error; `restore` does not bring this back, but another `keep` by the next process goes on with what is there.
        What is encrypted is not kept. Raises MediaError where it is no capability."""
        ...

    async def kept(self, session: str, since: float = 0.0) -> tuple[Kept, ...]:
        """What is kept of the session and came after `since`. Raises MediaError."""
        ...

    def query(self, session: str) -> asyncio.Future[SessionStats]:
        """Counters of a session's streams now. Raises MediaError for a session that is not known."""
        ...

    def snapshot(self, session: str) -> dict[str, object]:
        """What `restore` needs to take the session up again in another process: plain, versioned, msgpack-able."""
        ...

    def restore(self, session: str, snapshot: dict[str, object]) -> None:
        """Take up a session that `snapshot` described; the media plane may already be carrying it."""
        ...

    def subscribe(self, listener: Callable[[MediaEvent], None]) -> None:
        """Call `listener` for every event from now on."""
        ...

    async def close(self) -> None:
        """Let go of the media plane; sessions that it carries go on (the relay outlives the proxy process)."""
        ...
