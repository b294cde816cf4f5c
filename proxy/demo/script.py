"""Who calls what in the demo, and what it takes to be content afterwards. Pure.

Two fifths talk to an echo, two fifths listen to a tone (another one on each backend, so they know whom they hear), the
rest confer, three to a room. Everyone says a tone; conference parties of a room each another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

PRIMARY_HZ, BACKUP_HZ = 1000, 1300
SAID_HZ = 450
PARTY_HZ = (600, 700, 850, 1150, 1450)  # one room takes five when there are but five parties
ROOM_PARTIES = 3


@dataclass(frozen=True, slots=True)
class Part:
    """One call: what its caller dials and says, what it may hear at any time, and what it must hear afterwards."""

    number: str
    says: int
    expects: tuple[int, ...]
    at_last: tuple[int, ...]


ECHO = Part("echo", SAID_HZ, (SAID_HZ,), (SAID_HZ,))
TONE = Part("tone", SAID_HZ, (PRIMARY_HZ, BACKUP_HZ), (BACKUP_HZ,))


def cast(calls: int) -> list[Part]:
    conferring = calls // 5 if calls >= 10 else 0  # nobody confers alone
    simple = calls - conferring
    return [TONE] * (simple // 2) + [ECHO] * (simple - simple // 2) + list(_conferences(conferring))


def _conferences(parties: int) -> Iterable[Part]:
    rooms = max(1, parties // ROOM_PARTIES)
    for room in range(rooms):
        tones = PARTY_HZ[: len(range(room, parties, rooms))]
        for says in tones:
            others = tuple(hz for hz in tones if hz != says)
            yield Part(f"conf-{room + 1}", says, others, others)
