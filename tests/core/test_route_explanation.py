import pytest

from sidecar.core.http.heads import RequestHead
from sidecar.core.route_explanation import explain
from sidecar.core.routing import RouteTable
from tests.support.routes import request, route

TABLE = RouteTable(
    [
        route("all", prefix="/a/"),
        route("path", path="/a/b"),
        route("pattern", regex="/v[0-9]"),
        route("reads", prefix="/a/", methods=frozenset({"GET", "HEAD"})),
        route("shop", prefix="/a/", host="shop.local"),
        route("gold", prefix="/a/", headers=(("x-tenant", "gold"), ("x-any", None))),
    ]
)


@pytest.mark.parametrize(
    ("head", "name", "failed"),
    [
        (request("/a/b"), "all", ()),
        (request("/b?/a/"), "all", ("prefix /a/ does not fit /b",)),
        (request("/ab"), "all", ("prefix /a/ does not fit /ab",)),
        (request("/a/c"), "path", ("path /a/b does not fit /a/c",)),
        (request("/a/c"), "pattern", ("regex /v[0-9] does not fit /a/c",)),
        (request("/a/c", "POST"), "reads", ("method is POST, not GET or HEAD",)),
        (request("/a/c", host="h:1"), "shop", ("host is h:1, not shop.local",)),
        (request("/a/c", host=""), "shop", ("host is missing, not shop.local",)),
        (
            request("/a/c", "GET", "h", (b"X-Tenant", b"tin")),
            "gold",
            ("header x-tenant is 'tin', not 'gold'", "header x-any is missing, not any value"),
        ),
    ],
)
def test_each_condition_that_fails_is_named(head: RequestHead, name: str, failed: tuple[str, ...]) -> None:
    report = next(each for each in explain(TABLE, head).candidates if each.route == name)
    assert report.failed == failed


def test_the_route_taken_comes_from_the_table_itself() -> None:
    report = explain(TABLE, request("/a/b"))
    assert report.match is TABLE.match(request("/a/b"))
    assert [each.route for each in report.candidates] == ["all", "path", "pattern", "reads", "shop", "gold"]
