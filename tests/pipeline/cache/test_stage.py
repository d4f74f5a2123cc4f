"""The cache stage between a client and a scripted upstream."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.core.config import CacheMode, ForwardedMode, ProxySettings, QueryKey, Rewrite, StalePolicy
from sidecar.pipeline.errors import (
    BulkheadFull,
    CircuitOpen,
    ClientGone,
    ConnectionLost,
    ConnectionRefused,
    ConnectTimeout,
    DeadlineExceeded,
    DnsFailed,
    FirstByteTimeout,
    GatewayTimeoutByDirective,
    PoolExhausted,
    ProtocolError,
    ProxyError,
    RateLimited,
    TlsFailed,
    TotalTimeout,
)
from sidecar.pipeline.message import BodyEnd, Request
from sidecar.pipeline.source import Source
from tests.support.cache_world import Reply, World, receive

FRESH = {"Cache-Control": "max-age=60", "ETag": '"v1"'}
REFUSED = Reply(error=ConnectionRefused("nobody listens"))


# Hits and misses


async def test_a_fresh_answer_is_given_from_the_store() -> None:
    world = World(Reply(fields=FRESH))
    first = await world.ask()
    assert first.cache_status == "sidecar; fwd=uri-miss; stored"
    world.clock.now += 7
    response = await world.stage.handle(world.request())
    assert response.extra == b"Age: 7\r\nCache-Status: sidecar; hit; ttl=53\r\n"
    assert (response.source, world.asked) == (Source.CACHE, 1)
    assert (await receive(response)).body == b"content"


async def test_age_counts_what_the_answer_had_and_what_the_exchange_took() -> None:
    def slow(_: Request) -> Reply:
        world.clock.now += 2.5
        return Reply(fields={"Cache-Control": "max-age=600", "Age": "30"})

    world = World(slow)
    await world.ask()
    world.clock.now += 10
    assert (await world.ask()).age == 42


async def test_a_step_of_the_wall_clock_neither_ages_nor_renews() -> None:
    world = World(Reply(fields=FRESH))
    await world.ask()
    world.clock.wall_offset += 3600
    world.clock.now += 30
    assert (await world.ask()).age == 30
    world.clock.wall_offset -= 7200
    world.clock.now += 31
    assert (await world.ask()).word == "stale"


async def test_results_are_counted_in_the_words_of_cache_status() -> None:
    world = World(Reply(fields={**FRESH, "Vary": "A"}))
    await world.ask()
    await world.ask()
    await world.ask(fields={"A": "1"})
    await world.ask(fields={"Cache-Control": "no-cache"})
    await world.ask(method="POST")
    await world.ask(fields={"Forwarded": "host=evil"})
    world.origin.replies = [Reply(fields=FRESH), REFUSED]
    await world.ask()
    world.clock.now += 100
    await world.ask()
    assert dict(world.stats.cache_results) == {
        "uri-miss": 2,
        "hit": 1,
        "vary-miss": 1,
        "request": 1,
        "method": 1,
        "bypass": 1,
        "hit-stale": 1,
    }
    assert sum(world.stats.served_age.counts) == 2


async def test_what_no_upstream_answered_is_never_stored() -> None:
    world = World(Reply(fields=FRESH, source=Source.FALLBACK))
    await world.ask()
    assert world.store.all() == []


async def test_debug_says_the_key_and_why_an_answer_was_not_stored() -> None:
    world = World(Reply(fields={"Cache-Control": "no-store"}), Reply(fields=FRESH), debug=True)
    key = 'key="catalog http://catalog.svc:8080/a"'
    assert (await world.ask()).cache_status == f'sidecar; fwd=uri-miss; detail="no-store"; {key}'
    await world.ask()
    assert (await world.ask()).cache_status == f"sidecar; hit; ttl=60; {key}"


async def test_the_upstreams_own_cache_status_stays_before_ours() -> None:
    world = World(Reply(fields={**FRESH, "Cache-Status": "cdn; hit"}))
    await world.ask()
    assert (await world.ask()).cache_status == "cdn; hit, sidecar; hit; ttl=60"


# What is stored


async def test_only_fields_that_may_be_replayed_are_stored() -> None:
    gone = {
        "Age": "1",
        "Proxy-Authenticate": "x",
        "Proxy-Foo": "x",
        "Trailer": "x",
        "Connection": "b",
        "b": "1",
        "c": "1",
    }
    kept = {"Cache-Control": 'max-age=60, no-cache="C"', "Set-Cookie2": "a", "X": "1", "Content-Encoding": "x"}
    world = World(Reply(fields={**gone, **kept, "Set-Cookie": "a=b"}), store_set_cookie=True)
    first = await world.ask()
    assert first["Set-Cookie"] == "a=b"
    second = await world.ask()
    assert second.hit
    names = {name.decode() for name, _ in second.headers}
    assert names == {*kept, "Age", "Cache-Status", "Content-Length", "Date"}


async def test_an_answer_without_date_is_stored_with_one() -> None:
    world = World(Reply(fields=FRESH, dated=False))
    await world.ask()
    world.clock.now += 5
    assert (await world.ask())["Date"] == "Sun, 09 Sep 2001 01:46:40 GMT"


async def test_a_body_that_arrives_in_pieces_is_stored_with_its_length() -> None:
    world = World(Reply(fields=FRESH, pieces=[b"con", b"tent"]), collapse=False)
    assert (await world.ask()).body == b"content"
    again = await world.ask()
    assert (again.hit, again.body, again["Content-Length"]) == (True, b"content", "7")


@pytest.mark.parametrize("collapse", [True, False])
async def test_a_truncated_answer_leaves_no_trace(*, collapse: bool) -> None:
    world = World(Reply(fields=FRESH, pieces=[b"con", ConnectionLost("cut")]), collapse=collapse)
    with pytest.raises(ConnectionLost):
        await world.ask()
    await world.settle()
    assert world.store.all() == []


async def test_a_truncated_refresh_leaves_the_old_answer_as_it_was() -> None:
    world = World(Reply(fields=FRESH), Reply(fields=FRESH, pieces=[b"x", ConnectionLost("cut")]), REFUSED)
    await world.ask()
    world.clock.now += 100
    with pytest.raises(ConnectionLost):
        await world.ask()
    assert (await world.ask()).body == b"content"


@pytest.mark.parametrize("collapse", [True, False])
async def test_an_abandoned_answer_leaves_no_trace(*, collapse: bool) -> None:
    never = asyncio.Event()
    world = World(Reply(fields=FRESH, pieces=[b"con", never, b"tent"]), collapse=collapse)
    response = await world.send(world.request())
    assert not isinstance(response.body, bytes)
    assert await response.body.read() == b"con"
    response.body.close()
    await world.settle()
    assert world.store.all() == []
    assert world.origin.bodies[0].ends == [BodyEnd.ABANDONED]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b"x" * 101),
        Reply(pieces=[b"x" * 60, b"x" * 40, b"x"]),
        Reply(pieces=[b"x" * 101]),
        Reply(pieces=[b"x" * 60, b"x" * 41], length=101),
    ],
    ids=["whole", "in pieces", "in one piece", "in pieces of a known total"],
)
@pytest.mark.parametrize("collapse", [True, False])
async def test_too_large_an_answer_passes_and_is_not_stored(reply: Reply, *, collapse: bool) -> None:
    reply = Reply(fields=FRESH, body=reply.body, pieces=reply.pieces, length=reply.length)
    world = World(reply, max_entry_size=50, collapse=collapse)
    assert (await world.ask()).body == b"x" * 101
    await world.settle()
    assert world.store.all() == []


async def test_an_error_does_not_replace_a_good_answer() -> None:
    world = World(Reply(fields=FRESH), Reply(501, FRESH, b"oh no"), REFUSED)
    await world.ask()
    world.clock.now += 61
    assert (await world.ask()).status == 501
    assert (await world.ask()).body == b"content"


async def test_a_resource_that_is_gone_does_not_stand_in_later() -> None:
    world = World(Reply(fields=FRESH), Reply(404), REFUSED)
    await world.ask()
    world.clock.now += 61
    assert (await world.ask()).status == 404
    with pytest.raises(ConnectionRefused):
        await world.ask()


@pytest.mark.parametrize("how", ["invalidate", "route", "url", "prefix", "tag"])
async def test_a_fetch_that_races_a_purge_is_not_stored(how: str) -> None:
    gate = asyncio.Event()
    world = World(Reply(fields={**FRESH, "Surrogate-Key": "one two"}, gate=gate))
    asking = asyncio.ensure_future(world.ask())
    await world.until(lambda: world.asked == 1)
    key, url = b"catalog http://catalog.svc:8080/a", b"http://catalog.svc:8080/a"
    match how:
        case "invalidate":
            world.store.invalidate(key)
        case "route":
            world.store.purge(route="catalog")
        case "url":
            world.store.purge(url=url)
        case "prefix":
            world.store.purge(prefix=url[:-1])
        case _:
            world.store.purge(tag=b"two")
    gate.set()
    assert (await asking).cache_status == "sidecar; fwd=uri-miss"
    assert world.store.all() == []


# Validation


async def test_a_stale_answer_is_validated_and_renewed() -> None:
    later = {"Cache-Control": "max-age=90", "ETag": '"v1"', "X": "new", "Content-Length": "3", "Content-Encoding": "no"}
    world = World(Reply(fields={**FRESH, "X": "old", "Y": "kept"}), Reply(304, later))
    await world.ask()
    world.clock.now += 100
    answer = await world.ask(fields={"Accept": "x"})
    assert world.last("if-none-match") == b'"v1"'
    assert world.last("accept") == b"x"
    assert answer.cache_status == "sidecar; fwd=stale; fwd-status=304; stored"
    assert (answer.status, answer.body, answer["X"], answer["Y"], answer.age) == (200, b"content", "new", "kept", 0)
    world.clock.now += 80
    again = await world.ask()
    assert (again.hit, again["X"], again["Content-Length"], again["Content-Encoding"]) == (True, "new", "7", None)


async def test_both_validators_are_sent_and_replace_the_clients_own() -> None:
    world = World(Reply(fields={**FRESH, "Last-Modified": "Sun, 09 Sep 2001 00:00:00 GMT"}), Reply(304))
    await world.ask()
    world.clock.now += 100
    answer = await world.ask(fields={"If-None-Match": '"mine"', "Range": "bytes=0-1"})
    assert world.last("if-none-match") == b'"v1"'
    assert world.last("if-modified-since") == b"Sun, 09 Sep 2001 00:00:00 GMT"
    assert world.last("range") is None
    assert (answer.status, answer.body) == (206, b"co")


async def test_a_304_about_something_else_is_asked_again_for_the_whole() -> None:
    world = World(Reply(fields=FRESH), Reply(304, {"ETag": '"v2"'}), Reply(fields=FRESH, body=b"second"))
    await world.ask()
    world.clock.now += 100
    assert (await world.ask()).body == b"second"
    assert (world.asked, world.last("if-none-match")) == (3, None)


async def test_a_304_that_forbids_storing_ends_the_stored_answer() -> None:
    world = World(Reply(fields=FRESH), Reply(304, {"Cache-Control": "no-store"}), Reply(body=b"second"))
    await world.ask()
    world.clock.now += 100
    assert (await world.ask()).body == b"content"
    assert (await world.ask()).body == b"second"


async def test_a_cookie_that_comes_with_a_304_is_not_stored() -> None:
    world = World(Reply(fields=FRESH), Reply(304, {"Set-Cookie": "a=b"}), Reply(body=b"second"))
    await world.ask()
    world.clock.now += 100
    assert (await world.ask()).body == b"content"
    assert all(b"set-cookie" not in stored.head.headers for stored in world.store.all())


async def test_a_304_that_nobody_here_asked_for_is_passed_on() -> None:
    world = World(Reply(304, {"ETag": '"x"'}))
    answer = await world.ask(fields={"If-None-Match": '"x"'})
    assert (answer.status, world.last("if-none-match")) == (304, b'"x"')
    assert world.store.all() == []


async def test_a_variant_is_validated_by_its_own_tag_only() -> None:
    world = World(Reply(fields={**FRESH, "Vary": "A"}))
    await world.ask(fields={"A": "1"})
    await world.ask(fields={"A": "2"})
    assert world.last("if-none-match") is None
    assert len(world.store.all()) == 2


async def test_a_stored_answer_with_vary_goes_before_one_without() -> None:
    world = World(Reply(fields={**FRESH, "Vary": "A"}, body=b"A=1"), Reply(fields=FRESH, body=b"plain"))
    await world.ask(fields={"A": "1"})
    await world.ask(fields={"A": "2"})
    assert [(await world.ask(fields={"A": value})).body for value in "123"] == [b"A=1", b"plain", b"plain"]


# HEAD


async def test_a_stored_get_answers_head() -> None:
    world = World(Reply(fields=FRESH))
    await world.ask()
    answer = await world.ask(method="HEAD")
    assert (answer.hit, answer.body, answer["Content-Length"]) == (True, b"", "7")


async def test_a_head_is_not_stored() -> None:
    world = World(Reply(fields=FRESH))
    await world.ask(method="HEAD")
    assert (await world.ask()).word == "uri-miss"


async def test_the_answer_to_a_head_renews_what_is_stored() -> None:
    world = World(Reply(fields=FRESH), Reply(fields={**FRESH, "X": "new", "Content-Length": "7"}))
    await world.ask()
    world.clock.now += 100
    await world.ask(method="HEAD")
    assert world.origin.requests[-1].head.method == "HEAD"
    again = await world.ask()
    assert (again.hit, again["X"], again.body) == (True, "new", b"content")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(fields={**FRESH, "ETag": '"v2"'}),
        Reply(fields={**FRESH, "Content-Length": "8"}),
        Reply(410, FRESH),
        Reply(fields={"Cache-Control": "no-store"}),
    ],
    ids=["another tag", "another length", "another status", "no longer to be stored"],
)
async def test_an_answer_to_a_head_that_differs_makes_what_is_stored_stale(reply: Reply) -> None:
    world = World(Reply(fields=FRESH), reply)
    await world.ask()
    await world.ask(method="HEAD", fields={"Cache-Control": "no-cache"})
    assert (await world.ask()).word == "stale"


# Methods that change things


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"])
@pytest.mark.parametrize(("status", "kept"), [(200, False), (204, False), (303, False), (404, True), (500, True)])
async def test_a_successful_unsafe_method_invalidates_its_target(method: str, status: int, *, kept: bool) -> None:
    world = World(Reply(fields=FRESH), Reply(status), Reply(fields=FRESH))
    await world.ask()
    answer = await world.ask(method=method, body=b"abc")
    assert answer.cache_status == "sidecar; fwd=method"
    assert (await world.ask()).hit is kept


async def test_options_invalidates_nothing() -> None:
    world = World(Reply(fields=FRESH))
    await world.ask()
    await world.ask(method="OPTIONS")
    assert (await world.ask()).hit


@pytest.mark.parametrize("field", ["Location", "Content-Location"])
@pytest.mark.parametrize(
    ("named", "kept"),
    [
        ("/x/b?q=1", False),
        ("b?q=1", False),
        ("./b?q=1#part", False),
        ("http://catalog.svc:8080/x/b?q=1", False),
        ("http://client.example/x/b?q=1", False),
        ("http://other.example/x/b?q=1", True),
        ("http://[bad/x/b?q=1", True),
        ("/x/B?q=1", True),
    ],
)
async def test_an_unsafe_method_invalidates_what_its_answer_names(field: str, named: str, *, kept: bool) -> None:
    world = World(Reply(fields=FRESH), Reply(201, {field: named}), Reply(fields=FRESH))
    await world.ask("/x/b?q=1")
    await world.ask("/x/a", method="POST")
    assert (await world.ask("/x/b?q=1")).hit is kept


async def test_locations_are_the_upstreams_paths_not_the_clients() -> None:
    world = World(Reply(fields=FRESH), Reply(201, {"Location": "/b"}), rewrite=Rewrite(strip_prefix="/catalog"))
    await world.ask("/catalog/b")
    await world.ask("/catalog/a", method="POST")
    assert world.store.all() == []


async def test_an_unsafe_method_invalidates_all_that_key_headers_tell_apart() -> None:
    world = World(Reply(fields=FRESH), Reply(fields=FRESH), Reply(204), key_headers=("X-Tenant",))
    await world.ask(fields={"X-Tenant": "a"})
    await world.ask(fields={"X-Tenant": "b"})
    await world.ask(method="DELETE", fields={"X-Tenant": "a"})
    assert world.store.all() == []


# When the upstream cannot answer

FAILURES: dict[str, tuple[Reply, str]] = {
    "refused": (REFUSED, "upstream_error"),
    "reset": (Reply(error=ConnectionLost("")), "upstream_error"),
    "DNS": (Reply(error=DnsFailed("")), "upstream_error"),
    "TLS": (Reply(error=TlsFailed("")), "upstream_error"),
    "malformed": (Reply(error=ProtocolError("")), "upstream_error"),
    "connect timeout": (Reply(error=ConnectTimeout("")), "upstream_timeout"),
    "first-byte timeout": (Reply(error=FirstByteTimeout("")), "upstream_timeout"),
    "total timeout": (Reply(error=TotalTimeout("")), "upstream_timeout"),
    "refused by the circuit meanwhile": (Reply(error=CircuitOpen("")), "circuit_open"),
    "refused by a bulkhead": (Reply(error=BulkheadFull("")), "bulkhead_full"),
    "status 500": (Reply(500), "upstream_error"),
    "status 503 with a body to come": (Reply(503, pieces=[b"oh", b"no"]), "upstream_error"),
    "status 503 with a body cut short": (Reply(503, pieces=[b"oh", ConnectionLost("cut")]), "upstream_error"),
}


@pytest.mark.parametrize(("failure", "detail"), FAILURES.values(), ids=FAILURES.keys())
@pytest.mark.parametrize("collapse", [True, False])
async def test_a_stored_answer_stands_in_for_every_kind_of_failure(
    failure: Reply, detail: str, *, collapse: bool
) -> None:
    world = World(Reply(fields=FRESH), failure, collapse=collapse)
    await world.ask()
    world.clock.now += 100
    answer = await world.ask()
    assert answer.cache_status == f"sidecar; hit; ttl=-40; detail={detail}"
    assert (answer.status, answer.body, answer.age, answer["ETag"]) == (200, b"content", 100, '"v1"')
    assert answer.source is Source.STALE
    stand_in = answer.response.stand_in
    assert stand_in is not None
    assert (stand_in.because, bool(stand_in.error)) == (detail, detail.startswith("upstream"))
    await world.settle()
    assert all(body.end not in (None, BodyEnd.ABANDONED) for body in world.origin.bodies), "so that the circuit knows"


@pytest.mark.parametrize("error", [PoolExhausted(""), ClientGone(""), RateLimited(""), DeadlineExceeded("")])
async def test_it_stands_in_for_nothing_that_is_not_the_upstreams_failure(error: ProxyError) -> None:
    world = World(Reply(fields=FRESH), Reply(error=error))
    await world.ask()
    world.clock.now += 100
    with pytest.raises(type(error)):
        await world.ask()


async def test_standing_in_never_renews_freshness() -> None:
    world = World(Reply(fields=FRESH), REFUSED)
    await world.ask()
    for age in (100, 200, 300):
        world.clock.now += 100
        assert (await world.ask()).age == age
    assert world.asked == 4


async def test_an_open_circuit_is_answered_for() -> None:
    world = World(Reply(fields=FRESH))
    await world.ask()
    world.clock.now += 100
    world.origin.open = True
    for fields in ({}, {"Cookie": "a=b"}, {"Range": "bytes=0-1"}, {"If-None-Match": '"v1"'}):
        response = await world.stage.handle(world.request(fields=fields))
        assert response.extra == b"Age: 100\r\nCache-Status: sidecar; hit; ttl=-40; detail=circuit_open\r\n"
        assert response.source is Source.STALE


async def test_a_refusal_reaches_the_client_when_nothing_is_stored() -> None:
    world = World(Reply())
    world.origin.open = True
    with pytest.raises(CircuitOpen):
        await world.stage.handle(world.request())
    with pytest.raises(CircuitOpen):
        await world.stage.handle(world.request(method="POST"))


STAND_INS: dict[str, tuple[str, StalePolicy, float, bool]] = {
    "within stale_ttl": ("max-age=10", StalePolicy.ORIGIN, 1010, True),
    "past stale_ttl": ("max-age=10", StalePolicy.ORIGIN, 1011, False),
    "within stale-if-error": ("max-age=10, stale-if-error=5", StalePolicy.ORIGIN, 15, True),
    "past stale-if-error": ("max-age=10, stale-if-error=5", StalePolicy.ORIGIN, 16, False),
    "past stale_ttl, within stale-if-error": ("max-age=10, stale-if-error=2000", StalePolicy.ORIGIN, 1500, True),
    "stale-if-error that is no number": ("max-age=10, stale-if-error=x", StalePolicy.ORIGIN, 11, False),
    "larger: the route's": ("max-age=10, stale-if-error=5", StalePolicy.LARGER, 1010, True),
    "larger: the response's": ("max-age=10, stale-if-error=2000", StalePolicy.LARGER, 2010, True),
    "larger: past both": ("max-age=10, stale-if-error=5", StalePolicy.LARGER, 1011, False),
    "route: only the route's": ("max-age=10, stale-if-error=2000", StalePolicy.ROUTE, 1011, False),
    "must-revalidate": ("max-age=10, must-revalidate", StalePolicy.ORIGIN, 11, False),
    "must-revalidate beats stale-if-error": (
        "max-age=10, must-revalidate, stale-if-error=50",
        StalePolicy.LARGER,
        11,
        False,
    ),
    "proxy-revalidate": ("max-age=10, proxy-revalidate", StalePolicy.ORIGIN, 11, False),
    "no-cache": ("max-age=10, no-cache", StalePolicy.ORIGIN, 1, False),
    "s-maxage": ("s-maxage=10", StalePolicy.ORIGIN, 11, False),
    "always: must-revalidate": ("max-age=10, must-revalidate", StalePolicy.ALWAYS, 11, True),
    "always: no-cache": ("max-age=10, no-cache", StalePolicy.ALWAYS, 1, True),
    "always: s-maxage": ("s-maxage=10", StalePolicy.ALWAYS, 11, True),
    "always: past stale_ttl": ("s-maxage=10", StalePolicy.ALWAYS, 1011, False),
}


@pytest.mark.parametrize(("directives", "policy", "after", "served"), STAND_INS.values(), ids=STAND_INS.keys())
@pytest.mark.parametrize("opened", [True, False], ids=["circuit open", "upstream dead"])
async def test_how_long_and_whether_it_may_stand_in(
    directives: str, policy: StalePolicy, after: float, *, served: bool, opened: bool
) -> None:
    reply = Reply(fields={"Cache-Control": directives, "ETag": '"v"'})
    world = World(reply, REFUSED, stale_ttl=1000.0, stale_policy=policy)
    await world.ask()
    world.clock.now += after
    world.origin.open = opened
    if served:
        assert (await world.ask()).hit
    else:
        with pytest.raises((ConnectionRefused, CircuitOpen)):
            await world.ask()


@pytest.mark.parametrize("value", ["no-cache", "max-age=0", "max-age=50", "min-fresh=1", "no-store"])
async def test_the_clients_own_directives_can_exclude_a_stale_answer(value: str) -> None:
    world = World(Reply(fields=FRESH), REFUSED)
    await world.ask()
    world.clock.now += 100
    with pytest.raises(ConnectionRefused):
        await world.ask(fields={"Cache-Control": value})


@pytest.mark.parametrize("vary", ["Authorization", "Cookie"])
async def test_never_another_users_answer_stands_in(vary: str) -> None:
    world = World(Reply(fields={"Cache-Control": "public, max-age=60", "Vary": vary}))
    await world.ask(fields={vary: "alice"})
    world.origin.open = True
    assert (await world.ask(fields={vary: "alice"})).hit
    for fields in ({vary: "bob"}, {}):
        with pytest.raises(CircuitOpen):
            await world.ask(fields=fields)


async def test_a_stored_failure_does_not_stand_in() -> None:
    world = World(Reply(503, FRESH), REFUSED)
    await world.ask()
    assert (await world.ask()).status == 503
    world.clock.now += 100
    with pytest.raises(ConnectionRefused):
        await world.ask()


async def test_only_if_cached_is_answered_504_when_nothing_is_of_use() -> None:
    world = World(Reply(fields=FRESH))
    with pytest.raises(GatewayTimeoutByDirective):
        await world.ask(fields={"Cache-Control": "only-if-cached"})
    await world.ask()
    world.clock.now += 100
    with pytest.raises(GatewayTimeoutByDirective):
        await world.ask(fields={"Cache-Control": "only-if-cached"})
    assert (await world.ask(fields={"Cache-Control": "only-if-cached, max-stale"})).hit


# Fetching behind the answer


async def test_a_stale_answer_is_served_at_once_and_refreshed_behind() -> None:
    fields = {"Cache-Control": "max-age=60, stale-while-revalidate=600", "ETag": '"v1"'}
    gate = asyncio.Event()
    world = World(Reply(fields=fields), Reply(304, fields, gate=gate))
    await world.ask()
    world.clock.now += 100
    for _ in range(3):
        response = await world.stage.handle(world.request(fields={"Range": "bytes=0-1"}, method="HEAD"))
        assert response.extra == b"Age: 100\r\nCache-Status: sidecar; hit; ttl=-40\r\n"
    await asyncio.sleep(0)
    gate.set()
    await world.settle()
    assert (world.asked, world.origin.requests[1].head.method, world.last("range")) == (2, "GET", None)
    assert (await world.ask()).age == 0
    assert dict(world.stats.cache_results) == {"uri-miss": 1, "hit-stale": 3, "hit": 1}


async def test_a_route_may_refresh_everything_behind() -> None:
    world = World(
        Reply(fields=FRESH), Reply(fields=FRESH, pieces=[b"sec", b"ond"]), background_refresh=True, stale_ttl=50.0
    )
    await world.ask()
    world.clock.now += 100
    assert (await world.ask()).body == b"content"
    await world.settle()
    assert (await world.ask()).body == b"second"
    world.clock.now += 111
    assert (await world.ask()).word == "stale"


async def test_a_failed_refresh_behind_leaves_the_stale_answer() -> None:
    world = World(Reply(fields=FRESH), REFUSED, background_refresh=True)
    await world.ask()
    world.clock.now += 100
    for _ in range(2):
        assert (await world.ask()).body == b"content"
        await world.settle()
    assert world.asked == 3


async def test_nothing_is_refreshed_behind_while_the_circuit_refuses() -> None:
    world = World(Reply(fields=FRESH), background_refresh=True)
    await world.ask()
    world.clock.now += 100
    world.origin.open = True
    assert (await world.ask(fields={"Cookie": "a"})).hit
    await world.settle()
    assert world.asked == 1


async def test_in_half_open_the_stale_answer_comes_at_once_and_one_probe_runs_behind() -> None:
    gate = asyncio.Event()
    world = World(Reply(fields=FRESH), Reply(fields=FRESH, body=b"second", gate=gate))
    await world.ask()
    world.clock.now += 100
    world.origin.is_probing = True
    for _ in range(5):
        answer = await world.ask()
        assert (answer.body, answer.cache_status) == (b"content", "sidecar; hit; ttl=-40; detail=circuit_open")
    await asyncio.sleep(0)
    assert world.asked == 2
    gate.set()
    await world.settle()
    world.origin.is_probing = False
    assert (await world.ask()).body == b"second"


async def test_in_half_open_a_stale_answer_that_may_not_stand_in_makes_its_request_the_probe() -> None:
    world = World(Reply(fields={"Cache-Control": "max-age=60, must-revalidate"}))
    await world.ask()
    world.clock.now += 100
    world.origin.is_probing = True
    assert (await world.ask()).word == "stale"


async def test_what_a_stage_within_answers_itself_is_passed_on_and_not_stored() -> None:
    world = World(Reply(fields=FRESH, body=b"a fallback", source=Source.FALLBACK))
    assert (await world.ask()).cache_status == "sidecar; fwd=uri-miss"
    assert (await world.ask(method="POST")).cache_status == "sidecar; fwd=method"
    assert (world.asked, world.store.all()) == (2, [])


async def test_in_half_open_a_request_without_a_stale_answer_is_the_probe() -> None:
    world = World(Reply(fields=FRESH))
    world.origin.is_probing = True
    assert (await world.ask()).word == "uri-miss"


async def test_a_refresh_behind_reads_its_answer_to_the_end_so_that_the_probe_gets_its_verdict() -> None:
    world = World(Reply(fields=FRESH), Reply(fields={"Cache-Control": "no-store"}, pieces=[b"a", b"b"]))
    await world.ask()
    world.clock.now += 100
    world.origin.is_probing = True
    await world.ask()
    await world.settle()
    assert world.origin.bodies[0].ends == [BodyEnd.COMPLETE]


# Mode fallback


async def test_in_fallback_mode_every_request_goes_upstream_while_it_answers() -> None:
    world = World(Reply(body=b"1"), Reply(body=b"2"), Reply(body=b"3"), mode=CacheMode.FALLBACK)
    assert [(await world.ask()).body for _ in range(3)] == [b"1", b"2", b"3"]
    world.origin.open = True
    answer = await world.ask()
    assert (answer.body, answer.cache_status) == (b"3", "sidecar; hit; ttl=0; detail=circuit_open")


@pytest.mark.parametrize("mode", list(CacheMode))
async def test_only_fallback_mode_stores_what_says_nothing_of_freshness(mode: CacheMode) -> None:
    world = World(Reply(), mode=mode)
    await world.ask()
    assert bool(world.store.all()) is (mode is CacheMode.FALLBACK)


async def test_in_fallback_mode_an_answer_stands_in_for_ttl_and_stale_ttl() -> None:
    world = World(Reply(), REFUSED, mode=CacheMode.FALLBACK, ttl=30.0, stale_ttl=100.0)
    await world.ask()
    world.clock.now += 20
    assert (await world.ask()).cache_status == "sidecar; hit; ttl=10; detail=upstream_error"
    world.clock.now += 110
    assert (await world.ask()).cache_status == "sidecar; hit; ttl=-100; detail=upstream_error"
    world.clock.now += 1
    with pytest.raises(ConnectionRefused):
        await world.ask()


@pytest.mark.parametrize(
    ("asks", "sent"),
    [
        ({}, {"Cache-Control": "no-store"}),
        ({}, {"Cache-Control": "private"}),
        ({}, {"Set-Cookie": "a=b"}),
        ({"Authorization": "x"}, {}),
        ({"Cookie": "x"}, {}),
    ],
)
async def test_fallback_mode_still_keeps_nothing_personal(asks: dict[str, str], sent: dict[str, str]) -> None:
    world = World(Reply(fields=sent), mode=CacheMode.FALLBACK)
    await world.ask(fields=asks)
    assert world.store.all() == []


async def test_what_says_nothing_of_freshness_is_not_given_to_who_sends_credentials() -> None:
    world = World(Reply(), mode=CacheMode.FALLBACK)
    await world.ask()
    world.origin.open = True
    for fields in ({"Cookie": "x"}, {"Authorization": "x"}):
        with pytest.raises(CircuitOpen):
            await world.ask(fields=fields)


async def test_credentials_in_the_key_give_each_user_its_own_answers() -> None:
    def who(request: Request) -> Reply:
        return Reply(body=request.head.headers.get(b"authorization") or b"nobody")

    world = World(who, mode=CacheMode.FALLBACK, key_headers=("Authorization", "Cookie"))
    for name in ("alice", "bob"):
        await world.ask(fields={"Authorization": name, "Cookie": "x"})
    world.origin.open = True
    for name in ("alice", "bob"):
        assert (await world.ask(fields={"Authorization": name, "Cookie": "x"})).body == name.encode()
    with pytest.raises(CircuitOpen):
        await world.ask(fields={"Authorization": "carol", "Cookie": "x"})


# Poisoning: what the attacker sends first is without effect on who asks next

ATTACKS: dict[str, tuple[str, dict[str, str], bytes, str]] = {
    **{
        name: ("/a", {name: "evil"}, b"", "GET")
        for name in (
            "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Scheme", "X-Forwarded-Prefix", "X-Forwarded-Port",
            "X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override",
            "X-Host", "Forwarded", "x-forwarded-host",
        )
    },
    "fat GET": ("/a", {}, b"q=evil", "GET"),
    "fat HEAD": ("/a", {}, b"q=evil", "HEAD"),
    "encoded letter": ("/%61", {}, b"", "GET"),
    "other case": ("/A", {}, b"", "GET"),
    "double slash": ("//a", {}, b"", "GET"),
    "dot segment": ("/x/../a", {}, b"", "GET"),
    "trailing question mark": ("/a?", {}, b"", "GET"),
    "parameter": ("/a?utm=evil", {}, b"", "GET"),
    "encoded question mark": ("/a%3Fq", {}, b"", "GET"),
    "fragment": ("/a#x", {}, b"", "GET"),
    "POST": ("/a", {}, b"", "POST"),
    "range": ("/a", {"Range": "bytes=0-1"}, b"", "GET"),
    "credentials": ("/a", {"Authorization": "evil"}, b"", "GET"),
    "upgrade of a line feed": ("/a\n+x", {}, b"", "GET"),
}  # fmt: skip


@pytest.mark.parametrize(("target", "fields", "body", "method"), ATTACKS.values(), ids=ATTACKS.keys())
async def test_an_attack_leaves_nothing_for_the_next_client(
    target: str, fields: dict[str, str], body: bytes, method: str
) -> None:
    status = 206 if "Range" in fields else 200
    world = World(Reply(status, FRESH, b"evil"), Reply(fields=FRESH, body=b"good"))
    await world.ask(target, fields, method=method, body=body)
    answer = await world.ask()
    assert (answer.body, answer.word) == (b"good", "uri-miss")
    assert (await world.ask()).hit


@pytest.mark.parametrize("status", [400, 403, 413, 431, 500, 502, 503])
async def test_an_error_that_an_odd_request_provokes_is_not_kept(status: int) -> None:
    world = World(Reply(status, {"Last-Modified": "Sun, 09 Sep 2001 00:00:00 GMT"}), Reply(fields=FRESH, body=b"good"))
    await world.ask(fields={"X-Oversize": "x" * 5000})
    assert (await world.ask()).body == b"good"


async def test_a_field_in_the_key_is_no_reason_to_bypass() -> None:
    world = World(Reply(fields=FRESH), key_headers=("X-Forwarded-Host",))
    for host, word in (("a", "uri-miss"), ("b", "uri-miss"), ("a", "hit")):
        assert (await world.ask(fields={"X-Forwarded-Host": host})).word == word


async def test_the_authority_is_in_the_key_when_the_upstream_is_told_of_it() -> None:
    world = World(Reply(fields=FRESH), proxy=ProxySettings(forwarded=ForwardedMode.X_FORWARDED))
    for host, word in (("a.example", "uri-miss"), ("b.example", "uri-miss"), ("A.example", "hit")):
        assert (await world.ask(fields={"Host": host})).word == word


async def test_the_authority_is_not_in_the_key_when_the_upstream_never_sees_it() -> None:
    world = World(Reply(fields=FRESH))
    await world.ask(fields={"Host": "a.example"})
    assert (await world.ask(fields={"Host": "b.example"})).hit


QUERIES: dict[str, tuple[QueryKey, str, str, bool]] = {
    "as sent": (QueryKey(), "/a?x=1&y=2", "/a?y=2&x=1", False),
    "sorted": (QueryKey(sort=True), "/a?x=1&y=2", "/a?y=2&x=1", True),
    "sorted keeps the order of equals": (QueryKey(sort=True), "/a?x=1&x=2", "/a?x=2&x=1", False),
    "excluded": (QueryKey(exclude=frozenset({"utm"})), "/a?x=1&utm=2", "/a?utm=3&x=1", True),
    "excluded, alone": (QueryKey(exclude=frozenset({"utm"})), "/a?utm=2", "/a?utm=3", True),
    "only included": (QueryKey(include=frozenset({"x"})), "/a?x=1&y=2", "/a?z=3&x=1", True),
    "included differs": (QueryKey(include=frozenset({"x"})), "/a?x=1", "/a?x=2", False),
    "an encoded name always counts": (QueryKey(include=frozenset({"x"})), "/a?x=1&%69d=2", "/a?x=1", False),
    "a semicolon always counts": (QueryKey(exclude=frozenset({"utm"})), "/a?utm=1;id=2", "/a?utm=1", False),
}


@pytest.mark.parametrize(("query", "one", "other", "same"), QUERIES.values(), ids=QUERIES.keys())
async def test_which_part_of_the_query_counts(query: QueryKey, one: str, other: str, *, same: bool) -> None:
    world = World(Reply(fields=FRESH), query=query)
    await world.ask(one)
    assert (await world.ask(other)).hit is same


async def test_an_upgrade_goes_past_the_store() -> None:
    world = World(Reply(fields=FRESH))
    await world.ask()
    request = world.request()
    request.upgrade = b"websocket"
    assert (await receive(await world.stage.handle(request))).cache_status == "sidecar; fwd=bypass"
