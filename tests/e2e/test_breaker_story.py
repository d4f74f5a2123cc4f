"""The main job as a real process: trip, stale answers, refusals, healing, overrides, and what the metrics say."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.origin import AGAIN, READ, READ_HEAD, RESET, RawOrigin
from tests.support.running import ROUTE, SidecarProcess, config_text

if TYPE_CHECKING:
    from tests.conftest import LaunchSidecar, StartOrigin

CACHEABLE = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=0\r\nContent-Length: 5\r\n\r\nfresh"
BREAKER = {"failure_threshold": 3, "open_duration": "400ms", "success_threshold": 1, "backoff": {"jitter": 0}}


@pytest.fixture
async def origin(start_origin: StartOrigin) -> RawOrigin:
    return await start_origin((READ, CACHEABLE, AGAIN))


@pytest.fixture
async def sidecar(origin: RawOrigin, launch_sidecar: LaunchSidecar) -> SidecarProcess:
    upstream = {"breaker": BREAKER, "cache": {"mode": "fallback", "ttl": "10ms", "stale_ttl": "1h"}}
    return await (await launch_sidecar(config_text(origin, upstream=upstream))).ready()


async def state(sidecar: SidecarProcess) -> str:
    circuit: dict[str, Any] = await sidecar.api("GET", f"/v1/circuits/{ROUTE}")
    return str(circuit["effective_state"])


async def break_it(sidecar: SidecarProcess, origin: RawOrigin) -> None:
    """The origin dies; failures of an address that nobody stored open the circuit."""
    origin.then((READ_HEAD, RESET))
    for connection in origin.connections:
        connection.transport.abort()
    for number in range(3):
        assert (await sidecar.get(f"/unknown{number}")).status == 502


async def test_a_failing_origin_opens_the_circuit_and_stored_answers_stand_in(
    sidecar: SidecarProcess, origin: RawOrigin
) -> None:
    assert (await sidecar.get("/item")).body == b"fresh"
    assert await state(sidecar) == "closed"
    await break_it(sidecar, origin)
    assert await state(sidecar) == "open"
    reached = len(origin.connections)

    stale = await sidecar.get("/item")
    refused = await sidecar.get("/unknown")

    assert (stale.status, stale.body) == (200, b"fresh")
    cache_status = stale.get("cache-status") or b""
    assert cache_status.startswith(b"sidecar; hit; ttl=-")
    assert cache_status.endswith(b"; detail=circuit_open")
    assert int(stale.get("age") or b"-1") >= 0
    assert stale.get("via") == b"1.1 sidecar"
    assert refused.status == 503
    assert int(refused.get("retry-after") or b"0") >= 1
    assert refused.get("proxy-status") == b"sidecar; error=destination_unavailable"
    problem = json.loads(refused.body)
    assert (problem["status"], problem["circuit"], problem["reason"]) == (503, ROUTE, "circuit_open")
    assert len(origin.connections) == reached, "an open circuit asks nobody"


async def test_the_circuit_heals_by_itself(sidecar: SidecarProcess, origin: RawOrigin) -> None:
    await break_it(sidecar, origin)
    origin.then((READ, CACHEABLE, AGAIN))

    async with asyncio.timeout(8):
        while (await sidecar.get("/item")).status != 200:
            pass

    assert await state(sidecar) == "closed"
    assert (await sidecar.get("/item")).body == b"fresh"


async def test_the_metrics_tell_the_story(sidecar: SidecarProcess, origin: RawOrigin) -> None:
    assert (await sidecar.get("/item")).status == 200
    await break_it(sidecar, origin)
    assert (await sidecar.get("/item")).status == 200
    assert (await sidecar.get("/unknown")).status == 503

    seen = await sidecar.metrics()

    def requests(source: str, code: int) -> float:
        return seen.total("sidecar_requests_total", route=ROUTE, method="GET", source=source, code=str(code))

    assert requests("upstream", 200) == 1
    assert requests("error", 502) == 3
    assert requests("stale", 200) == 1
    assert requests("circuit", 503) == 1
    assert seen.total("sidecar_circuit_state", circuit=ROUTE, state="open") == 1
    assert seen.total("sidecar_circuit_state", circuit=ROUTE) == 1
    assert seen.total("sidecar_circuit_transitions_total", circuit=ROUTE, to="open") == 1
    assert seen.total("sidecar_circuit_rejected_total", circuit=ROUTE) >= 1
    assert seen.total("sidecar_circuit_calls_total", circuit=ROUTE, outcome="failure") == 3
    assert seen.total("sidecar_request_duration_seconds_count", route=ROUTE) == 6
    assert seen.total("sidecar_requests_in_flight", route=ROUTE) == 0


async def test_an_operator_forces_the_circuit_open_and_closed(sidecar: SidecarProcess, origin: RawOrigin) -> None:
    path = f"/v1/circuits/{ROUTE}/override"

    await sidecar.api("PUT", path, {"mode": "forced_open", "reason": "test", "actor": "test"})
    assert await state(sidecar) == "forced_open"
    assert (await sidecar.get("/a")).status == 503
    assert origin.requests == []

    await sidecar.api("DELETE", path)
    assert await state(sidecar) == "closed"
    assert (await sidecar.get("/a")).status == 200

    await break_it(sidecar, origin)
    await sidecar.api("PUT", path, {"mode": "forced_closed", "reason": "test", "actor": "test"})
    assert await state(sidecar) == "forced_closed"
    assert (await sidecar.get("/b")).status == 502, "a forced-closed circuit lets everything through"


async def test_transitions_are_logged_as_json_lines(sidecar: SidecarProcess, origin: RawOrigin) -> None:
    await break_it(sidecar, origin)

    await sidecar.printed(r"\{[^\n]*\"open\"[^\n]*\}")
    lines = [json.loads(line) for line in sidecar.output.splitlines() if line.startswith("{")]

    assert [line for line in lines if line.get("circuit") == ROUTE and line.get("to") == "open"]


async def test_every_request_has_its_line_in_the_access_log(sidecar: SidecarProcess) -> None:
    await sidecar.get("/item?a=b", "X-Request-Id: story-1")

    await sidecar.printed("story-1")
    (line,) = [json.loads(line) for line in sidecar.output.splitlines() if "story-1" in line]

    assert (line["status"], line["method"], line["route"]) == (200, "GET", ROUTE)
