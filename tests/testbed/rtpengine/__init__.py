"""A real rtpengine as a child process, in user space, and a plain way to put commands to it.

`apt-get install rtpengine-daemon` (`tests/testbed/setup/packages.sh rtpengine=rtpengine-daemon`); nothing of it starts
by itself. `NOTES.md` says what was seen of it.
"""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from media.rtpengine.bencode import Encodable, decode, encode
from tests.testbed.process import Process

Address = tuple[str, int]


class Rtpengine(Process):
    """One daemon on `host`: ng on `ng_port`, RTP on a range of ports. `media_host` and `threads` as its options."""

    def __init__(
        self,
        host: str,
        folder: Path,
        *,
        ng_port: int = 2223,
        ports: tuple[int, int] = (30000, 39999),
        threads: int = 1,
        options: Sequence[str] = (),
    ) -> None:
        self.address: Address = (host, ng_port)
        self._cookies = itertools.count()
        argv = [
            "rtpengine", "--config-file=none", "--table=-1", f"--interface={host}", f"--listen-ng={host}:{ng_port}",
            f"--num-threads={threads}", "--foreground", "--log-stderr", "--log-level=4", "--delete-delay=0",
            f"--port-min={ports[0]}", f"--port-max={ports[1]}", "--timeout=600", "--silent-timeout=3600", *options,
        ]  # fmt: skip
        super().__init__(argv, folder / f"rtpengine-{host}-{ng_port}.log", cwd=folder)

    def wait_ready(self, timeout_s: float = 10.0) -> None:
        until = time.monotonic() + timeout_s
        while True:
            try:
                self.ask("ping", timeout_s=0.2)
                return
            except OSError:
                if time.monotonic() > until or not self.running:
                    raise RuntimeError(f"rtpengine does not answer:\n{self.log_tail()}") from None
                time.sleep(0.02)

    def ask(self, command: str, *, timeout_s: float = 2.0, **arguments: Encodable) -> dict[str, Any]:
        """The reply to one command; `call_id` is `call-id`. OSError when none comes."""
        cookie = b"%d_%d " % (time.monotonic_ns(), next(self._cookies))
        request = {"command": command, **{name.replace("_", "-"): value for name, value in arguments.items()}}
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as control:
            control.settimeout(timeout_s)
            control.connect(self.address)
            control.send(cookie + encode(request))
            while not (datagram := control.recv(65536)).startswith(cookie):
                pass
        reply = decode(datagram[len(cookie) :])
        assert isinstance(reply, dict)
        return reply

    def calls(self) -> list[str]:
        """The call-ids that it carries."""
        return sorted(call.decode() for call in self.ask("list", limit=1000)["calls"])
