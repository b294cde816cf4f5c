"""What the process that repairs is asked for, and what it answers. Plain, so that it can be sent there.

Times are on CLOCK_MONOTONIC, in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Packet = tuple[float, bytes]  # when it came, and RTP


class RepairFailed(Exception):
    """The text says why."""


@dataclass(slots=True)
class Voice:
    """What was kept of one speaker. `hushed`: when he was not to be heard. `instead_of`: names of other voices, one
    after the other, through which he was heard; where one ends he is heard himself."""

    name: str
    packets: list[Packet]
    hushed: list[tuple[float, float]]
    instead_of: Sequence[str] = ()


@dataclass(slots=True)
class Job:
    """`written_at`: when the file was written to last, `next_at`: when the next one was begun, both as far as is known.
    No `next_file`: nothing follows."""

    file: str
    began_at: float
    died_at: float
    written_at: float
    voices: list[Voice]
    next_file: str = ""
    next_at: float = 0.0
    next_skip: int = 0  # samples that were in that file before
    piece_file: str = ""


@dataclass(slots=True)
class Repaired:
    """Samples and a few words on how sure it is: voices that were `found` in the file by their sound, of those there
    were; the share of the file's sound that they explain; `hole`: samples that nobody has any more."""

    on_disk: int
    samples: int
    ended_at: float
    voices: int
    found: int
    explained: float | None
    hole: int = 0
    undecoded: int = 0
    piece: int = 0  # samples
    next_at: float | None = None  # when the next file really begins
    next_found: int = 0
    next_from: int = 0  # so many samples of the next file are in the piece, more complete, or in this file
    problem: str = ""
