"""What a predecessor left: the files of its journal, read in the order of their numbers.

A file is a row of msgpack records. The last one may be cut off: that is where the process ended.

    ["aqueduct", VERSION]             at the head
    ["call", wall clock, snapshot]    the call as it was then (`proxy.calls.snapshot`); replaces an earlier one
    ["ended", call id]
    ["conference", wall clock, snapshot]  what its roster adds (`proxy.conferences.snapshot`)
    ["emptied", pool, name]           nobody is left in that conference
    ["backends", snapshot]            what the operator has set
    ["closed"]                        nothing was left to write: a clean stop

A file is called `.taken` while it is taken up. One that is found so has killed us, or we were killed over it: it is
tried once more, and after that left aside (`.spoilt`), for people. So is one that cannot be read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack

from proxy.conferences.snapshot import RosterError
from proxy.conferences.snapshot import key as roster_key

VERSION = 2
KNOWN = (["aqueduct", 1], ["aqueduct", VERSION])  # 1 had no conferences
HEAD: bytes = msgpack.packb(["aqueduct", VERSION])
JOURNAL, TAKEN, SPOILT = ".journal", ".taken", ".spoilt"


class Left:
    """`calls`: the last record of each that has not ended, by id: when it was written, and the snapshot."""

    def __init__(self, folder: Path) -> None:
        self.calls: dict[str, tuple[float, Any]] = {}
        self.conferences: dict[tuple[str, str], tuple[float, Any]] = {}
        self.backends: Any = None
        self.closed = False
        self.problems: list[str] = []
        self.number = max((number_of(path) for path in folder.glob("calls.*")), default=0)
        self._taken: list[Path] = []
        for path in sorted((*folder.glob(f"calls.*{JOURNAL}"), *folder.glob(f"calls.*{TAKEN}")), key=number_of):
            self._take(path)

    def survived(self) -> list[Path]:
        """All has been taken up: the files are what they were. Returns them."""
        return [path.replace(path.with_suffix(JOURNAL)) for path in self._taken]

    def _take(self, path: Path) -> None:
        try:
            aside = path.replace(path.with_suffix(SPOILT if path.suffix == TAKEN else TAKEN))
            records = _unpacked(aside.read_bytes())
            head = next(records, None)
            if head is not None:  # else it ended before it had written anything
                if head not in KNOWN:
                    raise ValueError("not a journal of this version")
                self.closed = False
                for record in records:
                    self._note(*record)
            self._taken.append(aside)
        except Exception as error:  # whatever a file can be wrong in
            self.problems.append(f"{path}: {error or type(error).__name__}")
            with contextlib.suppress(OSError):
                path.with_suffix(TAKEN).replace(path.with_suffix(SPOILT))

    def _note(self, kind: str, *values: Any) -> None:
        self.closed = kind == "closed"
        if kind == "call":
            written_at, state = values
            self.calls[str(state.get("id")) if isinstance(state, dict) else repr(state)] = (float(written_at), state)
        elif kind == "ended":
            self.calls.pop(values[0], None)
        elif kind == "conference":
            written_at, state = values
            try:
                self.conferences[roster_key(state)] = (float(written_at), state)
            except RosterError as error:  # it costs no call
                self.problems.append(str(error))
        elif kind == "emptied":
            pool, name = values
            self.conferences.pop((pool, name), None)
        elif kind == "backends":
            self.backends = values[0]
        elif kind != "closed":
            raise ValueError(f"a record {kind!r:.40}")


def _unpacked(data: bytes) -> Iterator[Any]:
    unpacker = msgpack.Unpacker(max_buffer_size=max(1, len(data)))
    unpacker.feed(data)
    yield from unpacker


def file_of(folder: Path, number: int) -> Path:
    return folder / f"calls.{number}{JOURNAL}"


def number_of(path: Path) -> int:
    number = path.name.split(".")[1]
    return int(number) if number.isdigit() else 0
