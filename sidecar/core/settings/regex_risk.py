"""Whether a regular expression may take exponential time."""

from __future__ import annotations

import re

PIECE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\((?:\?(?:[:=!>]|<[=!]|P<\w+>))?|\)|[*+]|\{\d*,\d*\}|.", re.DOTALL)
"""An escape, a character class, a group's start or end, an unbounded or variable repeat, any other character."""


def backtracks(pattern: str) -> bool:
    """Whether a group that contains a repeat is itself repeated: `(a+)+`, `(.*,)*`, `(\\d{1,9}x?)*`.

    A rule of thumb on the text: it may blame a harmless pattern, and it does not see overlapping alternatives.
    """
    repeats_inside = [False]
    closed_repeating = False
    for piece in PIECE.findall(pattern):
        is_repeat = piece in "*+" or (piece[0] == "{" and len(piece) > 1)
        if is_repeat and closed_repeating:
            return True
        closed_repeating = False
        if piece[0] == "(":
            repeats_inside.append(False)
        elif piece == ")" and len(repeats_inside) > 1:
            closed_repeating = repeats_inside.pop()
            repeats_inside[-1] |= closed_repeating
        elif is_repeat:
            repeats_inside[-1] = True
    return False
