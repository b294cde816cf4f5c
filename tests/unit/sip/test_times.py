"""How long is waited after glare."""

from __future__ import annotations

import random

from proxy.sip.times import glare_delay_s


def test_glare_bands_are_those_of_the_rfc_and_cannot_meet() -> None:
    rng = random.Random(5)
    owner = [glare_delay_s(True, rng) for _ in range(5000)]
    other = [glare_delay_s(False, rng) for _ in range(5000)]
    assert (min(owner), max(owner), min(other), max(other)) == (2.1, 4.0, 0.0, 2.0)
    assert all(abs(delay * 100 - round(delay * 100)) < 1e-9 for delay in owner + other)
