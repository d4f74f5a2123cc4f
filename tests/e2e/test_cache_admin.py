"""What the admin API and the metrics say about the cache of a running sidecar, and how it is purged."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.support.caching_origin import caching_origin, message
from tests.support.origin import AGAIN, GATE, READ, RESET
from tests.support.still_sidecar import still_sidecar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import StartOrigin
    from tests.support.caching_origin import CachingOrigin
    from tests.support.messages import WireRequest
    from tests.support.still_sidecar import StillSidecar

BODY = b"x" * 1000
NO_TRIPS = {"failure_threshold": None, "failure_rate": None}


def tagged(request: WireRequest) -> bytes:
    """Every page is fresh for a minute and has its path's parts as tags."""
    tags = " ".join(request.target.decode().strip("/").split("/"))
    return message(BODY, "Cache-Control: max-age=60", f"Surrogate-Key: {tags}", "Vary: Accept-Language")


@asynccontextmanager
async def shop() -> AsyncIterator[tuple[CachingOrigin, StillSidecar]]:
    """Two routes with a cache to one origin, and one without."""
    async with caching_origin(tagged) as origin:
        top = {
            "upstreams": {"origin": {"url": origin.url, "breaker": NO_TRIPS}},
            "routes": [
                {"name": "a", "match": {"prefix": "/a/"}, "upstream": "origin"},
                {"name": "b", "match": {"prefix": "/b/"}, "upstream": "origin"},
                {"name": "off", "match": {"prefix": "/off/"}, "upstream": "origin", "cache": {"mode": "off"}},
            ],
        }
        async with still_sidecar(None, top=top) as sidecar:
            yield origin, sidecar


async def by_route(sidecar: StillSidecar) -> dict[str, Any]:
    shown = await sidecar.api("GET", "/v1/cache")
    return {route.pop("route"): route for route in shown["routes"]}


async def test_the_numbers_are_those_of_what_happened() -> None:
    async with shop() as (_, sidecar):
        await sidecar.get("/a/1")
        sidecar.clock.advance(10)
        await sidecar.get("/a/2")
        await sidecar.get("/a/1")
        await sidecar.get("/a/1", "Accept-Language: de")
        await sidecar.get("/b/1")
        await sidecar.get("/b/1", "Cache-Control: no-store")
        await sidecar.get("/off/1")
        whole = await sidecar.api("GET", "/v1/cache")
        routes = await by_route(sidecar)
        metrics = await sidecar.metrics()
    assert whole["entries"] == 4
    assert 4000 < whole["bytes"] < 12_000
    assert whole["max_size"] == 64 * 1024 * 1024
    # What finding entries by key and tag takes belongs to no route.
    assert 0.9 < (routes["a"]["bytes"] + routes["b"]["bytes"]) / whole["bytes"] <= 1
    assert set(routes) == {"a", "b"}
    assert (routes["a"]["entries"], routes["b"]["entries"]) == (3, 1)
    assert (routes["a"]["oldest"], routes["b"]["oldest"]) == ("2001-09-09T01:46:40.000Z", "2001-09-09T01:46:50.000Z")
    assert 1000 < routes["a"]["largest"] < 3000
    assert routes["a"]["results"] == {"uri-miss": 2, "hit": 1, "vary-miss": 1}
    assert routes["b"]["results"] == {"uri-miss": 1, "request": 1}
    assert routes["a"]["answers"] == {"stored": 3}
    for route, results in (("a", routes["a"]["results"]), ("b", routes["b"]["results"])):
        for word, number in results.items():
            assert metrics.total("sidecar_cache_requests_total", route=route, result=word) == number
    assert metrics.total("sidecar_cache_entries") == 4
    assert metrics.total("sidecar_cache_bytes") == whole["bytes"]
    assert metrics.total("sidecar_cache_served_age_seconds_count", route="a") == 1
    assert metrics.total("sidecar_requests_total", source="cache") == 1


PAGES = ("/a/shoes/1", "/a/shoes/2", "/a/hats/1", "/b/shoes/1")


@pytest.mark.parametrize(
    ("selectors", "gone"),
    [
        ({"route": "a"}, PAGES[:3]),
        ({"url": "/a/shoes/1"}, PAGES[:1]),
        ({"url": "/a/shoes"}, ()),
        ({"prefix": "/a/shoes/"}, PAGES[:2]),
        ({"prefix": "/"}, PAGES),
        ({"tag": "shoes"}, (PAGES[0], PAGES[1], PAGES[3])),
        ({"tag": "shoe"}, ()),
        ({"route": "a", "tag": "shoes"}, PAGES[:2]),
        ({"prefix": "/a/", "tag": "1"}, (PAGES[0], PAGES[2])),
    ],
    ids=str,
)
async def test_a_purge_forgets_what_it_names_and_nothing_else(selectors: dict[str, str], gone: tuple[str, ...]) -> None:
    async with shop() as (origin, sidecar):
        for page in PAGES:
            for language in ("de", "en"):
                await sidecar.get(page, f"Accept-Language: {language}")
        named = {name: origin.url + value if value.startswith("/") else value for name, value in selectors.items()}
        query = "&".join(f"{name}={quote(value)}" for name, value in named.items())
        told = await sidecar.api("DELETE", f"/v1/cache?{query}")
        assert (told["purged"], told["urls"]) == (2 * len(gone), [origin.url + page for page in gone])
        # Looking must not store anew, so that each page is judged by itself.
        held = [page for page in PAGES if await is_held(sidecar, page)]
        assert held == [page for page in PAGES if page not in gone]
        metrics = await sidecar.metrics()
        events = await sidecar.api("GET", "/v1/events")
    assert metrics.total("sidecar_cache_entries") == 2 * len(held)
    assert metrics.total("sidecar_cache_evictions_total", reason="purged") == 2 * len(gone)
    assert [event["kind"] for event in events["events"]][-1:] == ["purge"]


REWRITTEN = [
    {"name": "shop", "match": {"prefix": "/shop/"}, "upstream": "origin", "rewrite": {"strip_prefix": "/shop"}},
    {"name": "beta", "match": {"prefix": "/shop/", "headers": {"x-beta": "1"}}, "upstream": "origin",
     "rewrite": {"strip_prefix": "/shop", "add_prefix": "/beta"}},
    {"name": "other", "match": {"prefix": "/"}, "upstream": "origin", "cache": {"query": {"exclude": ["utm"]}}},
]  # fmt: skip
ASKED: dict[str, tuple[str, str]] = {
    # Client's path and request field, by the path that the upstream sees.
    "/item?a=%2F": ("/shop/item?a=%2F", "X-A: b"),
    "/beta/item?a=%2F": ("/shop/item?a=%2F", "X-Beta: 1"),
    "/beta/only": ("/shop/only", "X-Beta: 1"),
    "/item2?a=1": ("/item2?utm=1&a=1", "X-A: b"),
}


@pytest.mark.parametrize(
    ("selector", "value", "whose", "gone"),
    [
        ("url", "/shop/item?a=%2F", "client", ["/item?a=%2F", "/beta/item?a=%2F"]),
        ("url", "http://{proxy}/shop/item?a=%2F", "client", ["/item?a=%2F", "/beta/item?a=%2F"]),
        ("url", "http://any.example/shop/only", "client", ["/beta/only"]),
        ("url", "{origin}/item?a=%2F", "upstream", ["/item?a=%2F"]),
        ("url", "{origin}/shop/item?a=%2F", "upstream", []),
        ("url", "/shop/item", "client", []),
        ("url", "/item2?a=1&utm=2", "client", ["/item2?a=1"]),
        ("url", "{origin}/item2?utm=3&a=1", "upstream", ["/item2?a=1"]),
        ("prefix", "/shop/", "client", ["/item?a=%2F", "/beta/item?a=%2F", "/beta/only"]),
        ("prefix", "/shop/it", "client", ["/item?a=%2F", "/beta/item?a=%2F"]),
        ("prefix", "/", "client", list(ASKED)),
        ("prefix", "{origin}/beta", "upstream", ["/beta/item?a=%2F", "/beta/only"]),
    ],
)
async def test_a_purge_takes_the_clients_url_as_well_as_the_upstreams(
    selector: str, value: str, whose: str, gone: list[str]
) -> None:
    answer = message(BODY, "Cache-Control: max-age=60")
    async with caching_origin(lambda _: answer) as origin:
        top = {"upstreams": {"origin": {"url": origin.url, "breaker": NO_TRIPS}}, "routes": REWRITTEN}
        async with still_sidecar(None, top=top) as sidecar:
            for target, line in ASKED.values():
                await sidecar.get(target, line)
            assert [request.target.decode() for request in origin.requests] == [
                "/item?a=%2F", "/beta/item?a=%2F", "/beta/only", "/item2?utm=1&a=1",
            ]  # fmt: skip
            given = value.format(origin=origin.url, proxy=":".join(map(str, sidecar.proxy)))
            told = await sidecar.api("DELETE", f"/v1/cache?{selector}={quote(given, safe='')}")
            held = [
                path
                for path, (target, line) in ASKED.items()
                if (await sidecar.get(target, line, "Cache-Control: only-if-cached")).status == 200
            ]
    assert held == [path for path in ASKED if path not in gone]
    assert (told["purged"], sorted(told["urls"])) == (len(gone), sorted(origin.url + path for path in gone))
    assert {each["whose"] for each in told["meant"][selector]} == {whose}


async def test_an_answer_on_its_way_loses_against_a_purge_of_the_clients_url(start_origin: StartOrigin) -> None:
    origin = await start_origin((READ, GATE, message(BODY, "Cache-Control: max-age=60"), AGAIN))
    route = {"rewrite": {"strip_prefix": "/shop"}}
    async with still_sidecar(origin, upstream={"cache": {}, "breaker": NO_TRIPS}, route=route) as sidecar:
        client = await sidecar.connect()
        await client.send(b"GET /shop/item HTTP/1.1\r\nHost: a\r\n\r\n")
        await origin.until(lambda origin: origin.requests)
        assert (await sidecar.api("DELETE", "/v1/cache?url=/shop/item"))["purged"] == 0
        origin.gate.set()
        assert (await client.response()).body == BODY
        assert (await by_route(sidecar))["all"]["entries"] == 0


async def test_a_purge_names_at_most_twenty_urls() -> None:
    async with shop() as (_, sidecar):
        for number in range(25):
            await sidecar.get(f"/a/{number}")
        told = await sidecar.api("DELETE", "/v1/cache?route=a")
    assert (told["purged"], len(set(told["urls"])), "meant" in told) == (25, 20, False)


async def test_what_is_stored_is_listed_as_clients_and_the_upstream_know_it() -> None:
    async with caching_origin(tagged) as origin:
        top = {
            "upstreams": {"shop": {"url": origin.url, "breaker": NO_TRIPS}},
            "routes": [
                {
                    "name": "catalog",
                    "match": {"prefix": "/catalog/"},
                    "upstream": "shop",
                    "rewrite": {"strip_prefix": "/catalog", "add_prefix": "/v2"},
                },
                {"name": "named", "match": {"prefix": "/", "host": "shop.example"}, "upstream": "shop"},
            ],
        }
        async with still_sidecar(None, top=top) as sidecar:
            await sidecar.get("/catalog/items/1?q=1")
            sidecar.clock.advance(10)
            await sidecar.exchange(b"GET /x HTTP/1.1\r\nHost: shop.example\r\n\r\n")
            sidecar.clock.advance(55)
            listed = await sidecar.api("GET", "/v1/cache/entries")
    assert listed["next"] is None
    first, second = sorted(listed["entries"], key=lambda entry: entry["route"])
    assert first.pop("bytes") > second.pop("bytes") - 100 > len(BODY) - 100
    assert first == {
        "url": f"{origin.url}/v2/items/1?q=1",
        "client_url": "/catalog/items/1?q=1",
        "route": "catalog",
        "age": 65,
        "ttl": -5,
        "tags": ["v2", "items", "1?q=1"],
    }
    assert second == {
        "url": f"{origin.url}/x",
        "client_url": "http://shop.example/x",
        "route": "named",
        "age": 55,
        "ttl": 5,
        "tags": ["x"],
    }


@pytest.mark.parametrize(
    ("query", "listed"),
    [
        ({}, ["/a/1", "/a/2", "/a/21", "/b/2"]),
        ({"route": "a"}, ["/a/1", "/a/2", "/a/21"]),
        ({"prefix": "/a/2"}, ["/a/2", "/a/21"]),
        ({"prefix": "{origin}/a/2"}, ["/a/2", "/a/21"]),
        ({"prefix": "/"}, ["/a/1", "/a/2", "/a/21", "/b/2"]),
        ({"route": "b", "prefix": "/a/"}, []),
        ({"prefix": "/off/"}, []),
    ],
    ids=str,
)
@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_a_list_goes_on_page_by_page(query: dict[str, str], listed: list[str], limit: int) -> None:
    async with shop() as (origin, sidecar):
        for target in ("/a/1", "/a/2", "/a/21", "/b/2", "/off/1"):
            await sidecar.get(target)
        asked = "&".join(f"{name}={quote(value.format(origin=origin.url))}" for name, value in query.items())
        seen: list[str] = []
        cursor: str | None = "0"
        while cursor is not None:
            page = await sidecar.api("GET", f"/v1/cache/entries?limit={limit}&cursor={cursor}&{asked}".rstrip("&"))
            assert len(page["entries"]) <= limit
            seen += [entry["client_url"] for entry in page["entries"]]
            cursor = page["next"]
        assert sorted(seen) == listed


async def test_what_was_purged_is_listed_no_more() -> None:
    async with shop() as (_, sidecar):
        for target in ("/a/1", "/a/2", "/b/2"):
            await sidecar.get(target)
        await sidecar.api("DELETE", "/v1/cache?route=a")
        await sidecar.api("DELETE", "/v1/cache?tag=2")
        assert (await sidecar.api("GET", "/v1/cache/entries"))["entries"] == []


async def test_mode_fallback_counts_as_stale_only_what_is_served_stale() -> None:
    cache = {"mode": "fallback", "ttl": "10s"}
    async with (
        caching_origin(lambda _: message(BODY)) as origin,
        still_sidecar(origin.url, upstream={"cache": cache, "breaker": NO_TRIPS}) as sidecar,
    ):
        told = []
        for _ in range(4):
            told.append((await sidecar.get("/item")).get("cache-status"))
            sidecar.clock.advance(60)
        healthy = await sidecar.metrics()
        origin.answer = lambda _: message(b"", status=503)
        await sidecar.get("/item")
        failing = await sidecar.metrics()
    assert told == [b"sidecar; fwd=uri-miss; stored", *[b"sidecar; fwd=bypass; stored"] * 3]
    results = {word: healthy.total("sidecar_cache_requests_total", result=word) for word in ("uri-miss", "bypass")}
    assert results == {"uri-miss": 1, "bypass": 3}
    for metrics, stale in ((healthy, 0), (failing, 1)):
        assert metrics.total("sidecar_cache_requests_total", result="stale") == 0
        assert metrics.total("sidecar_cache_requests_total", result="hit-stale") == stale
        assert metrics.total("sidecar_requests_total", source="stale") == stale
        assert metrics.total("sidecar_requests_total", source="upstream") == 4


async def is_held(sidecar: StillSidecar, page: str) -> bool:
    return (await sidecar.get(page, "Cache-Control: only-if-cached", "Accept-Language: de")).status == 200


async def test_an_answer_on_its_way_loses_against_a_purge(start_origin: StartOrigin) -> None:
    origin = await start_origin((READ, GATE, message(BODY, "Cache-Control: max-age=60"), AGAIN))
    async with still_sidecar(origin, upstream={"cache": {}, "breaker": NO_TRIPS}) as sidecar:
        client = await sidecar.connect()
        await client.send(b"GET /item HTTP/1.1\r\nHost: a\r\n\r\n")
        await origin.until(lambda origin: origin.requests)
        assert await sidecar.api("DELETE", "/v1/cache?route=all") == {"purged": 0, "urls": []}
        origin.gate.set()
        assert (await client.response()).body == BODY
        assert (await by_route(sidecar))["all"]["entries"] == 0
        explained = await sidecar.api("GET", "/v1/explain?url=/item")
    assert explained["cache"]["last"]["why"] == "purged meanwhile, or no room"


# Why


ANSWERS: dict[str, tuple[tuple[str, ...], str]] = {
    "stored": (("Cache-Control: max-age=60",), "stored"),
    "no-store": (("Cache-Control: no-store",), "no-store"),
    "private": (("Cache-Control: private",), "private"),
    "a cookie": (("Cache-Control: max-age=60", "Set-Cookie: a=b"), "Set-Cookie"),
    "Vary: *": (("Cache-Control: max-age=60", "Vary: *"), "Vary matches no other request"),
    "nothing said": ((), "neither freshness nor validator"),
}


@pytest.mark.parametrize(("lines", "why"), ANSWERS.values(), ids=ANSWERS.keys())
async def test_explain_says_why_an_answer_was_stored_or_not(lines: tuple[str, ...], why: str) -> None:
    async with (
        caching_origin(lambda _: message(BODY, *lines)) as origin,
        still_sidecar(origin.url, upstream={"cache": {}}) as sidecar,
    ):
        before = await sidecar.api("GET", "/v1/explain?url=/item%3Fa=1")
        await sidecar.get("/item?a=1")
        after = await sidecar.api("GET", "/v1/explain?url=/item%3Fa=1")
        route = (await by_route(sidecar))["all"]
    key = f"all {origin.url}/item?a=1"
    assert before["cache"] == {"key": key, "bypass": None, "last": None}
    last = {"key": key, "status": 200, "stored": why == "stored", "why": why, "at": "2001-09-09T01:46:40.000Z"}
    assert after["cache"] == {"key": key, "bypass": None, "last": last}
    assert (route["last"], route["answers"]) == (last, {why: 1})


async def test_explain_says_that_an_answer_was_cut_short(start_origin: StartOrigin) -> None:
    half = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 9\r\n\r\nhalf"
    origin = await start_origin((READ, half, RESET))
    async with still_sidecar(origin, upstream={"cache": {}}) as sidecar:
        client = await sidecar.connect()
        await client.send(b"GET /item HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await client.was_cut()
        explained = await sidecar.api("GET", "/v1/explain?url=/item")
    assert explained["cache"]["last"]["why"] == "cut short"


async def test_explain_says_what_keeps_a_request_from_the_store() -> None:
    async with shop() as (_, sidecar):
        asked = [
            sidecar.api("GET", f"/v1/explain?url=/{path}")
            for path in ("a/1", "a/1&method=POST", "a/1&header=X-Forwarded-Host:evil", "off/1", "nowhere")
        ]
        told = [answer["cache"] for answer in await asyncio.gather(*asked)]
    assert [None if cache is None else cache["bypass"] for cache in told] == [
        None, "method", "unkeyed field", None, None,
    ]  # fmt: skip
    assert told[3:] == [None, None]
