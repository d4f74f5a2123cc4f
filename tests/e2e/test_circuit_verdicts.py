"""When a circuit decides, whose time it counts, and what it tells: real sockets, on a clock that stands still."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.origin import (
    AGAIN,
    CLOSE,
    GATE,
    OK,
    PAUSE,
    READ,
    READ_HEAD,
    READ_MORE,
    RESET,
    STALL,
    WELL_BEHAVED,
    Script,
)
from tests.support.still_sidecar import still_sidecar
from tests.support.wire import eventually

if TYPE_CHECKING:
    from tests.conftest import StartOrigin
    from tests.support.client import RawClient
    from tests.support.still_sidecar import StillSidecar

BREAKER: dict[str, Any] = {
    "failure_threshold": 1,
    "failure_rate": None,
    "open_duration": "10s",
    "backoff": {"jitter": 0, "max": "5m"},
    "success_threshold": 1,
    "probe_timeout": "5s",
    "slow_after": "1h",
}
GET = b"GET /item HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
CHUNK = b"3\r\n{}\n\r\n"
ENDLESS: dict[str, bytes] = {
    "JSON lines": CHUNKED + b"Content-Type: application/x-ndjson\r\n\r\n" + CHUNK,
    "a watch": CHUNKED + b"Content-Type: application/json;stream=watch\r\n\r\n" + CHUNK,
    "camera": CHUNKED + b"Content-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n" + CHUNK,
    "server-sent events": CHUNKED + b"Content-Type: text/event-stream\r\n\r\n" + CHUNK,
    "no type at all": CHUNKED + b"\r\n" + CHUNK,
    "a long download": b"HTTP/1.1 200 OK\r\nContent-Length: 900000000\r\n\r\nbegin",
    "until the close": b"HTTP/1.1 200 OK\r\n\r\nbegin",
    "a head alone": CHUNKED + b"\r\n",
    "a cacheable one": CHUNKED + b"Cache-Control: max-age=60\r\n\r\n" + CHUNK,
}


async def calls(sidecar: StillSidecar) -> dict[str, float]:
    """How many requests the circuit counts by outcome, those that are there."""
    metrics = await sidecar.metrics()
    outcomes = ("success", "failure", "slow", "throttled", "ignored", "cancelled", "not_sent")
    counts = {outcome: metrics.total("sidecar_circuit_calls_total", outcome=outcome) for outcome in outcomes}
    return {outcome: count for outcome, count in counts.items() if count}


async def shown(sidecar: StillSidecar) -> Any:
    return await sidecar.api("GET", "/v1/circuits/all")


async def streaming(sidecar: StillSidecar) -> RawClient:
    """A client that has the head of an answer."""
    client = await sidecar.connect()
    await client.send(GET)
    assert (await client.head()).status == 200
    return client


def leave(sidecar: StillSidecar) -> None:
    """All clients go at once: after a FIN they would be waited for, and time stands still."""
    for client in sidecar.clients:
        client.reset()


# A probe's verdict comes in bounded time


@pytest.mark.parametrize("mode", ["off", "standard"])
@pytest.mark.parametrize("answer", ENDLESS.values(), ids=ENDLESS.keys())
async def test_healthy_endless_answers_close_the_circuit(start_origin: StartOrigin, answer: bytes, mode: str) -> None:
    origin = await start_origin((READ, RESET), (READ, answer, STALL))
    blocks = {"breaker": {**BREAKER, "success_threshold": 2}, "cache": {"mode": mode, "collapse": False}}
    async with still_sidecar(origin, upstream=blocks) as sidecar:
        assert (await sidecar.get("/trip")).status == 502
        sidecar.clock.advance(10)
        clients = []
        for probe in (1, 2):
            clients.append(await streaming(sidecar))
            assert (await sidecar.get("/other")).status == 503
            sidecar.clock.advance(4.9)
            assert (await sidecar.get("/other")).status == 503
            assert (await shown(sidecar))["probe_successes"] == probe - 1
            sidecar.clock.advance(0.1)
        await streaming(sidecar)
        told = await shown(sidecar)
        assert (told["state"], told["trip"]) == ("closed", None)
        assert (told["last_probe"]["outcome"], told["last_probe"]["status"]) == ("success", 200)
        # What becomes of those bodies later is no news.
        for connection in origin.connections[1:3]:
            connection.reset()
        for client in clients:
            assert await client.was_cut()
        assert await sidecar.state() == "closed"
        assert (await calls(sidecar))["success"] == 2
        leave(sidecar)


@pytest.mark.parametrize("ending", [RESET, CLOSE], ids=["reset", "closed"])
@pytest.mark.parametrize("kind", ["JSON lines", "server-sent events", "a long download"])
async def test_a_probe_s_body_that_is_cut_before_that_reopens(
    start_origin: StartOrigin, kind: str, ending: Any
) -> None:
    origin = await start_origin((READ, RESET), (READ, ENDLESS[kind], GATE, ending))
    async with still_sidecar(origin, upstream={"breaker": BREAKER}) as sidecar:
        assert (await sidecar.get("/trip")).status == 502
        sidecar.clock.advance(10)
        client = await streaming(sidecar)
        sidecar.clock.advance(4.9)
        origin.gate.set()
        assert await client.was_cut()
        assert await sidecar.is_quiet()
        assert await sidecar.state() == "open"
        assert (await calls(sidecar)) == {"failure": 2}


async def test_in_the_closed_state_endless_answers_count_too(start_origin: StartOrigin) -> None:
    origin = await start_origin((READ, ENDLESS["JSON lines"], STALL))
    async with still_sidecar(origin, upstream={"breaker": BREAKER}) as sidecar:
        for _ in range(3):
            await streaming(sidecar)
        assert await calls(sidecar) == {}
        sidecar.clock.advance(5)
        await streaming(sidecar)
        assert await calls(sidecar) == {"success": 3}
        assert (await shown(sidecar))["window"]["requests"] == 3
        for connection in origin.connections:
            connection.reset()
        assert await sidecar.is_quiet()
        # Only the last one was cut in time.
        assert await calls(sidecar) == {"success": 3, "failure": 1}


async def test_an_upgrade_is_judged_at_its_head(start_origin: StartOrigin) -> None:
    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"
    origin = await start_origin((READ, RESET), (READ_HEAD, switched, STALL))
    async with still_sidecar(origin, upstream={"breaker": BREAKER}) as sidecar:
        assert (await sidecar.get("/trip")).status == 502
        sidecar.clock.advance(10)
        client = await sidecar.connect()
        await client.send(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: chat\r\n\r\n")
        await client.until_more()
        assert await sidecar.state() == "closed"
        leave(sidecar)


# Whose time it is

SLOW = {**BREAKER, "slow_rate": "1%", "minimum_requests": 1, "slow_after": "1s", "probe_timeout": "1h"}
TIMEOUTS = {"first_byte": "1s", "idle": "1h"}
BY_LENGTH = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n", b"abc", b"def"
BY_CHUNKS = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n"
EARLY = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"


@pytest.mark.parametrize("upload", [BY_LENGTH, BY_CHUNKS], ids=["counted", "chunked"])
@pytest.mark.parametrize(
    ("script", "expects", "status"),
    [
        ((READ, OK, AGAIN), b"", 200),
        ((READ_HEAD, b"HTTP/1.1 100 Continue\r\n\r\n", READ_MORE, OK, CLOSE), b"Expect: 100-continue\r\n", 200),
        ((READ_HEAD, GATE, EARLY, STALL), b"", 413),
        ((READ_HEAD, GATE, EARLY, STALL), b"Expect: 100-continue\r\n", 413),
    ],
    ids=["an answer at once", "after 100-continue", "an early answer", "a refused expectation"],
)
async def test_the_time_of_a_client_that_stalls_is_not_the_upstream_s(
    start_origin: StartOrigin, script: Script, expects: bytes, status: int, upload: tuple[bytes, bytes, bytes]
) -> None:
    head, first, rest = upload
    origin = await start_origin(script)
    async with still_sidecar(origin, upstream={"breaker": SLOW, "timeouts": TIMEOUTS}) as sidecar:
        client = await sidecar.connect()
        await client.send(head + expects + b"\r\n")
        await origin.until(lambda origin: origin.connections and origin.connections[0].received)
        if expects and status == 200:
            await client.until(lambda: b"100 Continue" in client.received)
        sidecar.clock.advance(2)
        if status == 200:
            before = len(origin.connections[0].received)
            await client.send(first)
            await origin.until(lambda origin: len(origin.connections[0].received) > before)
            sidecar.clock.advance(2)
            assert (await shown(sidecar))["window"]["slow"] == 0
            await client.send(rest)
        origin.gate.set()
        await client.until(lambda: b" %d " % status in client.received)
        assert await sidecar.is_quiet()
        assert await calls(sidecar) == {"success": 1}
        assert await sidecar.state() == "closed"


@pytest.mark.parametrize("upload", [BY_LENGTH, BY_CHUNKS, (GET[:-2], b"", b"")], ids=["counted", "chunked", "none"])
@pytest.mark.parametrize("look", ["at the head", "in flight"])
async def test_the_time_after_the_last_octet_is_the_upstream_s(
    start_origin: StartOrigin, upload: tuple[bytes, bytes, bytes], look: str
) -> None:
    head, first, rest = upload
    origin = await start_origin((READ, GATE, OK, AGAIN))
    blocks = {"breaker": SLOW, "timeouts": {**TIMEOUTS, "first_byte": "1m"}}
    async with still_sidecar(origin, upstream=blocks) as sidecar:
        client = await sidecar.connect()
        await client.send(head + b"\r\n" + first)
        await origin.until(lambda origin: origin.connections and origin.connections[0].received)
        sidecar.clock.advance(5)
        await client.send(rest)
        await origin.until(lambda origin: origin.requests)
        sidecar.clock.advance(1.5)
        if look == "in flight":
            assert (await sidecar.get("/other")).status == 503
            assert await calls(sidecar) == {}
        origin.gate.set()
        assert (await client.response("POST")).status == 200
        assert await sidecar.is_quiet()
        assert await calls(sidecar) == {"success": 1, "slow": 1}
        assert await sidecar.state() == "open"


async def test_an_upstream_that_neither_reads_nor_answers_is_slow_when_it_answers_early(
    start_origin: StartOrigin,
) -> None:
    origin = await start_origin((READ_HEAD, PAUSE, GATE, EARLY, STALL))
    async with still_sidecar(origin, upstream={"breaker": SLOW, "timeouts": TIMEOUTS}) as sidecar:
        client = await sidecar.connect()
        client.transport.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n" + bytes(50_000_000))
        await origin.until(lambda origin: origin.connections and origin.connections[0].received)
        left = 0

        def stands_still() -> bool:
            nonlocal left
            before, left = left, client.transport.get_write_buffer_size()
            return before == left < 50_000_000

        await eventually(stands_still, every=0.1)
        sidecar.clock.advance(1.5)
        origin.gate.set()
        await client.until(lambda: b" 413 " in client.received)
        assert await sidecar.is_quiet()
        assert await calls(sidecar) == {"success": 1, "slow": 1}


@pytest.mark.parametrize("retry", [None, {"attempts": 2}], ids=["once", "retried"])
@pytest.mark.parametrize("method", [b"POST", b"PUT"])
async def test_four_stalling_uploads_do_not_open_a_circuit(
    start_origin: StartOrigin, retry: dict[str, Any] | None, method: bytes
) -> None:
    origin = await start_origin((READ, OK, AGAIN))
    breaker = {**SLOW, "slow_rate": "25%", "minimum_requests": 4}
    async with still_sidecar(origin, upstream={"breaker": breaker, "retry": retry}) as sidecar:
        clients = [await sidecar.connect() for _ in range(4)]
        head, first, rest = BY_LENGTH
        for client in clients:
            await client.send(head.replace(b"POST", method) + b"\r\n" + first)
        await origin.until(
            lambda origin: len(origin.connections) == 4 and all(it.received for it in origin.connections)
        )
        sidecar.clock.advance(5)
        assert (await shown(sidecar))["window"]["slow"] == 0
        for client in clients:
            await client.send(rest)
        assert [(await client.response("POST")).status for client in clients] == [200] * 4
        assert await sidecar.is_quiet()
        assert await calls(sidecar) == {"success": 4}
        assert await sidecar.state() == "closed"


async def test_an_upload_that_nobody_answers_times_out_from_its_last_octet_on(start_origin: StartOrigin) -> None:
    origin = await start_origin((READ, STALL))
    async with still_sidecar(origin, upstream={"breaker": SLOW, "timeouts": TIMEOUTS}) as sidecar:
        client = await sidecar.connect()
        head, first, rest = BY_LENGTH
        await client.send(head + b"\r\n" + first)
        await origin.until(lambda origin: origin.connections and origin.connections[0].received)
        sidecar.clock.advance(5)
        await client.send(rest)
        await origin.until(lambda origin: origin.requests)
        sidecar.clock.advance(0.9)
        assert client.received == b""
        sidecar.clock.advance(0.2)
        assert (await client.response("POST")).status == 504


# Retry-After, and what it tells


@pytest.mark.parametrize("status", [500, 502, 503, 504, 404])
async def test_every_failing_status_may_ask_for_a_longer_wait(start_origin: StartOrigin, status: int) -> None:
    answer = b"HTTP/1.1 %d No\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n" % status
    origin = await start_origin((READ, answer, AGAIN))
    breaker = {**BREAKER, "failures": [404, "500-599"]}
    async with still_sidecar(origin, upstream={"breaker": breaker}) as sidecar:
        for _ in range(2):
            assert (await sidecar.get("/item")).status == status
            refused = await sidecar.get("/item")
            assert (refused.status, refused.get("retry-after")) == (503, b"60")
            sidecar.clock.advance(60)
        assert len(origin.requests) == 2


async def test_a_failed_probe_does_not_hide_why_it_is_open(start_origin: StartOrigin) -> None:
    failing = (READ, b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", CLOSE)
    origin = await start_origin(failing, failing, failing, (READ, CLOSE), WELL_BEHAVED)
    breaker = {**BREAKER, "failure_threshold": 3}
    why = "3 consecutive failures, failure_threshold is 3"
    async with still_sidecar(origin, upstream={"breaker": breaker}) as sidecar:
        for _ in range(3):
            await sidecar.get("/item")
        tripped = await shown(sidecar)
        assert (tripped["trip"]["cause"], tripped["trip"]["window"]["requests"]) == ("failure_threshold", 3)
        assert (tripped["last_probe"], tripped["last_trip"]) == (None, None)
        sidecar.clock.advance(10)
        assert (await sidecar.get("/probe")).status == 502
        probed = await shown(sidecar)
        assert (probed["trip"], probed["last_trip"]) == (tripped["trip"], None)
        assert (probed["last_probe"]["error"], probed["last_probe"]["path"]) == ("connection_terminated", "/probe")
        assert probed["last_probe"]["at"] == probed["since"]
        refused = (await sidecar.get("/item")).body.decode()
        assert f"the circuit is open: {why}; the last probe failed: GET /probe connection_terminated" in refused
        sidecar.clock.advance(20)
        assert (await sidecar.get("/item")).status == 200
        recovered = await shown(sidecar)
        assert (recovered["state"], recovered["trip"], recovered["last_trip"]) == ("closed", None, tripped["trip"])
        assert (recovered["last_probe"]["outcome"], recovered["last_probe"]["status"]) == ("success", 200)
