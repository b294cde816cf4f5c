"""The server's state machines: RFC 3261 §17.2 with RFC 6026, matching (§17.2.3), merging (§8.2.2.2), Via (§18.2)."""

from __future__ import annotations

import pytest

from proxy.sip.parser import parse
from proxy.sip.server_transaction import InviteServerTransaction, ServerTransaction
from tests.unit.sip.hand_stack import PEER, Bench, moments, near, start


def invited(bench: Bench, **how: str) -> InviteServerTransaction:
    bench.receive("INVITE", **how)  # type: ignore[arg-type]
    transaction = bench.core.transactions[-1]
    assert isinstance(transaction, InviteServerTransaction)
    return transaction


def asked(bench: Bench, method: str = "INFO") -> ServerTransaction:
    bench.receive(method)
    return bench.core.transactions[-1]


# -- INVITE


def test_it_says_100_by_itself_when_its_user_is_slow() -> None:
    bench = Bench()
    invited(bench)
    bench.advance(0.19)
    assert bench.starts == []
    bench.advance(0.05)
    assert bench.starts == ["100 INVITE"]


def test_it_does_not_when_its_user_was_quicker() -> None:
    bench = Bench()
    invited(bench).reply(180)
    bench.advance(1.0)
    assert bench.starts == ["180 INVITE"]


def test_an_invite_that_comes_again_gets_the_last_response_again() -> None:
    bench = Bench()
    placed = invited(bench)
    bench.receive("INVITE")
    assert bench.starts == []
    placed.reply(180)
    bench.receive("INVITE")
    assert bench.flow.sent == [bench.flow.sent[0]] * 2 and len(bench.core.requests) == 1


def test_timer_g_repeats_a_refusal_and_timer_h_gives_up() -> None:
    bench = Bench()
    invited(bench).reply(486)
    assert near(moments(bench, 31.9), [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5])
    bench.advance(0.2)
    assert bench.at_rest


def test_the_ack_of_a_refusal_stops_it_and_timer_i_absorbs_more_of_them() -> None:
    bench = Bench()
    invited(bench).reply(486)
    bench.receive("ACK", to=";tag=x")
    assert moments(bench, 4.5) == []
    bench.receive("ACK", to=";tag=x")
    bench.receive("INVITE")
    assert bench.core.acks == [] and bench.starts == ["486 INVITE"]
    bench.advance(1.0)
    assert bench.at_rest


def test_on_a_reliable_transport_a_refusal_is_sent_once_and_its_ack_ends_all() -> None:
    bench = Bench(reliable=True)
    invited(bench).reply(486)
    assert moments(bench, 20.0) == []
    bench.receive("ACK", to=";tag=x")
    assert bench.at_rest


@pytest.mark.parametrize("reliable", [False, True])
def test_a_2xx_is_repeated_until_it_is_acknowledged(reliable: bool) -> None:
    bench = Bench(reliable)
    placed = invited(bench)
    placed.reply(200, b"us")
    assert near(moments(bench, 4.0), [0.5, 1.5, 3.5])
    placed.acknowledged()
    assert moments(bench, 20.0) == []


def test_a_2xx_that_nobody_acknowledges_is_told_once_and_forgotten() -> None:
    bench = Bench()
    told: list[str] = []
    placed = invited(bench)
    placed.on_no_ack = lambda: told.append("no ACK")
    placed.reply(200, b"us")
    bench.advance(31.9)
    assert told == []
    bench.advance(0.2)
    assert told == ["no ACK"] and bench.at_rest


def test_a_2xx_that_was_acknowledged_is_not_complained_of() -> None:
    bench = Bench()
    placed = invited(bench)
    placed.on_no_ack = lambda: pytest.fail("it was")
    placed.reply(200, b"us")
    placed.acknowledged()
    bench.advance(33.0)
    assert bench.at_rest


def test_an_invite_that_comes_again_after_a_2xx_is_absorbed_for_timer_l() -> None:
    bench = Bench()
    placed = invited(bench)
    placed.reply(200, b"us")
    placed.acknowledged()
    bench.receive("INVITE")
    assert bench.starts == ["200 INVITE"] and len(bench.core.requests) == 1


def test_the_ack_of_a_2xx_goes_to_the_core_whatever_its_branch() -> None:
    bench = Bench()
    invited(bench).reply(200, b"us")
    bench.receive("ACK", "z9hG4bK2", to=";tag=us")
    bench.receive("ACK", "z9hG4bK1", to=";tag=us")  # a peer's mistake
    assert len(bench.core.acks) == 2


def test_nothing_is_sent_after_the_final_response() -> None:
    bench = Bench()
    placed = invited(bench)
    placed.reply(200, b"us")
    for status in (180, 200, 486):
        placed.reply(status, b"us")
    assert bench.starts == ["200 INVITE"]


# -- CANCEL


def test_cancel_is_answered_and_told_and_the_user_refuses() -> None:
    bench = Bench()
    placed = invited(bench)
    placed.on_cancel = lambda: placed.reply(487)
    bench.receive("CANCEL")
    assert bench.starts == ["200 CANCEL", "487 INVITE"]


def test_cancel_after_the_final_response_is_answered_and_changes_nothing() -> None:
    bench = Bench()
    placed = invited(bench)
    placed.on_cancel = lambda: pytest.fail("too late")
    placed.reply(200, b"us")
    bench.receive("CANCEL")
    assert bench.starts == ["200 INVITE", "200 CANCEL"]


def test_cancel_that_comes_again_is_told_once() -> None:
    bench = Bench()
    told: list[int] = []
    invited(bench).on_cancel = lambda: told.append(1)
    bench.receive("CANCEL")
    bench.receive("CANCEL")
    assert told == [1] and bench.starts == ["200 CANCEL"] * 2


def test_cancel_of_nothing_gets_481() -> None:
    bench = Bench()
    bench.receive("CANCEL")
    assert bench.starts == ["481 CANCEL"]
    bench.receive("INVITE", "z9hG4bK2")
    bench.receive("CANCEL", "z9hG4bK3")
    assert bench.starts == ["481 CANCEL"] * 2


# -- others


def test_other_requests_repeat_their_answer_for_timer_j_and_say_no_100() -> None:
    bench = Bench()
    request = asked(bench)
    bench.advance(5.0)
    assert bench.starts == []
    request.reply(200)
    bench.advance(31.9)
    bench.receive("INFO")
    assert bench.starts == ["200 INFO"] * 2 and len(bench.core.requests) == 1
    bench.advance(0.2)
    assert bench.at_rest


def test_on_a_reliable_transport_timer_j_is_nothing() -> None:
    bench = Bench(reliable=True)
    asked(bench).reply(200)
    assert bench.at_rest


# -- matching


def test_transactions_are_told_apart_by_sent_by_too() -> None:
    bench = Bench()
    bench.receive("INFO", via="192.0.2.9:5060")
    bench.receive("INFO", via="192.0.2.10:5060")
    assert len(bench.core.requests) == 2


def test_a_request_and_its_cancel_share_a_branch_and_are_two_transactions() -> None:
    bench = Bench()
    bench.receive("INVITE")
    bench.receive("INFO")
    assert len(bench.core.requests) == 2


def test_a_peer_of_rfc_2543_is_matched_without_the_cookie() -> None:
    bench = Bench()
    placed = invited(bench, branch="1")
    placed.on_cancel = lambda: placed.reply(487)
    bench.receive("INVITE", "1")
    assert len(bench.core.requests) == 1
    bench.receive("CANCEL", "1")
    assert bench.starts == ["200 CANCEL", "487 INVITE"]
    bench.receive("ACK", "1", to=";tag=x")
    assert bench.core.acks == [] and moments(bench, 4.0) == []
    bench.receive("INVITE", "1", cseq=2)
    assert len(bench.core.requests) == 2


def test_the_same_invite_by_another_way_is_merged() -> None:
    bench = Bench()
    invited(bench)
    bench.receive("INVITE", "z9hG4bK2")
    assert bench.starts == ["482 INVITE"] and len(bench.core.requests) == 1


def test_merging_ends_with_the_transaction() -> None:
    bench = Bench()
    invited(bench).reply(486)
    bench.receive("ACK", to=";tag=x")
    bench.advance(6.0)
    bench.receive("INVITE", "z9hG4bK2")
    assert len(bench.core.requests) == 2


def test_a_re_invite_is_never_merged() -> None:
    bench = Bench()
    bench.receive("INVITE", "z9hG4bK1", to=";tag=us")
    bench.receive("INVITE", "z9hG4bK2", to=";tag=us")
    assert len(bench.core.requests) == 2


# -- where responses go


def test_without_rport_the_answer_goes_to_the_source_host_and_the_port_of_the_via() -> None:
    bench = Bench()
    bench.receive("OPTIONS", via="10.1.1.1:5080")
    bench.core.transactions[-1].reply(200)
    (answer,) = bench.transport.flows[PEER[0], 5080].sent
    via = parse(answer).get(b"via") or b""
    assert b";received=192.0.2.9" in via and b"rport" not in via


def test_with_rport_it_goes_to_the_source_and_says_which() -> None:
    bench = Bench()
    bench.receive("OPTIONS", branch="z9hG4bK1;rport", via="10.1.1.1:5080")
    bench.core.transactions[-1].reply(200)
    (answer,) = bench.flow.sent
    via = parse(answer).get(b"via") or b""
    assert b";rport=5060" in via and b";received=192.0.2.9" in via


def test_a_via_that_says_where_it_comes_from_is_left_alone() -> None:
    bench = Bench()
    bench.receive("OPTIONS")
    bench.core.transactions[-1].reply(200)
    assert parse(bench.flow.sent[0]).get(b"via") == b"SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK1"


def test_on_a_connection_the_answer_goes_back_on_it() -> None:
    bench = Bench(reliable=True)
    bench.receive("OPTIONS", via="10.1.1.1:5080")
    bench.core.transactions[-1].reply(200)
    assert [start(data) for data in bench.flow.sent] == ["200 OPTIONS"]


def test_a_request_that_cannot_be_read_is_refused_and_makes_no_transaction() -> None:
    bench = Bench()
    bench.stack.receive(
        b"INVITE sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\n"
        b"To: <sip:b@x>\r\nCall-ID: x\r\nCSeq: 1 BYE\r\n\r\n",
        bench.flow,
    )
    assert bench.flow.sent[0].startswith(b"SIP/2.0 400") and bench.at_rest and bench.stack.errors["cseq"] == 1


def test_the_fault_of_one_message_stays_with_it() -> None:
    bench = Bench()

    def fails(request: object, transaction: object) -> None:
        raise RuntimeError("a fault")

    good, bench.core.on_request = bench.core.on_request, fails  # type: ignore[method-assign]
    bench.receive("INFO")
    bench.core.on_request = good  # type: ignore[method-assign]
    bench.receive("INFO", "z9hG4bK2")
    assert bench.stack.errors["handler"] == 1 and len(bench.core.requests) == 1


@pytest.mark.parametrize("method", ["INVITE", "INFO"])
def test_a_request_that_its_user_cannot_handle_is_answered_500_and_forgotten(method: str) -> None:
    bench = Bench()

    def fails(request: object, transaction: object) -> None:
        raise RuntimeError("a fault")

    bench.core.on_request = fails  # type: ignore[method-assign]
    bench.receive(method)
    assert bench.starts == [f"500 {method}"]
    bench.advance(40.0)
    assert bench.at_rest
