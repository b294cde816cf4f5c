"""RFC 4028 from both sides of one dialog."""

from __future__ import annotations

import pytest

from proxy.sip.message import Field, Message, Request, Response, field
from proxy.sip.session_timer import SessionExpires, SessionTimer, min_se, session_expires


def invite(*headers: bytes) -> Request:
    return Request(b"INVITE", b"sip:b@example.com", lines(*headers))


def answer(status: int, *headers: bytes) -> Response:
    return Response(status, b"", lines(*headers))


def lines(*headers: bytes) -> list[Field]:
    return [field(*header.split(b": ", 1)) for header in headers]


def text(fields: list[Field]) -> list[bytes]:
    return [line for _, line in fields]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"Session-Expires: 4000", SessionExpires(4000)),
        (b"x: 1800 ; Refresher = UAS ", SessionExpires(1800, b"uas")),
        (b"Session-Expires: 90;foo=bar;refresher=uac;x", SessionExpires(90, b"uac")),
        (b"Session-Expires: 90;xrefresher=uac", SessionExpires(90)),
        (b"Session-Expires: 90;refresher=nobody", SessionExpires(90)),
        (b"Session-Expires: ", None),
        (b"Session-Expires: -1", None),
        (b"Session-Expires: 99999999999", None),
        (b"Session-Expires: 90 uac", None),
        (b"Subject: 90", None),
    ],
)
def test_session_expires_is_read(header: bytes, expected: SessionExpires | None) -> None:
    assert session_expires(Message(lines(header))) == expected


@pytest.mark.parametrize(("header", "expected"), [(b"Min-SE: 120;x=y", 120), (b"Min-SE: 5", 90), (b"Min-SE: x", 90)])
def test_min_se_is_at_least_90(header: bytes, expected: int) -> None:
    assert min_se(Message(lines(header))) == expected
    assert min_se(Message([])) == 90


def test_uac_asks_and_leaves_the_refresher_open() -> None:
    assert text(SessionTimer(1800).request_fields()) == [b"Session-Expires: 1800"]
    assert text(SessionTimer(1800, 300).request_fields()) == [b"Session-Expires: 1800", b"Min-SE: 300"]
    assert SessionTimer(0).request_fields() == []
    assert text(SessionTimer(10).request_fields()) == [b"Session-Expires: 90"]


def test_uac_refreshes_when_the_2xx_says_so() -> None:
    timer = SessionTimer(1800)
    timer.answered(answer(200, b"Session-Expires: 600;refresher=uac"), now=1000)
    assert (timer.refresh_at, timer.expires_at) == (1300, 1000 + 600 - 32)
    assert text(timer.request_fields()) == [b"Session-Expires: 600;refresher=uac"]


def test_uac_waits_when_the_uas_refreshes() -> None:
    timer = SessionTimer(1800)
    timer.answered(answer(200, b"Session-Expires: 90;refresher=uas"), now=1000)
    assert (timer.refresh_at, timer.expires_at) == (None, 1000 + 90 - 30)
    assert text(timer.request_fields()) == [b"Session-Expires: 90;refresher=uas"]


def test_no_timer_runs_without_session_expires_in_the_2xx() -> None:
    timer = SessionTimer(1800)
    timer.answered(answer(200, b"Session-Expires: 600;refresher=uac"), now=0)
    timer.answered(answer(200), now=300)
    assert (timer.interval_s, timer.refresh_at, timer.expires_at) == (0, None, None)


def test_refresh_starts_the_interval_anew() -> None:
    timer = SessionTimer(1800)
    timer.answered(answer(200, b"Session-Expires: 600;refresher=uac"), now=0)
    timer.answered(answer(200, b"Session-Expires: 600;refresher=uac"), now=300)
    assert (timer.refresh_at, timer.expires_at) == (600, 868)


def test_422_raises_what_is_asked_for_and_is_remembered() -> None:
    timer = SessionTimer(100)
    assert timer.too_small(answer(422, b"Min-SE: 3600"))
    expected = [b"Session-Expires: 3600", b"Min-SE: 3600"]
    assert text(timer.request_fields()) == expected
    timer.answered(answer(200, b"Session-Expires: 3600;refresher=uac"), now=0)
    assert text(timer.request_fields()) == [b"Session-Expires: 3600;refresher=uac", b"Min-SE: 3600"]


def test_422_that_names_no_larger_minimum_is_not_followed() -> None:
    timer = SessionTimer(1800)
    assert not timer.too_small(answer(422, b"Min-SE: 1800"))
    assert not timer.too_small(answer(422))


def test_422_to_a_refresh_raises_the_running_interval() -> None:
    timer = SessionTimer(1800)
    timer.answered(answer(200, b"Session-Expires: 100;refresher=uac"), now=0)
    assert timer.too_small(answer(422, b"Min-SE: 200"))
    assert text(timer.request_fields()) == [b"Session-Expires: 200;refresher=uac", b"Min-SE: 200"]


def test_uas_refuses_too_small_an_interval() -> None:
    timer = SessionTimer(1800, 300)
    refusal = timer.refusal(invite(b"Supported: 100rel, timer", b"Session-Expires: 299"))
    assert refusal is not None and text(refusal) == [b"Min-SE: 300"]
    assert timer.refusal(invite(b"Supported: timer", b"Session-Expires: 300")) is None
    assert timer.refusal(invite(b"Supported: timer")) is None


def test_uas_does_not_refuse_a_uac_that_knows_no_timers() -> None:
    """§9: a proxy on the way may have put the header in; the UAC would not understand 422."""
    assert SessionTimer(1800, 300).refusal(invite(b"Session-Expires: 100")) is None


@pytest.mark.parametrize(
    ("headers", "role", "required"),
    [  # table 2
        ([b"Session-Expires: 600"], b"uas", False),
        ([b"Supported: timer", b"Session-Expires: 600"], b"uac", True),
        ([b"Supported: timer", b"Session-Expires: 600;refresher=uac"], b"uac", True),
        ([b"k: Timer", b"x: 600;refresher=uas"], b"uas", False),
    ],
)
def test_uas_settles_who_refreshes(headers: list[bytes], role: bytes, required: bool) -> None:
    timer = SessionTimer(1800)
    fields = text(timer.accept(invite(*headers), now=50))
    assert fields[0] == b"Session-Expires: 600;refresher=" + role
    assert (b"Require: timer" in fields) == required
    assert timer.refresh_at == (350 if role == b"uas" else None)
    assert timer.expires_at == 50 + 600 - 32


def test_uas_asks_for_a_timer_of_its_own_when_the_uac_can() -> None:
    timer = SessionTimer(1800)
    fields = text(timer.accept(invite(b"Supported: timer", b"Min-SE: 2000"), now=0))
    assert fields == [b"Session-Expires: 2000;refresher=uac", b"Require: timer"]


def test_uas_runs_no_timer_with_a_uac_that_neither_asks_nor_can() -> None:
    timer = SessionTimer(1800)
    assert timer.accept(invite(), now=0) == []
    assert timer.expires_at is None


def test_uas_without_a_wish_grants_what_is_asked() -> None:
    timer = SessionTimer(0)
    assert timer.accept(invite(b"Supported: timer"), now=0) == []
    assert text(timer.accept(invite(b"Supported: timer", b"Session-Expires: 100"), now=0))[0].startswith(
        b"Session-Expires: 100;"
    )


def test_both_ends_agree() -> None:
    """Two timers back to back: exactly one refreshes, in the first exchange and when the other side sends next."""
    uac, uas = SessionTimer(1800), SessionTimer(600, 600)
    request = invite(b"Supported: timer")
    request.fields += uac.request_fields()
    uac.answered(answer(200, *text(uas.accept(request, 0))), 0)
    assert (uac.refreshing, uas.refreshing) == (True, False)
    request = invite(b"Supported: timer")
    request.fields += uas.request_fields()  # the peer sends a re-INVITE: the roles in the headers turn round
    uas.answered(answer(200, *text(uac.accept(request, 10))), 10)
    assert (uac.refreshing, uas.refreshing) == (True, False)
    assert uac.expires_at == uas.expires_at == 10 + 1800 - 32


def test_peer_below_the_minimum_of_the_rfc_is_not_hung_up_on() -> None:
    timer = SessionTimer(1800)
    timer.answered(answer(200, b"Session-Expires: 9;refresher=uas"), now=0)
    assert timer.expires_at == 60


def test_snapshot_keeps_the_age_of_the_session_over_clocks() -> None:
    timer = SessionTimer(1800, 120)
    timer.answered(answer(200, b"Session-Expires: 600;refresher=uac"), now=1000)
    other = SessionTimer.restore(timer.snapshot(now=1100), now=5.0)
    assert (other.refresh_at, other.expires_at) == (5 + 200, 5 + 468)
    assert text(other.request_fields()) == text(timer.request_fields())
