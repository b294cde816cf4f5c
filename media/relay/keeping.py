"""What was said lately: of a stream that is kept, the last seconds of packets, just as they came.

For recordings. A backend that dies takes seconds of what it should have written with it; what was said to it, and what
it said, can be read here afterwards. So what is kept outlives its line, for as long again as it is long. It is known by
names of the client's (session and place), which mean the same after the client was restarted.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from time import monotonic

from media.relay.sinks import Sink
from media.relay.stream import Stream

Packet = tuple[float, bytes]  # when it came, on CLOCK_MONOTONIC, and the RTP packet

SECONDS_MAX = 60.0
PACKETS_PER_S_MAX = 200  # what comes faster is no telephone's audio, and pushes out what came before
PIECE = 200  # packets of one answer: some 35 kB, a fraction of a millisecond


class Keep:
    """The last `seconds` of one stream."""

    __slots__ = ("_packets", "_seconds", "place", "session")

    def __init__(self, seconds: float) -> None:
        self.session = ""
        self.place = ""
        self._seconds = seconds
        self._packets: deque[Packet] = deque(maxlen=int(seconds * PACKETS_PER_S_MAX))

    def lasts(self, seconds: float) -> None:
        """It is to be that long from now on."""
        if seconds != self._seconds:
            self._seconds = seconds
            self._packets = deque(self._packets, maxlen=int(seconds * PACKETS_PER_S_MAX))

    @property
    def seconds(self) -> float:
        return self._seconds

    def add(self, packet: memoryview) -> None:
        now = monotonic()
        packets = self._packets
        packets.append((now, packet.tobytes()))
        since = now - self._seconds
        while packets[0][0] < since:
            packets.popleft()

    def before(self, sink: Sink) -> Keeper:
        return Keeper(self, sink)

    def after(self, at: float, most: int) -> list[Packet]:
        return list(islice((each for each in self._packets if each[0] > at), most))


class Keeper:
    """Before the sink of a stream that is kept."""

    __slots__ = ("_add", "_send")

    def __init__(self, keep: Keep, sink: Sink) -> None:
        self._add = keep.add
        self._send = sink.send

    def send(self, packet: memoryview, /) -> None:
        self._add(packet)
        self._send(packet)


class Keeps:
    """All of a relay, by session and place."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, Keep]] = {}
        self._leaving: deque[tuple[float, Keep]] = deque()  # whose line is closed, and when each is forgotten

    def __len__(self) -> int:
        return sum(len(places) for places in self._of.values())

    def keep(self, stream: Stream, session: str, place: str, seconds: float) -> None:
        """From now on, or longer or shorter than until now; 0: no more, and what was kept is forgotten. Raises
        ValueError."""
        if not 0 <= seconds <= SECONDS_MAX:
            raise ValueError(f"{seconds} s cannot be kept")
        self._expire(monotonic())
        keep = stream.keep
        if keep is not None and (not seconds or (keep.session, keep.place) != (session, place)):
            self._forget(keep)
        if not seconds:
            stream.set_keep(None)
            return
        if keep is None:
            keep = Keep(seconds)
            stream.set_keep(keep)
        keep.lasts(seconds)
        keep.session, keep.place = session, place
        self._of.setdefault(session, {})[place] = keep

    def closed(self, stream: Stream) -> None:
        """No more will come; what is there can still be read for a while."""
        now = monotonic()
        self._expire(now)
        if stream.keep is not None:
            self._leaving.append((now + stream.keep.seconds, stream.keep))
            stream.set_keep(None)

    def read(self, session: str, since: float, after: dict[str, float]) -> dict[str, list[Packet]]:
        """What came later than `since`, or than `after` says of a place, but no more than a piece of it all. A place
        from which nothing is left to be read is not named."""
        self._expire(monotonic())
        found: dict[str, list[Packet]] = {}
        room = PIECE
        for place, keep in self._of.get(session, {}).items():
            packets = keep.after(after.get(place, since), room)
            room -= len(packets)
            if packets:
                found[place] = packets
            if not room:
                break
        return found

    def _expire(self, now: float) -> None:
        while self._leaving and self._leaving[0][0] < now:
            self._forget(self._leaving.popleft()[1])

    def _forget(self, keep: Keep) -> None:
        places = self._of.get(keep.session, {})
        if places.get(keep.place) is keep:
            del places[keep.place]
            if not places:
                del self._of[keep.session]
