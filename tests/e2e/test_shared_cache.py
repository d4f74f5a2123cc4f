"""Several sidecars whose stored answers lie in one Redis: what one has fetched all have, and what one purges all do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fleet import FleetScene, fleet_scene
from tests.support.redis_server import redis_server
from tests.support.shared_cache import ENTRIES, Pages, body, has_written, looks, start_pods, writes
from tests.support.wire import comes_true, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.running import InProcess

SOON = 1.0
"""Seconds after which a purge has taken effect everywhere."""


class Shop:
    """The scene, and what its origin answers."""

    def __init__(self, scene: FleetScene, pages: Pages) -> None:
        self.scene = scene
        self.pages = pages

    async def pods(self, count: int = 2, **blocks: Any) -> list[InProcess]:
        return await start_pods(self.scene, count, **blocks)


@pytest.fixture
async def shop(tmp_path: Path, no_task_leaks: None) -> AsyncIterator[Shop]:  # noqa: ARG001 - torn down after it
    async with redis_server(tmp_path) as server, fleet_scene(server) as scene:
        pages = Pages()
        scene.origin.answer = pages
        yield Shop(scene, pages)


async def test_what_one_has_fetched_all_have(shop: Shop) -> None:
    one, other = await shop.pods()
    assert await body(one) == b"1"
    await has_written(one, 1)
    again = await other.get("/1")
    assert again.body == b"1"
    assert b"hit" in again.all("cache-status")[0]
    assert shop.pages.count == 1
    assert (await looks(one, "miss"), await looks(other, "hit")) == (1, 1)
    assert await body(other) == b"1"
    assert await looks(other, "hit") == 1, "the second time it is in memory"


async def test_an_age_counts_on_in_redis(shop: Shop) -> None:
    one, other = await shop.pods()
    shop.pages.fields = ["Cache-Control: max-age=60", "Age: 30"]
    await body(one)
    await has_written(one, 1)
    assert int((await other.get("/1")).all("age")[0]) >= 30


@pytest.mark.parametrize(
    "query",
    ["url=/a/1", "url={origin}/a/1", "prefix=/a", "prefix={origin}/a", "tag=a", "route=all"],
)
async def test_a_purge_takes_effect_on_every_pod(shop: Shop, query: str) -> None:
    pods = await shop.pods(3)
    await body(pods[0], "/a/1")
    await body(pods[0], "/b/1")
    await has_written(pods[0], 2)
    for pod in pods[:2]:
        assert (await body(pod, "/a/1"), await body(pod, "/b/1")) == (b"1", b"2")
    purged = await pods[1].api("DELETE", f"/v1/cache?{query.format(origin=shop.scene.origin.url)}")
    assert purged["purged"] >= 1
    assert await body(pods[2], "/a/1") == b"3", "one that had nothing in memory"

    async def gone() -> bool:
        return await body(pods[0], "/a/1") == b"3"

    await comes_true(gone, within=SOON)
    spared = await body(pods[0], "/b/1") == b"2"
    assert spared == (query != "route=all")


async def test_a_purge_that_nobody_was_told_of_is_learned(shop: Shop) -> None:
    one, other = await shop.pods()
    assert await body(one) == await body(other) == b"1"
    await shop.scene.server.ask("CLIENT", "KILL", "TYPE", "pubsub")
    await one.api("DELETE", "/v1/cache?url=/1")

    async def gone() -> bool:
        return await body(other) == b"2"

    await comes_true(gone, within=SOON)


async def test_a_fetch_that_a_purge_elsewhere_overtakes_is_not_kept(shop: Shop) -> None:
    one, other = await shop.pods()
    pages, origin = shop.pages, shop.scene.origin
    assert await body(one, "/slow/told") == b"1"
    origin.answer = lambda request: None if request.target == b"/slow" else pages(request)
    asking = asyncio.ensure_future(body(one, "/slow"))
    await eventually(lambda: "GET /slow" in origin.lines)
    await other.api("DELETE", "/v1/cache?prefix=/slow")

    async def told() -> bool:
        return await body(one, "/slow/told") == b"2"

    await comes_true(told, within=SOON)
    origin.say(pages(origin.requests[0]) or b"")
    assert await asking == b"3"
    origin.answer = pages
    assert await body(one, "/slow") == b"4"
    assert await body(other, "/slow") == b"4"


async def test_what_an_unsafe_request_changed_is_gone_everywhere(shop: Shop) -> None:
    one, other = await shop.pods()
    assert await body(one) == b"1"
    await has_written(one, 1)
    assert await body(other) == b"1"
    await other.exchange(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "POST")
    assert await body(other) == b"3"

    async def gone() -> bool:
        return await body(one) == b"3"

    await comes_true(gone, within=SOON)


async def test_what_was_withdrawn_does_not_come_back(shop: Shop) -> None:
    one, other = await shop.pods()
    shop.pages.fields = ["Cache-Control: max-age=0, stale-while-revalidate=0"]
    assert await body(one) == b"1"
    await has_written(one, 1)
    shop.pages.fields = ["Cache-Control: no-store"]
    assert await body(other) == b"2"
    await comes_true(lambda: no_entries(shop))
    shop.pages.down = True
    (fresh,) = (await shop.pods(1))[-1:]
    assert (await fresh.get("/1")).status == 503


async def no_entries(shop: Shop) -> bool:
    keys = await shop.scene.server.ask("KEYS", ENTRIES)
    return not [key for key in keys if await shop.scene.server.ask("HEXISTS", key, "order")]


async def test_a_fresh_pod_serves_stale_while_the_upstream_is_down(shop: Shop) -> None:
    (one,) = await shop.pods(1)
    shop.pages.fields = ["Cache-Control: max-age=0"]
    await body(one)
    await has_written(one, 1)
    shop.pages.down = True
    (fresh,) = (await shop.pods(1))[-1:]
    assert await body(fresh) == b"1"
    for _ in range(3):
        await fresh.get("/other")
    stale = await fresh.get("/1")
    assert stale.body == b"1"
    assert b"circuit_open" in stale.all("cache-status")[0]


async def test_every_key_has_the_namespace_and_a_ttl(shop: Shop) -> None:
    one, _ = await shop.pods(2, upstream={"cache": {"mode": "standard", "stale_ttl": "30s"}})
    await body(one)
    await has_written(one, 1)
    await one.exchange(b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "POST")
    await one.api("DELETE", "/v1/cache?tag=none")
    server = shop.scene.server
    (entry,) = [key for key in await server.ask("KEYS", ENTRIES) if await server.ask("HEXISTS", key, "order")]
    assert 80_000 < await server.ask("PTTL", entry) <= 90_000, "max-age and stale_ttl"
    keys = await server.ask("KEYS", "*")
    assert len(keys) >= 4
    for key in keys:
        assert key.startswith(b"{shop}:")
        assert await server.ask("PTTL", key) > 0


async def test_large_answers_are_compressed(shop: Shop) -> None:
    one, other = await shop.pods()
    shop.pages.padding = b"x" * 200_000
    whole = await body(one)
    await has_written(one, 1)
    (entry,) = await shop.scene.server.ask("KEYS", ENTRIES)
    assert sum(map(len, await shop.scene.server.ask("HVALS", entry))) < 10_000
    assert await body(other) == whole
    assert shop.pages.count == 1


async def test_variants_are_told_apart(shop: Shop) -> None:
    one, other = await shop.pods()
    shop.pages.fields = ["Cache-Control: max-age=60", "Vary: Accept-Language"]
    de, en = "Accept-Language: de", "Accept-Language: en"
    assert (await body(one, "/1", de), await body(one, "/1", en)) == (b"1", b"2")
    await has_written(one, 2)
    assert (await body(other, "/1", de), await body(other, "/1", en)) == (b"1", b"2")
    assert await looks(other, "hit") == 1, "all variants came at once"


async def test_uncacheable_answers_are_not_looked_for_again_and_again(shop: Shop) -> None:
    one, _ = await shop.pods()
    shop.pages.fields = ["Cache-Control: no-store"]
    for _ in range(5):
        await body(one)
    assert await looks(one, "miss") == 1


async def test_only_if_cached_finds_what_the_fleet_has(shop: Shop) -> None:
    one, other = await shop.pods()
    assert (await other.get("/1", "Cache-Control: only-if-cached")).status == 504
    await body(one)
    await has_written(one, 1)
    assert await body(other, "/1", "Cache-Control: only-if-cached") == b"1"


async def test_a_pod_that_leaves_has_written_everything(shop: Shop) -> None:
    one, other = await shop.pods()
    for number in range(100):
        await body(one, f"/{number}")
    await shop.scene.stop(one)
    assert await body(other, "/99") == b"100"
    assert len(await shop.scene.server.ask("KEYS", ENTRIES)) == 100
    assert await writes(other) == 0
    await eventually(lambda: shop.pages.count == 100)
