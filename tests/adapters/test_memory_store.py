from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.adapters.memory_store import LIST_SCAN, MemoryStore
from sidecar.core.config import CacheStoreSettings
from sidecar.core.storage.purging import PurgeRule
from tests.support.stored_answers import StillClock, answer, language

if TYPE_CHECKING:
    from sidecar.core.cache.stored import StoredResponse
    from sidecar.pipeline.ports import CacheStore

MIB = 1024 * 1024


def make_store(max_size: int = MIB, max_variants: int = 32) -> MemoryStore:
    return MemoryStore(CacheStoreSettings(max_size=max_size, max_variants=max_variants), StillClock())


def put(store: CacheStore, stored: StoredResponse) -> bool:
    return store.put(stored, store.begin(stored.key))


def bodies(store: CacheStore, key: bytes) -> list[bytes]:
    return [stored.body for stored in store.get(key)]


def test_what_was_put_is_given_back_as_it_was() -> None:
    store: CacheStore = make_store()
    stored = answer(1, tags=(b"a",))
    assert put(store, stored)
    (again,) = store.get(stored.key)
    assert (again.head, again.prepared, again.expires_at, again.rules) == (
        stored.head,
        stored.prepared,
        stored.expires_at,
        stored.rules,
    )
    assert again.body is stored.body


def test_a_list_looks_at_so_many_slots_at_a_time() -> None:
    store = make_store(max_size=64 * MIB)
    for number in range(3 * LIST_SCAN):
        assert put(store, answer(number))
    every = [PurgeRule(prefix=b"")]
    first, place = store.list_answers(every, 0, 10 * LIST_SCAN)
    assert (len(first), place) != (3 * LIST_SCAN, None)
    seen = [one.url for one in first]
    while place is not None:
        more, place = store.list_answers(every, place, 100)
        assert len(more) <= 100
        seen += [one.url for one in more]
    assert len(seen) == len(set(seen)) == 3 * LIST_SCAN
    nothing, place = store.list_answers([PurgeRule(route="nowhere")], 0, 5)
    assert (list(nothing), place is None) == ([], False)
    assert store.list_answers([], place or 0, 5).answers == []


def test_a_list_tells_what_is_known_of_an_answer() -> None:
    store = make_store()
    stored = answer(1, tags=(b"a",))
    put(store, stored)
    ((listed,), place) = store.list_answers([PurgeRule(tag=b"a")], 0, 5)
    assert listed[:5] == (stored.url, stored.route, (b"a",), stored.born, stored.expires_at)
    assert (listed.size > len(stored.body), place) == (True, None)


def test_a_key_that_was_never_put_has_no_variants() -> None:
    assert list(make_store().get(b"unknown")) == []


def test_a_put_replaces_the_same_variant_and_keeps_the_others() -> None:
    store = make_store()
    for name, body in ((b"de", b"1"), (b"en", b"2"), (b"de", b"3")):
        put(store, answer(selecting=language(name), body=body))
    assert bodies(store, answer().key) == [b"3", b"2"]
    assert store.stats.entries == 2
    assert store.stats.evictions == {"replaced": 1}


def test_a_replacement_is_seen_by_those_who_used_the_one_before_often() -> None:
    store = make_store()
    put(store, answer(body=b"old"))
    for _ in range(3):
        store.get(answer().key)
    put(store, answer(body=b"new"))
    assert bodies(store, answer().key) == [b"new"]


def test_the_oldest_variant_goes_when_a_key_has_too_many() -> None:
    store = make_store(max_variants=2)
    for name in (b"de", b"en", b"fr"):
        put(store, answer(selecting=language(name), body=name))
    assert bodies(store, answer().key) == [b"fr", b"en"]
    assert store.stats.evictions == {"variants": 1}


def test_an_answer_larger_than_the_store_is_refused_and_costs_nothing() -> None:
    store = make_store()
    put(store, answer(1))
    assert not put(store, answer(2, body=bytes(MIB)))
    assert store.stats.entries == 1
    assert store.stats.evictions == {}


def test_a_refused_replacement_leaves_the_old_answer() -> None:
    store = make_store()
    put(store, answer(body=b"old"))
    assert not put(store, answer(body=bytes(2 * MIB)))
    assert bodies(store, answer().key) == [b"old"]


def test_a_full_store_evicts_for_what_is_new_and_stays_within_its_bytes() -> None:
    store = make_store()
    for number in range(3000):
        assert put(store, answer(number, body=bytes(number % 2000)))
        assert store.stats.bytes <= MIB
    assert store.stats.evictions["size"] == 3000 - store.stats.entries
    assert bodies(store, answer(2999).key)


def test_a_refresh_in_a_full_store_evicts_nothing_else() -> None:
    store = make_store()
    for number in range(3000):
        put(store, answer(number, body=bytes(100)))
    evicted = store.stats.evictions["size"]
    put(store, answer(2999, body=bytes(100)))
    assert store.stats.evictions["size"] == evicted


def test_a_large_answer_that_needs_too_many_evictions_finds_its_room_at_a_later_try() -> None:
    store = make_store(4 * MIB)
    for number in range(8000):
        put(store, answer(number))
    large = answer(-1, body=bytes(3 * MIB))
    tries = [put(store, large) for _ in range(32)]
    assert tries[0] is False
    assert tries[-1] is True
    assert store.stats.bytes <= 4 * MIB


def test_a_hot_set_survives_a_scan_of_ten_times_its_size() -> None:
    store = make_store()
    hot = [answer(number).key for number in range(800)]
    for number in range(800):
        put(store, answer(number))
    for key in hot * 3:
        store.get(key)
    for number in range(10_000, 18_000):
        put(store, answer(number))
    assert sum(bool(store.get(key)) for key in hot) > 700


def test_nothing_goes_merely_because_it_is_stale() -> None:
    store = make_store()
    put(store, answer(1, keep_until=10.0))
    for number in range(2, 200):
        put(store, answer(number))
    assert store.get(answer(1).key)


def test_an_invalidated_key_loses_every_variant_and_every_fetch_under_way() -> None:
    store = make_store()
    for name in (b"de", b"en"):
        put(store, answer(selecting=language(name)))
    key = answer().key
    token, other = store.begin(key), store.begin(answer(2).key)
    assert store.invalidate(key) == 2
    assert list(store.get(key)) == []
    assert not store.put(answer(), token)
    assert store.put(answer(2), other)
    assert put(store, answer())
    assert store.stats.evictions == {"invalidated": 2}


def test_single_variants_of_a_key_may_be_invalidated() -> None:
    store = make_store()
    for name in (b"de", b"en"):
        put(store, answer(selecting=language(name)))
    key = answer().key
    token = store.begin(key)
    assert not store.raced(answer(), token)
    assert store.invalidate(key, [language(b"de"), language(b"fr")]) == 1
    assert [stored.selecting for stored in store.get(key)] == [language(b"en")]
    assert store.raced(answer(), token)
    assert store.invalidate(key, []) == 0
    assert len(store.get(key)) == 1


@pytest.mark.parametrize("selector", [{"route": "catalog"}, {"prefix": b"http://"}, {"tag": b"t"}], ids=str)
def test_a_purge_names_some_of_what_it_covers(selector: dict[str, Any]) -> None:
    store = make_store()
    for number in range(30):
        put(store, answer(number, url=b"http://u/%d" % (number // 3), tags=(b"t",)))
    assert sorted(store.purge(**selector).urls) == [b"http://u/%d" % number for number in range(10)]
    assert store.purge(**selector).urls == ()
    for number in range(30):
        put(store, answer(number, tags=(b"t",)))
    assert len(store.purge(**selector).urls) == 20


SELECTORS: list[tuple[dict[str, str | bytes], set[int]]] = [
    ({"route": "a"}, {0, 1}),
    ({"url": b"http://u/x/1"}, {1, 3}),
    ({"prefix": b"http://u/x"}, {0, 1, 3}),
    ({"tag": b"t"}, {1, 2}),
    ({"route": "a", "tag": b"t"}, {1}),
    ({"route": "b", "url": b"http://u/x/1"}, {3}),
    ({"route": "b", "prefix": b"http://u/x"}, {3}),
    ({"url": b"http://u/x/1", "tag": b"t"}, {1}),
    ({"prefix": b"http://u/", "tag": b"none"}, set()),
    ({"route": "unknown"}, set()),
]
ANSWERS = [
    answer(url=b"http://u/x/0", route="a", body=b"0"),
    answer(url=b"http://u/x/1", route="a", tags=(b"t", b"s"), body=b"1"),
    answer(url=b"http://u/y/0", route="b", tags=(b"t",), body=b"2"),
    answer(url=b"http://u/x/1", route="b", body=b"3"),
]


@pytest.mark.parametrize(("selector", "covered"), SELECTORS, ids=[" ".join(selector) for selector, _ in SELECTORS])
def test_a_purge_takes_what_it_covers_and_the_fetches_of_it_under_way(
    selector: dict[str, str | bytes], covered: set[int]
) -> None:
    store = make_store()
    for stored in ANSWERS:
        put(store, stored)
        for _ in range(3):
            store.get(stored.key)
    token = store.begin(b"")
    assert store.purge(**selector).entries == len(covered)  # type: ignore[arg-type]  # a table of keyword arguments
    assert {number for number, stored in enumerate(ANSWERS) if not store.get(stored.key)} == covered
    assert {number for number, stored in enumerate(ANSWERS) if not store.put(stored, token)} == covered
    assert store.stats.evictions["purged"] == len(covered)
    assert all(put(store, stored) for stored in ANSWERS)
    assert store.stats.entries == len(ANSWERS)


@pytest.mark.parametrize(
    "selector",
    [{"route": "catalog"}, {"tag": b"t"}, {"prefix": b"http://catalog"}],
    ids=["route", "tag", "prefix"],
)
def test_a_purge_of_much_hides_it_at_once_and_reclaims_it_with_the_puts_that_follow(
    selector: dict[str, str | bytes],
) -> None:
    store = make_store(8 * MIB)
    for number in range(3000):
        put(store, answer(number, tags=(b"t",)))
    store.purge(**selector)  # type: ignore[arg-type]  # a table of keyword arguments
    assert list(store.get(answer(2999).key)) == []
    for number in range(10_000, 10_400):
        put(store, answer(number, url=b"http://other/%d" % number, route="other"))
    assert store.stats.entries == 400
    assert store.stats.evictions["purged"] == 3000
    assert [(held.route, held.entries) for held in store.summarize()] == [("other", 400)]


def test_a_purge_of_a_route_counts_what_it_covers_however_much_it_is() -> None:
    store = make_store(8 * MIB)
    for number in range(3000):
        put(store, answer(number, route=str(number % 2)))
    assert store.purge(route="0").entries == 1500
    assert store.purge(route="0").entries == 0
    assert store.stats.entries == 1500


def test_a_purge_of_a_tag_counts_what_it_covers_however_much_it_is() -> None:
    store = make_store(8 * MIB)
    for number in range(3000):
        put(store, answer(number, tags=(b"t",) if number % 2 else ()))
    assert store.purge(tag=b"t").entries == 1500
    assert store.purge(tag=b"t").entries == 0
    put(store, answer(1, tags=(b"t",)))
    for number in range(10_000, 10_400):
        put(store, answer(number))
    assert store.purge(tag=b"t").entries == 1


def test_a_url_with_very_many_keys_is_purged_whole() -> None:
    store = make_store(8 * MIB)
    variants = [answer(route=str(number), url=b"http://u/x") for number in range(1500)]
    for stored in variants:
        put(store, stored)
    store.purge(url=b"http://u/x")
    assert not any(store.get(stored.key) for stored in variants)


def test_purges_by_the_hundred_forget_no_answer_that_they_spare() -> None:
    store = make_store(8 * MIB)
    for number in range(1000):
        put(store, answer(number, tags=(b"%d" % number,)))
    for number in range(0, 1000, 2):
        store.purge(tag=b"%d" % number)
    kept = {number for number in range(1000) if store.get(answer(number).key)}
    assert kept == set(range(1, 1000, 2))


def test_the_summary_tells_of_each_route_how_much_how_old_and_how_large() -> None:
    clock = StillClock()
    store = MemoryStore(CacheStoreSettings(max_size=MIB), clock)
    for number, route in enumerate(("b", "a", "b")):
        clock.now = 100.0 + number
        put(store, answer(number, route=route, body=bytes(1000 * number)))
    first, second = store.summarize()
    assert (first.route, first.entries, first.oldest) == ("a", 1, 101.0)
    assert (second.route, second.entries, second.oldest) == ("b", 2, 100.0)
    assert 2000 < second.largest < second.bytes
    assert first.bytes + second.bytes == store.stats.bytes


def test_an_emptied_store_holds_no_bytes() -> None:
    store = make_store()
    for number in range(100):
        put(store, answer(number, tags=(b"%d" % number, b"all")))
        store.get(answer(number).key)
        store.get(answer(number).key)
    for number in range(100):
        store.invalidate(answer(number).key)
    assert (store.stats.entries, store.stats.bytes, list(store.summarize())) == (0, 0, [])


def test_an_export_gives_everything_once_most_valuable_first() -> None:
    store = make_store()
    for number in range(200):
        put(store, answer(number))
    for _ in range(3):
        store.get(answer(150).key)
    exported = [pair for batch in store.export() for pair in batch]
    assert exported[0][1].key == answer(150).key
    assert {stored.key for _, stored in exported} == {answer(number).key for number in range(200)}
    assert len(exported) == 200


def test_a_restored_answer_takes_only_room_that_nobody_has() -> None:
    store = make_store()
    put(store, answer(1, body=b"here"))
    assert not store.restore(7, answer(1, body=b"restored"))
    assert store.restore(7, answer(2))
    number = 3
    while store.restore(0, answer(number, body=bytes(10_000))):
        number += 1
    assert store.stats.evictions == {}
    assert bodies(store, answer(1).key) == [b"here"]
    assert store.get(answer(2).key)


@pytest.mark.parametrize(
    ("count", "body", "fields", "churn"),
    [(60_000, 60, 4, 1), (30_000, 1000, 12, 1), (30_000, 1000, 12, 3), (400, 100_000, 8, 3)],
    ids=["tiny", "usual", "usual after evictions", "large"],
)
def test_the_bytes_it_counts_are_within_a_tenth_of_the_memory_that_it_takes(
    count: int, body: int, fields: int, churn: int
) -> None:
    measured = subprocess.run(
        [sys.executable, "-m", "tests.support.store_memory", *map(str, (count, body, fields, churn))],
        check=True,
        capture_output=True,
        text=True,
    )
    counted, grown = map(int, measured.stdout.split())
    assert counted == pytest.approx(grown, rel=0.1)


def test_no_operation_takes_long_however_much_is_stored() -> None:
    store = make_store(64 * MIB)
    for number in range(40_000):
        put(store, answer(number, tags=(b"t",)))
    began = time.thread_time()
    store.purge(tag=b"t")
    store.purge(prefix=b"http://catalog")
    store.purge(route="catalog")
    list(store.summarize())
    assert time.thread_time() - began < 0.2


KEYS = st.integers(0, 9)
VARIANTS = st.sampled_from([(), language(b"de"), language(None)])


class AgainstNaiveStore(RuleBasedStateMachine):
    """The store beside a plain dict that never evicts: what the store gives must be what the dict has."""

    def __init__(self) -> None:
        super().__init__()
        self.store = make_store(8 * 1024, max_variants=3)
        self.naive: dict[tuple[bytes, object], StoredResponse] = {}
        self.token = 0
        self.racing: set[int] = set()
        self.puts = 0
        """By key, what `get` gave last, and the store's `changes` then."""

    def stored(self, number: int, selecting: tuple[tuple[bytes, bytes | None], ...], size: int) -> StoredResponse:
        self.puts += 1
        body = b"%d " % self.puts + bytes(size)
        tags = (b"even",) if number % 2 == 0 else (b"odd", b"%d" % number)
        return answer(number, selecting=selecting, route=str(number % 3), body=body, tags=tags)

    @rule(number=KEYS, selecting=VARIANTS, size=st.integers(0, 3000))
    def put(self, number: int, selecting: tuple[tuple[bytes, bytes | None], ...], size: int) -> None:
        stored = self.stored(number, selecting, size)
        if put(self.store, stored):
            self.naive[stored.key, selecting] = stored
            assert self.store.get(stored.key)[0].body == stored.body

    @rule()
    def begin(self) -> None:
        self.token = self.store.begin(b"")
        self.racing = set()

    @rule(number=KEYS)
    def put_late(self, number: int) -> None:
        stored = self.stored(number, (), 10)
        if self.store.put(stored, self.token):
            assert number not in self.racing
            self.naive[stored.key, ()] = stored
        else:
            assert number in self.racing

    @rule(number=KEYS)
    def get(self, number: int) -> None:
        key = answer(number, route=str(number % 3)).key
        variants = self.store.get(key)
        for given_back in variants:
            assert given_back.body == self.naive[key, given_back.selecting].body

    def forget(self, numbers: set[int]) -> None:
        self.racing |= numbers
        keys = {answer(number, route=str(number % 3)).key for number in numbers}
        self.naive = {name: stored for name, stored in self.naive.items() if name[0] not in keys}

    @rule(number=KEYS)
    def invalidate(self, number: int) -> None:
        self.store.invalidate(answer(number, route=str(number % 3)).key)
        self.forget({number})

    @rule(number=KEYS)
    def purge_url(self, number: int) -> None:
        self.store.purge(url=answer(number).url)
        self.forget({number})

    @rule(route=st.integers(0, 2))
    def purge_route(self, route: int) -> None:
        self.store.purge(route=str(route))
        self.forget(set(range(route, 10, 3)))

    @rule()
    def purge_tag(self) -> None:
        self.store.purge(tag=b"even")
        self.forget(set(range(0, 10, 2)))

    @rule()
    def purge_prefix(self) -> None:
        self.store.purge(prefix=b"http://catalog.svc:8080/items/1", route="1")
        self.forget({1})

    @precondition(lambda self: self.puts)
    @rule()
    def summarize(self) -> None:
        held = self.store.summarize()
        assert sum(route.entries for route in held) == self.store.stats.entries <= len(self.naive)

    @invariant()
    def stays_within_its_bytes(self) -> None:
        assert 0 <= self.store.stats.bytes <= 8 * 1024

    @invariant()
    def totals_equal_the_sum_of_the_slots(self) -> None:
        queues, catalog = self.store._queues, self.store._catalog
        held = [slot for slot in range(queues.end) if catalog.holds(slot)]
        assert queues.bytes == sum(queues.sizes[slot] for slot in held)
        assert self.store.stats.bytes == queues.bytes + catalog.tags.bytes + self.store._live.bytes
        assert len(queues) == len(held)


TestAgainstNaiveStore = AgainstNaiveStore.TestCase
TestAgainstNaiveStore.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
