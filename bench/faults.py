"""What happens to the primary: its process is killed, it is frozen, or its host is cut off.

A cut drops every packet to and from the primary's address without a word. It takes a network of our own, in which
everything then runs.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Literal

from tests.testbed import network
from tests.testbed.process import Process
from tests.testbed.sip_ping import Address

Fault = Literal["kill", "stop", "cut"]


@contextlib.contextmanager
def network_for(fault: Fault) -> Iterator[None]:
    if fault != "cut":
        yield
        return
    if missing := network.unavailable():
        raise RuntimeError(f"--fault cut: {missing}")
    with network.own_network():
        yield


def strike(fault: Fault, primary: Process, address: Address) -> float:
    """Returns the time of the fault on CLOCK_MONOTONIC, which the proxy's report uses too."""
    if fault == "cut":
        network.cut(address[0])
        return time.monotonic()
    at = time.monotonic()
    if fault == "kill":
        primary.kill()
    else:
        primary.freeze()
    return at


def mend(fault: Fault) -> None:
    """Take away what `strike` left in the network; the primary itself is ended by who started it."""
    if fault == "cut":
        network.join()
