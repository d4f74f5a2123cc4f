"""Nothing that is said on an authenticated connection has to do with the store, whatever Cache-Control says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.authenticating_origin import (
    SHAREABLE,
    authenticating_origin,
    first_step,
    last_step,
    log_in,
    one_step,
    request,
    whose,
)
from tests.support.caching_origin import caching_origin, message
from tests.support.still_sidecar import still_sidecar
from tests.support.wire import eventually, turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import StartSidecar
    from tests.support.authenticating_origin import AuthenticatingOrigin
    from tests.support.messages import WireRequest
    from tests.support.running import InProcess

CACHE: dict[str, Any] = {"cache": {"stale_ttl": "1h", "stale_policy": "always"}, "breaker": {"mode": "off"}}
CROWD = 30


@pytest.fixture
async def origin(no_task_leaks: None) -> AsyncIterator[AuthenticatingOrigin]:  # noqa: ARG001 - torn down after it
    async with authenticating_origin() as running:
        yield running


async def stored(sidecar: InProcess) -> float:
    return (await sidecar.metrics()).total("sidecar_cache_entries")


async def test_no_step_of_a_handshake_and_nothing_after_it_is_stored(
    origin: AuthenticatingOrigin, start_sidecar: StartSidecar
) -> None:
    sidecar = await start_sidecar(origin.url, upstream=CACHE)
    client = await sidecar.connect()
    asked = await client.exchange(request())
    challenged = await client.exchange(request("/own", first_step()))
    granted = await client.exchange(request("/own", last_step(challenged, "ann")))
    after = [await client.exchange(request("/own")) for _ in range(3)]
    anyone_s = [await client.exchange(request("/open")) for _ in range(3)]

    seen = [asked, challenged, granted, *after, *anyone_s]
    assert [each.status for each in seen] == [401, 401, *[200] * 7]
    assert [each.get("cache-status") for each in seen] == [b"sidecar; fwd=uri-miss", *[b"sidecar; fwd=bypass"] * 8]
    assert {each.get("age") for each in seen} == {None}
    assert await stored(sidecar) == 0
    assert (await sidecar.exchange(request())).status == 401


async def test_a_one_step_answer_is_not_stored(origin: AuthenticatingOrigin, start_sidecar: StartSidecar) -> None:
    sidecar = await start_sidecar(origin.url, upstream=CACHE)
    for user in ("ann", "bob"):
        answer = await sidecar.exchange(request("/own", one_step(user)))
        assert (whose(answer), answer.get("cache-status")) == (user, b"sidecar; fwd=bypass")
    assert await stored(sidecar) == 0


async def test_a_pinned_client_is_answered_on_its_connection_and_not_from_the_store(
    origin: AuthenticatingOrigin, start_sidecar: StartSidecar
) -> None:
    sidecar = await start_sidecar(origin.url, upstream=CACHE)
    client = await sidecar.connect()
    for _ in range(2):
        assert (await sidecar.exchange(request("/open"))).body == b"anyone GET 0"
    assert (await client.exchange(request("/open"))).get("cache-status") == b"sidecar; hit; ttl=59"
    await log_in(client, "ann")

    assert whose(await client.exchange(request("/open"))) == "ann"
    hit = await sidecar.exchange(request("/open"))

    assert (hit.body, hit.get("cache-status")) == (b"anyone GET 0", b"sidecar; hit; ttl=59")
    client.transport.abort()
    assert (await sidecar.exchange(request("/open"))).get("cache-status") == b"sidecar; hit; ttl=59"


async def test_other_upstreams_are_cached_for_a_pinned_client_as_ever(
    origin: AuthenticatingOrigin, start_sidecar: StartSidecar
) -> None:
    async with caching_origin(lambda _request: message("x", SHAREABLE)) as other:
        upstreams = {"origin": {"url": origin.url}, "other": {"url": other.url}}
        routes = [{"name": name, "match": {"prefix": f"/{name}"}, "upstream": name} for name in upstreams]
        sidecar = await start_sidecar(None, top={"upstreams": upstreams, "routes": routes})
        client = await sidecar.connect()
        await log_in(client, "ann", target="/origin")

        statuses = [(await client.exchange(request("/other"))).get("cache-status") for _ in range(2)]

    assert statuses == [b"sidecar; fwd=uri-miss; stored", b"sidecar; hit; ttl=59"]


async def test_what_a_user_got_never_stands_in_for_others_when_the_upstream_fails(
    origin: AuthenticatingOrigin,
) -> None:
    async with still_sidecar(origin.url, upstream=CACHE) as sidecar:
        client = await sidecar.connect()
        await log_in(client, "ann")
        sidecar.clock.advance(1)
        origin.answer = lambda _wire, _fields, _request: message("down", status=503)
        assert (await sidecar.exchange(request())).status == 503
        assert (await client.exchange(request())).status == 503


CONFIRMED_TO_ANN = b'HTTP/1.1 304 Not Modified\r\nWWW-Authenticate: Negotiate abc==\r\nETag: "v"\r\nX-For: ann\r\n\r\n'
REFUSALS = {
    "a challenge": message("who?", "WWW-Authenticate: NTLM", SHAREABLE, status=401),
    "a refusal": message("no", "WWW-Authenticate: Negotiate", SHAREABLE, status=403),
    "gone": message("gone", "WWW-Authenticate: Negotiate abc==", SHAREABLE, status=410),
    "an answer to one": message("ann's", "WWW-Authenticate: Negotiate abc==", SHAREABLE),
    "of a proxy": message("who?", "Proxy-Authenticate: NTLM", SHAREABLE, status=407),
    "a 304 to one": CONFIRMED_TO_ANN,
}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS.keys())
async def test_a_handshake_withdraws_nothing_that_others_may_use(refusal: bytes, method: str) -> None:
    """Of a stale answer that is revalidated; it stands in for everybody afterwards as before."""
    wanted = message("for all", 'ETag: "v"', "Cache-Control: max-age=10")

    def answer(asked: WireRequest) -> bytes:
        if state == "good":
            return wanted
        if state == "down":
            return message("down", status=503)
        if b" 304 " in refusal and "if-none-match" not in asked:
            return message("ann's own", SHAREABLE)
        return refusal[: refusal.index(b"\r\n\r\n") + 4] if asked.method == "HEAD" else refusal

    state = "good"
    async with caching_origin(answer) as origin, still_sidecar(origin.url, upstream=CACHE) as sidecar:
        assert (await sidecar.exchange(request())).body == b"for all"
        sidecar.clock.advance(5)
        fresh = (await sidecar.exchange(request())).get("cache-status")
        sidecar.clock.advance(10)
        state = "shaking hands"
        client = await sidecar.connect()
        answers = [await client.exchange(request("/own", method=method), method) for _ in range(2)]
        state = "down"
        after = await sidecar.exchange(request())

    assert fresh == b"sidecar; hit; ttl=5"
    assert b"for all" not in [each.body for each in answers]
    assert all(b"stored" not in (each.get("cache-status") or b"") for each in answers)
    assert (after.body, after.get("x-for")) == (b"for all", None)
    assert after.get("cache-status") == b"sidecar; hit; ttl=-5; detail=upstream_error"


async def test_a_refresh_behind_a_stale_answer_that_is_challenged_leaves_no_connection_behind(
    origin: AuthenticatingOrigin,
) -> None:
    stale = message("for all", 'ETag: "v"', "Cache-Control: max-age=1, stale-while-revalidate=600")
    origin.answer = lambda _wire, _fields, _request: stale
    async with still_sidecar(origin.url, upstream={**CACHE, "cache": {}}) as sidecar:
        client = await sidecar.connect()
        await client.exchange(request())
        sidecar.clock.advance(5)
        origin.answer = origin.usual

        assert (await client.exchange(request())).body == b"for all"
        await eventually(lambda: len(origin.lines) == 2 and not origin.standing)
        await turns(5)

        seen = await sidecar.metrics()
        assert seen.total("sidecar_upstream_connections") == 0
        assert (await client.exchange(request())).body == b"for all"


@pytest.mark.parametrize("failures", [None, ["401", "500-599"]], ids=["401 is an answer", "401 is a failure"])
async def test_a_crowd_that_is_challenged_shares_neither_answer_nor_connection(
    origin: AuthenticatingOrigin, start_sidecar: StartSidecar, failures: list[str] | None
) -> None:
    breaker: dict[str, Any] = {"failure_threshold": None, "failure_rate": None}
    blocks = {"cache": {}, "breaker": breaker if failures is None else {**breaker, "failures": failures}}
    sidecar = await start_sidecar(origin.url, upstream=blocks)
    clients = [await sidecar.connect() for _ in range(CROWD)]
    asked = await asyncio.gather(*(client.exchange(request()) for client in clients))

    assert {each.status for each in asked} == {401}
    assert len(origin.standing) == CROWD
    steps = [client.exchange(request("/own", one_step(f"user{at}"))) for at, client in enumerate(clients)]
    assert [whose(each) for each in await asyncio.gather(*steps)] == [f"user{at}" for at in range(CROWD)]
    again = await asyncio.gather(*(client.exchange(request()) for client in clients))
    assert [whose(each) for each in again] == [f"user{at}" for at in range(CROWD)]
    assert await stored(sidecar) == 0


async def test_a_leader_that_leaves_pins_nothing(origin: AuthenticatingOrigin, start_sidecar: StartSidecar) -> None:
    sidecar = await start_sidecar(origin.url, upstream={"cache": {}})
    origin.answer = lambda _wire, _fields, _request: None
    leader, follower = await sidecar.connect(), await sidecar.connect()
    await leader.send(request())
    await eventually(lambda: origin.lines)
    await follower.send(request())
    await turns(10)
    leader.transport.abort()
    await turns(10)
    origin.answer = origin.usual

    challenge = message("who?", "WWW-Authenticate: NTLM", SHAREABLE, status=401)
    origin.wires[0].transport.write(challenge)

    asked = await follower.response()
    assert asked.status == 401
    assert asked.all("www-authenticate") == [b"Negotiate", b"NTLM"]
    await eventually(lambda: origin.wires[0].ended)
    assert whose(await follower.exchange(request("/own", one_step("bob")))) == "bob"
