"""The order of a failover: conferences, pairs, who else talks, who rings, who is on hold; then the longest call."""

from __future__ import annotations

import random

import pytest

from media.direct import DirectPlane
from proxy.backends import Backend, Backends
from proxy.calls import ENDED, RINGING, TALKING, Calls, Leg
from proxy.calls.call import Call
from proxy.calls.pairs import CONFERENCE, PAIR, Bond
from proxy.conferences import Conferences
from proxy.config import BackendSettings, Settings
from proxy.failover.plan import Kind, kind_of, plan
from tests.unit.sip.hand_stack import Bench, FakeFlow

DEAD, OTHER = (
    Backend(name, "pbx", BackendSettings.model_validate({"address": f"192.0.2.{number}"}))
    for number, name in enumerate(("dead", "other"), 1)
)
SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nm=audio 4000 RTP/AVP 8\r\n"


def nobody() -> Calls:
    backends = {"dead": {"address": "192.0.2.1"}, "other": {"address": "192.0.2.2"}}
    settings = Settings.model_validate({"pools": {"pbx": {"backends": backends}}, "routes": [{"pool": "pbx"}]})
    media = DirectPlane(None, random.Random(1), "192.0.2.9")  # type: ignore[arg-type]  # it is never asked
    return Calls(settings, Bench().stack, Backends(settings), media, media, random.Random(1))


def call(name: str, state: str = TALKING, since: float = 0.0, sdp: bytes = SDP, backend: Backend | None = DEAD) -> Call:
    calls = nobody()
    made = Call(calls, name, calls.direct, since)
    made.state = state
    made.answered_at = since if state == TALKING else 0.0
    made.a = Leg(made, "a", b"a", FakeFlow(), None)
    made.a.remote_sdp = sdp
    made.b = Leg(made, "b1", b"b", FakeFlow(), backend)
    made.b.remote_sdp = SDP
    return made


def bonded(made: Call, kind: str, name: bytes, conferences: Conferences | None = None, **flags: bool) -> Call:
    made.bond = Bond(kind, name, "pbx")
    if conferences is not None:
        conferences.bonded(made)
        for flag, value in flags.items():
            setattr(conferences.participant(made), flag, value)
    return made


def order(*calls: Call, conferences: Conferences | None = None) -> list[str]:
    return [step.call.id for step in plan(calls, DEAD, conferences or rosters())]


def rosters() -> Conferences:
    calls = nobody()
    return Conferences(calls, calls.backends)


def test_conferences_come_before_pairs_before_others_who_talk() -> None:
    held = bonded(call("held", sdp=SDP + b"a=sendonly\r\n"), CONFERENCE, b"sales")
    pair = [bonded(call(name, since=9.0), PAIR, b"p") for name in ("agent", "customer")]
    member = bonded(call("member", since=10.0), CONFERENCE, b"sales")
    assert order(call("alone"), held, *pair, member) == ["member", "agent", "customer", "alone", "held"]


def test_conferences_with_most_speakers_come_first_and_in_each_the_moderators() -> None:
    known = rosters()
    quiet = [bonded(call(f"quiet{n}"), CONFERENCE, b"quiet", known, muted=n > 0) for n in range(3)]
    lively = [bonded(call(f"lively{n}", since=5.0), CONFERENCE, b"lively", known, moderator=n == 1) for n in range(2)]
    assert order(*quiet, *lively, conferences=known) == ["lively1", "lively0", "quiet0", "quiet1", "quiet2"]


def test_who_talks_comes_before_who_rings_before_who_is_on_hold() -> None:
    held = call("held", sdp=SDP + b"a=sendonly\r\n")
    assert order(held, call("ringing", RINGING), call("talking")) == ["talking", "ringing", "held"]


def test_among_equals_the_longest_call_comes_first() -> None:
    assert order(call("new", since=30.0), call("old", since=10.0), call("middle", since=20.0)) == [
        "old",
        "middle",
        "new",
    ]
    assert order(call("late", RINGING, 5.0), call("early", RINGING, 4.0)) == ["early", "late"]


def test_calls_of_the_same_age_have_an_order_too() -> None:
    assert order(call("b"), call("a")) == order(call("a"), call("b")) == ["a", "b"]


def test_only_legs_of_the_dead_backend_are_moved() -> None:
    assert order(call("elsewhere", backend=OTHER), call("nowhere", backend=None)) == []


def test_the_leg_that_is_moved_is_the_one_on_the_dead_backend() -> None:
    outbound = call("outbound", backend=OTHER)
    outbound.a.backend = DEAD
    (step,) = plan([outbound], DEAD, rosters())
    assert step.leg is outbound.a


@pytest.mark.parametrize(
    ("state", "direction", "kind"),
    [
        (TALKING, b"sendrecv", Kind.TALKING),
        (TALKING, b"recvonly", Kind.TALKING),  # the other side has put it on hold, and its description says so
        (TALKING, b"sendonly", Kind.HELD),
        (TALKING, b"inactive", Kind.HELD),
        (RINGING, b"sendonly", Kind.RINGING),
    ],
)
def test_what_a_call_was_doing(state: str, direction: bytes, kind: Kind) -> None:
    assert kind_of(call("x", state, sdp=SDP + b"a=%b\r\n" % direction)) is kind


def test_a_call_that_has_ended_is_not_talking() -> None:
    assert kind_of(call("x", ENDED)) is Kind.RINGING
