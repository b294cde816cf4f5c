"""Offer and answer: the patterns of RFC 6337 table 1, glare, and what must not be sent or taken meanwhile."""

from __future__ import annotations

import random

import pytest

from proxy.sip.offer_answer import Body, OfferAnswer, Side, glare_delay_s

US, THEM = Side.LOCAL, Side.REMOTE
NOTHING, OFFER, ANSWER, PREVIEW, MISSING = Body.NOTHING, Body.OFFER, Body.ANSWER, Body.PREVIEW, Body.MISSING


def play(script: str, state: OfferAnswer | None = None) -> OfferAnswer:
    """Lines of `who message [sdp] = meaning`, e.g. `> INVITE sdp = offer` or `< 183rel PRACK`; `>` is us."""
    state = state or OfferAnswer()
    for line in filter(None, map(str.strip, script.splitlines())):
        what, _, meaning = line.partition("=")
        who, message, *rest = what.split()
        side = US if who == ">" else THEM
        body = "sdp" in rest
        if message[0].isdigit():
            method = next((word for word in rest if word != "sdp"), "INVITE").encode()
            status, reliable = int(message.removesuffix("rel")), message.endswith("rel")
            found = state.response(side, method, status, body, reliable=reliable)
        else:
            found = state.request(side, message.encode(), body)
        assert found.value == (meaning.strip() or "nothing"), line
    return state


@pytest.fixture(params=[False, True], ids=["we call", "they call"])
def turned(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def turn(script: str, turned: bool) -> str:
    return script.translate(str.maketrans("<>", "><")) if turned else script


PATTERNS = {
    "1 offer in INVITE, answer in 2xx": """
        > INVITE sdp = offer
        < 180
        < 200 sdp = answer
        > ACK
    """,
    "2 late offer": """
        > INVITE
        < 180
        < 200 sdp = offer
        > ACK sdp = answer
    """,
    "3 answer in a reliable 1xx": """
        > INVITE sdp = offer
        < 183rel sdp = answer
        > PRACK
        < 200 PRACK
        < 200 sdp
        > ACK
    """,
    "4 offer in a reliable 1xx, answer in PRACK": """
        > INVITE
        < 183rel sdp = offer
        > PRACK sdp = answer
        < 200 PRACK
        < 200
        > ACK
    """,
    "5 offer in PRACK": """
        > INVITE sdp = offer
        < 183rel sdp = answer
        > PRACK sdp = offer
        < 200 PRACK sdp = answer
        < 200
        > ACK
    """,
    "6 offer in UPDATE, from the callee": """
        > INVITE sdp = offer
        < 183rel sdp = answer
        > PRACK
        < 200 PRACK
        < UPDATE sdp = offer
        > 200 UPDATE sdp = answer
        < 200
        > ACK
    """,
    "early media by an unreliable 1xx": """
        > INVITE sdp = offer
        < 183 sdp = preview
        < 183 sdp = preview
        < 200 sdp = answer
        > ACK
    """,
    "unreliable description to an INVITE without offer means nothing": """
        > INVITE
        < 183 sdp
        < 200 sdp = offer
        > ACK sdp = answer
    """,
    "descriptions after the answer mean nothing": """
        > INVITE sdp = offer
        < 183rel sdp = answer
        < 183rel sdp
        > PRACK
        < 200 sdp
        > ACK sdp
    """,
    "UPDATE without a description is only a refresh": """
        > INVITE sdp = offer
        < 200 sdp = answer
        > ACK
        > UPDATE
        < 200 UPDATE
        < UPDATE
        > 200 UPDATE
    """,
    "retransmissions": """
        > INVITE
        < 200 sdp = offer
        < 200 sdp
        > ACK sdp = answer
        > ACK sdp
    """,
    "re-INVITE of the callee": """
        > INVITE sdp = offer
        < 200 sdp = answer
        > ACK
        < INVITE sdp = offer
        > 100
        > 200 sdp = answer
        < ACK
    """,
}


@pytest.mark.parametrize("script", PATTERNS.values(), ids=PATTERNS.keys())
def test_pattern(script: str, turned: bool) -> None:
    state = play(turn(script, turned))
    assert (state.offer, state.agreed) == (None, True)
    for method in (b"INVITE", b"UPDATE"):
        assert state.may_send(method, True)
        assert state.refusal(method, True) == 0


MISSING_BODIES = {
    "2xx without the answer": """
        > INVITE sdp = offer
        < 200 = missing
    """,
    "2xx without the offer": """
        > INVITE
        < 200 = missing
    """,
    "ACK without the answer": """
        > INVITE
        < 200 sdp = offer
        > ACK = missing
    """,
    "PRACK without the answer": """
        > INVITE
        < 183rel sdp = offer
        > PRACK = missing
    """,
    "2xx of UPDATE without the answer": """
        > UPDATE sdp = offer
        < 200 UPDATE = missing
    """,
}


@pytest.mark.parametrize("script", MISSING_BODIES.values(), ids=MISSING_BODIES.keys())
def test_missing_description_is_named(script: str, turned: bool) -> None:
    assert play(turn(script, turned)).offer is None


STANDING = """
    > INVITE sdp = offer
    < 200 sdp = answer
    > ACK
"""


@pytest.mark.parametrize("status", [408, 481, 488, 491, 500])
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_refused_offer_is_rolled_back(method: str, status: int, turned: bool) -> None:
    state = play(turn(STANDING + f"> {method} sdp = offer\n < {status} {method}", turned))
    assert (state.offer, state.agreed) == (None, True)
    assert state.may_send(b"INVITE", True) and state.refusal(b"INVITE", True) == 0


def test_refused_invite_gives_up_the_offer_of_its_1xx_too() -> None:
    state = play("> INVITE\n < 183rel sdp = offer\n < 487")
    assert state.offer is None and state.may_send(b"INVITE", True)


def test_answer_that_came_in_an_update_survives_the_refusal_of_the_invite() -> None:
    """RFC 6141 §3.1: what was agreed by another exchange meanwhile stays."""
    script = "> INVITE sdp = offer\n < 183rel sdp = answer\n < UPDATE sdp = offer\n < 487"
    assert play(STANDING + script).offer is THEM


@pytest.mark.parametrize(
    ("meanwhile", "method", "body", "status"),
    [
        ("> INVITE sdp = offer", b"INVITE", True, 491),  # RFC 3261 §14.2: we have one in progress
        ("> INVITE", b"INVITE", False, 491),
        ("< INVITE sdp = offer", b"INVITE", True, 500),  # §14.2: their first has no final response
        ("< INVITE", b"INVITE", False, 500),
        ("> UPDATE sdp = offer", b"UPDATE", True, 491),  # RFC 3311 §5.2
        ("> UPDATE sdp = offer", b"UPDATE", False, 0),
        ("< UPDATE sdp = offer", b"UPDATE", True, 500),
        ("< UPDATE", b"UPDATE", False, 500),
        ("> UPDATE", b"UPDATE", True, 0),
        ("> UPDATE sdp = offer", b"INVITE", True, 491),
        ("< UPDATE sdp = offer", b"INVITE", True, 500),
        ("> INVITE sdp = offer", b"UPDATE", True, 491),
        ("< INVITE sdp = offer", b"UPDATE", True, 500),
        ("> INVITE sdp = offer", b"UPDATE", False, 0),
        ("< INVITE", b"UPDATE", True, 500),  # RFC 3311 §5.1
        ("> INVITE", b"UPDATE", True, 491),
        ("< INVITE\n > 200 sdp = offer", b"INVITE", True, 491),  # our offer in the 2xx waits for the ACK
        ("< INVITE\n > 200 sdp = offer", b"UPDATE", True, 491),
        ("> INVITE sdp = offer\n < 183rel sdp = answer", b"UPDATE", True, 0),
        ("> INVITE sdp = offer\n < 183rel sdp = answer", b"INVITE", True, 491),
        ("< INVITE\n > 183rel sdp = offer", b"PRACK", True, 0),
        ("< INVITE sdp = offer\n > 183rel sdp = answer\n > UPDATE sdp = offer", b"PRACK", True, 491),
        ("> INVITE sdp = offer\n < 200 sdp = answer", b"INVITE", True, 0),
    ],
)
def test_request_that_comes_at_the_wrong_time(meanwhile: str, method: bytes, body: bool, status: int) -> None:
    assert play(STANDING + meanwhile).refusal(method, body) == status


@pytest.mark.parametrize(
    ("meanwhile", "method", "body", "may"),
    [
        ("", b"INVITE", True, True),
        ("> INVITE sdp = offer", b"INVITE", True, False),
        ("< INVITE sdp = offer", b"INVITE", True, False),
        ("< INVITE sdp = offer\n > 200 sdp = answer", b"INVITE", True, False),  # §14.1: not before the ACK
        ("< INVITE sdp = offer\n > 200 sdp = answer\n < ACK", b"INVITE", True, True),
        ("< INVITE sdp = offer\n > 200 sdp = answer", b"UPDATE", True, True),
        ("< UPDATE sdp = offer", b"UPDATE", True, False),
        ("> UPDATE", b"UPDATE", False, False),
        ("< UPDATE", b"UPDATE", False, True),
    ],
)
def test_request_that_we_may_or_may_not_send(meanwhile: str, method: bytes, body: bool, may: bool) -> None:
    assert play(STANDING + meanwhile).may_send(method, body) is may


def test_both_ends_see_glare_and_both_get_out_of_it() -> None:
    """Two real machines: both send at once, both refuse, both roll back."""
    left, right = OfferAnswer(), OfferAnswer()
    for end in (left, right):
        assert end.may_send(b"INVITE", True)
        end.request(US, b"INVITE", True)
    for end in (left, right):
        assert end.refusal(b"INVITE", True) == 491
    for end in (left, right):
        end.response(THEM, b"INVITE", 491, False)
        assert end.may_send(b"INVITE", True) and end.refusal(b"INVITE", True) == 0


def test_forked_dialogs_go_their_own_ways() -> None:
    first = play("> INVITE sdp = offer")
    second = first.fork()
    play("< 183rel sdp = answer", first)
    assert (first.offer, second.offer) == (None, US)
    play("< 183 sdp = preview\n < 200 sdp = answer", second)


def test_glare_bands_are_those_of_the_rfc_and_cannot_meet() -> None:
    rng = random.Random(5)
    owner = [glare_delay_s(True, rng) for _ in range(5000)]
    other = [glare_delay_s(False, rng) for _ in range(5000)]
    assert (min(owner), max(owner), min(other), max(other)) == (2.1, 4.0, 0.0, 2.0)
    assert all(abs(delay * 100 - round(delay * 100)) < 1e-9 for delay in owner + other)


def test_random_histories_keep_one_offer_at_a_time_and_never_deadlock() -> None:
    """Two ends over an ordered line, each sending whatever it may: no offer meets an offer unrefused, and once both
    have been answered nothing is left open."""
    rng = random.Random(11)
    for _ in range(300):
        state = OfferAnswer()
        for _ in range(30):
            side = rng.choice((US, THEM))
            method = rng.choice((b"INVITE", b"UPDATE"))
            body = rng.random() < 0.7
            refused = state.refusal(method, body) if side is THEM else not state.may_send(method, body)
            if refused:
                continue
            before = state.offer
            assert state.request(side, method, body) in (OFFER, NOTHING)
            assert before is None or state.offer is before
            status = rng.choice((200, 200, 488))
            due = state.response(side.other, method, status, method == b"INVITE" or body)
            if method == b"INVITE" and status == 200:
                state.request(side, b"ACK", due is OFFER)
        assert state.offer is None and state.may_send(b"INVITE", True)
