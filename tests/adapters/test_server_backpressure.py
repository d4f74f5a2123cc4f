"""A slow side slows the other one down, and the sidecar holds only a bounded part of what is between them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.client import GOOD
from tests.support.origin import AGAIN, GATE, OK, PAUSE, READ, READ_HEAD, RESUME, STALL, Endlessly
from tests.support.wire import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import StartOrigin, StartSidecar
    from tests.support.origin import RawOrigin

MIB = 1024 * 1024
BETWEEN = 24 * MIB
"""What kernel buffers of two loopback connections and the sidecar may hold together."""


async def settles(measure: Callable[[], int]) -> int:
    """The value of `measure()` once it has stood still for a while."""
    seen, since = -1, 0.0
    loop = asyncio.get_running_loop()

    def still() -> bool:
        nonlocal seen, since
        now = measure()
        if now != seen:
            seen, since = now, loop.time()
        return loop.time() - since > 0.3

    await eventually(still, within=20)
    return seen


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_client_that_does_not_read_stops_the_upstream(
    start_origin: StartOrigin, start_sidecar: StartSidecar, framing: str
) -> None:
    length, chunked = b"Content-Length: 100000000000", b"Transfer-Encoding: chunked"
    head = b"HTTP/1.1 200 OK\r\n" + (length if framing == "length" else chunked) + b"\r\n\r\n"
    piece = bytes(65536) if framing == "length" else b"10000\r\n" + bytes(65536) + b"\r\n"
    origin = await start_origin((READ, head, Endlessly(piece)))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()
    client.pause()

    await client.send(GOOD)
    await origin.until(lambda seen: seen.connections)
    sent = await settles(lambda: origin.connections[0].sent)

    assert 0 < sent < BETWEEN
    client.resume()
    await eventually(lambda: origin.connections[0].sent > sent + 10 * MIB, within=30)


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_an_upstream_that_does_not_read_stops_the_client(
    start_origin: StartOrigin, start_sidecar: StartSidecar, framing: str
) -> None:
    origin = await start_origin((PAUSE, GATE, RESUME, STALL))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()
    length, chunked = b"Content-Length: 100000000", b"Transfer-Encoding: chunked"
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + (length if framing == "length" else chunked) + b"\r\n\r\n")

    piece = bytes(65536) if framing == "length" else b"10000\r\n" + bytes(65536) + b"\r\n"
    client.transport.write(piece * 1000)
    left = await settles(client.transport.get_write_buffer_size)

    assert len(piece) * 1000 - left < BETWEEN
    origin.gate.set()
    await eventually(lambda: client.transport.get_write_buffer_size() == 0, within=30)
    await received_at_least(origin, 65536 * 999)


async def received_at_least(origin: RawOrigin, size: int) -> None:
    await eventually(lambda: len(origin.connections[0].received) >= size, within=30)


@pytest.mark.parametrize("size", [100_000, 10 * MIB], ids=["100KB", "10MiB"])
async def test_a_large_answer_passes_unchanged(
    start_origin: StartOrigin, start_sidecar: StartSidecar, size: int
) -> None:
    body = bytes(range(256)) * (size // 256)
    origin = await start_origin((READ, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body, AGAIN))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await client.send(GOOD)
    await client.until(lambda: client.ended or len(client.received) >= len(body))

    assert (await client.response()).body == body
    assert len(origin.connections) == 1


async def test_a_large_upload_passes_unchanged(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    body = bytes(range(256)) * (10 * MIB // 256)
    origin = await start_origin((READ_HEAD, GATE, OK, STALL))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await origin.until(lambda seen: seen.connections)
    await received_at_least(origin, len(body))
    origin.gate.set()

    assert (await client.response("POST")).status == 200
    assert origin.request.body == body


async def test_one_byte_chunks_are_not_quadratic(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    count = 100_000
    origin = await start_origin((READ_HEAD, GATE, OK, STALL))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

    async with asyncio.timeout(8):
        await client.send(head + b"1\r\na\r\n" * count + b"0\r\n\r\n")
        await origin.until(lambda seen: seen.connections and seen.connections[0].received.endswith(b"0\r\n\r\n"))
    origin.gate.set()

    assert (await client.response("POST")).status == 200
    assert len(origin.request.body) == count
