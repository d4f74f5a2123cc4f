import dataclasses

import pytest

from sidecar.config.request_explanation import BadMethod, BadUrl, as_lines, explain_request, request_head
from sidecar.core.config import Config, Endpoint, Rewrite, UpstreamConfig
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


@pytest.mark.parametrize("method", ["", "G T", "GET\n", "GE(T"])
def test_what_is_no_method_is_refused(method: str) -> None:
    with pytest.raises(BadMethod, match="400"):
        request_head(method, "/", [], OWN)


def test_any_other_method_takes_its_route() -> None:
    head = request_head("LIST", "/catalog/1", [], OWN)
    explanation = explain_request(CONFIG, head)
    assert (explanation.sent, explanation.here) == ("LIST http://catalog.shop.svc:8080/v2/1", None)


@pytest.mark.parametrize(
    ("method", "fields", "here"),
    [
        ("TRACE", [], "501: the request method is not done here"),
        ("CONNECT", [], "501: the request method is not done here"),
        ("M" * 33, [], "501: the request method is too long"),
        ("OPTIONS", [(b"Max-Forwards", b"0")], "200: Max-Forwards is 0"),
        ("OPTIONS", [(b"Max-Forwards", b"1")], None),
        ("GET", [(b"Max-Forwards", b"0")], None),
    ],
)
def test_what_the_sidecar_answers_itself_is_sent_nowhere(
    method: str, fields: list[tuple[bytes, bytes]], here: str | None
) -> None:
    explanation = explain_request(CONFIG, request_head(method, "/catalog/1", fields, OWN))
    assert (explanation.here, explanation.sent is None) == (here, here is not None)
    assert (f"the answer is {here}" in list(as_lines(explanation))) is (here is not None)


def test_without_a_route_there_is_no_answer_here_but_404() -> None:
    head = request_head("OPTIONS", "/none", [(b"Max-Forwards", b"0")], OWN)
    assert "no route matches: the answer is 404" in list(as_lines(explain_request(CONFIG, head)))


@pytest.mark.parametrize(
    ("url", "absolute"),
    [("http://LocalHost.:4100/", False), ("http://localhost:4100/", False), ("http://other./", True)],
)
def test_its_own_name_may_end_with_a_dot(url: str, *, absolute: bool) -> None:
    assert request_head("GET", url, [], ["localhost:4100"]).absolute_form is absolute


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
