"""What the URL of a purge means, given the routes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sidecar.core.cache.purge_target import Meant, UnclearUrl, purge_prefixes, purge_urls
from sidecar.core.config import (
    CacheMode,
    CacheSettings,
    Config,
    Endpoint,
    ForwardedMode,
    Match,
    ProxySettings,
    QueryKey,
    Rewrite,
    RouteConfig,
    UpstreamConfig,
)

SHOP = UpstreamConfig("shop", (Endpoint("http", "shop.svc", 8080),))
PAY = UpstreamConfig("pay", (Endpoint("http", "pay.svc", 80, base_path="/v2/"),))
CLIENT, UPSTREAM = Meant.CLIENT, Meant.UPSTREAM


def route(name: str, upstream: UpstreamConfig = SHOP, cache: CacheSettings | None = None, **parts: Any) -> RouteConfig:
    rewrite = parts.pop("rewrite", Rewrite())
    return RouteConfig(name, Match(**parts), upstream, rewrite=rewrite, cache=cache or CacheSettings())


CONFIG = Config(
    (SHOP, PAY),
    (
        route("shop", prefix="/shop/", rewrite=Rewrite(strip_prefix="/shop")),
        route("beta", prefix="/shop/", headers=(("x-beta", "yes"),), rewrite=Rewrite("/shop", "/beta")),
        route("one", path="/one", rewrite=Rewrite(add_prefix="/only")),
        route("pay", PAY, prefix="/pay", rewrite=Rewrite("/pay")),
        route("hosted", prefix="/", host="shop.example", rewrite=Rewrite(add_prefix="/hosted")),
        route("off", prefix="/off/", cache=CacheSettings(CacheMode.OFF)),
        route("post", prefix="/post/", methods=frozenset({"POST"})),
        route("searched", prefix="/search", cache=CacheSettings(query=QueryKey(exclude=frozenset({"utm"}), sort=True))),
        route("shared", prefix="/shared", cache=CacheSettings(share="all")),
        route("pattern", regex=re.compile(rb"/p/[0-9]+")),
    ),
)
BASE = "http://shop.svc:8080"
URLS: dict[str, list[tuple[Meant, str, str | None]]] = {
    "/shop/1": [(CLIENT, f"{BASE}/1", "shop"), (CLIENT, f"{BASE}/beta/1", "beta")],
    "/any": [(CLIENT, f"{BASE}/hosted/any", "hosted")],
    "http://127.0.0.1:4100/shop/1": [(CLIENT, f"{BASE}/1", "shop"), (CLIENT, f"{BASE}/beta/1", "beta")],
    "https://LOCALHOST:4100/shop/1?a=b": [(CLIENT, f"{BASE}/1?a=b", "shop"), (CLIENT, f"{BASE}/beta/1?a=b", "beta")],
    "http://x/shop": [(CLIENT, f"{BASE}/", "shop"), (CLIENT, f"{BASE}/beta/", "beta")],
    "http://x/one": [(CLIENT, f"{BASE}/only/one", "one")],
    "http://x/one/more": [],
    "http://x/pay/1": [(CLIENT, "http://pay.svc/v2/1", "pay")],
    "http://shop.example/any": [(CLIENT, f"{BASE}/hosted/any", "hosted")],
    "http://shop.example:4100/any": [(CLIENT, f"{BASE}/hosted/any", "hosted")],
    "http://x/off/1": [],
    "http://x/post/1": [],
    "http://x/nowhere": [],
    "http://x/search?b=1&utm=2&a=3": [(CLIENT, f"{BASE}/search?a=3&b=1", "searched")],
    "http://x/shared/1": [(CLIENT, f"{BASE}/shared/1", None)],
    "http://x/p/12": [(CLIENT, f"{BASE}/p/12", "pattern")],
    f"{BASE}/1": [(UPSTREAM, f"{BASE}/1", None)],
    "HTTP://Shop.SVC:8080/Shop/1": [(UPSTREAM, f"{BASE}/Shop/1", None)],
    "http://pay.svc:80/v2/1": [(UPSTREAM, "http://pay.svc/v2/1", None)],
    f"{BASE}/search?b=1&a=3": [
        (UPSTREAM, f"{BASE}/search?b=1&a=3", None), (UPSTREAM, f"{BASE}/search?a=3&b=1", None),
    ],
}  # fmt: skip
PREFIXES: dict[str, list[tuple[Meant, str, str | None]]] = {
    "http://x/shop/a": [
        (CLIENT, f"{BASE}/a", "shop"), (CLIENT, f"{BASE}/beta/a", "beta"), (CLIENT, f"{BASE}/shop/a", "pattern"),
    ],
    "http://x/sho": [
        (CLIENT, f"{BASE}/", "shop"), (CLIENT, f"{BASE}/beta/", "beta"), (CLIENT, f"{BASE}/sho", "pattern"),
    ],
    "http://x/one": [(CLIENT, f"{BASE}/only/one", "one"), (CLIENT, f"{BASE}/one", "pattern")],
    "http://x/one/": [(CLIENT, f"{BASE}/one/", "pattern")],
    "http://shop.example/a": [(CLIENT, f"{BASE}/hosted/a", "hosted"), (CLIENT, f"{BASE}/a", "pattern")],
    f"{BASE}/": [(UPSTREAM, f"{BASE}/", None)],
    "http://sho": [(UPSTREAM, "http://sho", None)],
    "http": [(UPSTREAM, "http", None)],
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), URLS.items(), ids=URLS.keys())
def test_what_a_url_means(text: str, expected: list[tuple[Meant, str, str | None]]) -> None:
    assert [(each.meant, each.url.decode(), each.route) for each in purge_urls(CONFIG, text)] == expected


@pytest.mark.parametrize(("text", "expected"), PREFIXES.items(), ids=PREFIXES.keys())
def test_what_the_beginning_of_urls_means(text: str, expected: list[tuple[Meant, str, str | None]]) -> None:
    assert [(each.meant, each.url.decode(), each.route) for each in purge_prefixes(CONFIG, text)] == expected


def test_a_path_means_every_route_below_it() -> None:
    found = purge_prefixes(CONFIG, "/")
    assert {each.route for each in found} == {
        "shop", "beta", "one", "pay", "hosted", "post", "searched", None, "pattern",
    }  # fmt: skip


def test_what_is_stripped_beyond_the_prefix_of_a_route_is_meant_both_ways() -> None:
    config = Config((SHOP,), (route("deep", prefix="/a/", rewrite=Rewrite("/a/b")),))
    assert [each.url for each in purge_prefixes(config, "/a/")] == [
        b"http://shop.svc:8080/a/",
        b"http://shop.svc:8080/",
    ]


@pytest.mark.parametrize("text", ["", "item", "ftp://x/", "http://x/#part", "http:///a", "/a b"])
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(UnclearUrl):
        purge_urls(CONFIG, text)


def test_where_the_host_is_in_the_key_a_path_alone_is_unclear() -> None:
    config = Config(CONFIG.upstreams, CONFIG.routes[:1], proxy=ProxySettings(forwarded=ForwardedMode.BOTH))
    for resolve in (purge_urls, purge_prefixes):
        with pytest.raises(UnclearUrl):
            resolve(config, "/shop/1")
    found = [(each.meant, each.url) for each in purge_urls(config, "http://Shop.Example/shop/1")]
    assert found == [(CLIENT, b"http://shop.example/1"), (UPSTREAM, b"http://shop.example/shop/1")]
