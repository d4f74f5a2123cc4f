import dataclasses

import pytest

from sidecar.core.config import Config, Endpoint, Rewrite, UpstreamConfig
from sidecar.core.request_explanation import BadUrl, as_lines, explain_request, request_head
from tests.support.routes import UPSTREAM, route

OWN = ["127.0.0.1:4100"]


@pytest.mark.parametrize(
    ("url", "fields", "target", "authority", "absolute"),
    [
        ("/a?x=1", [], b"/a?x=1", b"", False),
        ("http://127.0.0.1:4100/a", [], b"/a", b"127.0.0.1:4100", False),
        ("http://Shop.Local/a%2F//", [], b"/a%2F//", b"Shop.Local", True),
        ("http://shop.local", [], b"/", b"shop.local", True),
        ("http://shop.local?x", [], b"/?x", b"shop.local", True),
        ("/a", [(b"Host", b"other")], b"/a", b"other", False),
        ("http://127.0.0.1:4100/a", [(b"host", b"other")], b"/a", b"other", False),
    ],
)
def test_a_url_becomes_the_head_that_a_client_sends(
    url: str, fields: list[tuple[bytes, bytes]], target: bytes, authority: bytes, *, absolute: bool
) -> None:
    head = request_head("GET", url, fields, OWN)
    assert (head.target, head.authority, head.absolute_form) == (target, authority, absolute)


@pytest.mark.parametrize("url", ["", "catalog", "ftp://a/", "https://a/", "/a b", "/a\r\nX: y", "http:///a", "/ä"])
def test_what_no_client_can_ask_for_is_refused(url: str) -> None:
    with pytest.raises(BadUrl):
        request_head("GET", url, [], OWN)


def lines(config: Config, url: str) -> list[str]:
    return list(as_lines(explain_request(config, request_head("GET", url, [], OWN))))


READS = route(
    "reads", prefix="/catalog/", rewrite=Rewrite("/catalog", "/v2"), refs={"": "f:1", "breaker.window": "f:2"}
)
WRITES = route("writes", prefix="/catalog/", methods=frozenset({"POST"}))
CONFIG = Config((UPSTREAM,), (READS, WRITES))


def test_the_explanation_shows_what_is_sent_and_where_each_setting_stands() -> None:
    shown = [line.split() for line in lines(CONFIG, "/catalog/1?x")]
    assert ["route", "reads", "f:1"] in shown
    assert ["sends", "GET", "http://catalog.shop.svc:8080/v2/1?x", "f:1"] in shown
    assert ["breaker.window", "30s", "f:2"] in shown
    assert ["breaker.slow_rate", "null", "default"] in shown
    assert ["breaker.failures", "[500,", "502-504]", "default"] in shown
    assert ["cache.query.sort", "false", "default"] in shown


def test_the_explanation_says_why_not_the_others() -> None:
    assert lines(CONFIG, "/catalog/1")[-1] == "  writes: method is GET, not POST"


def test_a_route_that_matches_but_loses_is_told_apart() -> None:
    config = Config((UPSTREAM,), (READS, route("all", prefix="/")))
    assert lines(config, "/catalog/1")[-1] == "  all: matches, but a more specific or earlier route wins"


def test_without_a_route_the_nearest_are_named() -> None:
    assert lines(CONFIG, "/catlog/1")[1:3] == ["no route matches: the answer is 404", "nearest routes: reads, writes"]


def test_a_missed_implicit_route_is_told_with_and_without_another_that_matches() -> None:
    told = "upstream catalog has no /catalog/ of its own because route eu names it"
    by_host = route("eu", host="eu.local")
    other = UpstreamConfig("other", (Endpoint("http", "b", 80),))
    rest = dataclasses.replace(route("rest", prefix="/"), upstream=other)

    assert told in lines(Config((UPSTREAM,), (by_host,)), "/catalog/1")
    assert told in lines(Config((UPSTREAM, other), (by_host, rest)), "/catalog/1")
    assert told not in lines(CONFIG, "/catalog/1")


def test_several_endpoints_and_sockets_are_shown() -> None:
    many = UpstreamConfig("m", (Endpoint("http", "", 0, unix_path="/a.sock"), Endpoint("http", "b", 80)))
    config = Config((many,), (dataclasses.replace(READS, upstream=many),))
    assert "GET unix:/a.sock /v2/1 (or 1 more endpoints)" in "\n".join(lines(config, "/catalog/1"))
