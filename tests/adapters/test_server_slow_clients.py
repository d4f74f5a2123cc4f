"""A slow client holds up nobody but itself, and not for long (dangers: trickling, slowloris, slow read)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.client import GOOD, RawClient
from tests.support.origin import AGAIN, READ, READ_HEAD, STALL, Endlessly
from tests.support.wire import turns

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar

CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LENGTH = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"


def limits(**values: Any) -> dict[str, Any]:
    return {"proxy": {"limits": values}}


async def trickle(client: RawClient, data: bytes, *, every: float = 0.03) -> None:
    """Send byte after byte until the peer has had enough."""
    for at in range(len(data)):
        if client.ended or client.transport.is_closing():
            return
        await client.send(data[at : at + 1])
        await asyncio.sleep(every)


PARTIAL_HEADS = {
    "one-byte": b"G",
    "request-line": b"GET / HTTP/1.1\r\n",
    "field": b"GET / HTTP/1.1\r\nHost: a\r\n",
    "all-but-one-byte": b"GET / HTTP/1.1\r\nHost: a\r\n\r",
}


async def test_a_body_that_trickles_is_answered_408_and_aborted_upstream(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ_HEAD, STALL))
    sidecar = await start_sidecar(origin, **limits(body_timeout="200ms"))
    client = await sidecar.connect()
    await client.send(LENGTH)

    await trickle(client, b"x" * 1000)

    response = await client.response()
    assert response.status == 408
    assert await client.has_closed()


@pytest.mark.parametrize("data", PARTIAL_HEADS.values(), ids=PARTIAL_HEADS.keys())
async def test_a_head_that_stops_is_answered_408(
    start_origin: StartOrigin, start_sidecar: StartSidecar, data: bytes
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, **limits(head_timeout="100ms"))
    client = await sidecar.connect()

    await client.send(data)

    response = await client.response()
    assert response.status == 408
    assert b'"client_timeout"' in response.body
    assert await client.has_closed()
    assert origin.connections == []


async def test_a_head_that_trickles_is_answered_408(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, **limits(head_timeout="150ms"))
    client = await sidecar.connect()

    await trickle(client, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 50)

    assert (await client.response()).status == 408
    assert await client.has_closed()
    assert (await sidecar.metrics()).total("sidecar_client_rejected_total", reason="client_timeout") == 1


async def test_a_second_head_that_stops_is_answered_408(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, **limits(head_timeout="100ms"))
    client = await sidecar.connect()

    await client.send(GOOD + b"GET /half")

    assert (await client.response()).status == 200
    assert (await client.response()).status == 408
    assert await client.has_closed()
    assert origin.lines == ["GET /good"]


async def test_a_connection_that_never_speaks_is_closed(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, **limits(head_timeout="100ms", keep_alive="100ms"))
    client = await sidecar.connect()

    await client.until(lambda: client.ended)

    assert client.unread == b"" or (await client.response()).status == 408


async def test_an_idle_connection_is_closed_without_a_word(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, **limits(keep_alive="100ms"))
    client = await sidecar.connect()

    assert await client.is_usable()

    assert await client.has_closed()


@pytest.mark.parametrize("head", [CHUNKED + b"5\r\nhel", LENGTH + b"hel", CHUNKED, LENGTH])
async def test_a_body_that_stops_is_answered_408_and_aborted_upstream(
    start_origin: StartOrigin, start_sidecar: StartSidecar, head: bytes
) -> None:
    origin = await start_origin((READ_HEAD, STALL))
    sidecar = await start_sidecar(origin, **limits(body_timeout="100ms"))
    client = await sidecar.connect()

    await client.send(head)

    assert (await client.response("POST")).status == 408
    assert await client.has_closed()
    assert await sidecar.is_quiet()
    assert origin.requests == []
    assert all(connection.ended for connection in origin.connections)
    assert (await sidecar.metrics()).total("sidecar_circuit_calls_total", outcome="failure") == 0


async def test_a_trickled_body_ends_with_the_total_timeout(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ_HEAD, STALL))
    sidecar = await start_sidecar(origin, upstream={"timeouts": {"total": "300ms"}})
    client = await sidecar.connect()
    await client.send(LENGTH)

    await trickle(client, bytes(1000))

    assert (await client.response("POST")).status in {408, 504}
    assert await client.has_closed()
    assert await origin.ended() is not None


async def test_a_client_that_does_not_read_is_cut_off_and_frees_the_upstream(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n"
    origin = await start_origin((READ, head, Endlessly(bytes(65536))))
    sidecar = await start_sidecar(origin, **limits(write_timeout="200ms"))
    client = await sidecar.connect()
    client.pause()

    await client.send(GOOD)

    assert await origin.ended() is not None
    client.resume()
    assert await client.was_cut()
    assert (await sidecar.metrics()).total("sidecar_client_rejected_total", reason="write_timeout") == 1


async def test_a_client_that_reads_slowly_but_steadily_is_served(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    size = 8_000_000
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    origin = await start_origin((READ, head + bytes(size), AGAIN))
    sidecar = await start_sidecar(origin, **limits(write_timeout="300ms"))
    client = await sidecar.connect()
    await client.send(GOOD)

    while len(client.received) < size:
        await client.until_more()
        client.pause()
        await asyncio.sleep(0.01)
        client.resume()

    assert len((await client.response()).body) == size


async def test_500_slow_heads_do_not_hold_up_an_honest_client(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)
    for _ in range(500):
        slow = await sidecar.connect()
        await slow.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
    await turns(10)

    client = await sidecar.connect()
    async with asyncio.timeout(5):
        for _ in range(200):
            assert await client.is_usable()

    assert len(origin.requests) == 200
