"""Cache-Control, well-formed and not."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.cache.directives import (
    LONGEST,
    MALFORMED,
    DirectiveValue,
    RequestDirectives,
    ResponseDirectives,
    delta_seconds,
    parse_directives,
    request_directives,
    response_directives,
)
from sidecar.core.http.heads import Headers

PARSED: dict[bytes, dict[bytes, DirectiveValue]] = {
    b"": {},
    b" , ,": {},
    b"no-store": {b"no-store": None},
    b"No-Store , MAX-AGE=5": {b"no-store": None, b"max-age": b"5"},
    b'a="b, c=\\"d", e': {b"a": b'b, c="d', b"e": None},
    b'a=""': {b"a": b""},
    b"a=": {b"a": MALFORMED},
    b"a b": {b"a": MALFORMED},
    b"a =b": {b"a": MALFORMED},
    b"a= b": {b"a": MALFORMED},
    b'a="b"c': {b"a": MALFORMED},
    b'a="b': {b"a": MALFORMED},
    b"a=b, a=b": {b"a": b"b"},
    b"a=b, a=c": {b"a": MALFORMED},
    b"a=b, a": {b"a": MALFORMED},
    b"a=b, a=c, a=b": {b"a": MALFORMED},
    b'"no-store"': {},
    b"=b, c": {b"c": None},
}


@pytest.mark.parametrize(("text", "directives"), PARSED.items())
def test_a_list_of_directives_is_taken_apart(text: bytes, directives: dict[bytes, DirectiveValue]) -> None:
    assert parse_directives(text) == directives


@given(st.binary(max_size=200))
def test_anything_can_be_parsed_and_no_restriction_gets_lost_at_its_end(junk: bytes) -> None:
    parse_directives(junk)
    clean = junk.replace(b'"', b"").replace(b"\\", b"")
    assert b"no-store" in parse_directives(clean + b",no-store")


MEANT: dict[bytes | None, ResponseDirectives] = {
    None: ResponseDirectives(),
    b"no-store;x, private y": ResponseDirectives(no_store=True, private=True),
    b"no-cache, max-age=5": ResponseDirectives(no_cache=True, max_age=5.0),
    b'no-cache="Set-Cookie, X"': ResponseDirectives(unstored_fields=frozenset({b"set-cookie", b"x"})),
    b'no-cache="A", private="B"': ResponseDirectives(unstored_fields=frozenset({b"a", b"b"})),
    b'no-cache="A", no-cache': ResponseDirectives(no_cache=True),
    b'private=""': ResponseDirectives(private=True),
    b"max-age=x": ResponseDirectives(max_age=0.0),
    b"max-age": ResponseDirectives(max_age=0.0),
    b"s-maxage=1, s-maxage=2": ResponseDirectives(s_maxage=0.0),
    b"stale-if-error=9, stale-while-revalidate=8": ResponseDirectives(stale_if_error=9.0, stale_while_revalidate=8.0),
    b"public, must-revalidate, proxy-revalidate, must-understand, immutable, foo=bar": ResponseDirectives(
        public=True, must_revalidate=True, proxy_revalidate=True, must_understand=True
    ),
}


@pytest.mark.parametrize(("text", "directives"), MEANT.items())
def test_what_a_response_means(text: bytes | None, directives: ResponseDirectives) -> None:
    assert response_directives(text) == directives


ASKED: dict[tuple[bytes | None, bytes | None], RequestDirectives] = {
    (None, None): RequestDirectives(),
    (None, b"no-cache"): RequestDirectives(no_cache=True),
    (None, b"foo, No-Cache"): RequestDirectives(no_cache=True),
    (None, b"no-cache=x"): RequestDirectives(),
    (b"max-age=5", b"no-cache"): RequestDirectives(max_age=5.0),
    (b"no-store, only-if-cached", None): RequestDirectives(no_store=True, only_if_cached=True),
    (b"max-stale", None): RequestDirectives(max_stale=inf),
    (b"max-stale=7", None): RequestDirectives(max_stale=7.0),
    (b"max-stale=x", None): RequestDirectives(),
    (b"min-fresh=7", None): RequestDirectives(min_fresh=7.0),
    (b"min-fresh=x", None): RequestDirectives(min_fresh=inf),
    (b"min-fresh", None): RequestDirectives(min_fresh=inf),
    (b"max-age=x", None): RequestDirectives(max_age=0.0),
}


@pytest.mark.parametrize(("sent", "directives"), ASKED.items())
def test_what_a_request_means(sent: tuple[bytes | None, bytes | None], directives: RequestDirectives) -> None:
    names = (b"Cache-Control", b"Pragma")
    headers = Headers([(name, value) for name, value in zip(names, sent, strict=True) if value is not None])
    assert request_directives(headers) == directives


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"0", 0),
        (b"007", 7),
        (b"2147483648", LONGEST),
        (b"9" * 5000, LONGEST),
        (b"", None),
        (b"+1", None),
        (b"-1", None),
        (b"1_0", None),
        (b" 1", None),
        (b"1.0", None),
        ("²".encode("latin-1"), None),
    ],
)
def test_seconds_are_ascii_digits_and_bounded(text: bytes, seconds: float | None) -> None:
    assert delta_seconds(text) == seconds
