"""A client that closes its side after its request waits for its answer, or is gone (`proxy.limits.half_close`)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.client import GOOD
from tests.support.origin import AGAIN, CLOSE, GATE, OK, READ, STALL, Slowly
from tests.support.wire import Ending, eventually

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar

MEGABYTES = bytes(range(256)) * 4096 * 8
FAILED = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
BREAKER = {"failure_threshold": 1, "open_duration": "50ms", "success_threshold": 1, "half_open_probes": 1}


def limits(**values: Any) -> dict[str, Any]:
    return {"limits": values}


async def test_it_gets_an_answer_that_begins_in_time(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, GATE, OK, AGAIN))
    sidecar = await start_sidecar(origin, proxy=limits(half_close="10s"))
    client = await sidecar.connect()
    await client.send(GOOD)
    client.half_close()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.7):
            await client.until(lambda: client.ended)
    origin.gate.set()

    assert (await client.response()).body == b"ok"
    assert await client.has_closed()


async def test_its_request_is_given_up_when_the_time_is_over(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, STALL))
    sidecar = await start_sidecar(origin, proxy=limits(half_close="100ms"))
    client = await sidecar.connect()
    await client.send(GOOD)
    client.half_close()

    assert await client.has_closed()
    assert await origin.ended() is not None
    assert await sidecar.is_quiet()
    metrics = await sidecar.metrics()
    assert metrics.total("sidecar_circuit_calls_total", outcome="cancelled") == 1


async def test_none_of_it_is_given_up_at_once(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, STALL))
    sidecar = await start_sidecar(origin, proxy=limits(half_close="0s"))
    client = await sidecar.connect()
    await client.send(GOOD)
    await origin.until(lambda seen: seen.requests)
    client.half_close()

    assert await client.has_closed()
    assert await origin.ended() is not None


@pytest.mark.parametrize("half_closed", [False, True], ids=["open", "half-closed"])
async def test_a_reset_is_no_half_close(
    start_origin: StartOrigin, start_sidecar: StartSidecar, *, half_closed: bool
) -> None:
    origin = await start_origin((READ, STALL))
    sidecar = await start_sidecar(origin, proxy=limits(half_close="1h"))
    client = await sidecar.connect()
    await client.send(GOOD)
    if half_closed:
        client.half_close()
    await origin.until(lambda seen: seen.requests)
    client.reset()

    assert await origin.ended() is not None
    assert await sidecar.is_quiet()


async def test_a_reset_right_behind_the_request_is_no_half_close(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, STALL))
    sidecar = await start_sidecar(origin, proxy=limits(half_close="1h"))
    for _ in range(20):
        client = await sidecar.connect()
        client.transport.write(GOOD)
        client.reset()

    assert await sidecar.is_quiet()


async def test_an_answer_that_flows_may_take_longer(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n"
    origin = await start_origin((READ, head, Slowly(bytes(30)), AGAIN))
    sidecar = await start_sidecar(origin, proxy=limits(half_close="200ms"))
    client = await sidecar.connect()
    await client.send(GOOD)
    client.half_close()

    assert (await client.response()).body == bytes(30)


async def test_it_may_read_slowly(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin(
        (READ, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(MEGABYTES), MEGABYTES, AGAIN)
    )
    sidecar = await start_sidecar(origin, proxy=limits(half_close="100ms"))
    client = await sidecar.connect()
    await client.send(GOOD)
    client.half_close()
    await client.head()
    client.pause()
    await asyncio.sleep(0.5)
    client.resume()

    assert (await client.response()).body == MEGABYTES


async def test_an_answer_that_falls_silent_is_given_up(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf!", STALL))
    sidecar = await start_sidecar(origin, proxy=limits(half_close="100ms"))
    client = await sidecar.connect()
    await client.send(GOOD)
    client.half_close()

    assert await client.was_cut()
    assert await origin.ended() is not None


@pytest.mark.parametrize("depth", [1, 32])
async def test_all_that_it_had_asked_for_is_answered(
    start_origin: StartOrigin, start_sidecar: StartSidecar, depth: int
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, proxy=limits(pipeline_depth=depth))
    client = await sidecar.connect()
    await client.send(GOOD * 10)
    client.half_close()

    for number in range(10):
        response = await client.response()
        assert response.body == b"ok"
        assert ("connection" in response) == (number == 9)
    assert await client.has_closed()


async def test_a_request_that_it_did_not_finish_is_none(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()
    await client.send(GOOD + GOOD[:10])
    client.half_close()

    assert (await client.response()).body == b"ok"
    assert await client.has_closed()
    assert origin.lines == ["GET /good"]


# While it waits


@pytest.mark.parametrize("cache", ["off", "standard"])
async def test_its_probe_keeps_no_other_from_probing(
    start_origin: StartOrigin, start_sidecar: StartSidecar, cache: str
) -> None:
    origin = await start_origin((READ, FAILED, CLOSE), (READ, GATE, OK, AGAIN), (READ, OK, AGAIN))
    upstream = {"breaker": BREAKER, "cache": {"mode": cache}}
    sidecar = await start_sidecar(origin, upstream=upstream, proxy=limits(half_close="1h"))
    assert (await sidecar.exchange(GOOD)).status == 500
    await asyncio.sleep(0.1)
    waiting = await sidecar.connect()
    await waiting.send(GOOD)
    await origin.until(lambda seen: len(seen.requests) == 2)
    assert (await sidecar.get("/other")).status == 503
    waiting.half_close()
    await eventually(lambda: sidecar.permits() == 0)

    assert (await sidecar.get("/other")).status == 200
    assert (await sidecar.api("GET", "/v1/circuits/all"))["state"] == "closed"
    origin.gate.set()
    assert (await waiting.response()).status == 200
    assert waiting.ended in {None, Ending.FIN}


async def test_its_answer_counts_all_the_same(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, FAILED, CLOSE), (READ, GATE, OK, AGAIN))
    sidecar = await start_sidecar(origin, upstream={"breaker": BREAKER}, proxy=limits(half_close="1h"))
    assert (await sidecar.exchange(GOOD)).status == 500
    await asyncio.sleep(0.1)
    waiting = await sidecar.connect()
    await waiting.send(GOOD)
    waiting.half_close()
    await origin.until(lambda seen: len(seen.requests) == 2)
    origin.gate.set()

    assert (await waiting.response()).status == 200
    assert (await sidecar.api("GET", "/v1/circuits/all"))["state"] == "closed"
