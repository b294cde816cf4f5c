"""Who is heard in a recording: what the relay has kept of him is collected, whoever comes and goes meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from media.api import Kept, MediaError
from proxy.recordings.speakers import Speakers

KEEP_S = 10.0


class Relay:
    """`meanwhile` happens while it is asked for what it has kept of a call."""

    capabilities = frozenset({"keep"})

    def __init__(self, **kept: list[float]) -> None:
        self.packets = kept
        self.wanted: dict[str, float] = {}
        self.broken: set[str] = set()
        self.meanwhile: Callable[[], None] = lambda: None

    def keep(self, session: str, leg: str, seconds: float) -> None:
        self.wanted[f"{session} {leg}"] = seconds

    async def kept(self, session: str, since: float = 0.0) -> tuple[Kept, ...]:
        await asyncio.sleep(0)
        self.meanwhile()
        if session in self.broken:
            raise MediaError("the media relay is down")
        return (Kept("a", 0, tuple((at, b"") for at in self.packets[session] if at > since)),)


def listened(relay: Relay, held: Counter[str] | None = None) -> Speakers:
    speakers = Speakers(KEEP_S, held if held is not None else Counter())
    for call in relay.packets:
        speakers.listen(relay, call, "a")  # type: ignore[arg-type]
    return speakers


def times(speakers: Speakers) -> dict[str, list[float]]:
    return {each.call: [at for at, _ in each.packets] for each in speakers}


def test_who_is_forgotten_meanwhile_does_not_keep_others_from_being_collected() -> None:
    relay = Relay(c1=[1.0], c2=[1.0], c3=[1.0])
    speakers = listened(relay)
    speakers.only({"c1 a", "c3 a"}, 2.0)
    relay.meanwhile = lambda: speakers.only({"c1 a", "c3 a"}, 2.0 + KEEP_S + 0.1)
    asyncio.run(speakers.collect())
    assert times(speakers) == {"c1": [1.0], "c3": [1.0]}
    assert relay.wanted == {"c1 a": KEEP_S, "c2 a": 0.0, "c3 a": KEEP_S}


def test_what_was_collected_before_is_not_collected_twice_also_by_two_at_a_time() -> None:
    async def test() -> None:
        relay = Relay(c1=[1.0, 2.0])
        speakers = listened(relay)
        await asyncio.gather(speakers.collect(), speakers.collect())
        relay.packets["c1"].append(3.0)
        await speakers.collect()
        assert times(speakers) == {"c1": [1.0, 2.0, 3.0]}

    asyncio.run(test())


def test_what_cannot_be_read_of_one_call_is_read_of_the_others() -> None:
    relay = Relay(c1=[1.0], c2=[1.0])
    relay.broken.add("c1")
    speakers = listened(relay)
    asyncio.run(speakers.collect())
    assert times(speakers) == {"c1": [], "c2": [1.0]}


def test_who_is_in_two_recordings_is_kept_until_he_is_in_neither() -> None:
    relay, held = Relay(c1=[1.0]), Counter[str]()
    first, second = listened(relay, held), listened(relay, held)
    first.end()
    assert relay.wanted == {"c1 a": KEEP_S}
    second.end()
    assert relay.wanted == {"c1 a": 0.0}
    assert not held
