"""rtpengine as a peer of `bench/relay.py`: one media thread in user space, driven over ng."""

from __future__ import annotations

from pathlib import Path

from media.rtpengine.bencode import Encodable
from tests.testbed.rtpengine import Rtpengine as Daemon

HOST = "127.0.1.8"


class Rtpengine:
    """Start it inside `on_cpu`; `offer` and `answer` return the SDP to send on."""

    def __init__(self, log: Path) -> None:
        self.process = Daemon(HOST, log.parent)
        self.process.wait_ready()

    def offer(self, call: str, sdp: bytes) -> bytes:
        return self._pass("offer", call_id=call, from_tag="a", sdp=sdp, replace=["origin"])

    def answer(self, call: str, sdp: bytes) -> bytes:
        return self._pass("answer", call_id=call, from_tag="a", to_tag="b", sdp=sdp, replace=["origin"])

    def _pass(self, command: str, **arguments: Encodable) -> bytes:
        reply = self.process.ask(command, **arguments)
        if reply["result"] == b"error":
            raise RuntimeError(f"rtpengine: {reply}")
        body: bytes = reply["sdp"]
        return body

    def stop(self) -> None:
        self.process.stop()
