"""Age and lifetime (RFC 9111 §4.2), with dates around Sun, 09 Sep 2001 01:46:40 GMT."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.cache.directives import ResponseDirectives
from sidecar.core.cache.freshness import Arrival, Lifetime, initial_age, lifetime
from sidecar.core.http.date import format_http_date
from sidecar.core.http.heads import Headers, ResponseHead
from tests.support.stored_entries import WALL, headers

ARRIVAL = Arrival(requested_at=10.0, received_at=12.5, received_wall=WALL + 0.75)


def at(seconds: float) -> str:
    return format_http_date(WALL + seconds).decode()


AGES: dict[str, tuple[Headers, float]] = {
    "only the exchange": (headers(Date=at(0)), 2.5),
    "Age and the exchange": (headers(Date=at(0), Age="30"), 32.5),
    "an old Date": (headers(Date=at(-100), Age="30"), 100.0),
    "an old Age": (headers(Date=at(-10), Age="30"), 32.5),
    "Date ahead": (headers(Date=at(100)), 2.5),
    "no Date": (headers(Age="1"), 3.5),
    "Date unreadable": (headers(Date="x"), 2.5),
    "Age unreadable": (headers(Age="x"), 2.5),
    "first Age": (headers(Age="5 , 90"), 7.5),
}


@pytest.mark.parametrize(("fields", "age"), AGES.values(), ids=AGES.keys())
def test_the_initial_age(fields: Headers, age: float) -> None:
    assert initial_age(fields, ARRIVAL) == age


@given(st.integers(-10_000, 10_000), st.integers(0, 10_000), st.floats(0, 100))
def test_an_age_is_never_less_than_any_of_its_parts(skew: int, age: int, delay: float) -> None:
    arrival = Arrival(10.0, 10.0 + delay, WALL)
    found = initial_age(headers(Date=at(-skew), Age=str(age)), arrival)
    assert found >= max(0, skew, age)
    assert found == pytest.approx(max(skew, age + delay, 0))


def said(seconds: float) -> Lifetime:
    return Lifetime(seconds, explicit=True)


def guessed(seconds: float) -> Lifetime:
    return Lifetime(seconds, explicit=False)


LIFETIMES: dict[str, tuple[int, Headers, ResponseDirectives, float | None, Lifetime | None]] = {
    "nothing": (200, headers(), ResponseDirectives(), None, None),
    "s-maxage": (200, headers(Expires=at(9)), ResponseDirectives(max_age=5.0, s_maxage=7.0), 3.0, said(7.0)),
    "max-age": (200, headers(Expires=at(9)), ResponseDirectives(max_age=5.0), 3.0, said(5.0)),
    "Expires": (200, headers(Expires=at(9), Date=at(2)), ResponseDirectives(), 3.0, said(7.0)),
    "Expires past": (200, headers(Expires=at(1), Date=at(2)), ResponseDirectives(), 3.0, said(0.0)),
    "Expires without Date": (200, headers(Expires=at(9)), ResponseDirectives(), None, said(8.25)),
    "Expires unreadable": (200, headers(Expires="0"), ResponseDirectives(), 3.0, said(0.0)),
    "heuristic": (200, headers(Last_Modified=at(-100), Date=at(0)), ResponseDirectives(), 3.0, guessed(10.0)),
    "heuristic, a day at most": (
        200,
        headers(Last_Modified=at(-10_000_000), Date=at(0)),
        ResponseDirectives(),
        3.0,
        guessed(86_400.0),
    ),
    "heuristic, ahead": (200, headers(Last_Modified=at(100)), ResponseDirectives(), 3.0, guessed(0.0)),
    "heuristic, other status": (302, headers(Last_Modified=at(-100)), ResponseDirectives(), 3.0, None),
    "heuristic, public": (
        302,
        headers(Last_Modified=at(-100), Date=at(0)),
        ResponseDirectives(public=True),
        None,
        guessed(10.0),
    ),
    "the route's ttl": (404, headers(), ResponseDirectives(), 3.0, guessed(3.0)),
    "the route's ttl, other status": (500, headers(), ResponseDirectives(), 3.0, None),
}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "fields", "directives", "ttl", "expected"), LIFETIMES.values(), ids=LIFETIMES.keys()
)
def test_the_lifetime(
    status: int, fields: Headers, directives: ResponseDirectives, ttl: float | None, expected: Lifetime | None
) -> None:
    head = ResponseHead(status, fields)
    assert lifetime(head, directives, ARRIVAL, targeted=False, ttl=ttl) == expected


def test_where_a_targeted_field_decides_expires_means_nothing() -> None:
    head = ResponseHead(200, headers(Expires=at(100)))
    assert lifetime(head, ResponseDirectives(), ARRIVAL, targeted=True, ttl=None) is None
