"""How answers look: columns, and colours where a terminal shows them."""

from __future__ import annotations

import os
import re
import shutil
import sys
from itertools import zip_longest
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COLOURS = {
    "open": 31, "forced_open": 31, "half_open": 33, "closed": 32, "forced_closed": 35, "observe": 35,
    "bold": 1, "dim": 2,
}  # fmt: skip
GAP = "  "
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""What a terminal would obey instead of showing it."""


def on_terminal() -> bool:
    """Whether a person sees the output."""
    return sys.stdout.isatty()


def painted(text: str, colour: str) -> str:
    """`text` in the colour of a state, or another of the names above; as it is where there are no colours."""
    if colour not in COLOURS or not on_terminal() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m"


def plain(value: object) -> str:
    """A value as one line of text."""
    return CONTROL.sub("�", str(value))


class Cell(str):
    """A text with a colour of its own."""

    __slots__ = ("colour",)

    def __new__(cls, text: str, colour: str) -> Self:
        """Of `text`."""
        cell = super().__new__(cls, text)
        cell.colour = colour
        return cell

    colour: str


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table. On a terminal none is wider than that: the last column gives way."""
    cells = [[cell if isinstance(cell, Cell) else plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip_longest(titles, *cells, fillvalue="")]
    room = shutil.get_terminal_size().columns if on_terminal() else None
    return [_line(titles, widths, room, "bold"), *(_line(row, widths, room, "") for row in cells)]


def _line(row: Sequence[str], widths: Sequence[int], room: int | None, colour: str) -> str:
    parts = []
    for at, (cell, width) in enumerate(zip(row, widths, strict=True)):
        text = str(cell) if at == len(row) - 1 else f"{cell:<{width}}"
        if room is not None:
            text = text[: max(room, 0)]
            room -= len(text) + len(GAP)
        parts.append(painted(text, getattr(cell, "colour", colour)))
    return GAP.join(parts).rstrip()


def pairs(facts: Iterable[tuple[str, object]]) -> list[str]:
    """The lines of names and values, without those that have none."""
    known = [(name, value) for name, value in facts if value not in {None, ""}]
    width = max((len(name) for name, _ in known), default=0)
    return [
        f"{painted(f'{name:<{width}}', 'dim')}{GAP}"
        f"{painted(value, value.colour) if isinstance(value, Cell) else plain(value)}"
        for name, value in known
    ]
