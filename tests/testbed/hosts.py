"""Loopback addresses that belong to this test run alone, so that two runs on one machine do not meet.

127.64.0.0/10 has 16,384 networks of 256 hosts; a run takes the one that its process number points to.
"""

from __future__ import annotations

import os

_NETWORK = os.getpid() % (64 * 256)


def host(number: int) -> str:
    """Host `number` (1 to 254) of this run."""
    return f"127.{64 + _NETWORK // 256}.{_NETWORK % 256}.{number}"


PROXY = host(1)
BACKENDS = (host(11), host(12))
CALLEE = host(21)
CALLER = host(22)
RTPENGINES = (host(31), host(32))
