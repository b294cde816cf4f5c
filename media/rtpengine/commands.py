"""The commands of the ng protocol that the plane uses, and what a `query` says of a session. Pure.

Legs are tags: who offered is `from-tag`, also in the answer. "port latching" keeps our ports when a leg gets another
partner, so that a recovery need not tell the caller; the o= line is not rewritten there, for it is ours (`Origin`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from media.api import StreamStats
from media.rtpengine.bencode import Encodable, Value
from media.rtpengine.exchanges import Reply

Command = dict[str, Encodable]


def offer(call: str, offerer: str, answerer: str, sdp: bytes, flags: tuple[str, ...]) -> Command:
    return _exchange("offer", call, offerer, answerer, sdp, flags)


def answer(call: str, offerer: str, answerer: str, sdp: bytes, flags: tuple[str, ...]) -> Command:
    return _exchange("answer", call, offerer, answerer, sdp, flags)


def _exchange(command: str, call: str, offerer: str, answerer: str, sdp: bytes, flags: tuple[str, ...]) -> Command:
    return {
        "command": command,
        "call-id": call,
        "from-tag": offerer,
        "to-tag": answerer,
        "sdp": sdp,
        "flags": ("port latching", *flags),
        "replace": ("session-connection",),
        "ICE": "remove",
    }


def of_leg(command: str, call: str, leg: str) -> Command:
    """`block media`, `unblock media`, `stop media`."""
    return {"command": command, "call-id": call, "from-tag": leg}


def play(call: str, leg: str, wav: bytes, times: int) -> Command:
    """What is played is heard by the peer of that leg, and instead of its partner."""
    return {**of_leg("play media", call, leg), "blob": wav, "repeat-times": times}


def delete(call: str, leg: str | None = None) -> Command:
    command: Command = {"command": "delete", "call-id": call, "delete-delay": 0}
    return command if leg is None else {**command, "from-tag": leg}


def query(call: str) -> Command:
    return {"command": "query", "call-id": call}


def _streams(reply: Reply, legs: Iterable[str]) -> Iterator[tuple[str, int, int, int, tuple[str, int] | None]]:
    """(leg, line, packets, bytes, source) of each RTP stream that a leg receives."""
    tags: Any = reply.get("tags", {})
    for leg in legs:
        for media in tags.get(leg, {}).get("medias", ()):
            for stream in media.get("streams", ()):
                if b"RTP" in stream.get("flags", ()):
                    stats = stream.get("stats", {})
                    packets = int(stats.get("packets", 0))
                    source = _address(stream.get("endpoint", {})) if packets else None
                    yield leg, int(media.get("index", 1)) - 1, packets, int(stats.get("bytes", 0)), source
                    break


def _address(endpoint: dict[str, Value]) -> tuple[str, int] | None:
    host, port = endpoint.get("address"), endpoint.get("port")
    return (host.decode("latin-1"), port) if isinstance(host, bytes) and isinstance(port, int) else None


def stats(reply: Reply, legs: Iterable[str], now: float) -> tuple[StreamStats, ...]:
    """A node tells no times that could be set against our clock: `last_packet_at` is `now` for a stream that has had
    packets (it is not later), `first_packet_at` is not known."""
    return tuple(
        StreamStats(leg, line, packets, octets, now if packets else 0.0, source, 0)
        for leg, line, packets, octets, source in _streams(reply, legs)
    )
