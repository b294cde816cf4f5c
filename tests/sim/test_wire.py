"""Every rule of the wire fires when it is broken, and none does on a call as it should be."""

from __future__ import annotations

import pytest

from tests.sim.wire import Wire

NODE, PEER = ("10.0.0.1", 5060), ("10.0.2.1", 5060)


def message(start: str, cseq: str, branch: str = "b1", own: str = "n", peer: str = "p", sdp: str = "") -> bytes:
    from_tag, to_tag = (peer, own) if start.startswith("SIP/2.0") else (own, peer)
    lines = [
        start if start.startswith("SIP/2.0") else f"{start} sip:x@{PEER[0]} SIP/2.0",
        f"Via: SIP/2.0/UDP {NODE[0]}:5060;rport;branch=z9hG4bK{branch}",
        f"From: <sip:a@{NODE[0]};tag=no>;tag={from_tag}",
        f"t: <sip:b@{PEER[0]}>" + (f";tag={to_tag}" if to_tag else ""),
        "i: call",
        f"CSeq: {cseq}",
        *(["c: application/sdp"] if sdp else []),
    ]
    return "\r\n".join([*lines, "", sdp]).encode()


def sdp(identity: int = 7, version: int = 1, body: str = "s=-") -> str:
    return f"v=0\r\no=- {identity} {version} IN IP4 10.0.0.1\r\n{body}\r\n"


INVITE = message("INVITE", "1 INVITE", peer="", sdp=sdp())
REINVITE = message("INVITE", "2 INVITE", "b2", sdp=sdp())
OK = message("SIP/2.0 200 OK", "9 INVITE", own="n2", sdp=sdp())


def judge(*datagrams: bytes) -> list[str]:
    wire = Wire(NODE[0], lambda: 0.0)
    for datagram in datagrams:
        wire(NODE, PEER, datagram)
    return wire.violations


def test_a_call_as_it_should_be_breaks_no_rule() -> None:
    assert not judge(
        INVITE,
        INVITE,
        message("ACK", "1 ACK", "b3"),
        message("CANCEL", "1 CANCEL", peer=""),
        REINVITE,
        message("ACK", "2 ACK", "b4"),
        message("INVITE", "3 INVITE", "b5", sdp=sdp(version=2, body="s=x")),
        message("SIP/2.0 100 Trying", "9 INVITE", own="n2"),
        OK,
        OK,
        message("SIP/2.0 200 OK", "10 INVITE", own="n2", sdp=sdp()),
        OK,
        message("BYE", "4 BYE", "b6"),
        message("BYE", "4 BYE", "b6"),
        message("SIP/2.0 200 OK", "11 BYE", own="n2"),
    )


@pytest.mark.parametrize(
    ("rule", "datagrams"),
    [
        ("CSeq does not rise", [REINVITE, message("BYE", "2 BYE", "b3")]),
        ("retransmission differs", [INVITE, message("INVITE", "1 INVITE", peer="")]),
        ("ACK whose CSeq", [INVITE, message("ACK", "2 ACK", "b3")]),
        ("CANCEL with the branch", [INVITE, message("CANCEL", "1 CANCEL", "b2", peer="")]),
        ("after our BYE", [message("BYE", "1 BYE"), message("INFO", "2 INFO", "b2")]),
        ("after our BYE", [message("BYE", "1 BYE"), message("BYE", "2 BYE", "b2")]),
        ("provisional response after 200", [OK, message("SIP/2.0 180 Ringing", "9 INVITE", own="n2")]),
        ("another final response after 200", [OK, message("SIP/2.0 486 Busy", "9 INVITE", own="n2")]),
        ("o= was", [INVITE, message("INVITE", "2 INVITE", "b2", sdp=sdp(identity=8))]),
        ("nothing changed", [INVITE, message("INVITE", "2 INVITE", "b2", sdp=sdp(version=2))]),
        ("body changed", [INVITE, message("INVITE", "2 INVITE", "b2", sdp=sdp(body="s=x"))]),
        ("body changed", [INVITE, message("INVITE", "2 INVITE", "b2", sdp=sdp(version=3, body="s=x"))]),
    ],
)
def test_a_broken_rule_is_named(rule: str, datagrams: list[bytes]) -> None:
    assert not judge(datagrams[0])
    (violation,) = judge(*datagrams)
    assert rule in violation


def test_what_others_send_is_not_judged() -> None:
    wire = Wire(PEER[0], lambda: 0.0)
    wire(NODE, PEER, INVITE)
    wire(NODE, PEER, message("INVITE", "1 INVITE", peer=""))
    assert not wire.violations
