"""From which source does a stream accept media? Symmetric RTP with protection against hijack.

Behind NAT, media comes from another address than SDP says, so a stream listens before it decides. Whoever can
send a datagram to a port must not be able to take a call's audio over, so: the signalled address is preferred
and latches at once; another port of the same host too; another host only where SDP cannot be right (a private
or unspecified address) or the operator says so, only while the stream never had a source, and only after
several packets in a row without one from the signalled address. Then the socket is connected to the source,
and the kernel drops everything else.
"""

from __future__ import annotations

import enum
import ipaddress
from functools import lru_cache

PROBATION = 3  # packets in a row from a host that was not signalled

Address = tuple[str, int]


class LatchPolicy(enum.StrEnum):
    STRICT = "strict"  # the signalled address and port, nothing else
    ADDRESS = "address"  # the signalled host; another one where the signalled one is private or unspecified
    ANY = "any"  # any host


class Verdict(enum.Enum):
    LATCH = 1
    PROBATION = 2
    REFUSE = 3


# RFC 1918, 6598 (shared by carriers), 3927, 4193, 4291: addresses that NAT may have hidden.
_PRIVATE = [
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    )
]


@lru_cache(maxsize=4096)
def is_private(host: str) -> bool:
    address = ipaddress.ip_address(host)
    return any(address in network for network in _PRIVATE)


def judge(policy: LatchPolicy, remote: Address | None, source: Address, known: str | None) -> Verdict:
    """A packet from `source` reaches a stream that is not latched. `remote` was signalled; `known` is the host it
    was latched to before the last SDP."""
    if remote is None:
        return Verdict.REFUSE
    if source == remote:
        return Verdict.LATCH
    if policy is LatchPolicy.STRICT:
        return Verdict.REFUSE
    signalled = remote[0]
    if source[0] == signalled:
        return Verdict.LATCH
    if signalled in ("0.0.0.0", "::"):
        return Verdict.LATCH if known is None or known == source[0] else Verdict.REFUSE
    if policy is LatchPolicy.ADDRESS and not is_private(signalled):
        return Verdict.REFUSE
    if known is None:
        return Verdict.PROBATION
    return Verdict.LATCH if known == source[0] else Verdict.REFUSE
