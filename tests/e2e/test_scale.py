"""What the main job must bear: many connections at once, and bodies larger than memory should grow."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from typing import TYPE_CHECKING

from tests.support.client import GOOD
from tests.support.origin import READ, STALL
from tests.support.running import config_text
from tests.support.wire import eventually

if TYPE_CHECKING:
    from tests.conftest import LaunchSidecar, StartOrigin
    from tests.support.client import RawClient

MIB = 1024 * 1024


async def test_1000_keep_alive_connections_at_once(start_origin: StartOrigin, launch_sidecar: LaunchSidecar) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    origin = await start_origin()
    sidecar = await (await launch_sidecar(config_text(origin, upstream={"pool": {"queue_timeout": "20s"}}))).ready()
    clients = [await sidecar.connect() for _ in range(1000)]

    async def talk(client: RawClient) -> Counter[int]:
        client.patience = 50
        return Counter([(await client.exchange(GOOD)).status for _ in range(5)])

    async with asyncio.timeout(50):
        statuses = await asyncio.gather(*(talk(client) for client in clients))

    assert sum(statuses, Counter()) == {200: 5000}
    assert len(origin.requests) == 5000
    assert (await sidecar.metrics()).total("sidecar_client_connections") == 1000


SIZE = 64 * MIB
BLOCK = bytes(range(256)) * 4096


async def test_a_large_answer_passes_with_bounded_memory(
    start_origin: StartOrigin, launch_sidecar: LaunchSidecar
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE
    origin = await start_origin((READ, head, *[BLOCK] * (SIZE // MIB), STALL))
    sidecar = await (await launch_sidecar(config_text(origin))).ready()
    client = await sidecar.connect()
    before = highest = sidecar.rss()
    await client.send(GOOD)

    while len(client.received) < SIZE:
        await client.until_more()
        highest = max(highest, sidecar.rss())

    assert highest - before < 20 * MIB
    body = memoryview(client.received)[-SIZE:]
    assert all(body[at : at + MIB] == BLOCK for at in range(0, SIZE, MIB))


async def test_a_large_upload_passes_with_bounded_memory(
    start_origin: StartOrigin, launch_sidecar: LaunchSidecar
) -> None:
    origin = await start_origin((STALL,))
    sidecar = await (await launch_sidecar(config_text(origin))).ready()
    client = await sidecar.connect()
    before = highest = sidecar.rss()
    await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")

    for _ in range(SIZE // MIB):
        await client.send(b"100000\r\n" + BLOCK + b"\r\n")
        highest = max(highest, sidecar.rss())
    await eventually(lambda: len(origin.connections[0].received) > SIZE)

    assert highest - before < 20 * MIB


async def test_a_slow_reader_of_a_large_answer_costs_bounded_memory(
    start_origin: StartOrigin, launch_sidecar: LaunchSidecar
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE
    origin = await start_origin((READ, head, *[BLOCK] * (SIZE // MIB), STALL))
    sidecar = await (await launch_sidecar(config_text(origin))).ready()
    before = sidecar.rss()
    clients = [await sidecar.connect() for _ in range(10)]
    for client in clients:
        client.pause()
        await client.send(GOOD)

    await origin.until(lambda seen: len(seen.requests) == 10)
    await eventually(lambda: all(c.transport.get_write_buffer_size() for c in origin.connections))

    assert sidecar.rss() - before < 20 * MIB
