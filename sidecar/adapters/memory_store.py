"""The embedded cache store: packed answers in memory, bounded in bytes, no operation of which takes long.

In `core/storage`, `catalog` holds the answers, `eviction` decides which goes for want of room, `purging` remembers what
was purged, and `live_copies` keeps unpacked what is in frequent use. Here they meet the port.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from sidecar.core.storage.catalog import Catalog
from sidecar.core.storage.eviction import BY_VALUE, FIRST_SLOT, EvictionQueues
from sidecar.core.storage.live_copies import Copy, LiveCopies
from sidecar.core.storage.packing import pack, packed_size
from sidecar.core.storage.purging import PurgeLog, PurgeRule
from sidecar.core.storage.usage import tag_size
from sidecar.pipeline.ports import URLS_TOLD, AnswerList, ListedAnswer, Purged, RouteEntries
from sidecar.pipeline.stats import StoreStats

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator, Sequence

    from sidecar.core.cache.stored import Draft, Selecting, StoredResponse
    from sidecar.core.config import CacheStoreSettings
    from sidecar.pipeline.ports import Clock, StoreFollower, WriteToken

Exported: TypeAlias = "tuple[int, StoredResponse]"
"""How valuable, 0–7, and what."""

EVICTIONS_PER_PUT = 384
"""A put that would have to evict more is refused; the next one finds the room that this one made."""
TIDY_PER_PUT = 16
TIDY_PER_PURGE = 256
"""Slots looked at, for purges that are not carried out yet."""
URLS_PER_PURGE = 256
URL_SCAN = 1024
"""Slots looked at for the URLs that a purge tells."""
LIST_SCAN = 512
"""Slots looked at for one part of a list."""
BUCKET_BYTES = 16 * 1024
"""Store bytes per bucket of URLs: some ten to thirty small answers."""
LIVE_SHARE = 16
EXPORT_SCAN = 4096
EXPORT_BATCH = 64


class MemoryStore:
    """A `CacheStore` in this process's memory, of at most `settings.max_size` bytes with all overhead.

    A sixteenth of it is for unpacked copies. What a purge covers is never returned again, but its memory may be
    reclaimed bit by bit, with the puts and purges that follow; `stats.bytes` counts it until then.
    """

    def __init__(self, settings: CacheStoreSettings, clock: Clock) -> None:
        live = settings.max_size // LIVE_SHARE
        self.stats = StoreStats()
        self.arriving: dict[bytes, int] = {}
        self.puts = 0
        self.unread: Container[bytes] = frozenset()
        self.follower: StoreFollower | None = None
        self._clock = clock
        self._max_variants = settings.max_variants
        self._capacity = settings.max_size - live
        self._catalog = Catalog(buckets=settings.max_size // BUCKET_BYTES + 1)
        self._queues = EvictionQueues(self._capacity)
        self._live = LiveCopies(live)
        self._log = PurgeLog()
        self._last_purge = 0
        self._sweep_at = FIRST_SLOT
        self._sweep_generation = 0

    def get(self, key: bytes) -> Sequence[StoredResponse]:
        """The stored variants of `key`, most recently put first. O(1)."""
        copy = self._live.get(key)
        if copy is not None and copy.generation == self._last_purge:
            for slot in copy.slots:
                self._queues.use(slot)
            return copy.responses
        slots = self._catalog.slots(key)
        return self._unpack(key, slots) if slots else ()

    def _unpack(self, key: bytes, slots: list[int]) -> tuple[StoredResponse, ...]:
        """The answers in `slots`, the variants of `key`; a copy is kept from the second use on."""
        slots = self._still_good(slots)
        responses = tuple(map(self._catalog.response, slots))
        used = any(self._queues.weights[slot] for slot in slots)
        for slot in slots:
            self._queues.use(slot)
        if used and self._live.admits():
            self._live.add(key, Copy(self._last_purge, slots, responses))
            self._count()
        return responses

    def _still_good(self, slots: list[int]) -> list[int]:
        """`slots` without those that a purge covers, which are dropped."""
        good = []
        for slot in slots:
            if self._is_purged(slot):
                self._drop(slot, "purged")
            else:
                good.append(slot)
        return good

    def _is_purged(self, slot: int) -> bool:
        """Whether a purge that is not carried out yet covers the answer in `slot`. It is asked once per purge."""
        catalog = self._catalog
        if catalog.is_retired(slot):
            return True
        if catalog.generations[slot] >= self._log.lazy:
            return False
        _, _, url, tags = catalog.identity(slot)
        if self._log.covered(catalog.generations[slot], catalog.route(slot), url, tags):
            return True
        catalog.generations[slot] = self._log.generation
        return False

    def _is_good(self, slot: int) -> bool:
        """Whether there is an answer in `slot` that no purge covers."""
        return self._catalog.holds(slot) and not self._is_purged(slot)

    def begin(self, key: bytes) -> WriteToken:  # noqa: ARG002 - one count serves all keys here
        """The count of invalidations and purges so far."""
        return self._log.generation

    def put(self, stored: StoredResponse, token: WriteToken) -> bool:
        """Keep `stored` in place of the same variant; False when it was purged meanwhile or does not fit."""
        self._tidy(TIDY_PER_PUT)
        if self.raced(stored, token):
            return False
        record = pack(stored)
        size = packed_size(stored, record)
        if not self._make_room(stored, size):
            return False
        self._place(stored, record, size)
        if self.follower is not None:
            self.follower.kept(stored)
        return True

    def raced(self, stored: StoredResponse | Draft, token: WriteToken) -> bool:
        """Whether it was purged or invalidated since `begin` gave `token`."""
        return self._log.refuses(token, stored.key, stored.route, stored.url, stored.tags)

    def _find(self, stored: StoredResponse) -> int | None:
        """The slot of the variant that `stored` is, or None."""
        for slot in self._catalog.slots(stored.key):
            if self._catalog.identity(slot)[1] == stored.selecting:
                return slot
        return None

    def _needed(self, stored: StoredResponse, size: int) -> int:
        """Bytes to be freed before `size` bytes of `stored` fit; its tags may all be new."""
        same = self._find(stored)
        freed = self._queues.sizes[same] if same is not None else 0
        size += sum(map(tag_size, stored.tags))
        return self._queues.bytes + self._catalog.tags.bytes + size - freed - self._capacity

    def _make_room(self, stored: StoredResponse, size: int) -> bool:
        """Evict until `stored` fits, unless that takes too much of the store or of the time."""
        if size + sum(map(tag_size, stored.tags)) > self._capacity:
            return False
        left = EVICTIONS_PER_PUT
        while (needed := self._needed(stored, size)) > 0:
            if not left:
                return False
            victims = self._queues.evict(needed, left)
            left -= len(victims)
            for slot in victims:
                self._forget(slot, "size")
        return True

    def _place(self, stored: StoredResponse, record: bytes, size: int, weight: int = 0) -> None:
        """Put `stored` where the same variant is, else into a slot of its own. There is room."""
        slot = self._find(stored)
        if slot is None:
            variants = self._catalog.slots(stored.key)
            if len(variants) >= self._max_variants:
                self._drop(variants[-1], "variants")
            slot = self._queues.add(size, hash(stored.key), weight)
        else:
            self._forget(slot, "replaced")
            self._queues.resize(slot, size)
        self._catalog.attach(slot, stored, record, size, self._log.generation, self._clock.monotonic())
        self._live.drop(stored.key)
        self.puts += 1
        self._count()

    def _drop(self, slot: int, reason: str) -> None:
        self._queues.remove(slot)
        self._forget(slot, reason)

    def _forget(self, slot: int, reason: str) -> None:
        """Empty `slot`, which the queues have given up or keep for its successor."""
        key, counts = self._catalog.detach(slot, self._queues.sizes[slot])
        self._live.drop(key)
        self.stats.evictions[reason] += counts
        self._count()

    def _count(self) -> None:
        self.stats.entries = self._catalog.entries
        self.stats.bytes = self._queues.bytes + self._catalog.tags.bytes + self._live.bytes

    def invalidate(self, key: bytes, variants: Collection[Selecting] | None = None) -> int:
        """Forget every variant of `key`, or just these; how many. Fetches of it already begun will not be stored."""
        self._log.invalidate(key)
        if self.follower is not None:
            self.follower.invalidated(key, variants)
        slots = self._catalog.slots(key)
        if not slots:
            return 0
        slots = self._still_good(slots)
        if variants is not None:
            slots = [slot for slot in slots if self._catalog.identity(slot)[1] in variants]
        for slot in slots:
            self._drop(slot, "invalidated")
        return len(slots)

    def purge(
        self,
        *,
        route: str | None = None,
        url: bytes | None = None,
        prefix: bytes | None = None,
        tag: bytes | None = None,
    ) -> Purged:
        """Forget what meets all the conditions.

        The number counts all of a route, a tag or a URL; else what was found at once, in a bounded time.
        """
        rule = PurgeRule(route, url, prefix, tag)
        urls = self._some_urls(rule)
        self._log.purge(rule)
        self._last_purge = self._log.generation
        if self.follower is not None:
            self.follower.purged(rule)
        if url is not None:
            count = self._purge_url(url, rule)
        elif route is not None and prefix is None and tag is None:
            count = self._purge_route(route)
        else:
            count = self._purge_lazily(rule)
        self._tidy(TIDY_PER_PURGE)
        return Purged(count, urls)

    def _some_urls(self, rule: PurgeRule) -> tuple[bytes, ...]:
        """URLs of what `rule` covers, of the answers that can be looked at in a bounded time."""
        urls: dict[bytes, None] = {}
        if rule.url is not None:
            slots: Iterable[int] = self._catalog.slots_at(rule.url, URLS_PER_PURGE)[0]
        elif rule.route is not None:
            slots = self._catalog.slots_of(rule.route)
        else:
            slots = range(FIRST_SLOT, self._queues.end)
        for slot in islice(slots, URL_SCAN):
            if len(urls) == URLS_TOLD:
                break
            if self._is_good(slot) and self._covers(rule, slot):
                urls[self._catalog.identity(slot)[2]] = None
        return tuple(urls)

    def _purge_url(self, url: bytes, rule: PurgeRule) -> int:
        slots, complete = self._catalog.slots_at(url, URLS_PER_PURGE)
        slots = [slot for slot in self._still_good(slots) if self._covers(rule, slot)]
        for slot in slots:
            self._drop(slot, "purged")
        if not complete:
            self._log.defer()
        return len(slots)

    def _covers(self, rule: PurgeRule, slot: int) -> bool:
        _, _, url, tags = self._catalog.identity(slot)
        return rule.covers(self._catalog.route(slot), url, tags)

    def _purge_route(self, route: str) -> int:
        count = self._catalog.retire(route)
        self.stats.evictions["purged"] += count
        self._count()
        return count

    def _purge_lazily(self, rule: PurgeRule) -> int:
        self._log.defer()
        if rule.tag is not None and rule == PurgeRule(tag=rule.tag):
            return self._catalog.tags.take(rule.tag)
        before = self.stats.evictions["purged"]
        self._tidy(TIDY_PER_PURGE)
        return self.stats.evictions["purged"] - before

    def _tidy(self, budget: int) -> None:
        """Reclaim what purges cover, at most `budget` answers of it."""
        while budget and (slot := self._catalog.next_retired()) is not None:
            self._drop(slot, "purged")
            budget -= 1
        if budget and self._log.pending:
            self._sweep(budget)

    def _sweep(self, budget: int) -> None:
        """Look at the next slots for what the purges that are not carried out yet cover."""
        if self._sweep_at == FIRST_SLOT:
            self._sweep_generation = self._log.generation
        end = min(self._sweep_at + max(1, budget // self._log.check_cost), self._queues.end)
        for slot in range(self._sweep_at, end):
            if self._catalog.holds(slot) and self._is_purged(slot):
                self._drop(slot, "purged")
        self._sweep_at = end
        if end == self._queues.end:
            self._log.carried_out(self._sweep_generation)
            self._sweep_at = FIRST_SLOT

    def list_answers(self, rules: Sequence[PurgeRule], start: int, limit: int) -> AnswerList:
        """Answers that one of `rules` covers, by slot from `start` on."""
        found: list[ListedAnswer] = []
        slot = max(start, FIRST_SLOT)
        end = min(slot + LIST_SCAN, self._queues.end)
        while slot < end and len(found) < limit:
            if self._is_good(slot) and any(self._covers(rule, slot) for rule in rules):
                found.append(self._listed(slot))
            slot += 1
        return AnswerList(found, slot if slot < self._queues.end else None)

    def _listed(self, slot: int) -> ListedAnswer:
        stored = self._catalog.response(slot)
        size = self._queues.sizes[slot]
        return ListedAnswer(stored.url, stored.route, stored.tags, stored.born, stored.expires_at, size)

    def summarize(self) -> Sequence[RouteEntries]:
        """What each route with entries holds, by route name. The largest is given up to 1/64 too large."""
        self._tidy(TIDY_PER_PURGE)
        return [
            RouteEntries(use.route, use.entries, use.bytes, oldest, use.largest)
            for use, oldest in self._catalog.routes()
        ]

    def export(self) -> Iterator[list[Exported]]:
        """Everything, the most valuable first, with its weight. Between two batches the store may change."""
        for weights in BY_VALUE:
            slot = FIRST_SLOT
            while slot < self._queues.end:
                batch: list[Exported] = []
                end = min(slot + EXPORT_SCAN, self._queues.end)
                while slot < end and len(batch) < EXPORT_BATCH:
                    if self._queues.weights[slot] in weights and self._is_good(slot):
                        batch.append((self._queues.weights[slot], self._catalog.response(slot)))
                    slot += 1
                yield batch

    def restore(self, weight: int, stored: StoredResponse) -> bool:
        """Keep an exported answer, unless that would cost anything that is here."""
        record = pack(stored)
        size = packed_size(stored, record)
        if self._find(stored) is not None or self._needed(stored, size) > 0:
            return False
        self._place(stored, record, size, weight)
        return True
