"""What was read lately, by its octets: whoever repeats itself to the letter is not parsed again.

Pollers, health checks and pools of workers send the same head over and over, and so do their upstreams within a second.
Reading is a pure function of the octets as long as a message begins with them, so what it gave once it gives again. And
what is derived from a head is kept on it, so that a repeated head brings that along.
"""

from __future__ import annotations

from array import array
from typing import Generic, TypeVar

T = TypeVar("T")

LARGEST = 1024
MOST = 512
PLACES = 1024


class Memo(Generic[T]):
    """At most `MOST` readings of at most `LARGEST` octets each."""

    __slots__ = ("_known", "_seen", "get")

    def __init__(self) -> None:
        self._known: dict[bytes, T] = {}
        self.get = self._known.get
        """What exactly these octets are, or None. Asked for every message, hence no method around it."""
        self._seen = array("q", bytes(8 * PLACES))

    def recurs(self, octets: bytes) -> bool:
        """Whether these octets came before, lately. What never comes again is not worth remembering."""
        if len(octets) > LARGEST:
            return False
        mark = hash(octets)
        place = mark % PLACES
        if self._seen[place] == mark:
            return True
        self._seen[place] = mark
        return False

    def add(self, octets: bytes, reading: T) -> None:
        """Remember what `recurs`. When there are too many all are forgotten."""
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[octets] = reading

    def clear(self) -> None:
        """Forget every reading, and with it what was derived from it."""
        self._known.clear()
