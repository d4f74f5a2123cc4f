"""Retries through real sockets: what is sent again, what never is, and what is told of it."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.client import GOOD
from tests.support.origin import (
    AGAIN,
    CLOSE,
    HALF_CLOSE,
    OK,
    READ,
    READ_HEAD,
    READ_MORE,
    RESET,
    STALL,
    WELL_BEHAVED,
    Endlessly,
    Script,
)

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar
    from tests.support.running import Block, InProcess

NOW = {"base": "0s", "max": "0s"}
BREAKER_OFF = {"failure_threshold": None, "failure_rate": None}
FIELD = "x-sidecar-attempt"


def retrying(**settings: Any) -> Block:
    return {"retry": {"attempts": 2, "backoff": NOW, **settings}, "breaker": BREAKER_OFF}


def failing(status: int = 503, *lines: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status} Whatever", "Content-Length: 2", *lines])
    return head.encode() + b"\r\n\r\nno"


def asked(method: str, body: bytes = b"", *lines: str) -> bytes:
    fields = [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([f"{method} /x HTTP/1.1", "Host: a", *fields, *lines, "", ""]).encode() + body


async def retries(sidecar: InProcess, name: str = "sidecar_retries_total") -> dict[str, float]:
    """The counts that are not 0, by result."""
    samples = (await sidecar.metrics()).samples
    return {dict(labels)["result"]: value for (key, labels), value in samples.items() if key == name and value}


async def circuit_calls(sidecar: InProcess) -> dict[str, float]:
    assert await sidecar.is_quiet()
    samples = (await sidecar.metrics()).samples
    name = "sidecar_circuit_calls_total"
    return {dict(labels)["outcome"]: value for (key, labels), value in samples.items() if key == name and value}


def closed_port() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


# What is sent again, and what is not

ONCE: Script = (READ, failing(), READ, OK, AGAIN)
REPEATED: dict[str, tuple[tuple[Script, ...], Block]] = {
    "502": (((READ, failing(502), READ, OK),), {}),
    "503": ((ONCE,), {}),
    "504": (((READ, failing(504), READ, OK),), {}),
    "a status that is configured": (((READ, failing(500), READ, OK),), {"on": [500]}),
    "429 that is configured": (((READ, failing(429), READ, OK),), {"on": ["connect", "400-499"]}),
    "reset before an answer": (((READ, RESET), WELL_BEHAVED), {}),
    "closed before an answer": (((READ, CLOSE), WELL_BEHAVED), {}),
    "half-closed before an answer": (((READ, HALF_CLOSE, STALL), WELL_BEHAVED), {}),
    "a timeout that is configured": (((READ, STALL), WELL_BEHAVED), {"on": "timeout"}),
    "an endless failing answer": (
        ((READ, b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n", Endlessly(b"2\r\nno\r\n")), WELL_BEHAVED),
        {},
    ),
    "a short wait asked for": (((READ, failing(503, "Retry-After: 0"), READ, OK),), {}),
}


@pytest.mark.parametrize(("scripts", "settings"), REPEATED.values(), ids=REPEATED.keys())
async def test_a_failed_get_is_sent_again_and_the_client_sees_one_answer(
    start_origin: StartOrigin, start_sidecar: StartSidecar, scripts: tuple[Script, ...], settings: Block
) -> None:
    origin = await start_origin(*scripts)
    upstream = {**retrying(**settings), "timeouts": {"first_byte": "200ms"}}
    sidecar = await start_sidecar(origin, upstream=upstream)

    response = await sidecar.exchange(asked("GET"))

    assert (response.status, response.body) == (200, b"ok")
    assert origin.lines == ["GET /x", "GET /x"]
    assert [request.get(FIELD) for request in origin.requests] == [None, b"2"]
    assert await retries(sidecar) == {"success": 1}
    throttled = "429" in str(scripts)
    assert await circuit_calls(sidecar) == {"throttled" if throttled else "failure": 1, "success": 1}


PASSED_ON: dict[str, tuple[Script, bytes, Block, int]] = {
    "500": ((READ, failing(500), READ, OK), asked("GET"), {}, 500),
    "a status that is not configured": (ONCE, asked("GET"), {"on": [502]}, 503),
    "closed within the head": ((READ, b"HTTP/1.1 2", CLOSE), asked("GET"), {}, 502),
    "a malformed answer": ((READ, b"nonsense\r\n\r\n", STALL), asked("GET"), {}, 502),
    "a timeout": ((READ, STALL), asked("GET"), {}, 504),
    "a POST that was reset": ((READ, RESET), asked("POST", b"hello"), {}, 502),
    "a POST that was answered": (ONCE, asked("POST", b"hello"), {}, 503),
    "a POST with a key that means nothing": (ONCE, asked("POST", b"hello", "Idempotency-Key: 1"), {}, 503),
    "a method that is not configured": (ONCE, asked("PUT", b"hello"), {"methods": ["GET"]}, 503),
    "no second attempt": (ONCE, asked("GET"), {"attempts": 1}, 503),
    "repeated by somebody before": (ONCE, asked("GET", b"", "X-Sidecar-Attempt: 2"), {}, 503),
    "an upgrade": (ONCE, asked("GET", b"", "Connection: Upgrade", "Upgrade: websocket"), {}, 503),
}


@pytest.mark.parametrize(("script", "data", "settings", "status"), PASSED_ON.values(), ids=PASSED_ON.keys())
async def test_what_may_not_be_sent_again_is_not(
    start_origin: StartOrigin, start_sidecar: StartSidecar, script: Script, data: bytes, settings: Block, status: int
) -> None:
    origin = await start_origin(script, WELL_BEHAVED)
    upstream = {**retrying(**settings), "timeouts": {"first_byte": "200ms"}}
    sidecar = await start_sidecar(origin, upstream=upstream)

    response = await sidecar.exchange(data, data.split()[0].decode())

    assert response.status == status
    assert len(origin.requests) == 1
    assert await retries(sidecar) == {}


async def test_nothing_is_sent_again_once_the_client_may_have_seen_part_of_an_answer(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", RESET), WELL_BEHAVED)
    sidecar = await start_sidecar(origin, upstream=retrying())
    client = await sidecar.connect()

    await client.send(GOOD)
    await client.until(lambda: client.ended)

    assert len(origin.requests) == 1


async def test_retry_null_turns_it_off_and_a_route_may_turn_it_on(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin(ONCE)
    sidecar = await start_sidecar(origin, upstream={"retry": None})
    assert (await sidecar.get()).status == 503
    other = await start_origin(ONCE)
    sidecar = await start_sidecar(other, upstream={"retry": None}, route={"retry": {"attempts": 2, "backoff": NOW}})
    assert (await sidecar.get()).status == 200


async def test_the_answer_after_the_last_attempt_is_the_upstreams_own(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    answers = [failing(503, f"X-Number: {number}") for number in (1, 2, 3)]
    origin = await start_origin((READ, answers[0], READ, answers[1], READ, answers[2]))
    sidecar = await start_sidecar(origin, upstream=retrying(attempts=3))

    response = await sidecar.get()

    assert (response.status, response.get("x-number")) == (503, b"3")
    assert [request.get(FIELD) for request in origin.requests] == [None, b"2", b"3"]
    assert await retries(sidecar) == {"failure": 2}
    assert await circuit_calls(sidecar) == {"failure": 3}


async def test_a_post_with_an_idempotency_key_is_sent_again_by_option(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin(ONCE)
    sidecar = await start_sidecar(origin, upstream=retrying(idempotency_key=True))

    assert (await sidecar.exchange(asked("POST", b"hello", "Idempotency-Key: 7"), "POST")).status == 200
    assert [request.body for request in origin.requests] == [b"hello", b"hello"]
    assert (await sidecar.exchange(asked("POST", b"hello"), "POST")).status == 503


# Connecting


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_where_no_connection_was_made_any_method_is_tried_again(
    start_sidecar: StartSidecar, start_origin: StartOrigin, method: str
) -> None:
    await start_origin()
    sidecar = await start_sidecar(closed_port(), upstream=retrying(attempts=3))

    assert (await sidecar.exchange(asked(method, b"hello"), method)).status == 502
    assert await retries(sidecar) == {"failure": 2}
    assert await circuit_calls(sidecar) == {"failure": 3}


async def test_a_streamed_post_is_sent_when_connecting_works_at_last(start_sidecar: StartSidecar) -> None:
    """The origin begins to listen between two attempts."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        backoff = {"base": "30ms", "max": "30ms"}
        upstream = {**retrying(attempts=10, backoff=backoff, budget=None, max_body=0), "pool": {"cooldown": "0s"}}
        sidecar = await start_sidecar(f"http://127.0.0.1:{port}", upstream=upstream)
        client = await sidecar.connect()
        await client.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
        async with asyncio.timeout(10):
            while (await sidecar.metrics()).total("sidecar_retries_total", result="failure") < 1:  # noqa: ASYNC110 - a poll over a socket
                await asyncio.sleep(0)

        held.listen()
        held.setblocking(False)  # noqa: FBT003 - the standard library's
        loop = asyncio.get_running_loop()
        accepted, _ = await loop.sock_accept(held)
        await client.send(b"world")
        received = b""
        while not received.endswith(b"helloworld"):
            received += await loop.sock_recv(accepted, 4096)
        await loop.sock_sendall(accepted, OK)

        assert (await client.response("POST")).status == 200
        accepted.close()


async def test_without_connect_in_on_a_refused_connection_is_final(start_sidecar: StartSidecar) -> None:
    sidecar = await start_sidecar(closed_port(), upstream=retrying(on=["reset", 503]))
    assert (await sidecar.get()).status == 502
    assert await circuit_calls(sidecar) == {"failure": 1}


async def test_another_endpoint_is_preferred(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    bad = [await start_origin((READ, failing(), AGAIN)) for _ in range(2)]
    good = await start_origin()
    budget = {"share": "100%", "floor": 100}
    sidecar = await start_sidecar([origin.url for origin in (*bad, good)], upstream=retrying(attempts=3, budget=budget))

    assert [(await sidecar.get()).status for _ in range(20)] == [200] * 20
    assert len(good.requests) == 20


# Bodies


@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 503)])
async def test_a_whole_body_of_max_body_is_sent_again_and_a_longer_one_is_not(
    start_origin: StartOrigin, start_sidecar: StartSidecar, size: int, status: int
) -> None:
    origin = await start_origin(ONCE)
    sidecar = await start_sidecar(origin, upstream=retrying(max_body=1000))

    assert (await sidecar.exchange(asked("PUT", bytes(size)), "PUT")).status == status
    assert {request.body for request in origin.requests} == {bytes(size)}
    assert await retries(sidecar) == ({"success": 1} if status == 200 else {"body_too_large": 1})


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 503)])
async def test_a_body_that_arrives_in_pieces_is_kept_up_to_max_body(
    start_origin: StartOrigin, start_sidecar: StartSidecar, size: int, status: int, framing: str
) -> None:
    origin = await start_origin(ONCE)
    sidecar = await start_sidecar(origin, upstream=retrying(max_body=1000))
    client = await sidecar.connect()
    chunked = framing == "chunked"
    field = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
    await client.send(b"PUT /x HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % field)
    await origin.until(lambda seen: seen.connections and b"PUT /x" in seen.connections[0].received)
    for piece in (b"a" * 600, b"b" * (size - 600)):
        await client.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
    if chunked:
        await client.send(b"0\r\n\r\n")

    assert (await client.response("PUT")).status == status
    assert {request.body for request in origin.requests} == {b"a" * 600 + b"b" * (size - 600)}
    assert await retries(sidecar) == ({"success": 1} if status == 200 else {"body_too_large": 1})


@pytest.mark.parametrize("kept_alive", [False, True])
async def test_a_body_that_was_sent_in_part_is_sent_again_from_its_start(
    start_origin: StartOrigin, start_sidecar: StartSidecar, *, kept_alive: bool
) -> None:
    dying: Script = (READ_HEAD, READ_MORE, RESET)
    origin = await start_origin((READ, OK, *dying) if kept_alive else dying, WELL_BEHAVED)
    sidecar = await start_sidecar(origin, upstream=retrying())
    if kept_alive:
        assert await sidecar.is_well()
    client = await sidecar.connect()

    await client.send(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
    await origin.until(lambda seen: len(seen.connections) == 2)
    await origin.until(lambda seen: seen.connections[1].received.endswith(b"hello"))
    await client.send(b"world")

    assert (await client.response("PUT")).status == 200
    assert origin.requests[-1].body == b"helloworld"


async def test_a_body_that_is_declared_too_long_is_not_sent_again_however_little_was_sent(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ_HEAD, READ_MORE, RESET), WELL_BEHAVED)
    sidecar = await start_sidecar(origin, upstream=retrying(max_body=1000))
    client = await sidecar.connect()
    await client.send(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\nhello")

    assert (await client.response("PUT")).status == 502
    assert len(origin.connections) == 1
    assert await retries(sidecar) == {"body_too_large": 1}


async def test_a_client_that_leaves_between_the_pieces_leaves_nothing_behind(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ_HEAD, READ_MORE, RESET), (READ_HEAD, READ_MORE, STALL))
    sidecar = await start_sidecar(origin, upstream=retrying())
    client = await sidecar.connect()
    await client.send(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
    await origin.until(lambda seen: len(seen.connections) == 2 and seen.connections[1].received.endswith(b"hello"))

    client.transport.abort()

    assert await circuit_calls(sidecar) == {"failure": 1, "cancelled": 1}
    assert await retries(sidecar) == {"failure": 1}
    await origin.ended(1)


# Waiting


async def test_a_wait_that_is_too_long_passes_the_answer_on_at_once(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, failing(503, "Retry-After: 2"), AGAIN))
    sidecar = await start_sidecar(origin, upstream=retrying())

    response = await sidecar.get()

    assert (response.status, response.get("retry-after")) == (503, b"2")
    assert len(origin.requests) == 1
    assert await retries(sidecar) == {"too_late": 1}


async def test_no_attempt_begins_after_the_total(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, failing(503, "Retry-After: 1"), AGAIN))
    sidecar = await start_sidecar(origin, upstream={**retrying(), "timeouts": {"total": "900ms"}})

    assert (await sidecar.get()).status == 503
    assert len(origin.requests) == 1
    assert await retries(sidecar) == {"too_late": 1}


async def test_the_total_bounds_the_attempts_together(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, failing(), READ, STALL))
    sidecar = await start_sidecar(origin, upstream={**retrying(attempts=3), "timeouts": {"total": "300ms"}})

    response = await sidecar.get()

    assert response.status == 504
    assert b"total_timeout" in response.body
    assert len(origin.requests) == 2


# The circuit


async def test_attempts_end_with_the_refusal_of_a_circuit_that_opens_between_them(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, failing(), AGAIN))
    upstream = {**retrying(attempts=3), "breaker": {"failure_threshold": 2, "open_duration": "1h"}}
    sidecar = await start_sidecar(origin, upstream=upstream)

    response = await sidecar.get()

    assert response.status == 503
    assert b"circuit_open" in response.body
    assert len(origin.requests) == 2
    assert await retries(sidecar) == {"failure": 1}


async def test_a_kept_connection_that_died_says_nothing_about_the_upstream(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, OK, READ, CLOSE), WELL_BEHAVED)
    sidecar = await start_sidecar(origin, upstream=retrying())
    assert await sidecar.is_well()
    assert await sidecar.is_well()

    assert await circuit_calls(sidecar) == {"success": 2, "not_sent": 1}
    seen = await sidecar.metrics()
    assert seen.total("sidecar_upstream_attempts_total", result="stale_connection") == 1
    assert await retries(sidecar) == {"success": 1}


@pytest.mark.parametrize(("method", "settings"), [("POST", {}), ("GET", {"on": [503]})], ids=["method", "cause"])
async def test_unless_the_request_ends_with_it(
    start_origin: StartOrigin, start_sidecar: StartSidecar, method: str, settings: Block
) -> None:
    origin = await start_origin((READ, OK, READ, CLOSE), WELL_BEHAVED)
    sidecar = await start_sidecar(origin, upstream=retrying(**settings))
    assert await sidecar.is_well()
    assert (await sidecar.exchange(asked(method), method)).status == 502
    assert await circuit_calls(sidecar) == {"success": 1, "failure": 1}


# The budget


async def test_an_exhausted_budget_refuses(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, failing(), AGAIN))
    sidecar = await start_sidecar(origin, upstream=retrying(budget={"share": "50%", "floor": 0}))

    assert [(await sidecar.get()).status for _ in range(10)] == [503] * 10

    assert len(origin.requests) == 15
    assert await retries(sidecar) == {"failure": 5, "budget": 5}
    seen = await sidecar.metrics()
    assert seen.total("sidecar_retry_budget_exhausted_total", upstream="origin") == 5
    assert seen.total("sidecar_retry_budget_available", upstream="origin") < 1
    (shown,) = (await sidecar.api("GET", "/v1/upstreams"))["upstreams"]
    assert shown["retry_budget"] == {"available": 0.0, "exhausted": 5, "observed": 0}


async def test_a_budget_that_observes_refuses_nothing(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, failing(), AGAIN))
    budget = {"share": "0%", "floor": 0, "observe": True}
    sidecar = await start_sidecar(origin, upstream=retrying(budget=budget))

    assert (await sidecar.get()).status == 503

    assert len(origin.requests) == 2
    seen = await sidecar.metrics()
    assert seen.total("sidecar_retry_budget_observed_total") == 1
    assert seen.total("sidecar_retry_budget_exhausted_total") == 0


async def test_the_routes_of_an_upstream_share_its_budget(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, failing(), AGAIN))
    routes = [{"name": name, "match": {"prefix": f"/{name}/"}, "upstream": "origin"} for name in ("one", "two")]
    upstream = retrying(budget={"share": "50%", "floor": 0})
    sidecar = await start_sidecar(origin, upstream=upstream, top={"routes": routes})

    for _ in range(2):
        await sidecar.get("/one/")
    assert len(origin.requests) == 3
    await sidecar.get("/two/")
    await sidecar.get("/two/")

    assert len(origin.requests) == 6


async def test_every_series_is_there_at_0(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    sidecar = await start_sidecar(await start_origin(), upstream=retrying())
    seen = (await sidecar.metrics()).samples
    found = {(name, *dict(labels).values()) for name, labels in seen if "retr" in name or "hedge" in name}
    expected = {("sidecar_retries_total", result) for result in ("success", "failure", "budget", "too_late")}
    assert {(name, *sorted(rest)) for name, *rest in found} == {
        (name, *sorted(["origin", result]))
        for name, result in {
            *expected,
            ("sidecar_retries_total", "body_too_large"),
            ("sidecar_hedges_total", "success"),
            ("sidecar_hedges_total", "failure"),
            ("sidecar_hedges_total", "cancelled"),
        }
    } | {(f"sidecar_retry_budget_{name}", "origin") for name in ("available", "exhausted_total", "observed_total")}
    assert seen["sidecar_retry_budget_available", frozenset({("upstream", "origin")})] > 0
    assert sum(value for (name, _), value in seen.items() if "retries" in name or "hedge" in name) == 0


# Two sidecars in a chain


async def test_two_sidecars_in_a_chain_do_not_multiply_attempts(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, failing(), AGAIN))
    inner = await start_sidecar(origin, upstream=retrying(attempts=3), proxy={"via": "inner"})
    assert isinstance(inner.proxy, tuple)
    outer = await start_sidecar(f"http://127.0.0.1:{inner.proxy[1]}", upstream=retrying(attempts=3))

    assert (await outer.get()).status == 503

    assert [request.get(FIELD) for request in origin.requests] == [None, b"2", b"3", b"2", b"3"]


ON_A_DEAD_CONNECTION: dict[str, tuple[bytes, Block, dict[str, float]]] = {
    "repeated": (asked("PUT", b"hello"), {}, {"not_sent": 1, "success": 2}),
    "repeated by its key": (
        asked("POST", b"hello", "Idempotency-Key: 1"),
        {"idempotency_key": True},
        {"not_sent": 1, "success": 2},
    ),
    "another method": (asked("PUT", b"hello"), {"methods": ["GET"]}, {"failure": 1, "success": 1}),
    "too long": (asked("PUT", b"hello"), {"max_body": 4}, {"failure": 1, "success": 1}),
    "repeated by somebody before": (asked("GET", b"", "X-Sidecar-Attempt: 2"), {}, {"failure": 1, "success": 1}),
    "an upgrade": (asked("GET", b"", "Connection: Upgrade", "Upgrade: websocket"), {}, {"failure": 1, "success": 1}),
}


@pytest.mark.parametrize("arriving", [False, True], ids=["whole", "arriving"])
@pytest.mark.parametrize(
    ("data", "settings", "outcomes"), ON_A_DEAD_CONNECTION.values(), ids=ON_A_DEAD_CONNECTION.keys()
)
async def test_a_dead_connection_is_no_outcome_only_where_another_attempt_tells_how_the_upstream_is(
    start_origin: StartOrigin,
    start_sidecar: StartSidecar,
    data: bytes,
    settings: Block,
    outcomes: dict[str, float],
    *,
    arriving: bool,
) -> None:
    origin = await start_origin((READ, OK, READ, CLOSE), WELL_BEHAVED)
    sidecar = await start_sidecar(origin, upstream=retrying(**settings))
    await sidecar.exchange(asked("GET"))

    client = await sidecar.connect()
    head_only = data.endswith(b"\r\n\r\n")
    await client.send(data if head_only or not arriving else data[:-1])
    if arriving and not head_only:
        await origin.until(lambda it: b"hell" in it.connections[0].received)
        await client.send(data[-1:])
    answer = await client.response(data.split()[0].decode())

    assert answer.status == (200 if "not_sent" in outcomes else 502)
    assert await circuit_calls(sidecar) == outcomes
