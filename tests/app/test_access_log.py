"""What the access log of a whole sidecar says of each request: who cut it, what the upstream did, what was sent."""

from __future__ import annotations

import asyncio
import json
import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.adapters.logs import LineSink
from tests.support.configured import Configured, written
from tests.support.origin import AGAIN, GATE, OK, READ, READ_HEAD, RESET, STALL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.conftest import StartOrigin

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
GET = b"GET /shop/1 HTTP/1.1\r\nHost: a\r\n\r\n"
LATE = b"GET /shop/1 HTTP/1.1\r\nHost: a\r\nX-Request-Timeout-Ms: %d\r\n\r\n"
UPGRADE = b"GET /shop/1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
UPLOAD = b"POST /shop/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc"
PATIENT = {"proxy": {"listen": "127.0.0.1:0", "drain_timeout": "1h"}}
HURRIED = {"proxy": {"listen": "127.0.0.1:0", "drain_timeout": "20ms"}}


class Logged:
    """A sidecar whose access log goes into a file; `lines` ends it."""

    def __init__(self, sidecar: Configured, sink: LineSink, file: Path) -> None:
        self.sidecar = sidecar
        self._sink = sink
        self._file = file
        self._stopped = False

    async def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self.sidecar.hang_up()
            await self.sidecar.stop()

    async def lines(self) -> list[dict[str, Any]]:
        await self.stop()
        self._sink.close()
        return [json.loads(line) for line in self._file.read_text().splitlines()]

    async def line(self) -> dict[str, Any]:
        lines = await self.lines()
        assert len(lines) == 1, lines
        return lines[0]


class Start:
    """Starts one for an upstream `shop`; another, `standby`, is there when it has a URL."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.standby = ""
        self.started: list[tuple[Logged, int]] = []

    async def __call__(self, url: str | list[str], top: dict[str, Any] | None = None, **more: Any) -> Logged:
        file = self._folder / "log"
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
        sink = LineSink(descriptor)
        where = {"endpoints": url} if isinstance(url, list) else {"url": url}
        upstreams: dict[str, Any] = {"shop": {**where, "cache": {"mode": "off"}, **more}}
        if self.standby:
            upstreams["standby"] = {"url": self.standby}
        text = written(upstreams, **(top or {}))
        logged = Logged(await Configured.begin(self._folder / "sidecar.yaml", text, sink), sink, file)
        self.started.append((logged, descriptor))
        return logged


@pytest.fixture
async def start(tmp_path: Path, start_origin: StartOrigin) -> AsyncIterator[Start]:  # noqa: ARG001 - outlives it
    starting = Start(tmp_path)
    yield starting
    for logged, descriptor in starting.started:
        await logged.lines()
        os.close(descriptor)


# Who cut it

UNDER_WAY = {
    "before the head": (GET, (READ, STALL), 503),
    "within the body": (GET, (READ, HEAD + b"abc", STALL), 200),
    "within an upload": (UPLOAD, (READ_HEAD, STALL), 503),
    "in a tunnel": (UPGRADE, (READ_HEAD, SWITCHED, STALL), 101),
}


@pytest.mark.parametrize("hurried", [False, True], ids=["at the drain deadline", "by a second signal"])
@pytest.mark.parametrize(("data", "script", "status"), UNDER_WAY.values(), ids=UNDER_WAY.keys())
async def test_what_the_drain_cuts_is_not_blamed_on_the_client_or_the_upstream(
    start_origin: StartOrigin, start: Start, data: bytes, script: tuple[Any, ...], status: int, *, hurried: bool
) -> None:
    origin = await start_origin(script)
    logged = await start(origin.url, PATIENT if hurried else HURRIED)
    client = await logged.sidecar.connect()
    await client.send(data)
    if status == 503:
        await origin.until(lambda seen: any(b"\r\n\r\n" in each.received for each in seen.connections))
    else:
        await client.head()
    hurry = asyncio.Event()
    if hurried:
        hurry.set()

    assert await logged.sidecar.running.drain(hurry) is False
    await logged.sidecar.stop()
    await client.until(lambda: client.ended)

    line = await logged.line()
    assert (line["status"], line["reason"], line["aborted"]) == (status, "draining", True)
    assert ("second signal" if hurried else "drain_timeout (0.02 s)") in line["detail"]
    assert "error" not in line


async def test_a_client_that_leaves_is_still_told_apart(start_origin: StartOrigin, start: Start) -> None:
    origin = await start_origin((READ, STALL))
    logged = await start(origin.url)
    client = await logged.sidecar.connect()
    await client.send(GET)
    await origin.until(lambda seen: seen.requests)

    client.transport.abort()
    assert await logged.sidecar.is_quiet()

    line = await logged.line()
    assert (line["status"], line["reason"]) == (499, "client_gone")


async def test_a_client_that_does_not_read_is_told_apart_too(start_origin: StartOrigin, start: Start) -> None:
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n" + bytes(50_000_000)
    origin = await start_origin((READ, large, STALL))
    logged = await start(origin.url, {"proxy": {"listen": "127.0.0.1:0", "limits": {"write_timeout": "100ms"}}})
    client = await logged.sidecar.connect()
    client.transport.pause_reading()
    await client.send(GET)

    await origin.until(lambda seen: seen.requests)
    assert await logged.sidecar.is_quiet()

    line = await logged.line()
    assert (line["status"], line["reason"], line["aborted"]) == (200, "write_timeout", True)


async def test_an_idle_tunnel_is_closed_by_the_sidecar(start_origin: StartOrigin, start: Start) -> None:
    origin = await start_origin((READ_HEAD, SWITCHED, STALL))
    logged = await start(origin.url, {"proxy": {"listen": "127.0.0.1:0", "limits": {"tunnel_idle": "50ms"}}})
    client = await logged.sidecar.connect()
    await client.send(UPGRADE)
    await client.until(lambda: client.ended)

    line = await logged.line()
    assert (line["status"], line["reason"]) == (101, "tunnel_idle")


# What the limits did

BUSY = {"bulkhead": {"max_concurrent": 1}}
LIMITS = {
    "a bulkhead": ((READ, STALL), BUSY, GET, 503, "bulkhead", "bulkhead_full"),
    "a rate limit": ((READ, STALL), {"rate_limit": {"rate": "1/h"}}, GET, 429, "rate_limit", "rate_limited"),
    "a deadline": ((READ, STALL), {}, LATE % 0, 504, "error", "deadline_exceeded"),
    "a deadline under way": ((READ, STALL), {}, LATE % 50, 504, "error", "deadline_exceeded"),
}


@pytest.mark.parametrize(("script", "block", "data", "status", "source", "reason"), LIMITS.values(), ids=LIMITS)
async def test_a_limit_is_named_as_what_answered(
    start_origin: StartOrigin,
    start: Start,
    script: tuple[Any, ...],
    block: dict[str, Any],
    data: bytes,
    status: int,
    source: str,
    reason: str,
) -> None:
    origin = await start_origin(script)
    logged = await start(origin.url, **block)
    first = await logged.sidecar.connect()
    await first.send(GET)
    await origin.until(lambda seen: seen.requests)
    await logged.sidecar.exchange(data)

    line = (await logged.lines())[0]
    assert (line["status"], line["source"], line["reason"]) == (status, source, reason)
    assert "error" not in line


async def test_an_answer_that_a_deadline_cuts_is_not_blamed_on_the_client(
    start_origin: StartOrigin, start: Start
) -> None:
    origin = await start_origin((READ, HEAD + b"abc", STALL))
    logged = await start(origin.url)
    client = await logged.sidecar.connect()
    await client.send(LATE % 50)
    await client.until(lambda: client.ended)

    line = await logged.line()
    assert (line["status"], line["reason"], line["aborted"]) == (200, "deadline_exceeded", True)
    assert "error" not in line


# What the upstream did

STORABLE = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=0, stale-if-error=60\r\nContent-Length: 2\r\n\r\nok"
FRESH = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\nok"
SWR = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=0, stale-while-revalidate=60\r\nContent-Length: 2\r\n\r\nok"
BEGUN = b"HTTP/1.1 2"
SICK = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
CACHED = {"cache": {"mode": "standard"}}
FALLBACK = {"cache": {"mode": "fallback", "ttl": "1h"}}
FAILURES = {
    "reset": ((STORABLE, READ, BEGUN, RESET), CACHED, "stale", "connection_terminated", "upstream_error"),
    "timeout": ((STORABLE, READ, STALL), CACHED, "stale", "http_response_timeout", "upstream_timeout"),
    "garbage": ((STORABLE, READ, b"nonsense\r\n\r\n"), CACHED, "stale", "http_protocol_error", "upstream_error"),
    "failing status": ((STORABLE, READ, SICK), CACHED, "stale", "status_503", "upstream_error"),
    "a fresh one in fallback mode": ((FRESH, READ, SICK), FALLBACK, "cache", "status_503", None),
    "refreshed behind": ((SWR, READ, OK), CACHED, "stale", None, "stale_while_revalidate"),
}


@pytest.mark.parametrize(("script", "cache", "source", "error", "because"), FAILURES.values(), ids=FAILURES.keys())
async def test_the_upstreams_error_shows_behind_a_stored_answer(
    start_origin: StartOrigin,
    start: Start,
    script: tuple[Any, ...],
    cache: dict[str, Any],
    source: str,
    error: str | None,
    because: str | None,
) -> None:
    origin = await start_origin((READ, *script, STALL))
    logged = await start(origin.url, timeouts={"first_byte": "100ms"}, **cache)

    assert [(await logged.sidecar.get("/shop/1")).status for _ in range(2)] == [200, 200]

    good, stood_in = await logged.lines()
    assert not {"error", "stale_because", "detail", "reason"} & good.keys()
    assert (stood_in["status"], stood_in["source"]) == (200, source)
    assert (stood_in.get("error"), stood_in.get("stale_because")) == (error, because)
    assert ("detail" in stood_in) == (error is not None)
    assert "reason" not in stood_in


async def test_an_open_circuit_is_why_a_stale_answer_is_given(start_origin: StartOrigin, start: Start) -> None:
    origin = await start_origin((READ, STORABLE, READ, BEGUN, RESET))
    logged = await start(origin.url, breaker={"failure_threshold": 1}, **CACHED)

    for lines in ((), (), (), ("Cache-Control: max-stale=1",)):
        await logged.sidecar.get("/shop/1", *lines)

    _, failed, refused, accepted = await logged.lines()
    assert (failed["stale_because"], failed["error"]) == ("upstream_error", "connection_terminated")
    assert (refused["stale_because"], "error" in refused) == ("circuit_open", False)
    assert "error" not in accepted


async def test_an_error_that_the_client_sees_is_the_upstreams_error_too(start: Start) -> None:
    logged = await start("http://127.0.0.1:1", breaker={"failure_threshold": 1})

    for _ in range(2):
        await logged.sidecar.get("/shop/1")

    failed, refused = await logged.lines()
    assert (failed["status"], failed["reason"], failed["error"]) == (502, "connection_refused", "connection_refused")
    assert (refused["status"], refused["reason"], "error" in refused) == (503, "circuit_open", False)


async def test_a_line_says_how_often_the_upstream_was_asked(start_origin: StartOrigin, start: Start) -> None:
    answers = (READ, SICK, READ, SICK, READ, FRESH, READ, FRESH, AGAIN)
    origin = await start_origin(answers)
    retry = {"attempts": 3, "backoff": {"base": "0s"}}
    logged = await start(origin.url, cache={"mode": "standard"}, retry=retry)

    for path in ("/shop/1", "/shop/2", "/shop/1", "/nowhere"):
        await logged.sidecar.get(path)

    lines = [(line["status"], line["attempts"]) for line in await logged.lines()]
    assert lines == [(200, 3), (200, 1), (200, 0), (404, 0)]


# Where it went, and how long that took

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
VALID = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 0\r\n\r\n"
TAGGED = b'HTTP/1.1 200 OK\r\nETag: "1"\r\nCache-Control: max-age=0, stale-if-error=60\r\nContent-Length: 2\r\n\r\nok'


async def test_the_endpoint_its_time_and_the_trace_are_said(start_origin: StartOrigin, start: Start) -> None:
    origin = await start_origin((READ, OK, STALL))
    logged = await start(origin.url)

    await logged.sidecar.get("/shop/1", f"traceparent: 00-{TRACE}-00f067aa0ba902b7-00")

    line = await logged.line()
    assert (line["endpoint"], line["trace_id"]) == (origin.url.removeprefix("http://"), TRACE)
    assert 0 < line["upstream_ms"] <= line["duration_ms"]


async def test_the_endpoint_that_failed_is_said(start: Start) -> None:
    logged = await start("http://localhost:1")

    await logged.sidecar.get("/shop/1")

    line = await logged.line()
    assert line["endpoint"] in {"127.0.0.1:1", "[::1]:1"}
    assert line["upstream_ms"] > 0
    assert "trace_id" not in line


@pytest.mark.parametrize("script", [(READ, VALID, STALL), (READ, BEGUN, RESET)], ids=["still valid", "failed"])
async def test_a_validation_is_an_attempt_like_any_other(
    start_origin: StartOrigin, start: Start, script: tuple[Any, ...]
) -> None:
    origin = await start_origin((READ, TAGGED, *script))
    logged = await start(origin.url, **CACHED)

    assert [(await logged.sidecar.get("/shop/1")).status for _ in range(2)] == [200, 200]

    _, validated = await logged.lines()
    assert validated["endpoint"] == origin.url.removeprefix("http://")
    assert validated["upstream_ms"] > 0


# Attempts are told of in one line: how many, where the last of them went, how long all of them took

STEP = 0.05
"""Seconds that each attempt takes that is too slow."""
TIMED: dict[str, Any] = {"timeouts": {"first_byte": "50ms"}}
ONCE_MORE = {"attempts": 2, "on": "timeout", "backoff": {"base": "0s"}, "budget": None}


@pytest.fixture
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints are taken in the order of the configuration."""
    monkeypatch.setattr(random, "sample", lambda choices, _: choices[:2])


def told(line: dict[str, Any]) -> tuple[int, int, str]:
    return line["status"], line["attempts"], f"http://{line['endpoint']}"


@pytest.mark.usefixtures("in_order")
async def test_the_attempts_of_a_retry_add_up_and_the_last_endpoint_is_said(
    start_origin: StartOrigin, start: Start
) -> None:
    slow, quick = await start_origin((READ, STALL)), await start_origin()
    logged = await start([slow.url, quick.url], retry=ONCE_MORE, **TIMED)

    await logged.sidecar.get("/shop/1")

    line = await logged.line()
    assert told(line) == (200, 2, quick.url)
    assert STEP * 1000 <= line["upstream_ms"] <= line["duration_ms"]


HEDGED: dict[str, Any] = {"retry": {"attempts": 1, "hedge": {"after": "50ms"}, "budget": None}}


@pytest.mark.usefixtures("in_order")
async def test_the_line_of_a_hedge_has_both_attempts_and_the_endpoint_that_answered(
    start_origin: StartOrigin, start: Start
) -> None:
    slow, quick = await start_origin((READ, STALL)), await start_origin()
    logged = await start([slow.url, quick.url], **HEDGED)

    await logged.sidecar.get("/shop/1")

    line = await logged.line()
    assert told(line) == (200, 2, quick.url)
    assert line["upstream_ms"] >= STEP * 1000


@pytest.mark.usefixtures("in_order")
async def test_a_hedge_that_lost_is_no_endpoint_that_answered(start_origin: StartOrigin, start: Start) -> None:
    first, second = await start_origin((READ, GATE, OK, AGAIN)), await start_origin((READ, STALL))
    logged = await start([first.url, second.url], **HEDGED)
    client = await logged.sidecar.connect()
    await client.send(GET)
    await second.until(lambda seen: seen.requests)

    first.gate.set()

    assert (await client.response()).body == b"ok"
    line = await logged.line()
    assert told(line) == (200, 2, first.url)
    assert line["upstream_ms"] >= STEP * 1000


@pytest.mark.usefixtures("in_order")
async def test_a_client_that_leaves_a_hedge_is_told_of_with_both_attempts(
    start_origin: StartOrigin, start: Start
) -> None:
    first, second = await start_origin((READ, STALL)), await start_origin((READ, STALL))
    logged = await start([first.url, second.url], **HEDGED)
    client = await logged.sidecar.connect()
    await client.send(GET)
    await second.until(lambda seen: seen.requests)

    client.transport.abort()
    assert await logged.sidecar.is_quiet()

    line = await logged.line()
    assert told(line) == (499, 2, second.url)
    assert line["upstream_ms"] >= STEP * 1000


async def test_a_fallback_upstream_adds_its_attempt(start_origin: StartOrigin, start: Start) -> None:
    slow, standby = await start_origin((READ, STALL)), await start_origin()
    start.standby = standby.url
    logged = await start(slow.url, fallback={"upstream": "standby"}, **TIMED)

    await logged.sidecar.get("/shop/1")

    line = await logged.line()
    assert told(line) == (200, 2, standby.url)
    assert (line["source"], line["error"]) == ("fallback", "http_response_timeout")
    assert line["upstream_ms"] >= STEP * 1000


async def test_what_no_upstream_was_asked_for_names_none(start_origin: StartOrigin, start: Start) -> None:
    origin = await start_origin((READ, FRESH, STALL))
    logged = await start(origin.url, **CACHED)

    for target in ("/shop/1", "/shop/1", "/nowhere"):
        await logged.sidecar.get(target)

    _, hit, unrouted = await logged.lines()
    assert not {"endpoint", "upstream_ms"} & (hit.keys() | unrouted.keys())


# What is left out

SECRET = {"log": {"redact_query": ["token"], "headers": ["cookie", "x-kind"]}}


async def test_secrets_are_in_no_line_no_event_and_no_sample(start: Start) -> None:
    logged = await start("http://127.0.0.1:1", SECRET, breaker={"failure_threshold": 1})
    sidecar = logged.sidecar

    for target in ("/shop/1?token=s3cret&page=2", "/nowhere?token=s3cret"):
        await sidecar.get(target, "Cookie: s3cret", "X-Kind: plain")
    url = "http://127.0.0.1:1/1?token=s3cret"
    _, purged = await sidecar.call("DELETE", f"/v1/cache?url={url}".replace("?token", "%3Ftoken"))
    _, circuit = await sidecar.call("GET", "/v1/circuits/shop")
    _, events = await sidecar.call("GET", "/v1/events")

    assert purged["purged"] == 0
    assert [sample["path"] for sample in circuit["trip"]["samples"]] == ["/shop/1?token=(redacted)&page=2"]
    assert "s3cret" not in json.dumps([circuit, events])
    assert json.dumps(events).count("token=(redacted)") > 1
    lines = await logged.lines()
    assert "s3cret" not in json.dumps(lines)
    assert [line["target"] for line in lines] == ["/shop/1?token=(redacted)&page=2", "/nowhere?token=(redacted)"]
    assert [line["request_headers"] for line in lines] == [{"cookie": "(redacted)", "x-kind": "plain"}] * 2


async def test_secrets_are_in_no_sample_of_a_fallback_upstream_and_of_an_injected_fault(start: Start) -> None:
    start.standby = "http://127.0.0.1:1"
    fault = {"abort": {"status": 503}, "ttl": "1h"}
    tripping = {"breaker": {"failure_threshold": 1}, "fault": fault, "fallback": {"upstream": "standby"}}
    logged = await start("http://127.0.0.1:1", SECRET, **tripping)
    sidecar = logged.sidecar

    for _ in range(10):
        await sidecar.get("/shop/1?token=s3cret&page=2")

    circuits = [(await sidecar.call("GET", f"/v1/circuits/{name}"))[1] for name in ("shop", "standby")]
    for circuit in circuits:
        assert {sample["path"] for sample in circuit["trip"]["samples"]} == {"/shop/1?token=(redacted)&page=2"}
    assert [circuit["trip"]["samples"][0]["error"] for circuit in circuits] == ["fault_abort", "connection_refused"]


@pytest.mark.parametrize("top", [{"log": {"access": False}}, {"proxy": {"listen": "127.0.0.1:0", "access_log": False}}])
async def test_either_switch_turns_the_access_log_off(start: Start, top: dict[str, Any]) -> None:
    logged = await start("http://127.0.0.1:1", top)

    await logged.sidecar.get("/shop/1")

    assert await logged.lines() == []


# What was sent, and asked

OWN = {
    "no route": (b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404, "GET", "/nowhere"),
    "no route, HEAD": (b"HEAD /nowhere?a=b HTTP/1.1\r\nHost: a\r\n\r\n", 404, "HEAD", "/nowhere?a=b"),
    "CONNECT": (b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", 501, "CONNECT", "a.example:443"),
    "TRACE": (b"TRACE /shop/ HTTP/1.1\r\nHost: a\r\n\r\n", 501, "TRACE", "/shop/"),
    "no host": (b"GET /shop/ HTTP/1.1\r\n\r\n", 400, "GET", "/shop/"),
    "expectation": (b"GET /shop/ HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417, "GET", "/shop/"),
    "too many fields": (b"GET /shop/ HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 200 + b"\r\n", 431, "GET", "/shop/"),
    "a long target": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "GET", "/" + "a" * 1023),
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400, "", ""),
    "gone wrong in the upstream": (b"GET /shop/ HTTP/1.1\r\nHost: a\r\n\r\n", 502, "GET", "/shop/"),
    "the same, HEAD": (b"HEAD /shop/ HTTP/1.1\r\nHost: a\r\n\r\n", 502, "HEAD", "/shop/"),
    "a loop": (b"GET /shop/ HTTP/1.1\r\nHost: a\r\nVia: 1.1 sidecar\r\n\r\n", 508, "GET", "/shop/"),
}


@pytest.mark.parametrize(("data", "status", "method", "target"), OWN.values(), ids=OWN.keys())
async def test_own_answers_are_logged_with_what_was_asked_and_the_octets_sent(
    start: Start, data: bytes, status: int, method: str, target: str
) -> None:
    logged = await start("http://127.0.0.1:1")

    answer = await logged.sidecar.exchange(data, method or "GET")

    line = await logged.line()
    assert answer.status == line["status"] == status
    assert (line["method"], line["target"]) == (method, target)
    assert line["bytes_sent"] == len(answer.body)
    assert (method == "HEAD") == (line["bytes_sent"] == 0)


async def test_a_head_that_never_ends_is_logged_with_its_first_line(start: Start) -> None:
    logged = await start("http://127.0.0.1:1", {"proxy": {"listen": "127.0.0.1:0", "limits": {"head_timeout": "50ms"}}})

    assert (await logged.sidecar.exchange(b"GET /shop/7 HTTP/1.1\r\nHost:")).status == 408

    line = await logged.line()
    assert (line["status"], line["method"], line["target"]) == (408, "GET", "/shop/7")


async def test_an_answer_of_the_upstream_is_counted_as_before(start_origin: StartOrigin, start: Start) -> None:
    origin = await start_origin((READ, OK, AGAIN))
    logged = await start(origin.url)

    await logged.sidecar.get("/shop/1")

    line = await logged.line()
    assert (line["bytes_sent"], line["status"]) == (2, 200)
    assert not {"reason", "detail", "error", "stale_because", "aborted"} & line.keys()
