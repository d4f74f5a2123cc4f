"""Packed answers by slot number, and the ways to find them: by key, by URL, by route.

Everything known of an answer stands in columns under its slot. The variants of one key form a ring, and so do the
answers of one route, oldest first, and those whose URLs fall into one bucket. Who decides what stays is not known here.
"""

from __future__ import annotations

from array import array
from itertools import islice
from typing import TYPE_CHECKING

from sidecar.core.storage.links import Links
from sidecar.core.storage.packing import Identity, identify, unpack
from sidecar.core.storage.tables import SHARDS, Shards, Shelves
from sidecar.core.storage.usage import NOBODY, RouteUse, TagCounts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.core.cache.stored import StoredResponse

RECLAIMED = NOBODY
"""The owner of a slot that holds nothing."""


class Catalog:
    """The answers in the slots. `buckets` is how many rings share the URLs.

    `entries` counts those that are not retired; `generations` holds the purge generation in which each was put or last
    found good.
    """

    __slots__ = (
        "_bodies",
        "_buckets",
        "_index",
        "_owner_of",
        "_owners",
        "_records",
        "_retired",
        "_siblings",
        "_times",
        "_urls",
        "_uses",
        "_variants",
        "entries",
        "generations",
        "tags",
    )

    def __init__(self, buckets: int) -> None:
        self.entries = 0
        self.generations = array("Q")
        self.tags = TagCounts()
        self._owners = array("I")
        self._times = array("d")
        self._records = Shelves()
        self._bodies = Shelves()
        self._index = Shards()
        self._variants = Links()
        self._siblings = Links()
        self._buckets = buckets
        self._urls = Links(buckets)
        self._uses: list[RouteUse] = [RouteUse("")]
        self._owner_of: dict[str, int] = {}
        self._retired: list[int] = []

    def slots(self, key: bytes) -> list[int]:
        """The slots of the variants of `key`, most recently attached first."""
        # Every miss asks this: the look into the table is written out.
        first = self._index.shards[hash(key) % SHARDS].get(key)
        return [] if first is None else [first, *self._variants.others(first)]

    def slots_at(self, url: bytes, limit: int) -> tuple[list[int], bool]:
        """The slots whose answers came from `url`, and whether these are all: only `limit` answers are looked at."""
        places = self._urls.others(hash(url) % self._buckets)
        slots = [place - self._buckets for place in islice(places, limit)]
        return [slot for slot in slots if self.identity(slot)[2] == url], next(places, None) is None

    def slots_of(self, route: str) -> Iterator[int]:
        """The slots of the answers of `route`, oldest first."""
        owner = self._owner_of.get(route)
        use = None if owner is None else self._uses[owner]
        if use is not None and use.entries:
            yield use.oldest
            yield from self._siblings.others(use.oldest)

    def holds(self, slot: int) -> bool:
        """Whether there is an answer in `slot`."""
        return slot < len(self._owners) and self._owners[slot] != RECLAIMED

    def identity(self, slot: int) -> Identity:
        """What the answer in `slot` is known by."""
        return identify(self._records[slot])

    def route(self, slot: int) -> str:
        """The route of the answer in `slot`."""
        return self._uses[self._owners[slot]].route

    def response(self, slot: int) -> StoredResponse:
        """The answer in `slot`, unpacked."""
        return unpack(self._records[slot], self._bodies[slot], self.route(slot))

    def attach(self, slot: int, stored: StoredResponse, record: bytes, size: int, generation: int, now: float) -> None:
        """Put the answer `stored`, packed as `record`, into the empty `slot`."""
        self._make_columns(slot)
        self._records[slot] = record
        self._bodies[slot] = stored.body
        self.generations[slot] = generation
        self._times[slot] = now
        self._join_variants(slot, stored.key)
        self._join_route(slot, stored.route, size)
        self._urls.insert_before(hash(stored.url) % self._buckets, slot + self._buckets)
        for tag in stored.tags:
            self.tags.add(tag, generation)
        self.entries += 1

    def _make_columns(self, slot: int) -> None:
        while slot >= len(self._owners):
            number = len(self._owners)
            self._owners.append(RECLAIMED)
            self.generations.append(0)
            self._times.append(0.0)
            self._variants.isolate(number)
            self._siblings.isolate(number)
            self._urls.isolate(number + self._buckets)

    def _join_variants(self, slot: int, key: bytes) -> None:
        first = self._index.get(key)
        if first is None:
            self._variants.isolate(slot)
        else:
            self._variants.insert_before(first, slot)
        self._index.set(key, slot)

    def _join_route(self, slot: int, route: str, size: int) -> None:
        owner = self._owner_of.get(route)
        if owner is None:
            owner = self._owner_of[route] = self._new_owner(route)
        use = self._uses[owner]
        self._owners[slot] = owner
        if use.entries:
            self._siblings.insert_before(use.oldest, slot)
        else:
            self._siblings.isolate(slot)
            use.oldest = slot
        use.add(size)

    def _new_owner(self, route: str) -> int:
        self._uses.append(RouteUse(route))
        return len(self._uses) - 1

    def detach(self, slot: int, size: int) -> tuple[bytes, bool]:
        """Empty `slot`, whose answer takes `size` bytes: that answer's key, and whether it was not retired."""
        key, _, _, tags = identify(self._records.take(slot))
        self._bodies.take(slot)
        self._leave_variants(slot, key)
        use = self._leave_route(slot, size)
        self._urls.unlink(slot + self._buckets)
        for tag in tags:
            self.tags.remove(tag, self.generations[slot])
        if not use.retired:
            self.entries -= 1
        return key, not use.retired

    def _leave_variants(self, slot: int, key: bytes) -> None:
        following = self._variants.after[slot]
        if following == slot:
            self._index.remove(key)
        elif self._index.get(key) == slot:
            self._index.set(key, following)
        self._variants.unlink(slot)

    def _leave_route(self, slot: int, size: int) -> RouteUse:
        use = self._uses[self._owners[slot]]
        if use.oldest == slot:
            use.oldest = self._siblings.after[slot]
        self._siblings.unlink(slot)
        self._owners[slot] = RECLAIMED
        use.remove(size)
        return use

    def retire(self, route: str) -> int:
        """Give up all answers of `route` at once; how many. They stay in their slots until they are detached."""
        owner = self._owner_of.pop(route, None)
        if owner is None:
            return 0
        use = self._uses[owner]
        use.retired = True
        self._retired.append(owner)
        self.entries -= use.entries
        return use.entries

    def is_retired(self, slot: int) -> bool:
        """Whether the answer in `slot` was given up."""
        return self._uses[self._owners[slot]].retired

    def next_retired(self) -> int | None:
        """A slot whose answer was given up, or None."""
        while self._retired:
            use = self._uses[self._retired[-1]]
            if use.entries:
                return use.oldest
            self._retired.pop()
        return None

    def routes(self) -> list[tuple[RouteUse, float]]:
        """What is held of each route, by name, with the time at which its oldest answer was attached."""
        held = [self._uses[owner] for _, owner in sorted(self._owner_of.items())]
        return [(use, self._times[use.oldest]) for use in held if use.entries]
