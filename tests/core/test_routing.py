import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.config import Endpoint, Rewrite, RouteConfig, UpstreamConfig
from sidecar.core.http.heads import RequestHead
from sidecar.core.route_explanation import path_fits
from sidecar.core.routing import RouteTable, host_names
from tests.support.routes import request, route


def taken(head: RequestHead, *routes: RouteConfig) -> str | None:
    match = RouteTable(routes).match(head)
    return match.route.name if match else None


@pytest.mark.parametrize("prefix", ["/catalog", "/catalog/"])
@pytest.mark.parametrize(
    ("target", "matches"),
    [
        ("/catalog", True),
        ("/catalog/", True),
        ("/catalog/1", True),
        ("/catalog?x=/", True),
        ("/catalog//1", True),
        ("/catalog/%2F", True),
        ("/catalogue", False),
        ("/Catalog/", False),
        ("/%63atalog/", False),
        ("//catalog/", False),
        ("/x/catalog/", False),
        ("/./catalog/", False),
        ("/", False),
        ("/catalo", False),
        ("*", False),
        ("/x?/catalog/", False),
    ],
)
def test_a_prefix_matches_whole_segments_octet_by_octet(prefix: str, target: str, *, matches: bool) -> None:
    assert taken(request(target), route(prefix=prefix)) == ("r" if matches else None)


@pytest.mark.parametrize(
    ("target", "matches"),
    [("/a", True), ("/a?x", True), ("/a/", False), ("/a/b", False), ("/A", False), ("/a%2F", False)],
)
def test_a_path_matches_itself_only(target: str, *, matches: bool) -> None:
    assert taken(request(target), route(path="/a")) == ("r" if matches else None)


@pytest.mark.parametrize("target", ["/", "/anything", "//", "/a//b", "/?x"])
def test_the_root_prefix_matches_every_path(target: str) -> None:
    assert taken(request(target), route(prefix="/")) == "r"


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("/a/b/c", "abc"),
        ("/a/b/c/d", "abc-prefix"),
        ("/a/b/x", "ab"),
        ("/a/x", "a"),
        ("/a/bb", "a"),
        ("/x", "root"),
        ("/v1/x", "root"),
    ],
)
@pytest.mark.parametrize("step", [1, -1], ids=["in order", "in reverse"])
def test_the_most_specific_path_wins_in_any_order(target: str, name: str, step: int) -> None:
    routes = [
        route("root", prefix="/"),
        route("a", prefix="/a/"),
        route("ab", prefix="/a/b"),
        route("abc-prefix", prefix="/a/b/c/"),
        route("abc", path="/a/b/c"),
        route("pattern", regex="/v[0-9]/"),
    ]
    assert taken(request(target), *routes[::step]) == name


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (request("/a/1", "POST"), "any"),
        (request("/a/1", "GET"), "reads"),
        (request("/a/1", "GET", "localhost", (b"X-Tenant", b"gold")), "gold-reads"),
        (request("/a/1", "POST", "localhost", (b"x-tenant", b"gold")), "any"),
        (request("/a/1", "POST", "shop.local:80"), "shop"),
        (request("/a/1", "GET", "SHOP.LOCAL"), "shop"),
        (request("/a/1", "GET", "shop.local:99"), "shop-99"),
    ],
)
def test_a_host_beats_none_and_more_conditions_beat_fewer(head: RequestHead, name: str) -> None:
    routes = [
        route("any", prefix="/a/"),
        route("reads", prefix="/a/", methods=frozenset({"GET", "HEAD"})),
        route("gold-reads", prefix="/a/", methods=frozenset({"GET"}), headers=(("x-tenant", "gold"),)),
        route("shop", prefix="/a/", host="shop.local"),
        route("shop-99", prefix="/a/", host="shop.local:99"),
    ]
    assert taken(head, *routes) == name


@pytest.mark.parametrize("condition", ["shop.local", "shop.local.", "shop.local:80", "shop.local.:80"])
@pytest.mark.parametrize("host", ["shop.local:80", "shop.local.:80", "SHOP.Local.:80"])
@pytest.mark.parametrize("absolute", [False, True], ids=["host", "absolute-form"])
def test_the_dot_that_ends_a_name_makes_no_difference(condition: str, host: str, *, absolute: bool) -> None:
    asked = request("/a/1", "GET", host, absolute=absolute)
    assert taken(asked, route("shop", host=condition, prefix="/a/")) == "shop"
    assert taken(asked, route("shop", host=condition, path="/a/1")) == "shop"
    assert taken(asked, route("shop", host=condition, regex="/a")) == "shop"


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("shop.local.", "shop"), ("shop.local..", None), ("shop.local.:", "shop"), ("shop.local.x", None), (".", None),
        ("shop.local.:81", "shop"), ("[::1]", None), ("", None),
    ],
)  # fmt: skip
def test_only_one_final_dot_of_a_name_is_passed_over(host: str, name: str | None) -> None:
    assert taken(request("/", "GET", host), route("shop", prefix="/", host="shop.local")) == name


@pytest.mark.parametrize("url", ["catalog.shop.svc", "catalog.shop.svc."])
@pytest.mark.parametrize("named", ["catalog.shop.svc:8080", "catalog.shop.svc.:8080"])
def test_a_forward_proxy_request_may_name_an_upstream_with_a_final_dot(url: str, named: str) -> None:
    upstream = UpstreamConfig("catalog", (Endpoint("http", url, 8080),))
    found = taken(
        request("/x", "GET", named, absolute=True), route("c", prefix="/c/", upstream=upstream, implicit=True)
    )
    assert found == "c"


def test_the_methods_of_a_path_are_those_that_have_a_route() -> None:
    table = RouteTable(
        [
            route("reads", prefix="/a/", methods=frozenset({"GET", "HEAD"})),
            route("lists", path="/a/b", methods=frozenset({"LIST"})),
            route("all", prefix="/c/"),
        ]
    )
    every = ["DELETE", "GET", "HEAD", "LIST", "OPTIONS", "PATCH", "POST", "PUT"]
    assert table.methods(request("/a/b")) == ["GET", "HEAD", "LIST"]
    assert table.methods(request("/a/")) == ["GET", "HEAD"]
    assert table.methods(request("/c/", "OPTIONS")) == every
    assert table.methods(request("/")) == []
    assert table.methods(request("*", "OPTIONS")) == every


def test_equal_conditions_go_by_order() -> None:
    first = route("first", prefix="/a/", methods=frozenset({"GET"}))
    second = route("second", prefix="/a/", methods=frozenset({"GET", "HEAD"}))
    assert taken(request("/a/"), first, second) == "first"
    assert taken(request("/a/"), second, first) == "second"


def test_a_longer_prefix_whose_conditions_fail_leaves_it_to_a_shorter_one() -> None:
    routes = [route("root", prefix="/"), route("writes", prefix="/a/", methods=frozenset({"POST"}))]
    assert taken(request("/a/1"), *routes) == "root"
    assert taken(request("/a/1", "POST"), *routes) == "writes"


@pytest.mark.parametrize(
    ("fields", "matches"),
    [
        ([], False),
        ([(b"X-A", b"1")], True),
        ([(b"x-a", b"")], True),
        ([(b"x-a", b"1"), (b"x-b", b"no")], True),
    ],
)
def test_a_header_condition_without_value_asks_for_presence(
    fields: list[tuple[bytes, bytes]], *, matches: bool
) -> None:
    assert taken(request("/", "GET", "h", *fields), route(headers=(("x-a", None),))) == ("r" if matches else None)


@pytest.mark.parametrize(("value", "matches"), [(b"on", True), (b"On", False), (b"on, on", False), (b"", False)])
def test_a_header_condition_with_value_asks_for_exactly_that(value: bytes, *, matches: bool) -> None:
    head = request("/", "GET", "h", (b"X-A", value))
    assert taken(head, route(headers=(("x-a", "on"),))) == ("r" if matches else None)


def test_an_empty_header_value_is_a_condition_too() -> None:
    wanted = route(headers=(("x-a", ""),))
    assert taken(request("/", "GET", "h", (b"x-a", b"")), wanted) == "r"
    assert taken(request("/", "GET", "h", (b"x-a", b"1")), wanted) is None


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("/v1/items/7", "items"),
        ("/v2/anything", "versions"),
        ("/x/v1/items/7", None),
        ("/v3", None),
        ("/v1/items/x?/v1/", "versions"),
    ],
)
def test_patterns_match_from_the_start_of_the_path_in_order(target: str, name: str | None) -> None:
    routes = [route("items", regex="/v[12]/items/[0-9]+$"), route("versions", regex="/v[12]/")]
    assert taken(request(target), *routes) == name


def test_a_pattern_is_tried_after_prefixes() -> None:
    routes = [route("pattern", regex="/a/.*"), route("reads", prefix="/a/", methods=frozenset({"GET"}))]
    assert taken(request("/a/1", "GET"), *routes) == "reads"
    assert taken(request("/a/1", "POST"), *routes) == "pattern"


def test_a_pattern_can_have_a_host() -> None:
    routes = [route("here", regex="/a", host="here"), route("there", regex="/a", host="there")]
    assert taken(request("/a", host="there:80"), *routes) == "there"
    assert taken(request("/a", host="elsewhere"), *routes) is None


@pytest.mark.parametrize(
    ("authority", "names"),
    [
        (b"Shop", (b"shop",)),
        (b"shop:80", (b"shop:80", b"shop")),
        (b"[::1]", (b"[::1]",)),
        (b"[::1]:80", (b"[::1]:80", b"[::1]")),
        (b"", (b"",)),
    ],
)
def test_a_host_condition_may_name_the_port_or_not(authority: bytes, names: tuple[bytes, ...]) -> None:
    assert host_names(authority) == names


def implicit(name: str, *endpoints: Endpoint) -> RouteConfig:
    own = route(name, upstream=UpstreamConfig(name, endpoints), prefix=f"/{name}/", rewrite=Rewrite(f"/{name}"))
    return dataclasses.replace(own, implicit=True)


PROXIED = [
    implicit("api", Endpoint("http", "api.svc", 8080), Endpoint("http", "api-2.svc", 80)),
    implicit("socket", Endpoint("http", "", 0, unix_path="/run/app.sock")),
    route("rest", prefix="/"),
    route("pinned", host="pinned.svc", prefix="/"),
]


@pytest.mark.parametrize(
    ("head", "name", "strip"),
    [
        (request("/api/1", host="localhost:4100"), "api", "/api"),
        (request("/api/1", host="api.svc:8080", absolute=True), "api", ""),
        (request("/x", host="API.svc:8080", absolute=True), "api", ""),
        (request("/x", host="api-2.svc", absolute=True), "api", ""),
        (request("/x", host="api-2.svc:80", absolute=True), "api", ""),
        (request("/x", host="api.svc", absolute=True), "rest", ""),
        (request("/x", host="pinned.svc", absolute=True), "pinned", ""),
        (request("/x", host="localhost", absolute=True), "rest", ""),
        (request("/x", host="api.svc:8080"), "rest", ""),
        (request("/api/1", host="api.svc:8080"), "api", "/api"),
    ],
)
def test_a_forward_proxy_request_reaches_the_upstream_it_names(head: RequestHead, name: str, strip: str) -> None:
    match = RouteTable(PROXIED).match(head)
    assert match is not None
    assert (match.route.name, match.rewrite.strip_prefix) == (name, strip)


def test_a_host_that_is_an_upstream_reaches_it_when_no_path_matches() -> None:
    match = RouteTable(PROXIED[:2]).match(request("/x", host="api.svc:8080"))
    assert match is not None
    assert (match.route.name, match.rewrite) == ("api", Rewrite())
    assert RouteTable(PROXIED[:2]).match(request("/x", host="localhost")) is None


def test_a_table_without_routes_matches_nothing() -> None:
    assert RouteTable([]).match(request("/")) is None
    assert RouteTable([]).nearest(b"/") == []


class CountingDict(dict[bytes, object]):
    """Counts look-ups."""

    def __init__(self, known: dict[bytes, object]) -> None:
        super().__init__(known)
        self.lookups = 0

    def get(self, key: bytes, default: object = None) -> object:
        self.lookups += 1
        return super().get(key, default)


def lookups(count: int, target: str) -> int:
    routes = [route(f"p{i}", prefix=f"/svc-{i:04}/items/") for i in range(count)]
    routes += [route(f"e{i}", path=f"/svc-{i:04}/items/7") for i in range(count)]
    routes += [route(f"h{i}", prefix="/", host=f"host-{i:04}") for i in range(count)]
    table = RouteTable(routes)
    exact, prefixes = CountingDict(dict(table._exact)), CountingDict(dict(table._prefixes))
    table._exact, table._prefixes = exact, prefixes  # type: ignore[assignment]  # counts, else the same
    table.match(request(target, host="host-0000"))
    return exact.lookups + prefixes.lookups


@pytest.mark.parametrize("target", ["/svc-0000/items/7", "/svc-0000/items/8/parts/9", "/none", "/a/b/c/d/e/f"])
def test_a_look_up_costs_the_same_with_one_route_and_with_a_thousand(target: str) -> None:
    assert lookups(1, target) == lookups(1000, target) <= target.count("/") + 2


def test_a_path_of_slashes_costs_no_more_than_the_longest_prefix_is_long() -> None:
    assert lookups(10, "/" * 16_000) <= 20


def test_hosts_on_one_path_are_looked_up_not_searched() -> None:
    table = RouteTable(route(f"h{i}", prefix="/", host=f"host-{i:04}") for i in range(1000))
    assert max(len(known) for known in table._prefixes[b""].by_host.values()) == 1


def paths() -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(["", "a", "b", "ab"]), max_size=4).map(lambda parts: "/" + "/".join(parts))


def generated_routes() -> st.SearchStrategy[list[RouteConfig]]:
    conditions = st.fixed_dictionaries(
        {},
        optional={
            "methods": st.sampled_from([frozenset({"GET"}), frozenset({"POST"})]),
            "host": st.sampled_from(["h", "h:1"]),
            "headers": st.just((("x", "1"),)),
        },
    )
    path = st.one_of(paths().map(lambda p: {"prefix": p}), paths().map(lambda p: {"path": p}))
    return st.lists(st.builds(lambda where, more: route(**where, **more), path, conditions), max_size=8)


def naive(routes: list[RouteConfig], head: RequestHead) -> RouteConfig | None:
    """Every route tried, the best by the stated order."""
    table = RouteTable(routes)

    def fitting() -> Iterator[tuple[tuple[int, ...], RouteConfig]]:
        for each in table.candidates:
            match = each.match.route.match
            host_fits = each.host is None or each.host in host_names(head.authority)
            if path_fits(each, head.target.partition(b"?")[0]) and host_fits and each.admits(head):
                length = len((match.path or match.prefix or "").removesuffix("/"))
                exact_host = each.host != head.authority
                rank = (match.path is None, -length, each.host is None, exact_host, *each.rank())
                yield rank, each.match.route

    return min(fitting(), key=lambda each: each[0], default=(None, None))[1]


@given(
    generated_routes(),
    st.builds(
        request, paths(), st.sampled_from(["GET", "POST"]), st.sampled_from(["h", "h:1", "g"]), st.just((b"X", b"1"))
    ),
)
def test_the_index_agrees_with_trying_every_route(routes: list[RouteConfig], head: RequestHead) -> None:
    match = RouteTable(routes).match(head)
    assert (match.route if match else None) is naive(routes, head)


@given(generated_routes(), st.binary(max_size=40), st.binary(max_size=20))
def test_any_octets_are_routed_or_not_without_error(routes: list[RouteConfig], target: bytes, host: bytes) -> None:
    head = dataclasses.replace(request("/"), target=target, authority=host)
    table = RouteTable([*routes, route(regex="(/a)?")])
    table.match(head)
    assert len(table.nearest(target)) <= 3


@pytest.mark.parametrize(
    ("path", "name"),
    [(b"/catlog/1", "catalog"), (b"/pay", "payments"), (b"/payments", "payments"), (b"/zz", "zoo"), (b"/", "cart")],
)
def test_the_nearest_route_begins_most_alike(path: bytes, name: str) -> None:
    known = ("cart", "catalog", "orders", "payments", "zoo")
    table = RouteTable(route(name, prefix=f"/{name}/") for name in known)
    assert table.nearest(path)[0] == name
    assert len(table.nearest(path)) == 3


# Implicit routes that are not there

TAKEN = "because route reads names it"
BY_PATH = f"upstream catalog has no /catalog/ of its own {TAKEN}"
BY_HOST = f"upstream catalog is not reached by its own host {TAKEN}"


@pytest.mark.parametrize(
    ("conditions", "target", "host", "said"),
    [
        ({"host": "shop.local"}, b"/catalog/1", b"a", BY_PATH),
        ({"host": "shop.local"}, b"/catalog?x=/y", b"a", BY_PATH),
        ({"host": "shop.local"}, b"/catalog", b"a", BY_PATH),
        ({"regex": "/v[0-9]+/"}, b"/catalog/1", b"a", BY_PATH),
        ({"prefix": "/shop/"}, b"/catalog/1", b"a", BY_PATH),
        ({"prefix": "/catalog/", "methods": frozenset({"POST"})}, b"/catalog/1", b"a", BY_PATH),
        ({"prefix": "/shop/"}, b"/catalogue/1", b"a", ""),
        ({"prefix": "/shop/"}, b"/", b"a", ""),
        ({"prefix": "/shop/"}, b"*", b"a", ""),
        ({"prefix": "/shop/"}, b"/1", b"Catalog.shop.svc:8080", BY_HOST),
        ({"prefix": "/shop/"}, b"/1", b"other.svc:8080", ""),
        ({"implicit": True, "prefix": "/catalog/"}, b"/catalog/1", b"catalog.shop.svc:8080", ""),
    ],
)
def test_a_request_that_misses_an_implicit_route_is_told_which_route_took_it_away(
    conditions: dict[str, Any], target: bytes, host: bytes, said: str
) -> None:
    table = RouteTable([route("reads", **conditions)])
    head = dataclasses.replace(request("/"), target=target, authority=host, absolute_form=b":" in host)

    assert table.taken_away(head) == said


def test_nothing_is_missed_where_the_route_taken_leads_to_the_same_upstream() -> None:
    table = RouteTable([route("reads", prefix="/catalog/")])
    head = request("/catalog/1")

    assert table.taken_away(head, table.match(head)) == ""
