"""A session description among other parts: found, replaced, and nothing else touched."""

from __future__ import annotations

import pytest

from proxy.sip.message import Request, field

SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n"
ISUP = b"Content-Type: application/ISUP;version=itu-t92+\r\nContent-Disposition: signal\r\n\r\n\x01\x00\r\n--\xff"


def multipart(*parts: bytes, boundary: bytes = b"bound", preamble: bytes = b"", end: bytes = b"--\r\n") -> bytes:
    body = b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts)
    return preamble + body + b"--" + boundary + end


def request(body: bytes, content_type: bytes = b"multipart/mixed;boundary=bound") -> Request:
    return Request(b"INVITE", b"sip:a@b", [field(b"Content-Type", content_type)], body)


PART = b"Content-Type: application/sdp\r\n\r\n" + SDP


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (multipart(PART, ISUP), b"multipart/mixed;boundary=bound"),
        (multipart(ISUP, PART), b"multipart/mixed; boundary=bound"),
        (multipart(ISUP, PART, preamble=b"for people\r\n"), b"multipart/mixed; Boundary=bound; x=y"),
        (multipart(PART, boundary=b"a b"), b'Multipart/Related; type="application/sdp"; boundary="a b"'),
        (multipart(b"c:application/sdp ;charset=utf-8\r\n\r\n" + SDP), b"multipart/mixed;boundary=bound"),
        (
            multipart(
                b"Content-Disposition: session;\r\n handling=required\r\nCONTENT-TYPE:\r\n application/sdp\r\n\r\n"
                + SDP
            ),
            b"multipart/mixed;boundary=bound",
        ),
        (
            multipart(b"Content-Type: application/sdp\r\nContent-Disposition: early-session\r\n\r\nv=0\r\n", PART),
            b"multipart/mixed;boundary=bound",
        ),
        (multipart(b"\r\nno header at all", PART), b"multipart/mixed;boundary=bound"),
        (multipart(PART, end=b"--"), b"multipart/mixed;boundary=bound"),
    ],
)
def test_the_description_is_found_and_can_be_replaced(body: bytes, content_type: bytes) -> None:
    message = request(body, content_type)
    assert message.sdp == SDP
    assert message.with_sdp(b"v=0\r\nanother\r\n") == body.replace(SDP, b"v=0\r\nanother\r\n")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (multipart(ISUP), b"multipart/mixed;boundary=bound"),
        (multipart(PART), b"multipart/mixed;boundary=other"),
        (multipart(PART), b"multipart/mixed"),
        (multipart(PART), b"text/plain;boundary=bound"),
        (multipart(b"Content-Type: application/sdpx\r\n\r\n" + SDP), b"multipart/mixed;boundary=bound"),
        (multipart(b"X: application/sdp\r\n\r\n" + SDP), b"multipart/mixed;boundary=bound"),
        (b"--bound\r\n" + PART, b"multipart/mixed;boundary=bound"),  # cut off
        (b"--bound--\r\n", b"multipart/mixed;boundary=bound"),
        (b"", b"multipart/mixed;boundary=bound"),
        (b"--bound", b"multipart/mixed;boundary=bound"),
    ],
)
def test_where_there_is_no_description_none_is_found(body: bytes, content_type: bytes) -> None:
    assert request(body, content_type).sdp == b""


def test_a_body_that_is_a_description_is_replaced_as_a_whole() -> None:
    assert request(SDP, b"application/sdp").with_sdp(b"v=0\r\n") == b"v=0\r\n"
