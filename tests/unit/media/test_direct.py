"""Direct mode: SDP passes through, the o= line is ours."""

from __future__ import annotations

import asyncio
import random

import pytest

from media.api import MediaError
from media.direct import DirectPlane
from tests.unit.media.descriptions import AUDIO


@pytest.fixture
def plane():
    loop = asyncio.new_event_loop()
    yield DirectPlane(loop, random.Random(7), "127.0.1.1")
    loop.close()


def origin(body: bytes) -> tuple[bytes, int]:
    fields = body.split(b"\r\n")[1].split()
    return fields[1], int(fields[2])


def test_only_the_origin_line_is_changed(plane: DirectPlane) -> None:
    body = plane.offer("c", "a", "b1", AUDIO).result()
    assert body.split(b"\r\n", 2)[2] == AUDIO.split(b"\r\n", 2)[2]
    assert body.startswith(b"v=0\r\no=- ") and b" 1 IN IP4 127.0.1.1\r\n" in body


def test_caller_sees_the_answer_of_another_backend_as_the_next_version(plane: DirectPlane) -> None:
    plane.offer("c", "a", "b1", AUDIO)
    first = plane.answer("c", "b1", "a", AUDIO).result()
    plane.offer("c", "a", "b2", AUDIO)
    second = plane.answer("c", "b2", "a", AUDIO.replace(b"192.0.2.7", b"192.0.2.8")).result()
    assert origin(second) == (origin(first)[0], origin(first)[1] + 1)
    assert plane.answer("c", "b2", "a", AUDIO.replace(b"192.0.2.7", b"192.0.2.8")).result() == second


def test_connection_is_that_of_the_first_answer_until_it_is_switched(plane: DirectPlane) -> None:
    plane.offer("c", "a", "b1", AUDIO)
    plane.answer("c", "b1", "a", AUDIO)
    plane.answer("c", "b2", "a", AUDIO)
    assert plane.query("c").result().connected == ("b1", "a")
    plane.switch("c", "a", "b2")
    assert plane.query("c").result().connected == ("a", "b2")


def test_a_restored_session_goes_on_with_its_versions(plane: DirectPlane) -> None:
    first = plane.offer("c", "a", "b1", AUDIO).result()
    snapshot = plane.snapshot("c")
    plane.delete("c")
    plane.restore("c", snapshot)
    assert plane.offer("c", "a", "b1", AUDIO).result() == first


def test_bad_sdp_is_an_error_of_that_session_only(plane: DirectPlane) -> None:
    future = plane.offer("c", "a", "b1", AUDIO.replace(b"c=IN IP4 192.0.2.7\r\n", b""))
    with pytest.raises(MediaError, match=r"session c: leg b1: line 5: media line 0 .* has no c= line"):
        future.result()
    assert plane.offer("d", "a", "b1", AUDIO).result()


def test_deleting_twice_is_fine_and_unknown_sessions_are_errors(plane: DirectPlane) -> None:
    plane.offer("c", "a", "b1", AUDIO)
    plane.delete("c", "b1")
    plane.delete("c", "b1")
    plane.delete("c")
    plane.delete("c")
    assert len(plane) == 0
    for future in (plane.query("c"), plane.switch("c", "a", "b1")):
        with pytest.raises(MediaError, match="not known"):
            future.result()
    with pytest.raises(MediaError):
        plane.snapshot("c")
    with pytest.raises(MediaError, match="version"):
        plane.restore("c", {"version": 99})
    with pytest.raises(MediaError, match="bad snapshot"):
        plane.restore("c", {"version": 1, "legs": [["a"]], "connected": None})
