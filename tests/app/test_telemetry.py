"""What the telemetry listener of the real app says of the process."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.adapters.logs import LineSink
from tests.support.configured import Configured, written
from tests.support.origin import AGAIN, GATE, OK, READ, READ_HEAD, RESET
from tests.support.wire import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.app.conftest import Configure
    from tests.conftest import StartOrigin

REQUEST = b"GET /shop/ HTTP/1.1\r\nHost: a\r\n\r\n"


def shop(url: str, **more: Any) -> str:
    return written({"shop": {"url": url, "cache": {"mode": "off"}, **more}})


async def probe(sidecar: Configured, path: str) -> tuple[int, str]:
    status, text = await sidecar.call("GET", path, listener="telemetry")
    return status, str(text).strip()


async def test_the_lag_of_the_loop_is_measured(start_origin: StartOrigin, configure: Configure) -> None:
    sidecar = await configure(shop((await start_origin()).url))

    async with asyncio.timeout(5):
        while not (await sidecar.metrics()).total("sidecar_event_loop_lag_seconds"):  # noqa: ASYNC110 - a real timer
            await asyncio.sleep(0.05)


async def test_an_open_circuit_is_no_reason_to_be_unready(start_origin: StartOrigin, configure: Configure) -> None:
    origin = await start_origin((READ_HEAD, RESET))
    sidecar = await configure(shop(origin.url, breaker={"failure_threshold": 1}))
    assert (await sidecar.get("/shop/")).status == 502
    assert await sidecar.state_of("shop") == "open"

    assert [await probe(sidecar, path) for path in ("/livez", "/readyz", "/startupz")] == [
        (200, "alive"),
        (200, "ready"),
        (200, "started"),
    ]


async def test_while_draining_it_is_alive_but_not_ready(start_origin: StartOrigin, configure: Configure) -> None:
    origin = await start_origin((READ, GATE, OK, AGAIN))
    sidecar = await configure(shop(origin.url))
    client = await sidecar.connect()
    await client.send(REQUEST)
    await origin.until(lambda seen: seen.requests)
    assert (await sidecar.metrics()).total("sidecar_draining") == 0

    draining = asyncio.ensure_future(sidecar.running.drain(asyncio.Event()))
    await asyncio.sleep(0)

    assert await probe(sidecar, "/readyz") == (503, "not ready: draining")
    assert (await probe(sidecar, "/livez"))[0] == 200
    assert (await sidecar.metrics()).total("sidecar_draining") == 1
    assert (await sidecar.call("GET", "/v1/info"))[1]["draining"] is True
    origin.gate.set()
    assert (await client.response()).status == 200
    assert await draining is True


@pytest.fixture
def unread() -> Iterator[int]:
    """The writing end of a pipe that nobody reads, and that is full."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(4096))
    except BlockingIOError:
        pass
    yield writer
    os.close(reader)
    os.close(writer)


async def test_lost_log_lines_are_counted(start_origin: StartOrigin, configure: Configure, unread: int) -> None:
    sink = LineSink(unread, limit=600)
    sidecar = await configure(shop((await start_origin()).url), sink)

    for _ in range(5):
        assert (await sidecar.get("/shop/")).status == 200
    await eventually(lambda: sink.dropped)

    assert (await sidecar.metrics()).total("sidecar_log_lines_dropped_total") == sink.dropped
    os.set_blocking(unread, False)
    sink.close(0)
