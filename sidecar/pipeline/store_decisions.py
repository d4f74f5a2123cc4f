"""Why answers were stored or not: the last word on each of the keys asked for lately, for people who wonder.

Nothing here depends on how many keys there are: a key has one place out of a fixed number, and whoever comes to the
same place later takes it over. What came from the store decides nothing, so it leaves no note.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple, TypeAlias

PLACES = 1024
LONGEST_KEY = 1024
"""Octets of a key that is noted."""
STORED = "stored"
REFUSED = "purged meanwhile, or no room"
TOO_LARGE = "larger than max_entry_size"
CUT_SHORT = "cut short"
GIVEN_UP = "given up by its reader"


Note: TypeAlias = tuple[bytes, str, int, str, float]
"""The fields of a `StoreDecision`, which is made of it when somebody asks: taking a note is on every miss's path."""


class StoreDecision(NamedTuple):
    """What became of the last answer to `key`. `why` is `STORED`, or why it is not; `at` is seconds since 1970."""

    key: bytes
    route: str
    status: int
    why: str
    at: float

    @property
    def stored(self) -> bool:
        """Whether it was stored."""
        return self.why == STORED


class StoreDecisions:
    """The notes of one store. `counts` are of all, by route and by `why`."""

    __slots__ = ("_places", "counts")

    def __init__(self) -> None:
        self._places: list[Note | None] = [None] * PLACES
        self.counts: defaultdict[tuple[str, str], int] = defaultdict(int)

    def note(self, key: bytes, route: str, status: int, why: str, at: float) -> None:
        """Take a decision down; the parameters are the fields of `StoreDecision`."""
        self.counts[route, why] += 1
        if len(key) <= LONGEST_KEY:
            self._places[hash(key) % PLACES] = (key, route, status, why, at)

    def of(self, key: bytes) -> StoreDecision | None:
        """What was decided last about an answer to `key`, unless that was long ago."""
        noted = self._places[hash(key) % PLACES]
        return StoreDecision(*noted) if noted is not None and noted[0] == key else None

    def last(self, route: str) -> StoreDecision | None:
        """The latest that is known of `route`."""
        known = [StoreDecision(*noted) for noted in self._places if noted is not None]
        return max((each for each in known if each.route == route), key=lambda each: each.at, default=None)
