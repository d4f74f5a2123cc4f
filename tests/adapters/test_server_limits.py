"""What a greedy client runs into: each limit has its status, and the client gets to read it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.client import GOOD
from tests.support.origin import AGAIN, GATE, OK, READ, READ_HEAD, STALL

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar

LIMITS = {"head_size": 2048, "header_count": 10, "target_size": 256, "body_size": 1000}


def limited(**limits: Any) -> dict[str, Any]:
    return {"proxy": {"limits": {**LIMITS, **limits}}}


def get(target: bytes = b"/", *lines: bytes) -> bytes:
    return b"\r\n".join([b"GET " + target + b" HTTP/1.1", b"Host: a", *lines, b"", b""])


def post(size: int) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size


CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Greed:
    """What is sent, and the answer it earns."""

    data: bytes
    statuses: tuple[int, ...]
    reason: str = ""


GREEDY = {
    "target-too-long": Greed(get(b"/" + b"a" * 256), (414,), "target_too_long"),
    "target-absolute-too-long": Greed(get(b"http://a/" + b"a" * 300), (414,), "target_too_long"),
    "target-never-ends": Greed(b"GET /" + b"a" * 100_000, (414, 431)),
    "method-never-ends": Greed(b"A" * 100_000, (400, 414, 431, 501)),
    "name-never-ends": Greed(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a" * 100_000, (431,), "headers_too_large"),
    "value-never-ends": Greed(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000, (431,), "headers_too_large"),
    "one-large-field": Greed(get(b"/", b"X: " + b"a" * 2048), (431,), "headers_too_large"),
    "many-bytes": Greed(get(b"/", *[b"X: " + b"a" * 500] * 5), (431,), "headers_too_large"),
    "many-fields": Greed(get(b"/", *[b"X: 1"] * 10), (431,), "headers_too_large"),
    "fields-never-end": Greed(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 20_000, (431,), "headers_too_large"),
    "empty-lines-never-end": Greed(b"\r\n" * 50_000, (400, 431)),
    "body-announced-too-large": Greed(post(1001) + bytes(1001), (413,), "body_too_large"),
    "body-announced-huge": Greed(post(10**15), (413,), "body_too_large"),
    "chunked-too-large": Greed(CHUNKED + b"3e9\r\n" + b"a" * 1001 + b"\r\n0\r\n\r\n", (413,), "body_too_large"),
    "many-small-chunks-too-large": Greed(CHUNKED + b"1\r\na\r\n" * 1001 + b"0\r\n\r\n", (413,), "body_too_large"),
    "chunk-extension-never-ends": Greed(CHUNKED + b"5;" + b"a" * 100_000, (400, 413, 431)),
    "chunk-extensions-many": Greed(CHUNKED + b"5;" + b"a=b;" * 25_000 + b"\r\nhello\r\n0\r\n\r\n", (400, 413, 431)),
    "chunk-extensions-spread": Greed(
        CHUNKED + (b"1;" + b"a" * 200 + b"\r\na\r\n") * 500 + b"0\r\n\r\n", (400, 413, 431)
    ),
    "trailer-too-large": Greed(CHUNKED + b"0\r\nX: " + b"a" * 100_000, (400, 413, 431)),
    "trailers-many": Greed(CHUNKED + b"0\r\n" + b"X: 1\r\n" * 10_000 + b"\r\n", (400, 413, 431)),
}


@pytest.mark.parametrize("greed", GREEDY.values(), ids=GREEDY.keys())
async def test_a_limit_answers_closes_and_forwards_no_whole_request(
    start_origin: StartOrigin, start_sidecar: StartSidecar, greed: Greed
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, **limited())
    client = await sidecar.connect()

    await client.send(greed.data)
    response = await client.response("POST")

    assert response.status in greed.statuses
    assert greed.reason.encode() in response.body
    assert await client.has_closed()
    assert await sidecar.is_well()
    assert await sidecar.is_quiet()
    assert origin.lines == ["GET /good"]
    if greed.reason:
        assert (await sidecar.metrics()).total("sidecar_client_rejected_total", reason=greed.reason) == 1


WITHIN = {
    "target": get(b"/" + b"a" * 255),
    "fields": get(b"/", *[b"X: 1"] * 9),
    "head": get(b"/", b"X: " + b"a" * 1900),
    "length": post(1000) + bytes(1000),
    "chunked": CHUNKED + b"3e8\r\n" + b"a" * 1000 + b"\r\n0\r\n\r\n",
    "chunks": CHUNKED + b"1\r\na\r\n" * 1000 + b"0\r\n\r\n",
}


@pytest.mark.parametrize("data", WITHIN.values(), ids=WITHIN.keys())
async def test_what_is_at_the_limit_passes(start_origin: StartOrigin, start_sidecar: StartSidecar, data: bytes) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, **limited())
    client = await sidecar.connect()

    assert (await client.exchange(data)).status == 200
    assert await client.is_usable()


async def test_limits_hold_across_segments(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, **limited())
    client = await sidecar.connect()

    await client.send_pieces([b"GET / HTTP/1.1\r\nHost: a\r\nX: ", *[b"a" * 100] * 30])

    assert (await client.response()).status == 431
    assert origin.connections == []


async def test_each_pipelined_request_has_the_whole_limit(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, **limited())
    client = await sidecar.connect()

    await client.send(get(b"/", b"X: " + b"a" * 1000) * 20)

    assert [(await client.response()).status for _ in range(20)] == [200] * 20


async def test_a_client_that_goes_on_sending_still_gets_its_status(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    """A close with unread bytes would reset the connection and destroy the answer on its way."""
    origin = await start_origin()
    sidecar = await start_sidecar(origin, **limited())
    client = await sidecar.connect()

    await client.send(post(10_000_000))
    for _ in range(100):
        await client.send(bytes(10_000))

    assert (await client.response("POST")).status == 413
    assert await client.has_closed()


async def test_a_client_that_never_stops_sending_is_not_listened_to_for_ever(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, **limited(head_timeout="200ms", body_timeout="200ms"))
    client = await sidecar.connect()
    await client.send(post(10**12))

    async with asyncio.timeout(8):
        while not client.transport.is_closing():
            await client.send_pieces([bytes(1000)])


async def test_the_last_allowed_request_says_so_and_closes(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, **limited(requests_per_connection=3))
    client = await sidecar.connect()

    await client.send(get(b"/1") + get(b"/2") + get(b"/3") + get(b"/4"))
    responses = [await client.response() for _ in range(3)]

    assert ["connection" in response for response in responses] == [False, False, True]
    assert await client.has_closed()
    assert origin.lines == ["GET /1", "GET /2", "GET /3"]


async def test_more_requests_than_the_pipeline_holds_wait_in_the_socket(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, GATE, OK, AGAIN))
    sidecar = await start_sidecar(origin, **limited(pipeline_depth=4))
    client = await sidecar.connect()

    await client.send(b"".join(get(b"/%d" % number) for number in range(200)))
    await origin.until(lambda seen: seen.requests)
    origin.gate.set()

    for _ in range(200):
        assert (await client.response()).status == 200
    assert origin.lines == [f"GET /{number}" for number in range(200)]
    assert len(origin.connections) == 1


async def test_the_oldest_idle_connection_makes_room_for_a_new_one(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, **limited(connections=3))
    clients = [await sidecar.connect() for _ in range(3)]
    for client in clients:
        assert await client.is_usable()

    newcomer = await sidecar.connect()

    assert await newcomer.is_usable()
    assert await clients[0].has_closed()
    assert await clients[1].is_usable()
    assert await clients[2].is_usable()
    assert (await sidecar.metrics()).total("sidecar_client_connections_shed_total") == 1


async def test_a_newcomer_is_refused_while_every_connection_is_busy(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, GATE, OK, AGAIN))
    sidecar = await start_sidecar(origin, **limited(connections=2))
    clients = [await sidecar.connect() for _ in range(2)]
    for client in clients:
        await client.send(GOOD)
    await origin.until(lambda seen: len(seen.requests) == 2)

    newcomer = await sidecar.connect()
    await newcomer.send(GOOD)
    refused = await newcomer.response()
    origin.gate.set()

    assert refused.status == 503
    assert refused.get("proxy-status") == b"sidecar; error=connection_limit_reached"
    assert refused.get("retry-after") == b"1"
    assert await newcomer.has_closed()
    assert (await sidecar.metrics()).total("sidecar_client_rejected_total", reason="too_many_connections") == 1
    for client in clients:
        assert (await client.response()).status == 200


async def test_a_body_beyond_the_limit_never_completes_upstream(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ_HEAD, STALL))
    sidecar = await start_sidecar(origin, **limited())
    client = await sidecar.connect()

    await client.send(CHUNKED + b"3e8\r\n" + b"a" * 1000 + b"\r\n")
    await origin.until(lambda seen: seen.connections and b"aaaa" in seen.connections[0].received)
    await client.send(b"1\r\na\r\n0\r\n\r\n")

    assert (await client.response("POST")).status == 413
    assert await client.has_closed()
    assert await origin.ended() is not None
    assert origin.requests == []


async def test_a_refusal_for_a_client_never_counts_against_the_upstream(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, **limited(), upstream={"breaker": {"failure_threshold": 2}})

    for data in (CHUNKED + b"zz\r\n", CHUNKED + b"3e9\r\n" + bytes(1001), post(2000)) * 3:
        assert (await sidecar.exchange(data, "POST")).status in {400, 413}

    assert await sidecar.is_well()
    assert (await sidecar.metrics()).total("sidecar_circuit_calls_total", outcome="failure") == 0
