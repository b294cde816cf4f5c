"""rtpengine as a peer of `bench/relay.py`: one media thread in user space, driven over ng (bencode on UDP)."""

from __future__ import annotations

import itertools
import socket
import time
from pathlib import Path
from typing import Any

from tests.testbed.process import Process

HOST = "127.0.1.8"
NG_PORT = 2223
START_S = 10.0


def encode(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"d" + b"".join(encode(key) + encode(item) for key, item in sorted(value.items())) + b"e"
    if isinstance(value, list):
        return b"l" + b"".join(map(encode, value)) + b"e"
    data = value if isinstance(value, bytes) else str(value).encode()
    return b"%d:%b" % (len(data), data)


def decode(data: bytes, at: int = 0) -> tuple[Any, int]:
    kind = data[at : at + 1]
    if kind == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1 : end]), end + 1
    if kind in (b"d", b"l"):
        at += 1
        items = []
        while data[at : at + 1] != b"e":
            item, at = decode(data, at)
            items.append(item)
        return (dict(zip(items[::2], items[1::2], strict=True)) if kind == b"d" else items), at + 1
    colon = data.index(b":", at)
    end = colon + 1 + int(data[at:colon])
    return data[colon + 1 : end], end


class Rtpengine:
    """Start it inside `on_cpu`; `offer` and `answer` return the SDP to send on."""

    def __init__(self, log: Path) -> None:
        self.process = Process(
            [
                "rtpengine", "--table=-1", f"--interface={HOST}", f"--listen-ng={HOST}:{NG_PORT}", "--num-threads=1",
                "--foreground", "--log-stderr", "--log-level=3", "--port-min=30000", "--port-max=39999",
                "--timeout=600", "--silent-timeout=600",
            ],
            log,
        )  # fmt: skip
        self._cookies = itertools.count()
        self._control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._control.connect((HOST, NG_PORT))
        self._control.settimeout(1.0)
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + START_S
        while True:
            try:
                self._ask(command="ping")
                return
            except OSError:
                if time.monotonic() > until or not self.process.running:
                    raise RuntimeError(f"rtpengine does not answer: {self.process.log_tail()}") from None
                time.sleep(0.05)

    def _ask(self, **request: Any) -> dict[bytes, Any]:
        cookie = b"%d " % next(self._cookies)
        self._control.send(cookie + encode({name.replace("_", "-"): value for name, value in request.items()}))
        while not (reply := self._control.recv(65536)).startswith(cookie):
            pass
        answer: dict[bytes, Any] = decode(reply, len(cookie))[0]
        if answer[b"result"] == b"error":
            raise RuntimeError(f"rtpengine: {answer}")
        return answer

    def offer(self, call: str, sdp: bytes) -> bytes:
        body: bytes = self._ask(command="offer", call_id=call, from_tag="a", sdp=sdp, replace=["origin"])[b"sdp"]
        return body

    def answer(self, call: str, sdp: bytes) -> bytes:
        body: bytes = self._ask(command="answer", call_id=call, from_tag="a", to_tag="b", sdp=sdp, replace=["origin"])[
            b"sdp"
        ]
        return body

    def stop(self) -> None:
        self._control.close()
        self.process.stop()
