"""Cache keys: what tells resources apart, and what an unsafe answer names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.cache.key import REFLECTED, KeySpace, key_space, keyed_url, same_origin_url
from sidecar.core.config import CacheSettings, Endpoint, Match, QueryKey, Rewrite, RouteConfig, UpstreamConfig
from sidecar.core.http.heads import Headers, RequestHead
from tests.support.stored_entries import headers


def space(
    *, forwarded: bool = False, preserve_host: bool = False, rewrite: Rewrite | None = None, **cache: object
) -> KeySpace:
    endpoint = Endpoint("http", "u.svc", 8080, base_path="/base/")
    route = RouteConfig(
        "r",
        Match(prefix="/"),
        UpstreamConfig("u", (endpoint,), preserve_host=preserve_host),
        rewrite or Rewrite(),
        cache=CacheSettings(**cache),  # type: ignore[arg-type]  # the cases name fields
    )
    return key_space(route, client_forwarded=forwarded)


def key(where: KeySpace, target: bytes = b"/a?b", fields: Headers | None = None, authority: bytes = b"Client") -> bytes:
    return where.key(RequestHead("GET", target, fields or Headers(), authority))


def test_a_key_is_the_route_and_the_url_as_the_upstream_knows_it() -> None:
    assert key(space()) == b"r http://u.svc:8080/base/a?b"
    assert key(space(rewrite=Rewrite(strip_prefix="/a")), b"/a/b") == b"r http://u.svc:8080/base/b"
    assert key(space(rewrite=Rewrite(add_prefix="/x"))) == b"r http://u.svc:8080/base/x/a?b"
    assert key(space(rewrite=Rewrite(host="h"))) == b"r http://h/base/a?b"


def test_the_clients_authority_counts_where_the_upstream_is_told_of_it() -> None:
    assert key(space(forwarded=True)) == b"r http://client/a?b"
    assert key(space(preserve_host=True)) == b"r http://client/a?b"
    assert key(space(preserve_host=True, rewrite=Rewrite(host="h"))) == b"r http://h/base/a?b"


def test_routes_share_entries_only_when_they_name_the_same_space_and_never_with_a_route_of_that_name() -> None:
    assert key(space(share="r")) == b"=r http://u.svc:8080/base/a?b"


def test_key_headers_take_part_and_absent_is_not_empty() -> None:
    where = space(key_headers=("X-Tenant", "forwarded"))
    keys = {
        key(where, fields=fields)
        for fields in (headers(), headers(X_Tenant=""), headers(X_Tenant="-"), headers(x_tenant="a"))
    }
    assert len(keys) == 4
    assert where.foreign_fields == REFLECTED - {b"forwarded"}


@given(st.binary(min_size=1, max_size=20), st.binary(min_size=1, max_size=20))
def test_different_targets_have_different_keys(one: bytes, other: bytes) -> None:
    where = space()
    assert (key(where, b"/" + one) == key(where, b"/" + other)) is (one == other)


@given(st.lists(st.sampled_from([b"a=1", b"b", b"c=2&c=3", b"%61=1", b"a;b", b""])).map(b"&".join))
def test_the_query_is_only_ever_shortened_or_sorted(query: bytes) -> None:
    url = b"http://u/p?" + query
    assert keyed_url(url, QueryKey()) == url
    kept = keyed_url(url, QueryKey(include=frozenset({"a", "c"}), sort=True)).partition(b"?")[2].split(b"&")
    assert kept == sorted(kept, key=lambda part: part.partition(b"=")[0])
    assert all(part in query.split(b"&") for part in kept if part)


def test_a_url_without_a_query_has_none_to_shorten() -> None:
    assert keyed_url(b"http://u/p", QueryKey(sort=True)) == b"http://u/p"


NAMED: dict[bytes, bytes | None] = {
    b"/x": b"http://u/x",
    b"x?q#f": b"http://u/a/x?q",
    b"../x": b"http://u/x",
    b"": b"http://u/a/b",
    b"?q": b"http://u/a/b?q",
    b"http://U/x": b"http://u/x",
    b"//client:1/x": b"http://u/x",
    b"http://client:1": b"http://u/",
    b"http://other/x": None,
    b"//other/x": None,
    b"http://u:81/x": None,
    b"http://[x/": None,
    "/\xff".encode("latin-1"): "http://u/\xff".encode("latin-1"),
}


@pytest.mark.parametrize(("reference", "url"), NAMED.items())
def test_a_reference_is_resolved_and_must_be_of_the_same_origin(reference: bytes, url: bytes | None) -> None:
    assert same_origin_url(b"http://u/a/b", reference, b"Client:1") == url
