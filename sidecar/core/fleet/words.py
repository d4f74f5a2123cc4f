"""Operators' words to the whole fleet: of each circuit the last one holds, whoever said it and whenever it arrives."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sidecar.core.fleet.messages import Word

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.core.circuit.circuit import Circuit
    from sidecar.core.circuit.explanation import Override

ABOUT_THE_SAME = 1.0
"""Seconds by which the ends of one override may differ on its way through Redis."""


class Words:
    """The last word about each circuit, with the monotonic time when it was heard, and those not told yet."""

    __slots__ = ("_last", "_untold")

    def __init__(self) -> None:
        self._last: dict[str, tuple[Word, float]] = {}
        self._untold: dict[str, None] = {}

    def take(self, word: Word, now: float) -> bool:
        """Whether `word` is newer than what was heard before; then it is the last."""
        known = self._last.get(word.circuit)
        if known is not None and known[0].stamp >= word.stamp:
            if known[0].stamp == word.stamp:
                self._untold.pop(word.circuit, None)
            return False
        self._last[word.circuit] = word, now
        self._untold.pop(word.circuit, None)
        return True

    def keep(self, word: Word, now: float) -> None:
        """It holds here and could not be told yet."""
        self._last[word.circuit] = word, now
        self._untold[word.circuit] = None

    def tell_again(self) -> None:
        """Redis may have forgotten all of them."""
        self._untold = dict.fromkeys(self._last)

    def untold(self, now: float) -> Iterator[Word]:
        """What is to be told, each with what is left of it; one that has ended is told no more."""
        for circuit in tuple(self._untold):
            word, heard = self._last[circuit]
            left = None if word.left is None else word.left - (now - heard)
            if left is None or left > 0:
                yield replace(word, left=left)
            else:
                del self._untold[circuit]

    def standing(self, circuit: str, now: float) -> Word | None:
        """What still forces this circuit for all."""
        known = self._last.get(circuit)
        if known is None or known[0].mode is None:
            return None
        word, heard = known
        left = None if word.left is None else word.left - (now - heard)
        return replace(word, left=left) if left is None or left > 0 else None


def obey(word: Word, circuit: Circuit, now: float) -> None:
    """Let `circuit` do what was said to all; an override for this sidecar alone is not what a removal is about."""
    override = circuit.override_in_force(now)
    if word.mode is None or (word.left is not None and word.left <= 0):
        if override is not None and override.fleet:
            circuit.release_override(now)
    elif override is None or not alike(word, override, now):
        circuit.override(word.mode, word.reason, word.actor, word.left, now, fleet=True, stamp=word.stamp)


def alike(word: Word, override: Override, now: float) -> bool:
    """Whether `override` is what was said already."""
    said = override.fleet, override.mode, override.reason, override.actor
    if said != (True, word.mode, word.reason, word.actor):
        return False
    if word.left is None or override.expires_at is None:
        return word.left is None and override.expires_at is None
    return abs(now + word.left - override.expires_at) < ABOUT_THE_SAME


def word_of(override: Override, circuit: str, now: float) -> Word:
    """An override that is the fleet's, as a word."""
    left = None if override.expires_at is None else override.expires_at - now
    return Word(circuit, override.stamp, override.mode, override.reason, override.actor, left)
