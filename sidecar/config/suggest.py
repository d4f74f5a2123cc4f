"""Did you mean …?"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_WORD = 64
"""Longer words are no typing errors, and comparing is quadratic in their length."""


def closest(word: str, known: Iterable[str], similarity: float = 0.6) -> str | None:
    """The one of `known` that `word` probably means, or None; `similarity` is 1 for the same word."""
    if len(word) > LONGEST_WORD:
        return None
    by_fold = {name.lower().replace("-", "_"): name for name in known}
    folded = word.lower().replace("-", "_")
    found = get_close_matches(folded, by_fold, n=1, cutoff=similarity)
    return by_fold[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for the unknown `word`: the closest known name, else all of a few, else nothing."""
    names = list(known)
    if found := closest(word, names):
        return f"did you mean {found!r}?"
    return f"known here: {', '.join(names)}" if 0 < len(names) <= FEW else ""


FEW = 16
VERY_LIKE = 0.85
