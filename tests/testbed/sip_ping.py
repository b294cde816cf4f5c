"""Is somebody there? One OPTIONS over a socket of its own, as the demo asks it; a connection; a port that is free."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

from proxy.demo.ping import Pong, options, wait_for_options
from proxy.net.api import Address

__all__ = ["Address", "Pong", "free_port", "options", "wait_for_connection", "wait_for_options"]


def wait_for_connection(to: Address, *, timeout_s: float, alive: Callable[[], bool] = lambda: True) -> float:
    """Seconds until a TCP connection is taken; TimeoutError when none is, or `alive()` ends."""
    started = time.monotonic()
    while time.monotonic() - started < timeout_s and alive():
        with contextlib.suppress(OSError), socket.create_connection(to, timeout=0.2):
            return time.monotonic() - started
        time.sleep(0.01)
    raise TimeoutError(f"no connection taken on {to[0]}:{to[1]} within {timeout_s} s")


def free_port(host: str) -> int:
    """A port free for UDP and TCP on `host` right now."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind((host, 0))
            port: int = udp.getsockname()[1]
            with contextlib.suppress(OSError):
                tcp.bind((host, port))
                return port
