"""Every row of the outcome table (breaker.md §1), produced by a real origin through real sockets."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.client import GOOD
from tests.support.origin import AGAIN, CLOSE, OK, READ, RESET, STALL, WELL_BEHAVED, Script, Slowly
from tests.support.wire import PATIENCE

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar
    from tests.support.running import InProcess

BREAKER: dict[str, Any] = {
    "failure_threshold": None,
    "failure_rate": None,
    "ignore": [418],
    "slow_after": "500ms",
}
TIMEOUTS = {"connect": "1s", "first_byte": "1500ms", "idle": "700ms"}
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LINES = CHUNKED[:-2] + b"Content-Type: application/x-ndjson\r\n\r\n3\r\n{}\n\r\n"


def status(code: int) -> Script:
    return (READ, b"HTTP/1.1 %d Whatever\r\nContent-Length: 2\r\n\r\nno" % code, AGAIN)


async def calls(sidecar: InProcess) -> dict[str, float]:
    """How many requests the circuit counts by outcome, those that are there."""
    metrics = await sidecar.metrics()
    name = "sidecar_circuit_calls_total"
    outcomes = ("success", "failure", "slow", "throttled", "ignored", "cancelled", "not_sent")
    counts = {outcome: metrics.total(name, outcome=outcome) for outcome in outcomes}
    return {outcome: count for outcome, count in counts.items() if count}


async def settled(sidecar: InProcess, expected: dict[str, float]) -> None:
    """Wait until the circuit has counted `expected`, and nothing else is in flight."""
    assert await sidecar.is_quiet()
    async with asyncio.timeout(PATIENCE):
        while await calls(sidecar) != expected:  # noqa: ASYNC110 - a client's leaving is noticed a turn later
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (WELL_BEHAVED, {"success": 1}),
        (status(404), {"success": 1}),
        (status(503), {"failure": 1}),
        ((READ, RESET), {"failure": 1}),
        ((READ, CLOSE), {"failure": 1}),
        ((READ, b"nonsense\r\n\r\n", CLOSE), {"failure": 1}),
        ((READ, STALL), {"failure": 1, "slow": 1}),
        ((READ, LONG, CLOSE), {"failure": 1}),
        ((READ, LONG, RESET), {"failure": 1}),
        ((READ, LONG, STALL), {"failure": 1}),
        ((READ, CHUNKED + b"2\r\nok\r\nzz\r\n", CLOSE), {"failure": 1}),
        ((READ, Slowly(OK[:3], 0.25), OK[3:], AGAIN), {"success": 1, "slow": 1}),
        (status(429), {"throttled": 1}),
        (status(418), {"ignored": 1}),
    ],
    ids=[
        "success", "a status in no list", "a status in failures", "reset", "closed", "malformed",
        "first-byte timeout", "cut short", "cut short by a reset", "idle timeout in the body", "bad chunk",
        "slow success", "throttled", "ignored",
    ],
)  # fmt: skip
async def test_a_real_answer_is_one_outcome(
    start_origin: StartOrigin, start_sidecar: StartSidecar, script: Script, expected: dict[str, float]
) -> None:
    origin = await start_origin(script)
    sidecar = await start_sidecar(origin, upstream={"breaker": BREAKER, "timeouts": TIMEOUTS})
    client = await sidecar.connect()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx")
    await client.until(lambda: client.ended)
    await settled(sidecar, expected)


async def test_nobody_listening_is_a_failure(start_sidecar: StartSidecar) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        sidecar = await start_sidecar(url, upstream={"breaker": BREAKER, "timeouts": TIMEOUTS})
        assert (await sidecar.exchange(GOOD)).status == 502
    await settled(sidecar, {"failure": 1})


async def test_a_name_that_does_not_resolve_is_a_failure(start_sidecar: StartSidecar) -> None:
    sidecar = await start_sidecar("http://nowhere.invalid:1", upstream={"breaker": BREAKER})
    assert (await sidecar.exchange(GOOD)).status == 502
    assert (await calls(sidecar))["failure"] == 1


@pytest.mark.parametrize("script", [(READ, STALL), (READ, LONG, STALL)], ids=["before the head", "in the body"])
async def test_a_client_that_leaves_is_neither_success_nor_failure(
    start_origin: StartOrigin, start_sidecar: StartSidecar, script: Script
) -> None:
    origin = await start_origin(script)
    sidecar = await start_sidecar(origin, upstream={"breaker": {**BREAKER, "slow_after": "1m"}})
    client = await sidecar.connect()
    await client.send(GOOD)
    async with asyncio.timeout(PATIENCE):
        while not origin.connections or (LONG in script and b"half" not in client.received):  # noqa: ASYNC110 - bytes come
            await asyncio.sleep(0.001)
    client.transport.abort()
    await settled(sidecar, {"cancelled": 1})


async def test_an_endless_answer_is_judged_by_its_head_without_another_request(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, LINES, STALL))
    sidecar = await start_sidecar(origin, upstream={"breaker": {**BREAKER, "probe_timeout": "50ms"}})
    client = await sidecar.connect()
    await client.send(GOOD)
    async with asyncio.timeout(PATIENCE):
        while await calls(sidecar) != {"success": 1}:  # noqa: ASYNC110 - time has to pass
            await asyncio.sleep(0.01)
    client.transport.abort()
    await settled(sidecar, {"success": 1})


async def test_a_request_that_found_no_connection_slot_is_not_the_upstream_s_failure(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, STALL))
    pool = {"max_connections": 1, "max_queue": 0}
    sidecar = await start_sidecar(origin, upstream={"breaker": {**BREAKER, "slow_after": "1m"}, "pool": pool})
    first = await sidecar.connect()
    await first.send(GOOD)
    async with asyncio.timeout(PATIENCE):
        while not origin.connections:  # noqa: ASYNC110 - the origin accepts on this loop
            await asyncio.sleep(0.001)
    assert (await sidecar.exchange(GOOD)).status == 503
    first.transport.abort()
    await settled(sidecar, {"not_sent": 1, "cancelled": 1})
