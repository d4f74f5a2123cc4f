"""Stale answers in the place of a failing upstream, through real sockets (cache.md 17-19, 21)."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from tests.support.caching_origin import caching_origin, message
from tests.support.origin import AGAIN, CLOSE, GATE, READ, READ_HEAD, READ_MORE, RESET, STALL, Script
from tests.support.still_sidecar import still_sidecar
from tests.support.wire import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import StartOrigin
    from tests.support.caching_origin import CachingOrigin
    from tests.support.messages import WireRequest, WireResponse
    from tests.support.still_sidecar import StillSidecar

LATER = 99.5
"""Seconds after storing at which the upstream fails: 39.5 past the end of `max-age=60`, away from whole numbers."""
QUIET_BREAKER = {"failure_threshold": None, "failure_rate": None}
TIMEOUTS = {"connect": "100ms", "first_byte": "100ms"}
SHARED_CACHE = {"share": "shop"}
FIELDS = ('ETag: "v1"', "Cache-Control: max-age=60", "X-Good: yes")


@contextmanager
def nobody_listens() -> Iterator[str]:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}"


@contextmanager
def nobody_accepts() -> Iterator[str]:
    """A listener whose queue is full, so that the kernel drops every further attempt."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def no_such_name() -> Iterator[str]:
    yield "http://nowhere.invalid:1"


def two_upstreams(good: str, broken: str) -> dict[str, Any]:
    """Two routes to the same resources: by way of `good` for who sends X-Way, else by way of `broken`."""
    common = {"rewrite": {"host": "shop.test"}, "cache": SHARED_CACHE}
    upstream = {"breaker": QUIET_BREAKER, "timeouts": TIMEOUTS, "retry": None}
    return {
        "upstreams": {"good": {"url": good, **upstream}, "broken": {"url": broken, **upstream}},
        "routes": [
            {"name": "good", "match": {"prefix": "/", "headers": {"x-way": "good"}}, "upstream": "good", **common},
            {"name": "broken", "match": {"prefix": "/"}, "upstream": "broken", **common},
        ],
    }


def assert_stale(response: WireResponse, detail: str, *, age: int = 99, ttl: int = -40, body: bytes = b"good") -> None:
    """It is the stored answer, as stored, with its true age and the reason."""
    assert response.status == 200
    assert response.body == body
    assert response.get("age") == b"%d" % age
    assert response.get("cache-status") == f"sidecar; hit; ttl={ttl}; detail={detail}".encode()
    assert response.get("etag") == b'"v1"'
    assert response.get("x-good") == b"yes"
    assert "x-failed" not in response


@pytest.mark.parametrize(
    ("script", "detail"),
    [
        ((READ_HEAD, RESET), "upstream_error"),
        ((READ, CLOSE), "upstream_error"),
        ((READ, b"HTTP/1.1 200 O", RESET), "upstream_error"),
        ((READ, b"HTTP/1.1 200 O", CLOSE), "upstream_error"),
        ((READ, b"nonsense\r\n\r\n", CLOSE), "upstream_error"),
        ((READ, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", CLOSE), "upstream_error"),
        ((READ, b"HTTP/1.1 200 OK\r\nX-Failed: \x00\r\nContent-Length: 0\r\n\r\n", CLOSE), "upstream_error"),
        ((READ, STALL), "upstream_timeout"),
        ((READ, b"HTTP/1.1 200 OK\r\nX-Failed:", STALL), "upstream_timeout"),
        ((READ, b"HTTP/1.1 103 Early Hints\r\n\r\n", STALL), "upstream_timeout"),
        *(
            ((READ, message(b"no", "X-Failed: yes", "Cache-Control: max-age=9", status=code), AGAIN), "upstream_error")
            for code in (500, 502, 503, 504)
        ),
        ((READ, b"HTTP/1.1 500 No\r\nX-Failed: y\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n", CLOSE), "upstream_error"),
        ((READ, message(b"x" * 300_000, "X-Failed: yes", status=503), AGAIN), "upstream_error"),
    ],
    ids=[
        "reset", "closed before the head", "reset in the head", "closed in the head", "malformed",
        "two lengths", "NUL in the head", "no first byte", "half a head", "interim answers only", "500", "502", "503",
        "504", "a failing status cut short", "a failing status with a large body",
    ],
)  # fmt: skip
async def test_a_stored_answer_stands_in_for_an_upstream_that_fails(
    start_origin: StartOrigin, script: Script, detail: str
) -> None:
    good = await start_origin((READ, message(b"good", *FIELDS), AGAIN))
    broken = await start_origin(script)
    async with still_sidecar(None, top=two_upstreams(good.url, broken.url)) as sidecar:
        await sidecar.get("/item", "X-Way: good")
        sidecar.clock.advance(LATER)
        client = await sidecar.connect()
        await client.send(b"GET /item HTTP/1.1\r\nHost: a\r\n\r\n")
        if detail == "upstream_timeout":
            await broken.until(lambda origin: origin.requests)
            sidecar.clock.advance(0.2)
        assert_stale(await client.response(), detail)
        assert broken.request.get("if-none-match") == b'"v1"'
        # What failed left no trace: the answer is as stale as before, and its age goes on.
        sidecar.clock.advance(100)
        assert (await sidecar.get("/item", "Cache-Control: max-stale")).get("age") == b"199"


@pytest.mark.parametrize(
    ("address", "detail"),
    [(nobody_listens, "upstream_error"), (no_such_name, "upstream_error"), (nobody_accepts, "upstream_timeout")],
    ids=["connection refused", "no such name", "connect timeout"],
)
async def test_a_stored_answer_stands_in_for_an_upstream_that_cannot_be_reached(
    start_origin: StartOrigin, address: Any, detail: str
) -> None:
    good = await start_origin((READ, message(b"good", *FIELDS), AGAIN))
    with address() as url:
        async with still_sidecar(None, top=two_upstreams(good.url, url)) as sidecar:
            await sidecar.get("/item", "X-Way: good")
            sidecar.clock.advance(LATER)
            assert_stale(await sidecar.get("/item"), detail)


async def test_a_stored_answer_stands_in_when_the_tls_handshake_fails(
    start_origin: StartOrigin, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    good = await start_origin((READ, message(b"good", *FIELDS), AGAIN), tls=context)
    plain = await start_origin((READ_MORE, b"this is no TLS\r\n", CLOSE))
    top = two_upstreams(f"https://127.0.0.1:{good.port}", f"https://127.0.0.1:{plain.port}")
    top["upstreams"]["good"]["tls"] = {"ca_file": str(tmp_path / "ca.pem")}
    async with still_sidecar(None, top=top) as sidecar:
        assert (await sidecar.get("/item", "X-Way: good")).status == 200
        sidecar.clock.advance(LATER)
        assert_stale(await sidecar.get("/item"), "upstream_error")
        assert (await sidecar.get("/other")).get("proxy-status") == b"sidecar; error=tls_protocol_error"


BREAKER = {"failure_threshold": 1, "failure_rate": None, "open_duration": "5m"}


async def until_state(sidecar: StillSidecar, state: str) -> bool:
    """Ask again until the circuit is in `state`; each question lets others run."""
    async with asyncio.timeout(PATIENCE):
        while await sidecar.state() != state:
            continue
    return True


async def test_a_failing_answer_that_is_too_large_to_be_read_whole_counts_as_a_failure(
    start_origin: StartOrigin,
) -> None:
    origin = await start_origin((READ, message("good", *FIELDS), AGAIN))
    async with still_sidecar(origin, upstream={"breaker": BREAKER, "cache": {}}) as sidecar:
        await sidecar.get("/item")
        sidecar.clock.advance(LATER)
        origin.then((READ, message(b"x" * 300_000, status=500), AGAIN))
        assert_stale(await sidecar.get("/item"), "upstream_error")
        assert await until_state(sidecar, "open")
        assert_stale(await sidecar.get("/item"), "circuit_open")


async def test_a_good_answer_behind_a_stale_one_counts_however_large_it_is(start_origin: StartOrigin) -> None:
    origin = await start_origin((READ, message("good", *FIELDS), AGAIN))
    breaker = {**BREAKER, "success_threshold": 1}
    async with still_sidecar(origin, upstream={"breaker": breaker, "cache": {}}) as sidecar:
        await sidecar.get("/item")
        sidecar.clock.advance(LATER)
        await trip(sidecar, lambda: origin.then((READ, RESET)))
        sidecar.clock.advance(300.5)
        # It is cut off long after the sidecar has had enough of it.
        origin.then((READ, message(b"x" * 3_000_000, *FIELDS)[:2_500_000], STALL))
        assert_stale(await sidecar.get("/item"), "circuit_open", age=400, ttl=-340)
        assert await until_state(sidecar, "closed")


async def trip(sidecar: StillSidecar, failing: Any) -> None:
    """Let one request for something else fail, which opens the circuit."""
    failing()
    await sidecar.get("/other")
    assert await sidecar.state() == "open"


async def test_a_stored_answer_stands_in_when_the_circuit_refuses(start_origin: StartOrigin) -> None:
    origin = await start_origin((READ, message(b"good", *FIELDS), AGAIN))
    async with still_sidecar(origin, upstream={"breaker": BREAKER, "cache": {}}) as sidecar:
        await sidecar.get("/item")
        sidecar.clock.advance(LATER)
        await trip(sidecar, lambda: origin.then((READ, RESET)))
        reached = len(origin.connections)
        assert_stale(await sidecar.get("/item"), "circuit_open")
        assert len(origin.connections) == reached
        metrics = await sidecar.metrics()
    assert metrics.total("sidecar_requests_total", source="stale") == 1
    assert metrics.total("sidecar_cache_requests_total", result="hit-stale") == 1


SHAPES: dict[str, tuple[str, str, int, bytes]] = {
    "HEAD": ("HEAD", "X-A: b", 200, b""),
    "a range": ("GET", "Range: bytes=1-2", 206, b"oo"),
    "a range that cannot be": ("GET", "Range: bytes=9-", 416, b""),
    "a tag that matches": ("GET", 'If-None-Match: "v1"', 304, b""),
    "a tag that does not": ("GET", 'If-None-Match: "v2"', 200, b"good"),
}


@pytest.mark.parametrize("failure", ["status", "reset", "circuit"])
@pytest.mark.parametrize(("method", "line", "status", "body"), SHAPES.values(), ids=SHAPES.keys())
async def test_a_stale_answer_takes_the_shape_that_is_asked_for(
    start_origin: StartOrigin, failure: str, method: str, line: str, status: int, body: bytes
) -> None:
    origin = await start_origin((READ, message(b"good", *FIELDS), AGAIN))
    breaker = BREAKER if failure == "circuit" else QUIET_BREAKER
    async with still_sidecar(origin, upstream={"breaker": breaker, "cache": {}}) as sidecar:
        await sidecar.get("/item")
        sidecar.clock.advance(LATER)
        failing = b"HTTP/1.1 503 No\r\nX-Failed: yes\r\nContent-Length: 0\r\n\r\n"
        origin.then((READ, failing, AGAIN) if failure == "status" else (READ, RESET))
        if failure == "circuit":
            await sidecar.get("/other")
        asked = f"{method} /item HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"
        response = await sidecar.exchange(asked.encode(), method)
    detail = b"circuit_open" if failure == "circuit" else b"upstream_error"
    assert (response.status, response.body, response.get("age")) == (status, body, b"99")
    assert response.get("cache-status") == b"sidecar; hit; ttl=-40; detail=" + detail
    assert response.get("etag") == b'"v1"'
    assert "x-failed" not in response


# Whether it may, and for how long


FAILED = (READ, message(b"failed", "X-Failed: yes", status=503), AGAIN)
RESPONSES: list[tuple[str, str, dict[str, Any], bool]] = [
    # Cache-Control of the stored answer and of the request, settings of the route, and whether it stands in.
    ("max-age=60", "", {}, True),
    ("max-age=60, must-revalidate", "", {}, False),
    ("max-age=60, proxy-revalidate", "", {}, False),
    ("max-age=60, no-cache", "", {}, False),
    ("s-maxage=60", "", {}, False),
    ('max-age=60, no-cache="x-secret"', "", {}, True),
    ("max-age=60, must-revalidate", "", {"stale_policy": "always"}, True),
    ("max-age=60, proxy-revalidate", "", {"stale_policy": "always"}, True),
    ("max-age=60, no-cache", "", {"stale_policy": "always"}, True),
    ("s-maxage=60", "", {"stale_policy": "always"}, True),
    ("max-age=60, must-revalidate", "", {"stale_policy": "larger"}, False),
    ("max-age=60, must-revalidate", "", {"stale_policy": "route"}, False),
    ("max-age=60, must-revalidate, stale-if-error=100", "", {}, False),
    ("max-age=60", "", {"stale_ttl": "30s"}, False),
    ("max-age=60", "", {"stale_ttl": "40s"}, True),
    ("max-age=60", "", {"stale_ttl": "30s", "stale_policy": "always"}, False),
    ("max-age=60, stale-if-error=30", "", {}, False),
    ("max-age=60, stale-if-error=40", "", {"stale_ttl": "0s"}, True),
    ("max-age=60, stale-if-error=0", "", {}, False),
    ("max-age=60, stale-if-error=nonsense", "", {}, False),
    ("max-age=60, stale-if-error=30", "", {"stale_policy": "larger"}, True),
    ("max-age=60, stale-if-error=40", "", {"stale_policy": "larger", "stale_ttl": "30s"}, True),
    ("max-age=60, stale-if-error=30", "", {"stale_policy": "route"}, True),
    ("max-age=60, stale-if-error=40", "", {"stale_policy": "route", "stale_ttl": "30s"}, False),
    ("max-age=60", "no-cache", {}, False),
    ("max-age=60", "max-age=0", {}, False),
    ("max-age=60", "max-age=99", {}, False),
    ("max-age=60", "max-age=100", {}, True),
    ("max-age=60", "min-fresh=1", {}, False),
    ("max-age=60", "no-store", {}, False),
    ("max-age=60", "no-cache", {"honor_request_directives": False}, True),
    ("max-age=60", "no-store", {"honor_request_directives": False}, True),
]


@pytest.mark.parametrize("failure", ["status", "reset", "circuit"])
@pytest.mark.parametrize(("sent", "asked", "settings", "stands_in"), RESPONSES)
async def test_whether_a_stored_answer_may_stand_in(
    start_origin: StartOrigin, failure: str, sent: str, asked: str, settings: dict[str, Any], *, stands_in: bool
) -> None:
    origin = await start_origin((READ, message(b"good", 'ETag: "v1"', "X-Good: yes", f"Cache-Control: {sent}"), AGAIN))
    blocks = {"breaker": BREAKER if failure == "circuit" else QUIET_BREAKER, "cache": settings}
    async with still_sidecar(origin, upstream=blocks) as sidecar:
        await sidecar.get("/item")
        sidecar.clock.advance(LATER)
        origin.then((READ, RESET) if failure == "reset" else FAILED)
        if failure == "circuit":
            await sidecar.get("/other")
        response = await sidecar.get("/item", *([f"Cache-Control: {asked}"] if asked else []))
    if stands_in:
        assert_stale(response, "circuit_open" if failure == "circuit" else "upstream_error")
    else:
        assert_refused(response, failure)


def assert_refused(response: WireResponse, failure: str) -> None:
    """The failure itself, and nothing of what is stored."""
    status, error = {
        "status": (503, None),
        "reset": (502, b"sidecar; error=connection_terminated"),
        "circuit": (503, b"sidecar; error=destination_unavailable"),
    }[failure]
    assert (response.status, response.get("proxy-status")) == (status, error)
    assert ("retry-after" in response) == (failure == "circuit")
    assert ("x-failed" in response) == (failure == "status")
    assert "x-good" not in response
    assert "age" not in response
    assert b"hit" not in (response.get("cache-status") or b"")


@pytest.mark.parametrize("failure", ["reset", "circuit"])
async def test_who_wants_a_stored_answer_or_none_gets_no_stale_one(start_origin: StartOrigin, failure: str) -> None:
    origin = await start_origin((READ, message(b"good", *FIELDS), AGAIN))
    breaker = BREAKER if failure == "circuit" else QUIET_BREAKER
    async with still_sidecar(origin, upstream={"breaker": breaker, "cache": {}}) as sidecar:
        await sidecar.get("/item")
        sidecar.clock.advance(LATER)
        origin.then((READ, RESET))
        if failure == "circuit":
            await sidecar.get("/other")
        reached = len(origin.connections)
        assert (await sidecar.get("/item", "Cache-Control: only-if-cached")).status == 504
        stale = await sidecar.get("/item", "Cache-Control: only-if-cached, max-stale=60")
        assert (stale.status, stale.get("age")) == (200, b"99")
        assert len(origin.connections) == reached


@pytest.mark.parametrize(
    ("vary", "asked", "stands_in"),
    [
        ("Vary: Accept-Language", ["Accept-Language: de"], True),
        ("Vary: Accept-Language", ["Accept-Language: en"], False),
        ("X-No-Vary: -", ["Accept-Language: de", "Authorization: Basic x"], False),
        ("X-No-Vary: -", ["Accept-Language: de", "Cookie: session=2"], True),
        ("Vary: Cookie", ["Accept-Language: de", "Cookie: session=2"], False),
    ],
    ids=["its variant", "another variant", "somebody's credentials", "cookies of no account", "another's cookie"],
)
async def test_only_what_a_request_could_have_had_stands_in(
    start_origin: StartOrigin, vary: str, asked: list[str], *, stands_in: bool
) -> None:
    origin = await start_origin((READ, message(b"good", *FIELDS, vary), AGAIN))
    async with still_sidecar(origin, upstream={"breaker": BREAKER, "cache": {}}) as sidecar:
        await sidecar.get("/item", "Accept-Language: de")
        sidecar.clock.advance(LATER)
        await trip(sidecar, lambda: origin.then((READ, RESET)))
        response = await sidecar.get("/item", *asked)
    if stands_in:
        assert_stale(response, "circuit_open")
    else:
        assert_refused(response, "circuit")


async def test_what_fails_after_its_head_is_cut_off_and_the_old_answer_stays(start_origin: StartOrigin) -> None:
    origin = await start_origin((READ, message(b"good", *FIELDS), AGAIN))
    async with still_sidecar(origin, upstream={"breaker": QUIET_BREAKER, "cache": {}}) as sidecar:
        await sidecar.get("/item")
        sidecar.clock.advance(LATER)
        half = b'HTTP/1.1 200 OK\r\nETag: "v2"\r\nCache-Control: max-age=60\r\nContent-Length: 9\r\n\r\nhalf'
        origin.then((READ, half, RESET), (READ, RESET))
        client = await sidecar.connect()
        await client.send(b"GET /item HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await client.was_cut()
        assert_stale(await sidecar.get("/item"), "upstream_error")


# A circuit that remembers


def reached(origin: CachingOrigin, requests: int) -> bool:
    return len(origin.requests) == requests


async def test_on_a_hanging_upstream_only_requests_before_the_trip_wait() -> None:
    hangs = False

    def answer(_request: WireRequest) -> bytes | None:
        return None if hangs else message(b"good", *FIELDS)

    breaker = {**BREAKER, "failure_threshold": 2}
    async with (
        caching_origin(answer) as origin,
        still_sidecar(origin.url, upstream={"breaker": breaker, "cache": {}, "timeouts": TIMEOUTS}) as sidecar,
    ):
        await sidecar.get("/item")
        sidecar.clock.advance(LATER)
        hangs = True
        details = []
        for number in range(5):
            client = await sidecar.connect()
            await client.send(b"GET /item HTTP/1.1\r\nHost: a\r\n\r\n")
            if number < 2:
                await eventually(partial(reached, origin, number + 2))
                sidecar.clock.advance(0.2)
            response = await client.response()
            details.append((response.get("cache-status") or b"").rpartition(b"=")[2])
        assert details == [b"upstream_timeout"] * 2 + [b"circuit_open"] * 3
        assert len(origin.requests) == 3
        # Nothing was waited for: on the sidecar's clock no time has passed in the last three.
        sums = await sidecar.metrics()
        assert sums.total("sidecar_request_duration_seconds_sum") == pytest.approx(0.4)


async def test_in_half_open_stale_answers_do_not_wait_for_the_probe_and_a_good_one_renews_them(
    start_origin: StartOrigin,
) -> None:
    origin = await start_origin((READ, message(b"good", *FIELDS), AGAIN))
    breaker = {**BREAKER, "success_threshold": 1, "open_duration": "1m", "backoff": {"jitter": 0}}
    async with still_sidecar(origin, upstream={"breaker": breaker, "cache": {}}) as sidecar:
        await sidecar.get("/item")
        sidecar.clock.advance(LATER)
        await trip(sidecar, lambda: origin.then((READ, RESET), (READ, GATE, message(b"anew", *FIELDS), AGAIN)))
        sidecar.clock.advance(60)
        for _ in range(5):
            assert_stale(await sidecar.get("/item"), "circuit_open", age=159, ttl=-100)
        await origin.until(lambda origin: len(origin.requests) == 3)
        assert await sidecar.state() == "half_open"
        origin.gate.set()
        assert await sidecar.is_quiet()
        assert await sidecar.state() == "closed"
        renewed = await sidecar.get("/item")
        assert (renewed.body, renewed.get("age"), renewed.get("cache-status")) == (
            b"anew",
            b"0",
            b"sidecar; hit; ttl=60",
        )
        assert origin.lines == ["GET /item", "GET /other", "GET /item"]
