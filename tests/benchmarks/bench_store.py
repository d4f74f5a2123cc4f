"""What the embedded cache store is worth: hit ratio against plain LRU, and time per operation by number of entries.

`python tests/benchmarks/bench_store.py` prints a table; `run()` returns the figures. Times are CPU time of the thread,
so that a busy machine does not count; the worst single operation is of all puts that fill the store.
"""

from __future__ import annotations

import gc
import random
import sys
from array import array
from collections import OrderedDict
from itertools import accumulate, chain
from pathlib import Path
from time import thread_time
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sidecar.adapters.memory_store import MemoryStore
from sidecar.app.memory import collect_rarely, keep_freed_memory
from sidecar.core.config import CacheStoreSettings
from tests.support.store_memory import answer
from tests.support.stored_answers import StillClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sidecar.core.cache.stored import StoredResponse

OBJECTS = 20_000
REQUESTS = 150_000
ZIPF_EXPONENT = 0.9
SHARES = (0.01, 0.05, 0.1)
"""Sizes of the store, as shares of all objects."""
HOT_SET = 1_000
ENTRIES = (10, 1_000_000)
PROBES = 20_000
BODY, FIELDS = 100, 4


def key(number: int) -> bytes:
    return b"G catalog http://catalog.svc:8080/items/%08d?page=1" % number


class PlainLru:
    """What the store is compared with: the least recently used entry goes, whatever it was."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._keys: OrderedDict[int, None] = OrderedDict()

    def ask(self, number: int) -> bool:
        if number in self._keys:
            self._keys.move_to_end(number)
            return True
        self._keys[number] = None
        if len(self._keys) > self._entries:
            self._keys.popitem(last=False)
        return False


class StoreUnderTest:
    """The embedded store with room for about so many answers."""

    def __init__(self, entries: int) -> None:
        self._store = MemoryStore(CacheStoreSettings(max_size=entries * answer_size() * 16 // 15), StillClock())

    def ask(self, number: int) -> bool:
        if self._store.get(key(number)):
            return True
        self._store.put(answer(number, BODY, FIELDS), 0)
        return False


def answer_size() -> int:
    store = MemoryStore(CacheStoreSettings(), StillClock())
    store.put(answer(0, BODY, FIELDS), 0)
    return store.stats.bytes


def zipf_load() -> Iterator[int]:
    """Requests for OBJECTS objects whose popularity falls with their rank, as on the web."""
    source = random.Random(1)
    weights = list(accumulate(1 / rank**ZIPF_EXPONENT for rank in range(1, OBJECTS + 1)))
    return iter(source.choices(range(OBJECTS), cum_weights=weights, k=REQUESTS))


def scan_load() -> Iterator[int]:
    """A hot set asked for at random, while a scan of ten times its size passes, one request in three."""
    source = random.Random(2)
    scan = range(OBJECTS, OBJECTS + 10 * HOT_SET)
    warm_up = (source.randrange(HOT_SET) for _ in range(5 * HOT_SET))
    mixed = ((source.randrange(HOT_SET), source.randrange(HOT_SET), number) for number in scan)
    return chain(warm_up, chain.from_iterable(mixed))


def hit_ratio(cache: PlainLru | StoreUnderTest, load: Iterable[int]) -> float:
    hits = [cache.ask(number) for number in load]
    return sum(hits) / len(hits)


def hit_ratios() -> dict[str, float]:
    """Per load and size: the share of requests that each kind of cache answers."""
    figures = {}
    for share in SHARES:
        entries = int(OBJECTS * share)
        figures[f"zipf {share:.0%} store"] = hit_ratio(StoreUnderTest(entries), zipf_load())
        figures[f"zipf {share:.0%} lru"] = hit_ratio(PlainLru(entries), zipf_load())
    figures["scan store"] = hit_ratio(StoreUnderTest(HOT_SET), scan_load())
    figures["scan lru"] = hit_ratio(PlainLru(HOT_SET), scan_load())
    return figures


def filled(entries: int) -> tuple[MemoryStore, array[float]]:
    """A store with so many entries, and the seconds that each put took."""
    store = MemoryStore(CacheStoreSettings(max_size=2 * ENTRIES[-1] * answer_size()), StillClock())
    # No list: the garbage collector would visit it, and the figures would be those of the benchmark.
    times = array("d")
    for number in range(entries):
        stored = answer(number, BODY, FIELDS)
        began = thread_time()
        store.put(stored, 0)
        times.append(thread_time() - began)
    return store, times


def get_cost(store: MemoryStore, keys: list[bytes]) -> float:
    """µs per get, the best of some rounds."""
    best = float("inf")
    for _ in range(3):
        began = thread_time()
        for asked in keys:
            store.get(asked)
        best = min(best, thread_time() - began)
    return best / len(keys) * 1e6


def put_cost(store: MemoryStore, answers: list[StoredResponse]) -> float:
    """µs per put of something new."""
    began = thread_time()
    for stored in answers:
        store.put(stored, 0)
    return (thread_time() - began) / len(answers) * 1e6


def operation_costs(entries: int) -> dict[str, float]:
    """µs per get and put with so many entries, and the longest single operations in ms."""
    store, times = filled(entries)
    source = random.Random(3)
    few = [key(number) for number in range(10)]
    anywhere = [key(source.randrange(entries)) for _ in range(PROBES)]
    figures = {
        "get often used µs": get_cost(store, few * (PROBES // 10)),
        "get any µs": get_cost(store, anywhere),
        "put µs": put_cost(store, [answer(-1 - number, BODY, FIELDS) for number in range(100)]),
        "worst put ms": max(times) * 1e3,
        "puts over 5 ms": sum(time > 0.005 for time in times),
    }
    began = thread_time()
    gc.collect()
    figures["full garbage collection ms"] = (thread_time() - began) * 1e3
    began = thread_time()
    store.purge(route="catalog")
    figures["purge of all ms"] = (thread_time() - began) * 1e3
    return {f"{entries} entries: {name}": figure for name, figure in figures.items()}


def large_put() -> float:
    """ms of a put of 1 MiB into a full store of very small answers, the longest of those that it takes."""
    store = MemoryStore(CacheStoreSettings(max_size=16 * 1024 * 1024), StillClock())
    for number in range(30_000):
        store.put(answer(number, BODY, FIELDS), 0)
    large = answer(-1, 1024 * 1024, FIELDS)
    worst, stored = 0.0, False
    while not stored:
        began = thread_time()
        stored = store.put(large, 0)
        worst = max(worst, thread_time() - began)
    return worst * 1e3


def dict_growth() -> float:
    """Longest insertion, in ms, into one plain dict of a million keys: what the shards avoid."""
    plain: dict[bytes, int] = {}
    worst = 0.0
    for number in range(ENTRIES[-1]):
        name = key(number)
        began = thread_time()
        plain[name] = number
        worst = max(worst, thread_time() - began)
    return worst * 1e3


def run() -> dict[str, float]:
    """All figures by name; hit ratios are shares 0–1."""
    figures = hit_ratios()
    # As the sidecar does when it starts: the collector's and the allocator's work on all else is not the store's.
    keep_freed_memory()
    collect_rarely()
    for entries in ENTRIES:
        figures |= operation_costs(entries)
    figures["1 MiB into a full store: worst put ms"] = large_put()
    figures["one plain dict: worst insertion ms"] = dict_growth()
    return figures


def main() -> None:
    """Print the table."""
    for name, figure in run().items():
        print(f"{name:45} {figure:10.3f}")


if __name__ == "__main__":
    main()
