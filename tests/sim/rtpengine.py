"""rtpengine in the simulation: a daemon that speaks ng on its host, and relays as the real one was seen to do
(`tests/testbed/rtpengine/NOTES.md`). It is a process of its own: it can be killed, frozen, cut off and started again,
and then it has forgotten all calls and hands out its ports from the first one on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

from media.rtpengine.bencode import decode, encode
from media.rtpengine.channel import Channel
from media.sdp import Media, parse, rewrite
from proxy.net.api import Address
from tests.sim.media import PACKET_BYTES, SENDS, Audio, Stream
from tests.sim.network import SimHost

NG_PORT = 2223
FIRST_PORT = 30_000


class Tag:
    """A leg: our ports towards its peer, what that sends, and who is sent on to it, the latest first."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self.streams: list[Stream] = []
        self.hears: list[Tag] = []
        self.blocked = False


class SimRtpengine:
    """Made in the process of its host."""

    def __init__(self, audio: Audio, host: SimHost) -> None:
        self._audio = audio
        self._host = host
        self._loop = host.loop
        self._began = host.loop.time()
        self._next_port = FIRST_PORT
        self._replies: dict[bytes, bytes] = {}
        self._connection = b"c=IN IP4 " + host.address.encode()
        self.calls: dict[str, dict[str, Tag]] = {}
        self._udp = host.udp((host.address, NG_PORT), self._datagram)
        audio.relays[host.address] = self

    # -- what the simulation asks

    def settle(self) -> None:
        now = self._audio.network.loop.time()
        for tags in self.calls.values():
            for tag in tags.values():
                for stream in tag.streams:
                    stream.settle(now, tag.blocked, self._flows)

    def _flows(self, source: Address) -> bool:
        return not self._loop.halted and self._audio.flows(source, self._host.address)

    def behind(self, port: int) -> Address | None:
        """Whose RTP leaves it on this port."""
        if self._loop.halted or self._host.loop is not self._loop:
            return None
        for tags in self.calls.values():
            for tag in tags.values():
                if port in tag.ports:
                    line = tag.ports.index(port)
                    sources = [each for each in tag.hears if not each.blocked and line < len(each.streams)]
                    return sources[0].streams[line].remote if sources else None
        return None

    # -- ng

    def _datagram(self, data: bytes, source: Address) -> None:
        cookie, _, body = data.partition(b" ")
        reply = self._replies.get(cookie)
        if reply is None:
            command: Any = decode(body)
            reply = self._replies[cookie] = cookie + b" " + encode(self._do(command))
        self._udp.send(reply, source)

    def _do(self, command: dict[str, Any]) -> dict[str, Any]:
        name = command["command"]
        if name == b"ping":
            return {"result": "pong"}
        if name == b"statistics":
            uptime = str(int(self._loop.time() - self._began))
            return {"result": "ok", "statistics": {"totalstatistics": {"uptime": uptime}}}
        call = command["call-id"].decode()
        if name == b"offer":
            self.calls.setdefault(call, {})
        tags = self.calls.get(call)
        if tags is None:
            return {"result": "error", "error-reason": "Unknown call-id"}
        self.settle()
        result = self._verbs[name](self, tags, command)
        self.settle()
        if name == b"delete" and not tags:
            del self.calls[call]
        return {"result": "ok", **result}

    def _offer(self, tags: dict[str, Tag], command: dict[str, Any]) -> dict[str, Any]:
        offerer, answerer = self._pair(tags, command)
        for tag in tags.values():
            if offerer in tag.hears and tag is not answerer:
                tag.hears.remove(offerer)
        return self._pass(offerer, answerer, command["sdp"])

    def _answer(self, tags: dict[str, Tag], command: dict[str, Any]) -> dict[str, Any]:
        offerer, answerer = self._pair(tags, command)
        for tag, other in ((offerer, answerer), (answerer, offerer)):
            tag.hears = [other, *(each for each in tag.hears if each is not other)]
        return self._pass(answerer, offerer, command["sdp"])

    def _pair(self, tags: dict[str, Tag], command: dict[str, Any]) -> tuple[Tag, Tag]:
        first, second = (tags.setdefault(command[key].decode(), Tag()) for key in ("from-tag", "to-tag"))
        return first, second

    def _pass(self, source: Tag, target: Tag, sdp: bytes) -> dict[str, Any]:
        description = parse(sdp)
        for tag in (source, target):
            while len(tag.ports) < len(description.media):
                tag.ports.append(self._next_port)
                tag.streams.append(Stream())
                self._next_port += 2
        for stream, media in zip(source.streams, description.media, strict=False):
            stream.remote = _sender(media, description.direction(media))
        rest = rewrite(description, self._connection, target.ports)
        return {"sdp": b"%b\r\n%b\r\n%b" % (*sdp.split(b"\r\n", 2)[:2], rest)}

    def _delete(self, tags: dict[str, Tag], command: dict[str, Any]) -> dict[str, Any]:
        name = command.get("from-tag")
        for gone in [name.decode()] if name else list(tags):
            if tag := tags.pop(gone, None):
                for other in tags.values():
                    other.hears = [each for each in other.hears if each is not tag]
        return {}

    def _block(self, tags: dict[str, Tag], command: dict[str, Any]) -> dict[str, Any]:
        tags[command["from-tag"].decode()].blocked = command["command"] == b"block media"
        return {}

    def _play(self, tags: dict[str, Tag], command: dict[str, Any]) -> dict[str, Any]:
        return {}

    def _query(self, tags: dict[str, Tag], command: dict[str, Any]) -> dict[str, Any]:
        return {
            "tags": {
                name: {"medias": [_medium(*each) for each in enumerate(tag.streams)]} for name, tag in tags.items()
            }
        }

    _verbs: ClassVar[dict[bytes, Callable[[SimRtpengine, dict[str, Tag], dict[str, Any]], dict[str, Any]]]] = {
        b"offer": _offer,
        b"answer": _answer,
        b"delete": _delete,
        b"block media": _block,
        b"unblock media": _block,
        b"play media": _play,
        b"stop media": _play,
        b"query": _query,
    }


def _sender(media: Media, direction: bytes) -> Address | None:
    return None if media.rejected or media.held or direction not in SENDS else (media.host, media.port)


def _medium(index: int, stream: Stream) -> dict[str, Any]:
    packets = stream.packets + stream.fenced
    endpoint = {"address": stream.remote[0], "port": stream.remote[1]} if stream.remote else {}
    counts = {"packets": packets, "bytes": packets * PACKET_BYTES}
    return {"index": index + 1, "streams": [{"flags": ["RTP", "filled"], "endpoint": endpoint, "stats": counts}]}


class SimChannel:
    """`media.rtpengine.channel.Channel` on a simulated host: what has arrived is delivered at once, so there is nothing
    to drain but what a frozen process has not read yet, which the virtual loop delivers before its timers."""

    def __init__(
        self, host: SimHost, remote: Address, received: Callable[[bytes], object], refused: Callable[[], None]
    ) -> None:
        self._remote = remote
        self._port = host.udp(
            (host.address, 0),
            lambda data, source: received(data),
            remote=remote,
            on_error=lambda error: refused(),
        )

    def send(self, datagram: bytes) -> None:
        self._port.send(datagram, self._remote)

    def drain(self) -> None:
        return None

    def close(self) -> None:
        self._port.close()


def connecting(host: SimHost) -> Callable[..., Channel]:
    """How a plane in the process of `host` reaches a daemon."""

    def connect(
        loop: asyncio.AbstractEventLoop,
        remote: Address,
        received: Callable[[bytes], object],
        refused: Callable[[], None],
    ) -> Channel:
        return SimChannel(host, remote, received, refused)

    return connect
