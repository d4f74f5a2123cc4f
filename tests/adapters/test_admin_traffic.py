"""What the dashboard draws, and how it learns of it, in a running sidecar."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from sidecar.adapters import traffic
from tests.support.origin import READ

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import StartOrigin, StartSidecar
    from tests.support.running import InProcess

FAILING = (READ, b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
GOOD = (READ, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: max-age=60\r\nConnection: close\r\n\r\nok")


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "INTERVAL", 0.02)


async def blocks(sidecar: InProcess, path: str) -> AsyncIterator[tuple[str, Any]]:
    """The event and the data of each block of a stream."""
    host, port = sidecar.addresses["admin"][0]
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}{path}") as response:
        fields: dict[str, str] = {}
        async for line in response.content:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            fields[name] = value
            if line == b"\n" and "data" in fields:
                yield fields["event"], json.loads(fields["data"])
                fields = {}


async def totals(sidecar: InProcess, wanted: dict[str, int]) -> Any:
    """GET /v1/traffic, as soon as as many requests were counted by source."""
    async with asyncio.timeout(10):
        while True:
            told = await sidecar.api("GET", "/v1/traffic")
            if told["lately"]["sources"] == wanted:
                return told
            await asyncio.sleep(0.01)


async def test_what_went_through_is_told_by_source_and_circuit(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    upstream = {"cache": {"mode": "standard"}, "breaker": {"failure_threshold": 2}}
    sidecar = await start_sidecar(await start_origin(GOOD, FAILING, FAILING), upstream=upstream)
    for method, target in (("GET", "/a"), ("GET", "/a"), ("POST", "/b"), ("POST", "/b"), ("GET", "/c")):
        await sidecar.exchange(f"{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode())
    told = await totals(sidecar, {"upstream": 3, "cache": 1, "circuit": 1})
    assert sum(sum(bucket["sources"].values()) for bucket in told["buckets"]) == 5
    assert told["lately"]["cache"] == {"requests": 4, "hits": 1}
    assert 0 < told["lately"]["latency"]["p50"] <= told["lately"]["latency"]["p99"]
    (circuit,) = told["circuits"]
    assert (circuit["name"], sum(circuit["requests"]), sum(circuit["judged"]), sum(circuit["failures"])) == (
        "all",
        5,
        3,
        2,
    )
    assert circuit["lately"] == {"upstream": 3, "cache": 1, "circuit": 1}
    assert len(circuit["requests"]) == len(told["buckets"])


async def test_the_stream_has_each_reading_and_each_event_at_once(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    sidecar = await start_sidecar(await start_origin(GOOD))
    await sidecar.get("/")
    seen: list[str] = []
    async with asyncio.timeout(10):
        async for event, data in blocks(sidecar, "/v1/traffic/stream"):
            if event == "traffic" and [it["name"] for it in data["circuits"]] == ["all"] and not seen:
                assert data["bucket"]["sources"] == data["lately"]["sources"] == {"upstream": 1}
                seen.append("traffic")
                await sidecar.api("PUT", "/v1/circuits/all/override", {"mode": "forced_open"})
            if event == "override":
                assert data["circuit"] == "all"
                break
    assert seen == ["traffic"]


async def test_a_stream_goes_on_after_the_events_that_its_reader_has(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    sidecar = await start_sidecar(await start_origin(GOOD))
    for _ in range(2):
        await sidecar.api("POST", "/v1/circuits/all/reset")
    first, second = (await sidecar.api("GET", "/v1/events"))["events"]
    async with asyncio.timeout(10):
        async for event, data in blocks(sidecar, f"/v1/traffic/stream?since={first['id']}"):
            if event != "traffic":
                assert data == second
                break
