"""Clients that send the same head over and over and are answered from memory: an answer lacks nothing for that."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.support.origin import AGAIN, READ, RESET

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar
    from tests.support.client import RawClient

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
CACHED = {"cache": {"mode": "standard"}}


def storable(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size


async def hits(client: RawClient, count: int) -> int:
    """How many of so many answers came from the cache."""
    found = 0
    for _ in range(count):
        answer = await client.exchange(GET)
        assert answer.status == 200
        found += b"; hit" in (answer.get("cache-status") or b"")
    return found


@pytest.mark.parametrize("size", [3, 8 * 1024, 100_000])
async def test_every_answer_is_whole_and_counted(
    start_origin: StartOrigin, start_sidecar: StartSidecar, size: int
) -> None:
    origin = await start_origin((READ, storable(size), AGAIN))
    sidecar = await start_sidecar(origin, upstream=CACHED)
    client = await sidecar.connect()

    bodies = {(await client.exchange(GET)).body for _ in range(50)}

    assert bodies == {b"x" * size}
    metrics = await sidecar.metrics()
    assert metrics.total("sidecar_requests_total", source="cache") == 49
    assert metrics.total("sidecar_cache_requests_total", result="hit") == 49
    assert metrics.total("sidecar_cache_served_age_seconds_count") == 49
    assert metrics.total("sidecar_request_duration_seconds_count") == 50


async def test_pipelined_repeats_are_answered_one_by_one(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, storable(3), AGAIN))
    sidecar = await start_sidecar(origin, upstream=CACHED)
    client = await sidecar.connect()
    await hits(client, 5)

    await client.send(GET * 3 + GET[:10])
    assert [(await client.response()).body for _ in range(3)] == [b"xxx"] * 3
    await client.send(GET[10:])

    assert (await client.response()).body == b"xxx"
    assert len(origin.requests) == 1


async def test_the_last_request_of_a_connection_is_its_last_also_when_it_is_a_repeat(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, storable(3), AGAIN))
    sidecar = await start_sidecar(origin, upstream=CACHED, proxy={"limits": {"requests_per_connection": 6}})
    client = await sidecar.connect()
    await hits(client, 5)

    assert (await client.exchange(GET)).get("connection") == b"close"
    assert await client.has_closed()


async def test_who_is_answered_from_memory_is_not_idle(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, storable(3), AGAIN))
    sidecar = await start_sidecar(origin, upstream=CACHED, proxy={"limits": {"keep_alive": "1s"}})
    client = await sidecar.connect()
    loop = asyncio.get_running_loop()
    began = loop.time()

    while loop.time() < began + 1.5:
        await hits(client, 1)
        # The pace of this client: an idle one would have been gone after one second.
        await asyncio.sleep(0.1)

    assert await hits(client, 1) == 1
    assert await client.has_closed()


def traced(number: int, *lines: bytes) -> bytes:
    return b"\r\n".join([GET[:-4], b"Traceparent: 00-%032x-%016x-01" % (number, number), *lines, b"", b""])


async def test_a_trace_of_its_own_makes_no_request_another(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, storable(3), AGAIN))
    sidecar = await start_sidecar(origin, upstream=CACHED)
    client = await sidecar.connect()

    answers = [await client.exchange(traced(number)) for number in range(20)]

    assert {(answer.status, answer.body) for answer in answers} == {(200, b"xxx")}
    assert len(origin.requests) == 1
    assert (await sidecar.metrics()).total("sidecar_cache_requests_total", result="hit") == 19


async def test_what_memory_does_not_answer_goes_upstream_with_its_own_trace(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, storable(3).replace(b"max-age=600", b"max-age=1"), AGAIN))
    sidecar = await start_sidecar(origin, upstream=CACHED)
    client = await sidecar.connect()
    number = 0
    while len(origin.requests) < 3:
        number += 1
        sent = traced(number, b"X-Request-Id: r%d" % number)
        before = len(origin.requests)
        assert (await client.exchange(sent)).status == 200
        if len(origin.requests) > before:
            seen = origin.requests[-1]
            assert seen.get("x-request-id") == b"r%d" % number
            assert seen.get("traceparent") == b"00-%032x-%016x-01" % (number, number)
    assert number > 10


async def test_every_request_goes_upstream_with_its_own_fields_in_their_order(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, upstream=CACHED)
    client = await sidecar.connect()
    sent = []

    for number in range(12):
        first, last = (b"Traceparent", b"00-%d-%d-01" % (number, number)), (b"X-Request-Id", b"r%d" % number)
        fields = [first, (b"Host", b"a"), (b"baggage", b"a=%d, \tb" % number), (b"Accept", b"*/*"), last]
        sent.append(fields)
        lines = b"".join(b"%b: %b\r\n" % field for field in fields)
        assert (await client.exchange(b"GET /a HTTP/1.1\r\n%b\r\n" % lines)).status == 200

    got = [[field for field in request.fields if field[0] not in (b"Host", b"Via")] for request in origin.requests]
    assert got == [[field for field in fields if field[0] != b"Host"] for fields in sent]


async def test_a_trace_field_that_is_in_the_key_tells_requests_apart(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, storable(3), AGAIN))
    sidecar = await start_sidecar(origin, upstream={"cache": {"mode": "standard", "key_headers": ["traceparent"]}})
    client = await sidecar.connect()

    for number in [1, 1, 1, 1, 1, 2, 3, 1]:
        assert (await client.exchange(traced(number))).status == 200

    assert len(origin.requests) == 3


async def test_a_refusal_names_the_id_of_its_own_request(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, RESET))
    sidecar = await start_sidecar(origin, upstream={"breaker": {"failure_threshold": 1, "open_duration": "1h"}})
    client = await sidecar.connect()
    assert (await client.exchange(traced(0))).status == 502

    for number in range(1, 8):
        answer = await client.exchange(traced(number, b"X-Request-Id: r%d" % number))
        assert (answer.status, answer.get("x-request-id")) == (503, b"r%d" % number)
        assert json.loads(answer.body)["request_id"] == f"r{number}"
