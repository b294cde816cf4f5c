"""A network of this thread's own, in which a host can be cut off like a pulled cable. Needs root.

The thread moves into a new network namespace that has nothing but a loopback device; sockets and children made inside
are in it, and it is gone with the last of them. All of 127.0.0.0/8 is there, so every test host has its usual address.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def unavailable() -> str | None:
    """Why there can be no such network here, or None when there can."""
    if os.geteuid() != 0:
        return "a network namespace of its own needs root"
    missing = [tool for tool in ("ip", "nft") if shutil.which(tool) is None]
    return f"missing: {', '.join(missing)}" if missing else None


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def own_network() -> Iterator[None]:
    usual = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _check(_libc.unshare(_CLONE_NEWNET))
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            _check(_libc.setns(usual, _CLONE_NEWNET))
    finally:
        os.close(usual)


def cut(host: str) -> None:
    """From now on nothing reaches `host` and nothing from it arrives, without a word (no ICMP) to anybody.

    On the input hook: a packet dropped on output would be an error to its sender, which a pulled cable is not.
    """
    _nft(
        f"""add table inet cut
        add chain inet cut in {{ type filter hook input priority 0; }}
        add rule inet cut in ip saddr {host} drop
        add rule inet cut in ip daddr {host} drop"""
    )


def join() -> None:
    """Every host is back."""
    _nft("delete table inet cut")


def _nft(rules: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
