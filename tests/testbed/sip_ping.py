"""Is somebody there? One OPTIONS over a socket of its own, as the demo asks it; and a port that is free."""

from __future__ import annotations

import contextlib
import socket

from proxy.demo.ping import Address, Pong, options, wait_for_options

__all__ = ["Address", "Pong", "free_port", "options", "wait_for_options"]


def free_port(host: str) -> int:
    """A port free for UDP and TCP on `host` right now."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind((host, 0))
            port: int = udp.getsockname()[1]
            with contextlib.suppress(OSError):
                tcp.bind((host, port))
                return port
