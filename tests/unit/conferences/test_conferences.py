"""Rosters and pairs by what control sessions tell, without a single packet: calls are made by hand."""

from __future__ import annotations

import random

import pytest

from media.direct import DirectPlane
from proxy.backends import Backends
from proxy.backends.control.api import (
    BridgeEntered,
    BridgeLeft,
    ChannelDown,
    ChannelUp,
    ConferenceChanged,
    ConferenceEnded,
    ConferenceJoined,
    ConferenceLeft,
    Event,
    MemberChanged,
    Synced,
    Up,
)
from proxy.calls import TALKING, Call, Calls, Leg
from proxy.calls.pairs import CONFERENCE, PAIR
from proxy.conferences import Conferences, Segment
from proxy.conferences.headers import told
from proxy.conferences.roster import Conference, recording_name
from proxy.conferences.snapshot import RosterError, restore, snapshot
from proxy.config import Settings
from tests.unit.sip.hand_stack import Bench, FakeFlow


class Site:
    def __init__(self) -> None:
        backends = {name: {"address": f"192.0.2.{n}"} for n, name in enumerate(("as1", "as2"), 1)}
        pools = {"pbx": {"backends": backends}, "other": {"backends": {"os1": {"address": "192.0.2.3"}}}}
        settings = Settings.model_validate({"pools": pools, "routes": [{"pool": "pbx"}]})
        media = DirectPlane(None, random.Random(1), "192.0.2.9")  # type: ignore[arg-type]  # it is never asked
        self.backends = Backends(settings)
        self.calls = Calls(settings, Bench().stack, self.backends, media, media, random.Random(1))
        self.conferences = Conferences(self.calls, self.backends)
        self.calls.on_bonded = self.conferences.bonded
        self.segments: list[Segment] = []
        self.conferences.on_segment = lambda conference, segment: self.segments.append(segment)

    def call(self, name: str, backend: str = "as1") -> Call:
        made = Call(self.calls, name, self.calls.direct, 0.0)
        made.state = TALKING
        made.uri = b"sip:100@192.0.2.9"
        made.a = Leg(made, "a", b"a" + name.encode(), FakeFlow(), None)
        made.b = Leg(made, "b1", b"b" + name.encode(), FakeFlow(), self.backends.get(backend))
        self.calls.live[name] = made
        return made

    def tell(self, *events: Event, backend: str = "as1") -> None:
        found = self.backends.get(backend)
        assert found is not None
        for event in events:
            self.conferences.hear(found, event)

    def seat(self, name: str, conference: str = "sales", *, muted: bool = False, backend: str = "as1") -> None:
        self.tell(
            ChannelUp(f"ch-{name}", f"{name}-b1", "", ""),
            ConferenceJoined(conference, f"ch-{name}", moderator=False, muted=muted, deaf=False),
            backend=backend,
        )


@pytest.fixture
def site() -> Site:
    return Site()


def test_who_sits_in_a_conference_is_in_its_roster_as_what_he_is(site: Site) -> None:
    call = site.call("c1")
    site.seat("c1", muted=True)
    participant = site.conferences.participant(call)
    assert participant is not None and participant.muted and not participant.moderator
    assert call.bond is not None and (call.bond.kind, call.bond.name) == (CONFERENCE, b"sales")
    site.tell(MemberChanged("sales", "ch-c1", muted=False, talking=True))
    assert not participant.muted and participant.talking


@pytest.mark.parametrize("event", [ConferenceLeft("sales", "ch-c1"), ChannelDown("ch-c1", 16)])
def test_who_leaves_is_in_it_no_more_and_the_last_one_ends_it(site: Site, event: Event) -> None:
    call = site.call("c1")
    site.seat("c1")
    site.tell(event)
    assert call.bond is None and len(site.conferences) == 0


def test_who_a_channel_is_may_be_known_after_it_has_joined(site: Site) -> None:
    call = site.call("c1")
    site.tell(ChannelUp("ch", "", "", ""), ConferenceJoined("sales", "ch", moderator=True, muted=False, deaf=False))
    assert call.bond is None
    site.tell(ChannelUp("ch", "c1-b1", "", ""))
    participant = site.conferences.participant(call)
    assert participant is not None and participant.moderator


@pytest.mark.parametrize("sip", ["c1-b2", "c1-a", "someone", "", "-"])
def test_what_is_said_of_a_leg_that_is_not_in_place_changes_nothing(site: Site, sip: str) -> None:
    call = site.call("c1")
    site.tell(ChannelUp("ch", sip, "", ""), ConferenceJoined("sales", "ch", moderator=True, muted=False, deaf=False))
    assert call.bond is None and len(site.conferences) == 0


def test_what_another_backend_says_of_a_member_changes_nothing(site: Site) -> None:
    call = site.call("c1")
    site.seat("c1")
    site.seat("c1", muted=True, backend="as2")
    site.tell(ConferenceLeft("sales", "ch-c1"), ConferenceChanged("sales", locked=True), backend="as2")
    participant, conference = site.conferences.participant(call), site.conferences.of(call)
    assert participant is not None and not participant.muted
    assert conference is not None and not conference.locked


def test_while_calls_are_carried_over_what_they_were_is_what_holds(site: Site) -> None:
    call = site.call("c1")
    site.seat("c1", muted=True)
    site.tell(ConferenceChanged("sales", locked=True))
    site.conferences.begin_move([call], died_at=1.0)
    call.b = Leg(call, "b2", b"b2", FakeFlow(), site.backends.get("as2"))
    site.tell(
        ChannelUp("ch2", "c1-b2", "", ""), ConferenceJoined("sales", "ch2", moderator=False, muted=False, deaf=False),
        ConferenceChanged("sales", locked=False), backend="as2",
    )  # fmt: skip
    site.tell(Up("Asterisk", "anew"), Synced())
    participant, conference = site.conferences.participant(call), site.conferences.of(call)
    assert participant is not None and participant.muted
    assert conference is not None and conference.locked


def test_who_is_missing_when_all_has_been_told_has_left(site: Site) -> None:
    calls = [site.call("c1"), site.call("c2"), site.call("c3")]
    site.seat("c1")
    site.seat("c2")
    site.calls.pairs.join(calls[2], CONFERENCE, b"sales", "pbx")  # known from SIP alone
    site.tell(Up("Asterisk", ""))
    site.seat("c1")
    assert len(site.conferences.get("pbx", "sales") or ()) == 3
    site.tell(Synced())
    assert [call.bond is not None for call in calls] == [True, False, True]


def test_a_recording_goes_on_in_the_next_segment_after_its_backend_died(site: Site) -> None:
    call = site.call("c1")
    site.seat("c1")
    site.tell(ConferenceChanged("sales", recording="?"), ConferenceChanged("sales", recording="/rec/monday.wav"))
    conference = site.conferences.of(call)
    assert conference is not None
    assert [(each.recording, each.number, each.file) for each in site.segments] == [("sales", 1, "?")]
    site.conferences.begin_move([call], died_at=7.0)
    assert (site.segments[-1].cut, site.segments[-1].ended_at) == (True, 7.0)
    assert (b"x-aqueduct-recording", b"X-Aqueduct-Recording: sales;segment=2") in site.conferences.told(call)
    call.b = Leg(call, "b2", b"b2", FakeFlow(), site.backends.get("as2"))
    site.conferences.end_move(call)
    site.seat("c1", backend="as2")
    site.tell(ConferenceChanged("sales", recording="?"), backend="as2")
    assert (site.segments[-1].number, site.segments[-1].backend) == (2, "as2")
    site.tell(ConferenceEnded("sales"), backend="as2")
    assert site.segments[-1].ended_at is not None and not site.segments[-1].cut


def test_an_end_and_a_new_beginning_are_two_recordings(site: Site) -> None:
    site.call("c1")
    site.seat("c1")
    for file in ("/rec/a.wav", "", "/rec/b.wav"):
        site.tell(ConferenceChanged("sales", recording=file))
    assert [(each.recording, each.number) for each in site.segments] == [("a", 1), ("a", 1), ("b", 1)]


@pytest.mark.parametrize(("file", "name"), [("?", "sales"), ("/rec/a.b.wav", "a.b"), ("monday", "monday")])
def test_what_a_recording_is_called(file: str, name: str) -> None:
    assert recording_name(file, "sales") == name


def test_conferences_of_one_name_in_two_pools_have_nothing_to_do_with_each_other(site: Site) -> None:
    pool, call, stranger = site.backends.pools["pbx"], site.call("c1"), site.call("c2", "os1")
    site.seat("c1")
    site.seat("c2", backend="os1")
    assert call.bond is not None and list(call.bond.mates(call)) == [] and len(site.conferences) == 2
    site.conferences.begin_move([call], died_at=1.0)
    site.calls.pairs.meet({"c1"}, alive=False)
    assert call.bond.meets_at is None
    assert site.conferences.prefer(pool, b"100") is site.backends.get("as1")
    site.tell(ConferenceLeft("sales", "ch-c2"), backend="os1")
    assert stranger.bond is None and call.bond is not None


# Pairs


def test_two_of_ours_in_one_bridge_are_a_pair_until_one_leaves(site: Site) -> None:
    calls = [site.call("c1"), site.call("c2")]
    site.tell(ChannelUp("x", "c1-b1", "", ""), ChannelUp("y", "c2-b1", "", ""))
    site.tell(BridgeEntered("br", "x"), BridgeEntered("br", "y"))
    assert calls[0].bond is not None and calls[0].bond is calls[1].bond and calls[0].bond.kind == PAIR
    site.tell(BridgeLeft("br", "x"))
    assert calls[0].bond is None and calls[1].bond is None


def test_a_third_one_or_a_stranger_makes_no_pair(site: Site) -> None:
    calls = [site.call("c1"), site.call("c2"), site.call("c3")]
    for number in (1, 2, 3):
        site.tell(ChannelUp(f"x{number}", f"c{number}-b1", "", ""), BridgeEntered("br", f"x{number}"))
    assert [call.bond for call in calls] == [None, None, None]
    site.tell(BridgeEntered("other", "stranger"), BridgeEntered("other", "x1"))
    assert calls[0].bond is None


def test_a_pair_that_was_named_in_sip_keeps_its_name_and_ends_with_the_bridge(site: Site) -> None:
    calls = [site.call("c1"), site.call("c2")]
    for call in calls:
        site.calls.pairs.join(call, PAIR, b"theirs", "pbx")
    site.tell(ChannelUp("x", "c1-b1", "", ""), ChannelUp("y", "c2-b1", "", ""))
    site.tell(BridgeEntered("br", "x"), BridgeEntered("br", "y"))
    assert calls[0].bond is not None and calls[0].bond.name == b"theirs"
    site.tell(BridgeLeft("br", "y"))
    assert calls[0].bond is None


def test_the_end_of_a_bridge_on_the_backend_that_they_were_taken_from_parts_nobody(site: Site) -> None:
    calls = [site.call("c1"), site.call("c2")]
    site.tell(ChannelUp("x", "c1-b1", "", ""), ChannelUp("y", "c2-b1", "", ""))
    site.tell(BridgeEntered("br", "x"), BridgeEntered("br", "y"))
    for call in calls:
        call.b = Leg(call, "b2", b"2" + call.id.encode(), FakeFlow(), site.backends.get("as2"))
    site.tell(BridgeLeft("br", "x"), Up("Asterisk", "anew"), Synced())
    assert calls[0].bond is not None and calls[0].bond is calls[1].bond


def test_the_room_in_which_a_pair_is_connected_again_is_no_conference(site: Site) -> None:
    call = site.call("c1")
    site.calls.pairs.join(call, PAIR, b"theirs", "pbx")
    site.seat("c1", conference="pair-theirs")
    assert call.bond is not None and call.bond.kind == PAIR


# Where new callers go


def test_a_number_that_leads_to_one_conference_leads_to_where_it_lives(site: Site) -> None:
    pool = site.backends.pools["pbx"]
    site.call("c1")
    assert site.conferences.prefer(pool, b"100") is None
    site.seat("c1")
    assert site.conferences.prefer(pool, b"100") is site.backends.get("as1")
    site.call("c2")
    site.seat("c2", conference="support")  # a menu: it leads to several
    assert site.conferences.prefer(pool, b"100") is None
    site.tell(ConferenceLeft("support", "ch-c2"))
    assert site.conferences.prefer(pool, b"100") is site.backends.get("as1")


# What is told, and kept


def test_a_name_cannot_break_out_of_its_header() -> None:
    conference = Conference("pbx", "x")
    conference.segment = Segment("a\r\nX: 1;b/../c", 1, "as1", "?", "x", (), 0.0)
    assert told(conference, conference.join("c1"))[-1][1] == b"X-Aqueduct-Recording: a__X: 1_b_.._c;segment=2"


def test_a_snapshot_tells_all_but_who_talks() -> None:
    one, other = Conference("pbx", "sales"), Conference("pbx", "sales")
    for number in range(3):
        participant = one.join(f"c{number}")
        participant.moderator, participant.muted, participant.talking = number == 0, number == 1, True
    one.leave("c0")
    one.locked = True
    one.segment = Segment("sales", 2, "as1", "/rec/sales.2.wav", "sales", ("c1",), 10.0)
    for call in ("c2", "c1"):
        other.join(call)
    restore(other, snapshot(one, now=15.0), now=100.0, elapsed_s=1.0)
    assert other.locked and {each.call: (each.order, each.muted) for each in other} == {
        "c1": (2, True),
        "c2": (3, False),
    }
    assert other.segment is not None and (other.segment.number, other.segment.began_at) == (2, 94.0)
    assert other.join("c9").order == 4


@pytest.mark.parametrize(
    "state", [None, 7, [], [2, "pbx", "x", False, [], None], [1, "pbx", "x"], [1, "p", "x", 0, 5, 0]]
)
def test_what_is_no_snapshot_is_named(state: object) -> None:
    with pytest.raises(RosterError):
        restore(Conference("pbx", "x"), state, 0.0, 0.0)
