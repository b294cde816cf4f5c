"""Tables for people: as wide as what is in them. Where a terminal is too narrow, whole columns are left out, those that
matter least first, and never a letter. Into a pipe goes everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

GAP = "  "


@dataclass(frozen=True)
class Column:
    name: str
    cells: Sequence[str]
    dispensable: int = 0  # the higher, the sooner it is left out; 0: never
    right: bool = False

    @property
    def width(self) -> int:
        return max(map(len, (self.name, *self.cells)))

    def lines(self) -> list[str]:
        return [cell.rjust(self.width) if self.right else cell.ljust(self.width) for cell in (self.name, *self.cells)]


def fitting(columns: Sequence[Column], width: int | None) -> list[Column]:
    """Those that have room; None: there is room for all."""
    left = list(columns)
    while width is not None and sum(column.width for column in left) + len(GAP) * (len(left) - 1) > width:
        most = max(left, key=lambda column: column.dispensable)
        if not most.dispensable:
            break
        left.remove(most)
    return left


def print_table(console: Console, columns: Sequence[Column]) -> None:
    chosen = fitting(columns, console.width if console.is_terminal else None)
    for number, cells in enumerate(zip(*(column.lines() for column in chosen), strict=True)):
        console.print(Text(GAP.join(cells).rstrip(), style="" if number else "bold"))
    left_out = [column.name for column in columns if column not in chosen]
    if left_out:
        console.print(Text(f"(no room for: {', '.join(left_out)})", style="dim"))
