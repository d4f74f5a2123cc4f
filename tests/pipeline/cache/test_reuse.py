"""Which stored answers a shared cache may reuse (RFC 9111), as exchanges with the whole stage.

A case is what the origin answers first, what the client asks 3 s later, and what becomes of that: `hit`, `miss` (the
origin is asked for the whole) or `validated` (the origin is asked whether it is still good). A number in the place of a
field's value is an HTTP-date that many seconds from now.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import pytest

from sidecar.core.http.heads import Headers
from tests.support.cache_world import Reply, World

Sent: TypeAlias = "dict[str, str | int]"
PAUSE = 3.0
MONTH = 30 * 24 * 3600
DAY = 24 * 3600


def fields_of(world: World, sent: Sent) -> list[tuple[str, str]]:
    """Field lines of `sent`; a name that ends in spaces repeats an earlier one."""
    return [
        (name.strip(), world.clock.date(value) if isinstance(value, int) else value) for name, value in sent.items()
    ]


async def outcome(
    first: Reply, sent: Sent, *, asks: Sent | None = None, first_asks: Sent | None = None, **cache: Any
) -> str:
    world = World(first, Reply(fields={"Cache-Control": "max-age=1000"}, body=b"second"), **cache)
    first.fields = fields_of(world, sent)
    await world.ask(fields=fields_of(world, first_asks or {}))
    world.clock.now += PAUSE
    answer = await world.ask(fields=fields_of(world, asks or {}))
    if world.asked == 1:
        assert (answer.hit, answer.status, answer.body) == (
            True,
            first.status,
            first.body if first.status != 204 else b"",
        )
        return "hit"
    asked = world.origin.requests[1].head.headers
    own = Headers([(name.encode(), b"") for name in asks or {}])
    validates = any(name in asked and name not in own for name in (b"if-none-match", b"if-modified-since"))
    return "validated" if validates else "miss"


FRESHNESS: dict[str, tuple[Sent, str]] = {
    "nothing said": ({}, "miss"),
    "max-age": ({"Cache-Control": "max-age=3600"}, "hit"),
    "max-age over": ({"Cache-Control": "max-age=2"}, "miss"),
    "max-age zero": ({"Cache-Control": "max-age=0"}, "miss"),
    "max-age 2^31": ({"Cache-Control": "max-age=2147483648"}, "hit"),
    "max-age past 2^31": ({"Cache-Control": "max-age=99999999999"}, "hit"),
    "max-age of very many digits": ({"Cache-Control": "max-age=" + "9" * 400}, "hit"),
    "max-age in any case": ({"Cache-Control": "MaX-aGe=3600"}, "hit"),
    "max-age quoted": ({"Cache-Control": 'max-age="3600"'}, "hit"),
    "max-age single-quoted": ({"Cache-Control": "max-age='3600'"}, "miss"),
    "max-age with leading zeros": ({"Cache-Control": "max-age=003600"}, "hit"),
    "max-age with a fraction": ({"Cache-Control": "max-age=3600.0"}, "miss"),
    "max-age negative": ({"Cache-Control": "max-age=-3600"}, "miss"),
    "max-age with a leading letter": ({"Cache-Control": "max-age=a3600"}, "miss"),
    "max-age with a trailing letter": ({"Cache-Control": "max-age=3600a"}, "miss"),
    "max-age without a value": ({"Cache-Control": "max-age", "Expires": 3600}, "miss"),
    "space before the equals sign": ({"Cache-Control": "max-age =3600"}, "miss"),
    "space after the equals sign": ({"Cache-Control": "max-age= 3600"}, "miss"),
    "max-age twice, contradictory": ({"Cache-Control": "max-age=1, max-age=3600"}, "miss"),
    "max-age twice on two lines": ({"Cache-Control": "max-age=3600", "Cache-Control ": "max-age=1"}, "miss"),
    "max-age twice, the same": ({"Cache-Control": "max-age=3600, max-age=3600"}, "hit"),
    "max-age quoted inside an extension": ({"Cache-Control": 'ext="max-age=3600", max-age=1'}, "miss"),
    "max-age quoted inside a later extension": ({"Cache-Control": 'max-age=1, ext="max-age=3600"'}, "miss"),
    "an unknown directive": ({"Cache-Control": "foobar, max-age=3600"}, "hit"),
    "an unterminated quote swallows the rest": ({"Cache-Control": 'ext="a, max-age=3600'}, "miss"),
    "s-maxage": ({"Cache-Control": "s-maxage=3600"}, "hit"),
    "s-maxage beats a longer max-age": ({"Cache-Control": "max-age=3600, s-maxage=1"}, "miss"),
    "s-maxage beats a shorter max-age": ({"Cache-Control": "max-age=1, s-maxage=3600"}, "hit"),
    "s-maxage on another line": ({"Cache-Control": "max-age=3600", "Cache-Control ": "s-maxage=1"}, "miss"),
    "max-age beats a past Expires": ({"Cache-Control": "max-age=3600", "Expires": -10_000, "Date": 0}, "hit"),
    "max-age beats an invalid Expires": ({"Cache-Control": "max-age=3600", "Expires": "0"}, "hit"),
    "max-age=0 beats a future Expires": ({"Cache-Control": "max-age=0", "Expires": 10_000, "Date": 0}, "miss"),
    "a future Expires": ({"Expires": MONTH, "Date": 0}, "hit"),
    "a past Expires": ({"Expires": -MONTH, "Date": 0}, "miss"),
    "Expires now": ({"Expires": 0, "Date": 0}, "miss"),
    "Expires before Date, both ahead": ({"Expires": 300, "Date": 400}, "miss"),
    "Expires 0": ({"Expires": "0", "Date": 0}, "miss"),
    "Expires with an invalid Date": ({"Expires": 10, "Date": "foo"}, "hit"),
    "Expires twice": ({"Expires": 3600, "Expires ": 3600}, "miss"),
    "Expires in capitals": ({"Expires": "THU, 18 AUG 2050 02:01:18 gmt"}, "hit"),
    "Expires far ahead": ({"Expires": "Sun, 21 Nov 2286 04:46:39 GMT"}, "hit"),
    "Expires as RFC 850 writes it": ({"Expires": "Thursday, 18-Aug-50 02:01:18 GMT"}, "hit"),
    "Expires as asctime writes it": ({"Expires": "Thu Aug  8 02:01:18 2050"}, "hit"),
    "Expires in UTC": ({"Expires": "Thu, 18 Aug 2050 02:01:18 UTC"}, "miss"),
    "Expires in another zone": ({"Expires": "Thu, 18 Aug 2050 02:01:18 AEST"}, "miss"),
    "Expires with a short year": ({"Expires": "Thu, 18 Aug 50 02:01:18 GMT"}, "miss"),
    "Expires without the comma": ({"Expires": "Thu 18 Aug 2050 02:01:18 GMT"}, "miss"),
    "Expires with more spaces": ({"Expires": "Thu, 18  Aug  2050 02:01:18 GMT"}, "miss"),
    "Expires with dashes": ({"Expires": "Thu, 18-Aug-2050 02:01:18 GMT"}, "miss"),
    "Expires with dots in the time": ({"Expires": "Thu, 18 Aug 2050 02.01.18 GMT"}, "miss"),
    "Expires with a short hour": ({"Expires": "Thu, 18 Aug 2050 2:01:18 GMT"}, "miss"),
    "older than its max-age": ({"Cache-Control": "max-age=3600", "Age": "7200", "Date": 0}, "miss"),
    "older than its Expires, slow Date": ({"Expires": 10, "Date": -10, "Age": "25"}, "miss"),
    "older than its Expires, fast Date": ({"Expires": 20, "Date": 10, "Age": "15"}, "miss"),
    "Date long past": ({"Cache-Control": "max-age=3600", "Date": -7200}, "miss"),
    "Age not a number": ({"Cache-Control": "max-age=3600", "Age": "abc"}, "hit"),
    "Age negative": ({"Cache-Control": "max-age=3600", "Age": "-7200"}, "hit"),
    "Age with a fraction": ({"Cache-Control": "max-age=3600", "Age": "7200.0"}, "hit"),
    "Age 2^31": ({"Cache-Control": "max-age=3600", "Age": "2147483648"}, "miss"),
    "Age beyond any number": ({"Cache-Control": "max-age=3600", "Age": "9" * 400}, "miss"),
    "the first Age counts, old": ({"Cache-Control": "max-age=3600", "Age": "7200, 0"}, "miss"),
    "the first Age counts, new": ({"Cache-Control": "max-age=3600", "Age": "0, 7200"}, "hit"),
    "the first Age line counts": ({"Cache-Control": "max-age=3600", "Age": "7200", "Age ": "0"}, "miss"),
    "Pragma in a response means nothing": ({"Cache-Control": "max-age=3600", "Pragma": "no-cache"}, "hit"),
    "Last-Modified a day ago": ({"Last-Modified": -DAY, "Date": 0}, "hit"),
    "Last-Modified twenty seconds ago": ({"Last-Modified": -20, "Date": 0}, "validated"),
    "Last-Modified in the future": ({"Last-Modified": 20, "Date": 0}, "validated"),
    "only an entity tag": ({"ETag": '"v"'}, "validated"),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "expected"), FRESHNESS.values(), ids=FRESHNESS.keys())
async def test_freshness(sent: Sent, expected: str) -> None:
    assert await outcome(Reply(), sent) == expected


DIRECTIVES: dict[str, tuple[Sent, str]] = {
    "private": ({"Cache-Control": "private, max-age=3600"}, "miss"),
    "private, malformed": ({"Cache-Control": "private;x, max-age=3600"}, "miss"),
    "no-store": ({"Cache-Control": "no-store, max-age=3600"}, "miss"),
    "no-store in any case": ({"Cache-Control": "No-StOrE, max-age=3600"}, "miss"),
    "no-store with a value": ({"Cache-Control": "no-store=1, max-age=3600"}, "miss"),
    "no-store, must-understand": ({"Cache-Control": "no-store, must-understand, max-age=3600"}, "hit"),
    "no-cache without validator": ({"Cache-Control": "no-cache, max-age=3600"}, "miss"),
    "no-cache with a validator": ({"Cache-Control": "no-cache, max-age=3600", "ETag": '"v"'}, "validated"),
    "no-cache alone with a validator": ({"Cache-Control": "no-cache", "ETag": '"v"'}, "validated"),
    "no-cache for one field": ({"Cache-Control": 'no-cache="a", max-age=3600', "a": "1"}, "hit"),
    "private for one field": ({"Cache-Control": 'private="a", max-age=3600', "a": "1"}, "hit"),
    "no-cache for no field": ({"Cache-Control": 'no-cache="", max-age=3600', "ETag": '"v"'}, "validated"),
    "must-revalidate while fresh": ({"Cache-Control": "max-age=3600, must-revalidate", "ETag": '"v"'}, "hit"),
    "must-revalidate once stale": ({"Cache-Control": "max-age=2, must-revalidate", "ETag": '"v"'}, "validated"),
    "immutable": ({"Cache-Control": "max-age=3600, immutable"}, "hit"),
    "stale-while-revalidate": ({"Cache-Control": "max-age=1, stale-while-revalidate=60"}, "hit"),
    "stale-while-revalidate over": ({"Cache-Control": "max-age=1, stale-while-revalidate=1"}, "miss"),
    "stale-while-revalidate under must-revalidate": (
        {"Cache-Control": "max-age=1, must-revalidate, stale-while-revalidate=60"},
        "miss",
    ),
    "Set-Cookie": ({"Cache-Control": "max-age=3600", "Set-Cookie": "a=b"}, "miss"),
    "Vary: *": ({"Cache-Control": "max-age=3600", "Vary": "*"}, "miss"),
    "Vary: *, *": ({"Cache-Control": "max-age=3600", "Vary": "*, *"}, "miss"),
    "Vary: , *": ({"Cache-Control": "max-age=3600", "Vary": ", *"}, "miss"),
    "Vary: * after an empty line": ({"Cache-Control": "max-age=3600", "Vary": "", "Vary ": "*"}, "miss"),
    "Vary: Foo, *": ({"Cache-Control": "max-age=3600", "Vary": "Foo, *"}, "miss"),
    "Vary: *, Foo": ({"Cache-Control": "max-age=3600", "Vary": "*, Foo"}, "miss"),
    "Vary that is no list of names": ({"Cache-Control": "max-age=3600", "Vary": "a b"}, "miss"),
    "event stream": ({"Cache-Control": "max-age=3600", "Content-Type": "text/event-stream"}, "miss"),
}


@pytest.mark.parametrize(("sent", "expected"), DIRECTIVES.values(), ids=DIRECTIVES.keys())
async def test_response_directives(sent: Sent, expected: str) -> None:
    world_outcome = await outcome(Reply(), sent)
    assert world_outcome == expected


STATUSES = (200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 414, 499, 500, 501, 502, 503, 504, 599)
HEURISTIC = {200: True, 201: False, 202: False, 203: True, 204: True, 302: False, 307: False, 403: False, 404: True,
             405: True, 410: True, 414: True, 501: True, 502: False, 503: False, 504: False, 599: False}  # fmt: skip


@pytest.mark.parametrize("status", STATUSES)
async def test_any_final_status_is_reused_when_it_is_explicitly_fresh(status: int) -> None:
    assert await outcome(Reply(status), {"Cache-Control": "max-age=3600"}) == "hit"
    assert await outcome(Reply(status), {"Expires": -5000, "Date": 0}) == "miss"


@pytest.mark.parametrize(("status", "reused"), HEURISTIC.items())
async def test_only_some_statuses_are_reused_by_heuristic(status: int, *, reused: bool) -> None:
    assert await outcome(Reply(status), {"Last-Modified": -DAY}) == ("hit" if reused else "miss")
    assert await outcome(Reply(status), {"Last-Modified": -DAY, "Cache-Control": "public"}) == "hit"


@pytest.mark.parametrize("status", [206, 304])
async def test_206_and_304_are_never_stored_as_such(status: int) -> None:
    assert await outcome(Reply(status), {"Cache-Control": "max-age=3600"}) == "miss"


async def test_must_understand_keeps_statuses_nobody_knows_out() -> None:
    assert await outcome(Reply(599), {"Cache-Control": "max-age=3600, no-store, must-understand"}) == "miss"
    assert await outcome(Reply(599), {"Cache-Control": "max-age=3600, must-understand"}) == "miss"


REQUESTS: dict[str, tuple[Sent, Sent, str]] = {
    "nothing": ({}, {}, "hit"),
    "no-cache": ({}, {"Cache-Control": "no-cache"}, "validated"),
    "no-cache in any case": ({}, {"Cache-Control": "No-CaChe"}, "validated"),
    "Pragma: no-cache": ({}, {"Pragma": "no-cache"}, "validated"),
    "Pragma beside Cache-Control": ({}, {"Pragma": "no-cache", "Cache-Control": "max-age=3000"}, "hit"),
    "an unknown Pragma": ({}, {"Pragma": "foo"}, "hit"),
    "no-store": ({}, {"Cache-Control": "no-store"}, "miss"),
    "max-age=0": ({}, {"Cache-Control": "max-age=0"}, "validated"),
    "max-age it is within": ({}, {"Cache-Control": "max-age=3"}, "hit"),
    "max-age it is beyond": ({}, {"Cache-Control": "max-age=2"}, "validated"),
    "max-age not a number": ({}, {"Cache-Control": "max-age=x"}, "validated"),
    "max-age of an aged answer": ({"Age": "1800"}, {"Cache-Control": "max-age=600"}, "validated"),
    "min-fresh it has": ({}, {"Cache-Control": "min-fresh=3000"}, "hit"),
    "min-fresh it has not": ({}, {"Cache-Control": "min-fresh=4000"}, "validated"),
    "min-fresh not a number": ({}, {"Cache-Control": "min-fresh=x"}, "validated"),
    "max-stale without limit": ({"Age": "90000"}, {"Cache-Control": "max-stale"}, "hit"),
    "max-stale it is within": ({"Age": "4000"}, {"Cache-Control": "max-stale=1000"}, "hit"),
    "max-stale it is beyond": ({"Age": "4000"}, {"Cache-Control": "max-stale=100"}, "validated"),
    "max-stale not a number": ({"Age": "4000"}, {"Cache-Control": "max-stale=x"}, "validated"),
    "max-stale that the origin forbids": (
        {"Age": "4000", "Cache-Control": "max-age=3600, must-revalidate"},
        {"Cache-Control": "max-stale=1000"},
        "validated",
    ),
    "max-stale that s-maxage forbids": (
        {"Age": "4000", "Cache-Control": "s-maxage=3600"},
        {"Cache-Control": "max-stale=1000"},
        "validated",
    ),
    "only-if-cached": ({}, {"Cache-Control": "only-if-cached"}, "hit"),
    "If-Match": ({}, {"If-Match": '"v"'}, "miss"),
    "If-Unmodified-Since": ({}, {"If-Unmodified-Since": 0}, "miss"),
    "cookies": ({}, {"Cookie": "a=b"}, "hit"),
    "Authorization": ({}, {"Authorization": "Basic x"}, "miss"),
}


@pytest.mark.parametrize(("sent", "asks", "expected"), REQUESTS.values(), ids=REQUESTS.keys())
async def test_request_directives(sent: Sent, asks: Sent, expected: str) -> None:
    assert await outcome(Reply(), {"Cache-Control": "max-age=3600", "ETag": '"v"', **sent}, asks=asks) == expected


async def test_a_route_may_ignore_what_clients_ask_of_a_cache() -> None:
    sent: Sent = {"Cache-Control": "max-age=3600"}
    for value in ("no-cache", "no-store", "max-age=0", "min-fresh=9999"):
        assert await outcome(Reply(), sent, asks={"Cache-Control": value}, honor_request_directives=False) == "hit"


CREDENTIALS: dict[str, tuple[Sent, Sent, str]] = {
    "Authorization": ({"Expires": MONTH}, {"Authorization": "x"}, "miss"),
    "Authorization, max-age": ({"Cache-Control": "max-age=3600"}, {"Authorization": "x"}, "miss"),
    "Authorization, listed in Vary": (
        {"Cache-Control": "max-age=3600", "Vary": "Authorization"},
        {"Authorization": "x"},
        "miss",
    ),
    "Authorization, public": ({"Cache-Control": "max-age=3600, public"}, {"Authorization": "x"}, "hit"),
    "Authorization, must-revalidate": (
        {"Cache-Control": "max-age=3600, must-revalidate"},
        {"Authorization": "x"},
        "hit",
    ),
    "Authorization, s-maxage": ({"Cache-Control": "s-maxage=3600"}, {"Authorization": "x"}, "hit"),
    "cookies, explicit freshness": ({"Cache-Control": "max-age=3600"}, {"Cookie": "a=b"}, "hit"),
    "cookies, heuristic freshness": ({"Last-Modified": -DAY}, {"Cookie": "a=b"}, "miss"),
    "a request that said no-store": ({"Cache-Control": "max-age=3600"}, {"Cache-Control": "no-store"}, "miss"),
}


@pytest.mark.parametrize(("sent", "first_asks", "expected"), CREDENTIALS.values(), ids=CREDENTIALS.keys())
async def test_what_is_stored_for_whom(sent: Sent, first_asks: Sent, expected: str) -> None:
    assert await outcome(Reply(), sent, first_asks=first_asks) == expected


VARY: dict[str, tuple[str, Sent, Sent, str]] = {
    "same": ("Foo", {"Foo": "1"}, {"Foo": "1"}, "hit"),
    "other": ("Foo", {"Foo": "1"}, {"Foo": "2"}, "miss"),
    "now absent": ("Foo", {"Foo": "1"}, {}, "miss"),
    "then absent": ("Foo", {}, {"Foo": "1"}, "miss"),
    "absent both times": ("Foo, Bar", {"Foo": "1"}, {"Foo": "1"}, "hit"),
    "then absent, now empty": ("Foo", {}, {"Foo": ""}, "miss"),
    "another field": ("Foo", {"Foo": "1", "Other": "2"}, {"Foo": "1", "Other": "3"}, "hit"),
    "two fields": ("Foo, bar", {"Foo": "1", "Bar": "a"}, {"Foo": "1", "Bar": "a"}, "hit"),
    "one of two differs": ("Foo, bar", {"Foo": "1", "Bar": "a"}, {"Foo": "1", "Bar": "b"}, "miss"),
    "field name in any case": ("fOO", {"Foo": "1"}, {"foo": "1"}, "hit"),
    "lines combined": ("Foo", {"Foo": "1, 2"}, {"Foo": "1", "Foo ": "2"}, "hit"),
    "white space": ("Foo", {"Foo": "1,2"}, {"Foo": "1 ,  2"}, "hit"),
    "values are not case-insensitive": ("Foo", {"Foo": "a"}, {"Foo": "A"}, "miss"),
    "order matters": ("Foo", {"Foo": "1, 2"}, {"Foo": "2, 1"}, "miss"),
    "quoted white space matters": ("Foo", {"Foo": '"1,2"'}, {"Foo": '"1, 2"'}, "miss"),
    "language order": ("Accept-Language", {"Accept-Language": "en, de"}, {"Accept-Language": "de, en"}, "hit"),
    "language case": ("Accept-Language", {"Accept-Language": "en, de"}, {"Accept-Language": "eN,De"}, "hit"),
    "language weights": ("Accept-Language", {"Accept-Language": "en"}, {"Accept-Language": "en;q=0.5"}, "miss"),
    "coding order": ("Accept-Encoding", {"Accept-Encoding": "gzip, br"}, {"Accept-Encoding": "br,gzip"}, "hit"),
    "Vary: Authorization tells users apart": (
        "Authorization",
        {"Authorization": "a", "Cookie": "x"},
        {"Authorization": "b", "Cookie": "x"},
        "miss",
    ),
}


@pytest.mark.parametrize(("vary", "first_asks", "asks", "expected"), VARY.values(), ids=VARY.keys())
async def test_vary(vary: str, first_asks: Sent, asks: Sent, expected: str) -> None:
    sent: Sent = {"Cache-Control": "max-age=3600, public", "Vary": vary, "Last-Modified": -DAY}
    assert await outcome(Reply(), sent, first_asks=first_asks, asks=asks) == expected


TARGETED: dict[str, tuple[Sent, str]] = {
    "alone": ({"CDN-Cache-Control": "max-age=3600"}, "hit"),
    "zero": ({"CDN-Cache-Control": "max-age=0"}, "miss"),
    "older than it allows": ({"CDN-Cache-Control": "max-age=3600", "Age": "7200"}, "miss"),
    "beats a past Expires": ({"CDN-Cache-Control": "max-age=3600", "Expires": -10_000}, "hit"),
    "makes Expires void": ({"CDN-Cache-Control": "public", "Expires": 10_000}, "miss"),
    "beats a shorter Cache-Control": ({"CDN-Cache-Control": "max-age=3600", "Cache-Control": "max-age=1"}, "hit"),
    "beats a longer Cache-Control": ({"CDN-Cache-Control": "max-age=1", "Cache-Control": "max-age=3600"}, "miss"),
    "private": ({"CDN-Cache-Control": "private", "Cache-Control": "max-age=3600"}, "miss"),
    "no-cache": ({"CDN-Cache-Control": "no-cache", "Cache-Control": "max-age=3600"}, "miss"),
    "no-store": ({"CDN-Cache-Control": "no-store", "Cache-Control": "max-age=3600"}, "miss"),
    "beats no-store": ({"CDN-Cache-Control": "max-age=3600", "Cache-Control": "no-store"}, "hit"),
    "an extension": ({"CDN-Cache-Control": "foobar, max-age=3600"}, "hit"),
    "not a dictionary": ({"CDN-Cache-Control": "max-age=3600, &&&", "Cache-Control": "no-store"}, "miss"),
    "wrong type": ({"CDN-Cache-Control": 'max-age="3600"', "Cache-Control": "no-store"}, "miss"),
    "wrong case": ({"CDN-Cache-Control": "Max-Age=3600", "Cache-Control": "no-store"}, "miss"),
    "space before the equals sign": ({"CDN-Cache-Control": "max-age =3600", "Cache-Control": "max-age=1"}, "miss"),
    "empty": ({"CDN-Cache-Control": "", "Cache-Control": "max-age=3600"}, "hit"),
    "switched off": ({"CDN-Cache-Control": "no-store=?0, max-age=3600"}, "hit"),
}


@pytest.mark.parametrize(("sent", "expected"), TARGETED.values(), ids=TARGETED.keys())
async def test_targeted_cache_control(sent: Sent, expected: str) -> None:
    assert await outcome(Reply(), sent, targeted=("CDN-Cache-Control",)) == expected


async def test_targeted_fields_mean_nothing_unless_named() -> None:
    assert await outcome(Reply(), {"CDN-Cache-Control": "max-age=3600"}) == "miss"


@pytest.mark.parametrize(("status", "expected"), [(200, "hit"), (404, "hit"), (302, "miss"), (503, "miss")])
async def test_the_routes_ttl_counts_where_the_response_says_nothing(status: int, expected: str) -> None:
    assert await outcome(Reply(status), {}, ttl=60.0) == expected
    assert await outcome(Reply(200), {"Cache-Control": "max-age=1"}, ttl=60.0) == "miss"
