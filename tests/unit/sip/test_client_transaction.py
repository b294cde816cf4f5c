"""The client's state machines: RFC 3261 §17.1 with RFC 6026, each timer at its time."""

from __future__ import annotations

import pytest

from proxy.sip.dialog import Dialog
from proxy.sip.message import Request
from proxy.sip.parser import parse
from tests.unit.sip.hand_stack import Bench, moments, near, start

# -- INVITE


def test_timer_a_doubles_and_timer_b_ends_it_with_408() -> None:
    bench = Bench()
    bench.ask(b"INVITE")
    assert near(moments(bench, 31.9), [0.5, 1.5, 3.5, 7.5, 15.5, 31.5])
    assert bench.heard == []
    bench.advance(0.2)
    assert bench.heard == [408] and bench.at_rest
    assert set(bench.flow.sent) == {bench.flow.sent[0]}  # the same bytes each time


def test_on_a_reliable_transport_nothing_is_sent_again() -> None:
    bench = Bench(reliable=True)
    bench.ask(b"INVITE")
    bench.advance(33.0)
    assert bench.starts == ["INVITE"] and bench.heard == [408] and bench.at_rest


def test_a_provisional_response_stops_timers_a_and_b() -> None:
    bench = Bench()
    bench.ask(b"INVITE")
    bench.answer(180)
    bench.advance(600.0)
    assert bench.starts == ["INVITE"] and bench.heard == [180]


def test_a_refusal_is_acknowledged_with_the_branch_of_the_invite_and_the_tag_of_the_refusal() -> None:
    bench = Bench()
    bench.ask(b"INVITE")
    bench.answer(486, b"busy")
    ack, invite = parse(bench.flow.sent[1]), parse(bench.flow.sent[0])
    assert isinstance(ack, Request) and isinstance(invite, Request)
    assert (ack.method, ack.uri, ack.cseq, ack.to_tag) == (b"ACK", invite.uri, 1, b"busy")
    assert ack.get(b"via") == invite.get(b"via")


def test_a_refusal_that_comes_again_gets_its_ack_again_until_timer_d() -> None:
    bench = Bench()
    placed = bench.ask(b"INVITE")
    bench.answer(486)
    bench.advance(31.0)
    bench.answer_to(placed, 486)
    assert bench.starts == ["INVITE", "ACK", "ACK"] and bench.heard == [486]
    bench.advance(2.0)
    assert bench.at_rest
    bench.answer_to(placed, 486)
    assert len(bench.core.strays) == 1


def test_on_a_reliable_transport_timer_d_is_nothing() -> None:
    bench = Bench(reliable=True)
    bench.ask(b"INVITE")
    bench.answer(486)
    assert bench.starts == ["INVITE", "ACK"] and bench.at_rest


def test_a_2xx_is_told_and_kept_for_timer_m() -> None:
    bench = Bench()
    bench.ask(b"INVITE")
    bench.answer(200)
    assert bench.starts == ["INVITE"] and bench.heard == [200]  # its ACK is the user's
    bench.advance(31.9)
    assert not bench.at_rest
    bench.advance(0.2)
    assert bench.at_rest


def dialog_with(tag: bytes) -> Dialog:
    dialog = Dialog(b"c1", b"<sip:us@192.0.2.1>", b"us", b"<sip:them@192.0.2.9>", tag)
    dialog.target = b"sip:them@192.0.2.9"
    return dialog


def test_a_2xx_that_comes_again_gets_its_ack_again_without_the_user() -> None:
    bench = Bench()
    placed = bench.ask(b"INVITE")
    bench.answer(200)
    placed.acknowledge(dialog_with(b"them"), bench.flow, b"v=0\r\n")
    bench.answer_to(placed, 200)
    acks = [parse(each) for each in bench.flow.sent[1:]]
    assert [each.encode().partition(b" ")[0] for each in acks] == [b"ACK", b"ACK"] and bench.heard == [200]
    first, second = acks
    assert (first.to, first.cseq, first.body, first.sdp) == (second.to, placed.request.cseq, second.body, b"v=0\r\n")


def test_a_2xx_of_another_fork_goes_to_the_user_and_has_an_ack_of_its_own() -> None:
    bench = Bench()
    placed = bench.ask(b"INVITE")
    bench.answer(200, b"one")
    placed.acknowledge(dialog_with(b"one"), bench.flow)
    bench.answer_to(placed, 200, b"two")
    assert bench.heard == [200, 200]
    placed.acknowledge(dialog_with(b"two"), bench.flow)
    bench.answer_to(placed, 200, b"one")
    bench.answer_to(placed, 200, b"two")
    assert [parse(each).to_tag for each in bench.flow.sent[1:]] == [b"one", b"two", b"one", b"two"]


def test_a_2xx_without_ack_is_owed_one() -> None:
    bench = Bench()
    placed = bench.ask(b"INVITE")
    assert not placed.owes_ack
    bench.answer(200)
    assert placed.owes_ack
    placed.acknowledge(dialog_with(b"them"), bench.flow)
    assert not placed.owes_ack and placed.acknowledges(b"them") and not placed.acknowledges(b"others")


@pytest.mark.parametrize("status", [180, 486])
def test_after_a_2xx_other_responses_are_nothing(status: int) -> None:
    bench = Bench()
    placed = bench.ask(b"INVITE")
    bench.answer(200)
    bench.answer_to(placed, status)
    assert bench.heard == [200] and bench.starts == ["INVITE"]


# -- CANCEL (§9.1)


def test_cancel_waits_for_the_first_provisional_response() -> None:
    bench = Bench()
    bench.ask(b"INVITE").cancel()
    assert bench.starts == ["INVITE"]
    bench.answer(100)
    assert bench.starts == ["INVITE", "CANCEL"]


def test_cancel_bears_what_the_invite_bears() -> None:
    bench = Bench()
    placed = bench.ask(b"INVITE")
    bench.answer(180)
    placed.cancel()
    placed.cancel()
    invite, cancel = (parse(data) for data in bench.flow.sent)
    assert isinstance(cancel, Request) and isinstance(invite, Request)
    assert cancel.uri == invite.uri and cancel.to_tag == b""
    for key in (b"via", b"from", b"to", b"call-id"):
        assert cancel.get(key) == invite.get(key)
    assert cancel.get(b"cseq") == b"1 CANCEL"


def test_the_487_that_cancel_brings_is_acknowledged() -> None:
    bench = Bench()
    placed = bench.ask(b"INVITE")
    bench.answer(180)
    placed.cancel()
    bench.answer(200)  # to the CANCEL
    bench.answer_to(placed, 487)
    assert bench.starts == ["INVITE", "CANCEL", "ACK"] and bench.heard == [180, 487]


def test_a_2xx_that_crosses_cancel_is_told() -> None:
    bench = Bench()
    placed = bench.ask(b"INVITE")
    bench.answer(180)
    placed.cancel()
    bench.answer_to(placed, 200)
    assert bench.heard == [180, 200]


def test_after_a_final_response_cancel_is_nothing() -> None:
    bench = Bench()
    placed = bench.ask(b"INVITE")
    bench.answer(200)
    placed.cancel()
    assert bench.starts == ["INVITE"]


def test_a_peer_that_never_ends_a_cancelled_invite_does_not_hold_us() -> None:
    bench = Bench()
    placed = bench.ask(b"INVITE")
    bench.answer(180)
    placed.cancel()
    bench.answer(200)
    bench.advance(31.9)
    assert bench.heard == [180]
    bench.advance(0.2)
    assert bench.heard == [180, 408] and placed.key not in bench.stack.clients


# -- given up


def test_an_invite_that_is_given_up_counts_as_unanswered_and_is_sent_no_more() -> None:
    bench = Bench()
    placed = bench.ask(b"INVITE")
    placed.give_up()
    assert bench.heard == [408]
    bench.advance(33.0)
    assert bench.starts == ["INVITE"] and bench.heard == [408] and bench.at_rest


def test_what_comes_late_for_an_invite_that_was_given_up_is_ended() -> None:
    bench = Bench()
    placed = bench.ask(b"INVITE")
    placed.give_up()
    bench.answer_to(placed, 180)
    assert bench.starts == ["INVITE", "CANCEL"]
    bench.answer_to(placed, 200)
    assert bench.heard == [408, 180, 200]  # for its user to end
    bench.advance(40.0)
    assert bench.at_rest


def test_an_invite_that_rings_and_is_given_up_is_cancelled_at_once() -> None:
    bench = Bench()
    placed = bench.ask(b"INVITE")
    bench.answer(180)
    placed.give_up()
    assert bench.starts == ["INVITE", "CANCEL"]
    bench.answer_to(placed, 200)
    placed.give_up()  # too late
    assert bench.heard == [180, 408, 200]


# -- others


def test_timer_e_doubles_up_to_t2_and_timer_f_ends_it_with_408() -> None:
    bench = Bench()
    bench.ask(b"INFO")
    assert near(moments(bench, 31.9), [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5])
    bench.advance(0.2)
    assert bench.heard == [408] and bench.at_rest


def test_after_a_provisional_response_timer_e_is_t2() -> None:
    bench = Bench()
    bench.ask(b"INFO")
    bench.answer(100)
    assert near(moments(bench, 13.0), [0.5, 4.5, 8.5, 12.5])
    bench.advance(20.0)
    assert bench.heard == [100, 408]  # and Timer F goes on


def test_what_comes_again_within_timer_k_is_absorbed() -> None:
    bench = Bench()
    asked = bench.ask(b"INFO")
    bench.answer(200)
    bench.advance(4.9)
    bench.answer_to(asked, 200)
    assert bench.heard == [200] and not bench.core.strays
    bench.advance(0.2)
    assert bench.at_rest


def test_on_a_reliable_transport_timers_e_and_k_are_nothing() -> None:
    bench = Bench(reliable=True)
    bench.ask(b"INFO")
    bench.advance(10.0)
    bench.answer(200)
    assert bench.starts == ["INFO"] and bench.at_rest


# -- flows


@pytest.mark.parametrize("method", [b"INVITE", b"INFO"])
def test_a_flow_that_closes_ends_what_waits_on_it_with_503(method: bytes) -> None:
    bench = Bench(reliable=True)
    bench.ask(method)
    bench.stack.flow_closed(bench.flow)
    assert bench.heard == [503] and bench.at_rest


def test_a_flow_that_is_closed_already_ends_it_with_503_but_not_before_it_is_returned() -> None:
    bench = Bench(reliable=True)
    bench.flow.open = False
    bench.ask(b"INVITE")
    assert bench.heard == []
    bench.advance(0.1)
    assert bench.heard == [503] and bench.starts == [] and bench.at_rest


def test_a_response_belongs_to_a_transaction_by_branch_and_method() -> None:
    bench = Bench()
    placed = bench.ask(b"INVITE")
    bench.answer(180)
    placed.cancel()
    bench.answer(481)  # to the CANCEL, which has the branch of the INVITE
    assert bench.heard == [180]
    assert start(bench.flow.sent[-1]) == "CANCEL"
