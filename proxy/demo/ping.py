"""One SIP OPTIONS over a socket of its own: is somebody there, who, and how fast?

A dead UDP port on the same host raises ConnectionRefusedError at once (ICMP), a silent one TimeoutError.
"""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from proxy.net.address import bracketed, host_port
from proxy.net.api import Address


@dataclass(frozen=True)
class Pong:
    status: int
    seconds: float
    text: str


def options(to: Address, *, timeout_s: float = 1.0, transport: str = "udp", user: str = "") -> Pong:
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
    family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
    with socket.socket(family, kind) as sock:
        sock.settimeout(timeout_s)
        sock.connect(to)
        local, port = sock.getsockname()[:2]
        host = bracketed(local)
        token = f"{random.getrandbits(64):x}"
        uri = f"sip:{user + '@' if user else ''}{host_port(to)}"
        request = (
            f"OPTIONS {uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/{transport.upper()} {host}:{port};rport;branch=z9hG4bK{token}\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:ping@{host}>;tag={token}\r\nTo: <{uri}>\r\n"
            f"Call-ID: {token}@{host}\r\nCSeq: 1 OPTIONS\r\nContact: <sip:ping@{host}:{port}>\r\n"
            "Accept: application/sdp\r\nContent-Length: 0\r\n\r\n"
        )
        started = time.perf_counter()
        sock.sendall(request.encode())
        text = sock.recv(65535).decode(errors="replace")
        return Pong(int(text.split(" ", 2)[1]), time.perf_counter() - started, text)


def wait_for_options(
    to: Address,
    *,
    timeout_s: float,
    transport: str = "udp",
    alive: Callable[[], bool] = lambda: True,
    accept: Callable[[Pong], bool] = lambda pong: pong.status == 200,
) -> float:
    """Seconds until an answer to OPTIONS is to the taste of `accept`; TimeoutError if none is, or `alive()` ends."""
    started = time.monotonic()
    while time.monotonic() - started < timeout_s and alive():
        with contextlib.suppress(OSError):
            if accept(options(to, timeout_s=0.2, transport=transport)):
                return time.monotonic() - started
        time.sleep(0.01)
    raise TimeoutError(f"no OPTIONS answered on {transport}:{to[0]}:{to[1]} within {timeout_s} s")
