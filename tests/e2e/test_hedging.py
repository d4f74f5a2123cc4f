"""Hedges through real sockets: a second attempt beside a slow first one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_retries import asked, circuit_calls, failing, retries, retrying
from tests.support.origin import AGAIN, GATE, OK, READ, RESET, STALL, WELL_BEHAVED, Script

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar
    from tests.support.running import InProcess

AFTER = {"after": "30ms"}
LATE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate"


async def hedges(sidecar: InProcess) -> dict[str, float]:
    return await retries(sidecar, "sidecar_hedges_total")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_slow_request_is_sent_twice_and_the_loser_is_cancelled(
    start_origin: StartOrigin, start_sidecar: StartSidecar, method: str, attempts: int
) -> None:
    answer = OK if method == "GET" else b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    origin = await start_origin((READ, STALL), (READ, answer, AGAIN))
    sidecar = await start_sidecar(origin, upstream=retrying(attempts=attempts, hedge=AFTER))

    assert (await sidecar.exchange(asked(method), method)).status == 200

    await origin.ended(0)
    assert [request.get("x-sidecar-attempt") for request in origin.requests] == [None, b"2"]
    assert await hedges(sidecar) == {"success": 1}
    assert await retries(sidecar) == {}
    assert await circuit_calls(sidecar) == {"success": 1, "cancelled": 1}


async def test_the_first_attempt_may_win_after_all(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, GATE, LATE, AGAIN), (READ, STALL))
    sidecar = await start_sidecar(origin, upstream=retrying(hedge=AFTER))
    client = await sidecar.connect()
    await client.send(asked("GET"))
    await origin.until(lambda seen: len(seen.requests) == 2)

    origin.gate.set()

    assert (await client.response()).body == b"late"
    await origin.ended(1)
    assert await hedges(sidecar) == {"cancelled": 1}
    assert await circuit_calls(sidecar) == {"success": 1, "cancelled": 1}


@pytest.mark.parametrize("step", [failing(), RESET], ids=["status", "reset"])
async def test_a_hedge_that_fails_leaves_the_first_attempt_alone(
    start_origin: StartOrigin, start_sidecar: StartSidecar, step: bytes
) -> None:
    origin = await start_origin((READ, GATE, LATE, AGAIN), (READ, step, STALL))
    sidecar = await start_sidecar(origin, upstream=retrying(hedge=AFTER))
    client = await sidecar.connect()
    await client.send(asked("GET"))
    await origin.until(lambda seen: len(seen.requests) == 2)
    while (await sidecar.metrics()).total("sidecar_circuit_calls_total", outcome="failure") == 0:
        pass

    origin.gate.set()

    assert (await client.response()).body == b"late"
    assert await hedges(sidecar) == {"failure": 1}
    assert await circuit_calls(sidecar) == {"success": 1, "failure": 1}


async def test_when_both_fail_a_retry_follows(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    failed: Script = (READ, GATE, RESET)
    origin = await start_origin(failed, failed, WELL_BEHAVED)
    sidecar = await start_sidecar(origin, upstream=retrying(hedge=AFTER))
    client = await sidecar.connect()
    await client.send(asked("GET"))
    await origin.until(lambda seen: len(seen.requests) == 2)

    origin.gate.set()

    assert (await client.response()).status == 200
    assert (await hedges(sidecar), await retries(sidecar)) == ({"failure": 1}, {"success": 1})
    assert await circuit_calls(sidecar) == {"success": 1, "failure": 2}


NOT_HEDGED = {
    "POST": asked("POST", b"hello"),
    "PUT": asked("PUT", b"hello"),
    "PUT without content": asked("PUT"),
    "a GET with content": asked("GET", b"hello"),
    "repeated by somebody before": asked("GET", b"", "X-Sidecar-Attempt: 2"),
    "an upgrade": asked("GET", b"", "Connection: Upgrade", "Upgrade: websocket"),
}


@pytest.mark.parametrize("data", NOT_HEDGED.values(), ids=NOT_HEDGED.keys())
async def test_only_a_plain_get_or_head_is_hedged(
    start_origin: StartOrigin, start_sidecar: StartSidecar, data: bytes
) -> None:
    origin = await start_origin((READ, STALL))
    upstream = {**retrying(hedge={"after": "20ms"}), "timeouts": {"first_byte": "200ms"}}
    sidecar = await start_sidecar(origin, upstream=upstream)

    assert (await sidecar.exchange(data, data.split()[0].decode())).status == 504

    assert len(origin.requests) == 1
    assert await hedges(sidecar) == {}


async def test_hedges_are_counted_in_the_budget(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, STALL))
    upstream = {
        **retrying(hedge={"after": "20ms"}, budget={"share": "0%", "floor": 0}),
        "timeouts": {"first_byte": "200ms"},
    }
    sidecar = await start_sidecar(origin, upstream=upstream)

    assert (await sidecar.get()).status == 504

    assert len(origin.requests) == 1
    seen = await sidecar.metrics()
    assert seen.total("sidecar_retry_budget_exhausted_total") == 1
    assert await hedges(sidecar) == {}


async def test_a_client_that_leaves_ends_both_attempts(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, STALL))
    sidecar = await start_sidecar(origin, upstream=retrying(hedge=AFTER))
    client = await sidecar.connect()
    await client.send(asked("GET"))
    await origin.until(lambda seen: len(seen.requests) == 2)

    client.transport.abort()

    await origin.ended(0)
    await origin.ended(1)
    assert await circuit_calls(sidecar) == {"cancelled": 2}
    assert await hedges(sidecar) == {"cancelled": 1}


async def test_a_hedge_prefers_another_endpoint(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    slow, quick = await start_origin((READ, STALL)), await start_origin()
    budget = {"share": "100%", "floor": 100}
    sidecar = await start_sidecar([slow.url, quick.url], upstream=retrying(hedge=AFTER, budget=budget))

    assert [(await sidecar.get()).status for _ in range(6)] == [200] * 6

    assert len(quick.requests) == 6


async def test_collapsed_requests_share_a_hedged_fetch(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    stored = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: max-age=60\r\n\r\nok"
    origin = await start_origin((READ, STALL), (READ, GATE, stored, AGAIN))
    sidecar = await start_sidecar(origin, upstream={**retrying(hedge=AFTER), "cache": {"mode": "standard"}})
    clients = [await sidecar.connect() for _ in range(5)]
    for client in clients:
        await client.send(asked("GET"))
    await origin.until(lambda seen: len(seen.requests) == 2)

    origin.gate.set()

    assert [(await client.response()).body for client in clients] == [b"ok"] * 5
    assert len(origin.requests) == 2


async def test_the_delay_follows_the_measured_p95(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin(WELL_BEHAVED)
    sidecar = await start_sidecar(origin, upstream=retrying(hedge={"after": "p95"}))
    assert [(await sidecar.get()).status for _ in range(25)] == [200] * 25
    # On a loaded machine one of these may have been slow itself.
    quick, hedged = len(origin.requests), (await hedges(sidecar)).get("success", 0)
    for connection in origin.connections:
        connection.transport.abort()
    origin.then((READ, STALL), WELL_BEHAVED)

    assert (await sidecar.get()).status == 200

    assert len(origin.requests) > quick + 1
    assert (await hedges(sidecar))["success"] > hedged


async def test_nothing_is_hedged_before_anything_is_measured(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, STALL))
    upstream = {**retrying(hedge={"after": "p95"}), "timeouts": {"first_byte": "200ms"}}
    sidecar = await start_sidecar(origin, upstream=upstream)

    assert (await sidecar.get()).status == 504
    assert len(origin.requests) == 1


async def test_a_probe_is_not_hedged(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, failing(), AGAIN))
    upstream = {
        **retrying(attempts=1, hedge={"after": "20ms"}),
        "breaker": {"failure_threshold": 1, "open_duration": "50ms", "backoff": {"jitter": 0}},
        "timeouts": {"first_byte": "200ms"},
    }
    sidecar = await start_sidecar(origin, upstream=upstream)
    assert (await sidecar.get()).status == 503
    origin.connections[0].transport.abort()
    origin.then((READ, STALL))
    while (answer := await sidecar.get()).status == 503:
        pass

    assert answer.status == 504
    assert len(origin.requests) == 2
    assert await hedges(sidecar) == {}
