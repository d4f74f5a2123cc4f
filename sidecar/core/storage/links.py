"""Doubly linked rings of small numbers, kept in two arrays: O(1) at both ends and in the middle.

A number is in one ring at a time. There is no object per member, so a million members weigh 8 MB and the garbage
collector never visits them.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Links:
    """The neighbours of each number in its ring. Numbers are handed in densely, from 0."""

    __slots__ = ("after", "before")

    def __init__(self, heads: int = 0) -> None:
        self.after = array("I", range(heads))
        self.before = array("I", range(heads))

    def isolate(self, number: int) -> None:
        """Make `number`, in no ring or new, a ring of its own."""
        if number == len(self.after):
            self.after.append(number)
            self.before.append(number)
        else:
            self.after[number] = self.before[number] = number

    def insert_before(self, place: int, number: int) -> None:
        """Put `number`, in no ring or new, before `place`; before a ring's head means at its end."""
        last = self.before[place]
        if number == len(self.after):
            self.after.append(place)
            self.before.append(last)
        else:
            self.after[number] = place
            self.before[number] = last
        self.after[last] = self.before[place] = number

    def unlink(self, number: int) -> None:
        """Take `number` out of its ring."""
        before, after = self.before[number], self.after[number]
        self.after[before] = after
        self.before[after] = before

    def others(self, head: int) -> Iterator[int]:
        """The members of the ring after `head`, in order. The one just given may be unlinked meanwhile."""
        number = self.after[head]
        while number != head:
            following = self.after[number]
            yield number
            number = following
