"""Which upstream connections are used again, which never, and what is sent twice (RFC 9112 §9.3.1: almost nothing)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sidecar.adapters.upstream.connecting import Target
from sidecar.adapters.upstream.pool import EndpointPool
from sidecar.app import RealClock
from sidecar.core.config import PoolSettings
from sidecar.core.http.forwarding import RequestForwarder
from sidecar.pipeline.deadlines import DeadlineWheel
from sidecar.pipeline.runtime import Runtime
from sidecar.pipeline.stats import UpstreamStats
from sidecar.pipeline.tasks import Tasks
from tests.support.client import GOOD
from tests.support.garbage import collected
from tests.support.origin import AGAIN, CLOSE, GATE, HALF_CLOSE, OK, READ, RESET, STALL, Do, Script
from tests.support.still_sidecar import still_sidecar
from tests.support.wire import turns

if TYPE_CHECKING:
    from sidecar.adapters.upstream.connection import UpstreamConnection
    from sidecar.core.http.heads import RequestHead
    from tests.conftest import StartOrigin, StartSidecar
    from tests.support.running import Block

NOT_REUSED = {
    "extra-bytes-after-length": ("GET", OK + b"extra"),
    "extra-response-after-length": ("GET", OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"),
    "extra-bytes-after-chunked": (
        "GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nextra",
    ),
    "body-on-head": ("HEAD", OK),
    "body-on-204": ("GET", b"HTTP/1.1 204 No Content\r\n\r\nextra"),
    "length-and-body-on-204": ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nextra"),
    "chunks-on-204": ("GET", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "body-on-304": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nextra"),
    "connection-close": ("GET", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"),
    "connection-close-in-list": ("GET", b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok"),
    "http10": ("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "empty-line-after": ("GET", OK + b"\r\n"),
}


@pytest.mark.parametrize(("method", "answer"), NOT_REUSED.values(), ids=NOT_REUSED.keys())
async def test_a_doubtful_connection_is_not_used_again(
    start_origin: StartOrigin, start_sidecar: StartSidecar, method: str, answer: bytes
) -> None:
    origin = await start_origin((READ, answer, STALL), (READ, OK, AGAIN))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    first = await client.exchange(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode(), method)
    second = await client.exchange(GOOD)

    assert first.status in {200, 204, 304}
    assert b"extra" not in first.body
    assert (second.status, second.body) == (200, b"ok")
    assert len(origin.connections) == 2
    assert await origin.ended() is not None


POISON = {
    "response": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong",
    "408": b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    "interim": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "garbage": b"\x00",
    "empty-line": b"\r\n",
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON.keys())
async def test_bytes_on_an_idle_connection_are_never_matched_to_the_next_request(
    start_origin: StartOrigin, start_sidecar: StartSidecar, poison: bytes
) -> None:
    origin = await start_origin((READ, OK, GATE, poison, STALL), (READ, OK, AGAIN))
    sidecar = await start_sidecar(origin)
    assert await sidecar.is_well()

    origin.gate.set()

    assert await origin.ended() is not None
    assert (await sidecar.get("/next")).body == b"ok"
    assert origin.lines == ["GET /good", "GET /next"]
    assert len(origin.connections) == 2


@pytest.mark.parametrize("leave", [CLOSE, HALF_CLOSE, RESET], ids=["close", "half-close", "reset"])
async def test_a_connection_that_ends_while_idle_is_replaced(
    start_origin: StartOrigin, start_sidecar: StartSidecar, leave: Do
) -> None:
    origin = await start_origin((READ, OK, GATE, leave, STALL), (READ, OK, AGAIN))
    sidecar = await start_sidecar(origin)
    assert await sidecar.is_well()

    origin.gate.set()
    if leave is HALF_CLOSE:
        await origin.ended()
    else:
        await origin.until(lambda seen: seen.connections[0].transport.is_closing())
        await turns(5)

    assert await sidecar.is_well()
    assert len(origin.requests) == 2
    assert len(origin.connections) == 2


RETRIES: Block = {"retry": {"attempts": 2}}
RETRIED = {
    "get": (b"GET /again HTTP/1.1\r\nHost: a\r\n\r\n", True),
    "head": (b"HEAD /again HTTP/1.1\r\nHost: a\r\n\r\n", True),
    "options": (b"OPTIONS /again HTTP/1.1\r\nHost: a\r\n\r\n", True),
    "delete": (b"DELETE /again HTTP/1.1\r\nHost: a\r\n\r\n", True),
    "put-without-body": (b"PUT /again HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", True),
    "post": (b"POST /again HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok", False),
    "post-without-body": (b"POST /again HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", False),
    "patch": (b"PATCH /again HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok", False),
}


@pytest.mark.parametrize("leave", [CLOSE, HALF_CLOSE, RESET], ids=["close", "half-close", "reset"])
@pytest.mark.parametrize(("data", "retried"), RETRIED.values(), ids=RETRIED.keys())
async def test_a_kept_connection_that_dies_unanswered_is_retried_once_if_that_is_safe(
    start_origin: StartOrigin,
    start_sidecar: StartSidecar,
    data: bytes,
    retried: bool,  # noqa: FBT001 - a table's column
    leave: Do,
) -> None:
    origin = await start_origin((READ, OK, READ, leave, STALL), (READ, b"HTTP/1.1 204 No Content\r\n\r\n", AGAIN))
    sidecar = await start_sidecar(origin, upstream=RETRIES)
    assert await sidecar.is_well()

    response = await sidecar.exchange(data, data.split()[0].decode())

    assert response.status == (204 if retried else 502)
    assert len([line for line in origin.lines if "/again" in line]) == (2 if retried else 1)
    calls = (await sidecar.metrics()).total("sidecar_circuit_calls_total", outcome="failure")
    assert calls == (0 if retried else 1)


@pytest.mark.parametrize("mode", ["off", "standard"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("leave", [CLOSE, HALF_CLOSE, RESET], ids=["close", "half-close", "reset"])
async def test_a_probe_is_sent_once_even_when_its_kept_connection_dies(
    start_origin: StartOrigin, leave: Do, method: str, mode: str
) -> None:
    failing = b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno"
    origin = await start_origin((READ, failing, READ, leave, STALL), (READ, b"HTTP/1.1 204 No\r\n\r\n", AGAIN))
    breaker = {"failure_threshold": 1, "open_duration": "10s", "backoff": {"jitter": 0}, "success_threshold": 1}
    async with still_sidecar(origin, upstream={"breaker": breaker, "cache": {"mode": mode}, **RETRIES}) as sidecar:
        assert (await sidecar.get("/")).status == 503
        assert await sidecar.state() == "open"
        sidecar.clock.advance(10)

        response = await sidecar.exchange(f"{method} /probe HTTP/1.1\r\nHost: a\r\n\r\n".encode(), method)

        assert response.status == 502
        assert origin.lines == ["GET /", f"{method} /probe"]
        assert await sidecar.state() == "open"
        sidecar.clock.advance(20)
        assert (await sidecar.get("/")).status == 204, "the next period's probe finds a new connection"
        assert await sidecar.state() == "closed"


@pytest.mark.parametrize("leave", [CLOSE, RESET], ids=["close", "reset"])
async def test_nothing_is_retried_after_the_first_byte_of_an_answer(
    start_origin: StartOrigin, start_sidecar: StartSidecar, leave: Do
) -> None:
    origin = await start_origin((READ, OK, READ, b"H", leave), (READ, OK, AGAIN))
    sidecar = await start_sidecar(origin, upstream=RETRIES)
    assert await sidecar.is_well()

    assert (await sidecar.get("/again")).status == 502
    assert origin.lines == ["GET /good", "GET /again"]


async def test_it_is_retried_only_once(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    dying: Script = (READ, GATE, OK, READ, RESET)
    origin = await start_origin(dying, dying, (READ, RESET))
    sidecar = await start_sidecar(origin, upstream=RETRIES)
    clients = [await sidecar.connect() for _ in range(2)]
    for client in clients:
        await client.send(GOOD)
    await origin.until(lambda seen: len(seen.requests) == 2)
    origin.gate.set()
    for client in clients:
        assert (await client.response()).status == 200

    response = await sidecar.get("/again")

    assert response.status == 502
    assert origin.lines.count("GET /again") <= 2
    assert len(origin.connections) == 3, "the one retry is made on a fresh connection"


async def test_a_waiting_request_gets_the_slot_that_comes_free(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, GATE, OK, AGAIN))
    sidecar = await start_sidecar(origin, upstream={"pool": {"max_connections": 1, "queue_timeout": "5s"}})
    clients = [await sidecar.connect() for _ in range(5)]
    for client in clients:
        await client.send(GOOD)
    await origin.until(lambda seen: seen.requests)

    origin.gate.set()

    for client in clients:
        assert (await client.response()).status == 200
    assert len(origin.connections) == 1


async def test_the_wait_for_a_slot_is_bounded_in_time(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, STALL))
    sidecar = await start_sidecar(origin, upstream={"pool": {"max_connections": 1, "queue_timeout": "100ms"}})
    busy = await sidecar.connect()
    await busy.send(GOOD)
    await origin.until(lambda seen: seen.requests)

    response = await sidecar.get()

    assert response.status == 503
    assert response.get("proxy-status") == b"sidecar; error=connection_limit_reached"
    assert response.get("retry-after") == b"1"
    assert (await sidecar.metrics()).total("sidecar_circuit_calls_total", outcome="failure") == 0


async def test_the_queue_for_a_slot_is_bounded_in_length(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, GATE, OK, AGAIN))
    pool = {"max_connections": 1, "queue_timeout": "5s", "max_queue": 1}
    sidecar = await start_sidecar(origin, upstream={"pool": pool})
    clients = [await sidecar.connect() for _ in range(3)]
    await clients[0].send(GOOD)
    await origin.until(lambda seen: seen.requests)
    await clients[1].send(GOOD)
    await turns(5)

    refused = await clients[2].exchange(GOOD)
    origin.gate.set()

    assert refused.status == 503
    assert (await clients[0].response()).status == 200
    assert (await clients[1].response()).status == 200


async def test_a_client_that_leaves_the_queue_gives_its_place_back(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, GATE, OK, AGAIN))
    pool = {"max_connections": 1, "queue_timeout": "5s", "max_queue": 1}
    sidecar = await start_sidecar(origin, upstream={"pool": pool})
    clients = [await sidecar.connect() for _ in range(3)]
    await clients[0].send(GOOD)
    await origin.until(lambda seen: seen.requests)
    await clients[1].send(b"GET /left HTTP/1.1\r\nHost: a\r\n\r\n")
    await turns(5)

    clients[1].reset()
    await turns(5)
    await clients[2].send(GOOD)
    await turns(5)
    origin.gate.set()

    assert (await clients[0].response()).status == 200
    assert (await clients[2].response()).status == 200
    assert origin.lines == ["GET /good", "GET /good"]


async def test_a_connection_given_up_in_the_moment_in_which_it_stands_gives_its_slot_back(
    start_origin: StartOrigin,
) -> None:
    class Impatient(EndpointPool):
        __slots__ = ()

        def connection_opened(self, connection: UpstreamConnection) -> None:
            super().connection_opened(connection)
            attempt.cancel()

    origin = await start_origin()
    tasks, clock = Tasks(), RealClock()
    settings = PoolSettings(max_connections=1, queue_timeout=0.05)
    runtime = Runtime(clock, DeadlineWheel(clock), tasks.spawn)
    pool = Impatient(Target("127.0.0.1", origin.port), runtime, UpstreamStats("origin"), settings)
    with collected() as garbage:
        attempt = asyncio.create_task(pool.connect(5.0))
        with pytest.raises(asyncio.CancelledError):
            await attempt
        await turns(5)

    assert not garbage
    # The first attempt is over and cannot be cancelled again.
    connection = await pool.acquire(5.0)
    connection.abort()
    await turns(5)


async def test_a_request_may_be_given_up_in_the_moment_in_which_its_slot_comes_free(start_origin: StartOrigin) -> None:
    origin = await start_origin()
    tasks, clock = Tasks(), RealClock()
    runtime = Runtime(clock, DeadlineWheel(clock), tasks.spawn)
    settings = PoolSettings(max_connections=1, queue_timeout=5.0)
    pool = EndpointPool(Target("127.0.0.1", origin.port), runtime, UpstreamStats("origin"), settings)
    connection = await pool.acquire(5.0)
    waiting = [asyncio.create_task(pool.acquire(5.0)) for _ in range(2)]
    await turns(5)

    waiting[0].cancel()
    pool.exchange_ended(connection, reusable=True)

    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
    assert await waiting[1] is connection
    connection.abort()
    await turns(5)


async def test_a_slot_comes_free_when_its_exchange_breaks(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, GATE, RESET), (READ, OK, AGAIN))
    sidecar = await start_sidecar(origin, upstream={"pool": {"max_connections": 1, "queue_timeout": "5s"}})
    first, second = await sidecar.connect(), await sidecar.connect()
    await first.send(GOOD)
    await origin.until(lambda seen: seen.requests)
    await second.send(GOOD)
    await turns(5)

    origin.gate.set()

    assert (await first.response()).status == 502
    assert (await second.response()).status == 200


async def test_an_idle_connection_is_closed_after_its_keep_alive(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, upstream={"pool": {"keep_alive": "100ms"}})

    assert await sidecar.is_well()

    assert await origin.ended() is not None
    assert await sidecar.is_well()
    assert len(origin.connections) == 2


async def test_the_idle_time_that_an_upstream_announces_is_kept_below(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1, max=100\r\nContent-Length: 2\r\n\r\nok"
    origin = await start_origin((READ, answer, AGAIN))
    sidecar = await start_sidecar(origin)

    async with asyncio.timeout(1):
        assert await sidecar.is_well()
        assert await origin.ended() is not None

    assert await sidecar.is_well()


async def test_a_connection_is_replaced_at_its_maximum_age(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, upstream={"pool": {"max_age": "100ms"}})
    client = await sidecar.connect()

    async with asyncio.timeout(5):
        while len(origin.connections) < 2:
            assert await client.is_usable()

    assert await origin.ended() is not None


async def test_concurrent_requests_open_as_many_connections_as_they_need_and_keep_them(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, GATE, OK, AGAIN))
    sidecar = await start_sidecar(origin)
    clients = [await sidecar.connect() for _ in range(20)]
    for client in clients:
        await client.send(GOOD)
    await origin.until(lambda seen: len(seen.requests) == 20)
    origin.gate.set()
    for client in clients:
        assert (await client.response()).status == 200

    for client in clients:
        assert await client.is_usable()

    metrics = await sidecar.metrics()
    assert len(origin.connections) == 20
    assert metrics.total("sidecar_upstream_connections_opened_total", upstream="origin") == 20
    assert metrics.total("sidecar_upstream_connections", upstream="origin", state="idle") == 20


async def test_a_defect_of_ours_costs_no_connection(
    start_origin: StartOrigin, start_sidecar: StartSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No input is known that does this: hence a forwarder that fails.
    make = RequestForwarder.octets

    def fail_at_times(self: RequestForwarder, head: RequestHead, target: bytes, *lines: bytes) -> bytes:
        if target == b"/defect":
            raise RuntimeError("a defect")
        return make(self, head, target, *lines)

    monkeypatch.setattr(RequestForwarder, "octets", fail_at_times)
    origin = await start_origin((READ, OK, AGAIN))
    sidecar = await start_sidecar(origin, upstream={"pool": {"max_connections": 1, "queue_timeout": "50ms"}})
    client = await sidecar.connect()

    statuses = [(await client.exchange(request)).status for request in (GOOD, GOOD.replace(b"/good", b"/defect"), GOOD)]

    assert statuses == [200, 500, 200]
    assert await sidecar.is_quiet()
