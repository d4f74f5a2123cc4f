"""What the pipeline may count on whichever store it has: memory, or a fleet's store behind the memory of each sidecar.

For the latter one sidecar puts, and a fresh one, whose memory is empty, gets; what is forgotten is so by the one that
put, or by another.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.redis_server import RedisServer, redis_server
from tests.support.store_views import FleetView, MemoryView, View, scene
from tests.support.stored_answers import answer, language
from tests.support.wire import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MAX_VARIANTS = 3


@pytest.fixture(params=["redis", "valkey"])
async def server(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    no_task_leaks: None,  # noqa: ARG001 - torn down after it
) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path, request.param) as server:
        yield server


@pytest.fixture(params=["memory", "redis", "redis, forgotten elsewhere"])
async def store(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    no_task_leaks: None,  # noqa: ARG001 - torn down after it
) -> AsyncIterator[View]:
    if request.param == "memory":
        yield MemoryView(MAX_VARIANTS)
        return
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(redis_server(tmp_path))
        made = await stack.enter_async_context(scene(server, MAX_VARIANTS))
        one = await made.pod()
        yield FleetView(made, one, one if request.param == "redis" else await made.pod())


async def test_what_was_put_is_given_back_as_it_was(store: View) -> None:
    stored = answer(1, tags=(b"a", b"b"), selecting=language(None), body=bytes(range(256)))
    assert await store.put(stored)
    (again,) = await store.get(stored.key)
    same = ("key", "selecting", "head", "prepared", "body", "rules", "route", "url", "tags", "stored_wall")
    for name in same:
        assert getattr(again, name) == getattr(stored, name), name
    for name in ("born", "expires_at", "keep_until"):
        assert getattr(again, name) == pytest.approx(getattr(stored, name), abs=1.0), name


async def test_a_key_that_was_never_put_has_no_variants(store: View) -> None:
    assert await store.get(b"unknown") == []


async def test_a_put_replaces_the_same_variant_and_keeps_the_others(store: View) -> None:
    for name, body in ((b"de", b"1"), (b"en", b"2"), (b"de", b"3")):
        await store.put(answer(selecting=language(name), body=body))
    assert await store.bodies(answer().key) == [b"3", b"2"]


async def test_the_oldest_variant_goes_when_a_key_has_too_many(store: View) -> None:
    for name in (b"de", b"en", b"fr", b"it"):
        await store.put(answer(selecting=language(name), body=name))
    assert await store.bodies(answer().key) == [b"it", b"fr", b"en"]


async def test_an_invalidated_key_loses_every_variant_and_every_fetch_under_way(store: View) -> None:
    for name in (b"de", b"en"):
        await store.put(answer(selecting=language(name)))
    store.begin()
    await store.invalidate(answer().key)
    assert await store.bodies(answer().key) == []
    assert not await store.later(answer())
    assert await store.later(answer(2))
    assert await store.put(answer(body=b"new"))
    assert await store.bodies(answer().key) == [b"new"]


async def test_single_variants_of_a_key_may_be_invalidated(store: View) -> None:
    for name in (b"de", b"en"):
        await store.put(answer(selecting=language(name), body=name))
    await store.invalidate(answer().key, [language(b"de"), language(b"fr")])
    assert await store.bodies(answer().key) == [b"en"]


SELECTORS: list[tuple[dict[str, str | bytes], set[int]]] = [
    ({"route": "a"}, {0, 1}),
    ({"url": b"http://u/x/1"}, {1, 3}),
    ({"prefix": b"http://u/x"}, {0, 1, 3}),
    ({"tag": b"t"}, {1, 2}),
    ({"route": "a", "tag": b"t"}, {1}),
    ({"route": "b", "prefix": b"http://u/x"}, {3}),
    ({"route": "unknown"}, set()),
]
ANSWERS = [
    answer(url=b"http://u/x/0", route="a", body=b"0"),
    answer(url=b"http://u/x/1", route="a", tags=(b"t", b"s"), body=b"1"),
    answer(url=b"http://u/y/0", route="b", tags=(b"t",), body=b"2"),
    answer(url=b"http://u/x/1", route="b", body=b"3"),
]


@pytest.mark.parametrize(("selector", "covered"), SELECTORS, ids=[" ".join(selector) for selector, _ in SELECTORS])
async def test_a_purge_takes_what_it_covers_and_the_fetches_of_it_under_way(
    store: View, selector: dict[str, Any], covered: set[int]
) -> None:
    for stored in ANSWERS:
        await store.put(stored)
    store.begin()
    await store.purge(**selector)
    assert await gone(store) == covered
    assert {number for number, stored in enumerate(ANSWERS) if not await store.later(stored)} == covered
    assert [await store.put(stored) for stored in ANSWERS] == [True] * len(ANSWERS)
    assert await gone(store) == set()


async def gone(store: View) -> set[int]:
    return {number for number, stored in enumerate(ANSWERS) if not await store.get(stored.key)}


# What is the fleet's store's alone


async def test_what_no_request_can_use_any_more_is_not_written(server: RedisServer) -> None:
    async with scene(server) as made:
        pod = await made.pod()
        pod.put(answer(1, keep_until=made.clock.now))
        pod.put(answer(2, keep_until=made.clock.now + 5))
        await made.all_know()
        keys = await server.ask("KEYS", "{shop}:cache:e:*")
        assert len(keys) == 1
        assert 4000 < await server.ask("PTTL", keys[0]) <= 5000


async def test_a_write_of_one_who_has_not_heard_of_an_invalidation_is_refused(server: RedisServer) -> None:
    async with scene(server) as made:
        one, other = await made.pod(), await made.pod()
        one.far.held.clear()
        one.put(answer())
        one.put(answer(1, tags=(b"t",)))
        await eventually(lambda: one.far.waiting)
        other.memory.invalidate(answer().key)
        other.memory.purge(tag=b"t")
        assert await other.shared.told(writes=True)
        one.far.held.set()
        await made.all_know()
        assert (one.stats.writes["refused"], one.stats.writes["stored"]) == (1, 1)
        fresh = await made.pod()
        assert await fresh.look(answer().key) == []
        assert await fresh.look(answer(1).key) == [], "written, and covered by a purge that its writer had not heard of"


async def test_what_one_forgets_and_fetches_anew_is_kept(server: RedisServer) -> None:
    async with scene(server) as made:
        one = await made.pod()
        for body in (b"1", b"2", b"3"):
            one.memory.invalidate(answer().key)
            one.memory.purge(tag=b"t")
            one.put(answer(body=body, tags=(b"t",)))
            assert await one.shared.told(writes=True)
            assert await (await made.pod()).look(answer().key) == [body]


async def test_the_memory_of_purges_is_bounded_and_forgets_on_the_safe_side(server: RedisServer) -> None:
    async with scene(server) as made:
        one = await made.pod()
        one.put(answer(1))
        await made.all_know()
        for number in range(1200):
            one.memory.purge(tag=b"%d" % number)
            if number % 200 == 0:
                assert await one.shared.told()
        await made.all_know()
        assert await server.ask("ZCARD", "{shop}:cache:purges") <= 1001
        fresh = await made.pod()
        assert await fresh.look(answer(1).key) == [], "older than the oldest purge that is known"
        one.put(answer(2))
        await made.all_know()
        assert await fresh.look(answer(2).key) == [b"body"]


async def test_the_clocks_of_sidecars_do_not_matter(server: RedisServer) -> None:
    async with scene(server) as made:
        one, other = await made.pod(), await made.pod()
        one.put(answer())
        await made.all_know()
        made.clock.now += 7777.0
        made.clock.time -= 60.0
        assert await other.look(answer().key) == [b"body"]
        (again,) = other.memory.get(answer().key)
        assert again.expires_at - made.clock.now == pytest.approx(100.0, abs=1.0)


async def test_an_answer_in_memory_gives_way_to_a_younger_one_only(server: RedisServer) -> None:
    async with scene(server) as made:
        one, other = await made.pod(), await made.pod()
        one.put(answer(body=b"from one"))
        await made.all_know()
        other.put(replace(answer(body=b"younger"), born=950.0))
        assert await other.look(answer().key) == [b"younger"]
        await made.all_know()
        assert await one.look(answer().key) == [b"younger"]


async def test_one_look_serves_all_who_want_it_and_many_at_once_are_not_too_many(server: RedisServer) -> None:
    async with scene(server) as made:
        one, other = await made.pod(), await made.pod()
        one.put(answer())
        await made.all_know()
        commands = other.far.stats.commands
        found = await asyncio.gather(*(other.look(answer().key) for _ in range(100)))
        assert found == [[b"body"]] * 100
        assert other.far.stats.commands - commands <= 2
        await asyncio.gather(*(other.look(answer(number).key) for number in range(1, 101)))
        assert (other.stats.reads["miss"], other.stats.reads["skipped"]) == (24, 76)
