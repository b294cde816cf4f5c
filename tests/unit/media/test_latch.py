"""From whom a stream accepts media: the decision alone."""

from __future__ import annotations

import pytest

from media.relay.latch import LatchPolicy, Verdict, is_private, judge

PUBLIC = ("203.0.113.5", 4000)
PRIVATE = ("192.168.1.5", 4000)
STRANGER = ("198.51.100.66", 6666)
LATCH, PROBATION, REFUSE = Verdict.LATCH, Verdict.PROBATION, Verdict.REFUSE
STRICT, ADDRESS, ANY = LatchPolicy.STRICT, LatchPolicy.ADDRESS, LatchPolicy.ANY


@pytest.mark.parametrize(
    ("policy", "remote", "source", "known", "verdict"),
    [
        (STRICT, PUBLIC, PUBLIC, None, LATCH),
        (STRICT, PUBLIC, (PUBLIC[0], 5000), None, REFUSE),
        (STRICT, PRIVATE, STRANGER, None, REFUSE),
        (ADDRESS, PUBLIC, PUBLIC, None, LATCH),
        (ADDRESS, PUBLIC, (PUBLIC[0], 5000), None, LATCH),
        (ADDRESS, PUBLIC, STRANGER, None, REFUSE),
        (ADDRESS, PRIVATE, STRANGER, None, PROBATION),
        (ADDRESS, PRIVATE, STRANGER, STRANGER[0], LATCH),  # behind the same NAT as before this SDP
        (ADDRESS, PRIVATE, STRANGER, "198.51.100.1", REFUSE),
        (ADDRESS, PUBLIC, STRANGER, STRANGER[0], REFUSE),
        (ADDRESS, ("0.0.0.0", 9), STRANGER, None, LATCH),
        (ADDRESS, ("::", 9), ("2001:db8::9", 1), "2001:db8::1", REFUSE),
        (ANY, PUBLIC, STRANGER, None, PROBATION),
        (ANY, PUBLIC, STRANGER, "203.0.113.5", REFUSE),
        (ANY, None, STRANGER, None, REFUSE),  # no SDP yet
    ],
)
def test_judge(policy, remote, source, known, verdict) -> None:
    assert judge(policy, remote, source, known) is verdict


def test_private_addresses_are_those_that_nat_hides() -> None:
    assert all(
        is_private(host) for host in ("10.1.2.3", "172.31.0.1", "192.168.0.1", "100.64.0.1", "fd00::1", "fe80::1")
    )
    assert not any(
        is_private(host) for host in ("127.0.0.1", "172.32.0.1", "203.0.113.1", "2001:db8::1", "100.128.0.1")
    )
