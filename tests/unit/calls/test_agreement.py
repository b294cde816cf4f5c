"""Who is on hold: what an end says of its audio."""

from __future__ import annotations

import pytest

from proxy.calls.agreement import holds


def description(*lines: str, connection: str = "IN IP4 192.0.2.1", head: str = "") -> bytes:
    first = ["v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-", f"c={connection}", "t=0 0", *([head] if head else [])]
    return "\r\n".join([*first, *lines, ""]).encode()


AUDIO, VIDEO = "m=audio 4000 RTP/AVP 8", "m=video 4002 RTP/AVP 96"


@pytest.mark.parametrize(
    ("sdp", "held"),
    [
        (description(AUDIO), False),
        (description(AUDIO, "a=sendonly"), True),
        (description(AUDIO, "a=inactive"), True),
        (description(AUDIO, "a=recvonly"), False),
        (description(AUDIO, head="a=sendonly"), True),
        (description(AUDIO, "a=sendrecv", head="a=inactive"), False),
        (description(AUDIO, VIDEO, "a=inactive"), False),
        (description(VIDEO, "a=inactive", AUDIO), False),
        (description(VIDEO, AUDIO, "a=sendonly"), True),
        (description("m=audio 0 RTP/AVP 8", "a=inactive", AUDIO), False),
        (description(AUDIO, connection="IN IP4 0.0.0.0"), True),
        (description(AUDIO, "c=IN IP4 192.0.2.1", connection="IN IP4 0.0.0.0"), False),
        (description(AUDIO, connection="IN IP6 ::"), True),
        (description(AUDIO, "a=x-note:a=sendonly"), False),
        (b"", False),
        (b"a=sendonly", False),
    ],
)
def test_hold_is_what_the_audio_line_says(sdp: bytes, held: bool) -> None:
    assert holds(sdp) is held
