"""What happens to the primary: its process is killed, it is frozen, or its host is cut off.

`cut` drops every packet to and from the primary's address without a word, as a pulled cable does. That takes a
network namespace of our own, so the benchmark starts itself again inside one; all addresses are on its loopback.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import Literal

from tests.testbed.process import Process
from tests.testbed.sip_ping import Address

Fault = Literal["kill", "stop", "cut"]
INSIDE = "AQUEDUCT_BENCH_NAMESPACE"

CUT_RULES = """
add table inet bench
add chain inet bench cut {{ type filter hook input priority 0; }}
add rule inet bench cut ip saddr {host} drop
add rule inet bench cut ip daddr {host} drop
"""
JOIN_RULES = "delete table inet bench"


def enter_namespace() -> None:
    """Run this program again in a network namespace of its own; returns only there."""
    if INSIDE in os.environ:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    for tool, package in (("unshare", "util-linux"), ("ip", "iproute2"), ("nft", "nftables")):
        if shutil.which(tool) is None:
            raise RuntimeError(f"--fault cut needs {tool}: apt-get install {package}")
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    os.execvpe(unshare[0], [*unshare, sys.executable, *sys.argv], {**os.environ, INSIDE: "1"})


def strike(fault: Fault, primary: Process, address: Address) -> float:
    """Returns the time of the fault on CLOCK_MONOTONIC, which the proxy's report uses too."""
    if fault == "kill":
        at = time.monotonic()
        primary.kill()
    elif fault == "stop":
        at = time.monotonic()
        primary.freeze()
    else:
        subprocess.run(["nft", "-f", "-"], input=CUT_RULES.format(host=address[0]), text=True, check=True)
        at = time.monotonic()
    return at


def mend(fault: Fault) -> None:
    """Take away what `strike` left in the network; the primary itself is ended by who started it."""
    if fault == "cut":
        subprocess.run(["nft", "-f", "-"], input=JOIN_RULES, text=True, check=True)
