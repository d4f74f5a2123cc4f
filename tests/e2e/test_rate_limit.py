"""Rate limits through real sockets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.configured import Configured, written
from tests.support.origin import AGAIN, READ

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartOrigin, StartSidecar
    from tests.support.running import InProcess

BREAKER = {"failure_threshold": 1, "failure_rate": "1%", "minimum_requests": 1, "open_duration": "1h"}
SLOW = {"rate": "1/h", "burst": 2}
FRESH = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\nok"


async def statuses(sidecar: InProcess, count: int, target: str = "/") -> list[int]:
    return [(await sidecar.get(target)).status for _ in range(count)]


async def limited(start_origin: StartOrigin, start_sidecar: StartSidecar, **blocks: Any) -> InProcess:
    origin = await start_origin((READ, FRESH, AGAIN))
    return await start_sidecar(origin, upstream={"breaker": BREAKER, **blocks})


async def test_beyond_the_burst_a_request_is_refused_and_counts_against_nobody(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    sidecar = await limited(start_origin, start_sidecar, rate_limit=SLOW)
    assert (await sidecar.metrics()).total("sidecar_rate_limited_total", route="all") == 0
    assert await statuses(sidecar, 3) == [200, 200, 429]
    answer = await sidecar.get("/")
    problem = json.loads(answer.body)
    assert (answer.status, problem["status"], problem["reason"]) == (429, 429, "rate_limited")
    assert answer.get("content-type") == b"application/problem+json"
    assert answer.get("proxy-status") == b'sidecar; error=http_request_denied; details="the rate limit is exceeded"'
    assert 3500 < int(answer.get("retry-after") or b"") <= 3600
    metrics = await sidecar.metrics()
    assert metrics.total("sidecar_rate_limited_total", route="all") == 2
    assert metrics.total("sidecar_requests_total", code="429", source="rate_limit") == 2
    calls = {name: metrics.total("sidecar_circuit_calls_total", outcome=name) for name in ("success", "throttled")}
    assert calls == {"success": 2, "throttled": 0}
    assert metrics.total("sidecar_circuit_calls_total") == 2
    assert metrics.total("sidecar_circuit_state", state="closed") == 1


async def test_retry_after_is_at_least_a_second_and_tokens_come_back(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    sidecar = await limited(start_origin, start_sidecar, rate_limit={"rate": "20/s", "burst": 1})
    client = await sidecar.connect()
    asked = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2
    await client.send(asked)
    assert (await client.response()).status == 200
    refused = await client.response()
    assert (refused.status, refused.get("retry-after")) == (429, b"1")
    for _ in range(10_000):
        if (await client.exchange(asked[: len(asked) // 2])).status == 200:
            return
    raise AssertionError("no token came back")


async def test_what_the_cache_answers_costs_no_token(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    sidecar = await limited(start_origin, start_sidecar, rate_limit=SLOW, cache={"mode": "standard"})
    assert await statuses(sidecar, 20, "/stored") == [200] * 20
    assert await statuses(sidecar, 1, "/second") == [200]
    assert await statuses(sidecar, 1, "/third") == [429]


async def test_a_refusal_takes_no_slot_of_the_bulkhead(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    sidecar = await limited(start_origin, start_sidecar, rate_limit=SLOW, bulkhead={"max_concurrent": 1})
    assert await statuses(sidecar, 4) == [200, 200, 429, 429]
    assert (await sidecar.metrics()).total("sidecar_bulkhead_rejected_total") == 0


async def test_one_that_observes_refuses_nothing(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    sidecar = await limited(start_origin, start_sidecar, rate_limit={**SLOW, "observe": True})
    assert (await sidecar.metrics()).total("sidecar_rate_limited_observed_total") == 0
    assert await statuses(sidecar, 5) == [200] * 5
    metrics = await sidecar.metrics()
    assert metrics.total("sidecar_rate_limited_observed_total", route="all") == 3
    assert metrics.total("sidecar_rate_limited_total") == 0


async def test_a_route_without_one_has_no_series(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    sidecar = await limited(start_origin, start_sidecar)
    assert not [name for name, _ in (await sidecar.metrics()).samples if "rate_limited" in name]


@pytest.mark.parametrize("block", ["rate_limit", "bulkhead"])
async def test_null_takes_away_what_the_upstream_has(
    start_origin: StartOrigin, start_sidecar: StartSidecar, block: str
) -> None:
    origin = await start_origin()
    upstream = {"rate_limit": {"rate": "1/h"}, "bulkhead": {"max_concurrent": 1}}
    sidecar = await start_sidecar(origin, upstream=upstream, route={block: None})
    assert await statuses(sidecar, 2) == ([200, 200] if block == "rate_limit" else [200, 429])
    samples = (await sidecar.metrics()).samples
    assert any("bulkhead_limit" in name for name, _ in samples) == (block != "bulkhead")


@pytest.mark.parametrize("changed", [False, True], ids=["another route changes", "the route itself changes"])
async def test_a_reload_keeps_the_tokens_and_the_counts(
    start_origin: StartOrigin,
    tmp_path: Path,
    changed: bool,  # noqa: FBT001 - a case
) -> None:
    origin = await start_origin()

    def text(timeout: str, other: str) -> str:
        all_ = {"url": origin.url, "rate_limit": SLOW, "timeouts": {"first_byte": timeout}}
        return written({"all": all_, "other": {"url": origin.url, "timeouts": {"first_byte": other}}})

    sidecar = await Configured.begin(tmp_path / "sidecar.yaml", text("15s", "15s"))
    try:
        assert await statuses(sidecar, 3, "/all/x") == [200, 200, 429]
        await sidecar.reload(text("14s", "15s") if changed else text("15s", "14s"))
        assert await statuses(sidecar, 1, "/all/x") == [429]
        assert (await sidecar.metrics()).total("sidecar_rate_limited_total", route="all") == 2
    finally:
        sidecar.hang_up()
        await sidecar.stop()
