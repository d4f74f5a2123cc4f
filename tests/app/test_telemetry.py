"""What the telemetry listener of the real app says of the process."""

from __future__ import annotations

import asyncio
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from sidecar import __version__
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


async def verbose(sidecar: Configured) -> tuple[int, list[str]]:
    status, text = await probe(sidecar, "/readyz?verbose")
    return status, text.splitlines()


async def test_readiness_tells_what_it_looked_at_and_what_decides_nothing(
    start_origin: StartOrigin, configure: Configure
) -> None:
    origin = await start_origin((READ_HEAD, RESET))
    sidecar = await configure(shop(origin.url, breaker={"failure_threshold": 1}))
    bound = ", ".join(f"{name} {host}:{port}" for name, ((host, port),) in sidecar.addresses.items())

    status, lines = await verbose(sidecar)

    assert status == 200
    assert lines[:4] == [
        f"[+] listening: {bound}",
        "[+] configured: sidecar0.yaml",
        "[+] not shutting down",
        "[i] circuits: all 1 closed",
    ]
    assert lines[4] == "[i] latest configuration: in force"
    assert re.fullmatch(r"\[i\] event loop: at most \d+\.\d ms late in the last 10 s", lines[5])
    assert lines[6] == "[i] log: 0 lines dropped"
    assert re.fullmatch(rf"\[i\] version {re.escape(__version__)}, up for \d+s", lines[7])
    assert lines[8:] == ["ready"]

    assert (await sidecar.get("/shop/")).status == 502
    await sidecar.reload("nonsense: 1")
    status, lines = await verbose(sidecar)
    assert status == 200
    assert "[i] circuits: 1 of 1 not closed: shop open" in lines
    assert "[i] latest configuration: failed, the configuration before it is in force" in lines


async def test_of_many_open_circuits_some_are_named(configure: Configure) -> None:
    sidecar = await configure(written({f"shop-{number}": {"url": "http://127.0.0.1:1"} for number in range(12)}))
    for number in range(12):
        await sidecar.call("PUT", f"/v1/circuits/shop-{number}/override", {"mode": "forced_open"})

    _, lines = await verbose(sidecar)

    (told,) = [line for line in lines if line.startswith("[i] circuits")]
    assert told.startswith("[i] circuits: 12 of 12 not closed: shop-0 forced_open, shop-1 forced_open")
    assert told.endswith("shop-9 forced_open, and 2 more")


async def test_readiness_tells_that_a_drain_decides(start_origin: StartOrigin, configure: Configure) -> None:
    origin = await start_origin((READ, GATE, OK, AGAIN))
    sidecar = await configure(shop(origin.url))
    client = await sidecar.connect()
    await client.send(REQUEST)
    await origin.until(lambda seen: seen.requests)
    draining = asyncio.ensure_future(sidecar.running.drain(asyncio.Event()))
    await asyncio.sleep(0)

    status, lines = await verbose(sidecar)

    assert (status, lines[-1]) == (503, "not ready: draining")
    assert "[-] shutting down: draining" in lines
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
