"""Compiled modules (docs/decisions/0005): never older than their source, and no test takes a method of theirs away.

Tests that run at the same time (`pytest -n`) use the same addresses: each worker gets a network of its own, with
nothing in it but a loopback. That needs root; the Makefile runs one test after the other for anybody else.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

import pytest

from proxy.sip import stack

_CLONE_NEWNET = 0x40000000  # sched.h
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1  # netdevice(7)

ROOT = Path(__file__).resolve().parents[1]
COMPILED = not stack.__file__.endswith(".py")


def stale() -> list[str]:
    """Modules whose source has changed, or gone, since all were compiled."""
    library = next((ROOT / "proxy").glob("compiled__mypyc*.so"), None)
    if library is None:
        return []
    modules = [path for path in (ROOT / "proxy").rglob("*.so") if path != library]
    sources = [path.with_name(path.name.partition(".")[0] + ".py") for path in modules]
    compiled_at = library.stat().st_mtime
    return [
        str(source.relative_to(ROOT))
        for source in sources
        if not source.exists() or source.stat().st_mtime > compiled_at
    ]


def network_of_its_own() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        raise pytest.UsageError(f"a worker needs a network of its own: {os.strerror(ctypes.get_errno())}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        network_of_its_own()
    config.addinivalue_line("markers", "plain: takes a method away from a class that may be compiled")
    if changed := stale():
        raise pytest.UsageError(f"compiled modules are older than {', '.join(changed)}: make compile, or make plain")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if COMPILED and item.get_closest_marker("plain"):
            item.add_marker(pytest.mark.skip(reason="a compiled class keeps its methods; make test-plain runs this"))
