"""What a real Prometheus makes of the first thing that ever goes wrong: series are there at 0 before it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.configured import Configured, written
from tests.support.origin import READ, STALL
from tests.support.prometheus import prometheus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.conftest import StartOrigin
    from tests.support.prometheus import Prometheus

NOBODY = "http://127.0.0.1:1"
BREAKER = {"failure_threshold": 1, "failure_rate": None, "open_duration": "1h"}
FRESH = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=0, stale-if-error=60\r\nContent-Length: 2\r\n\r\nok"


def upstream(url: str, **more: Any) -> dict[str, Any]:
    return {"url": url, "breaker": BREAKER, "cache": {"mode": "off"}, **more}


@pytest.fixture
async def sidecar(tmp_path: Path, start_origin: StartOrigin) -> AsyncIterator[Configured]:
    silent = await start_origin((READ, STALL))
    sick = await start_origin((READ, b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", STALL))
    moody = await start_origin((READ, FRESH, READ, b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", STALL))
    upstreams = {
        "down": upstream(NOBODY),
        "silent": upstream(silent.url, timeouts={"first_byte": "50ms"}),
        "sick": upstream(sick.url),
        "moody": upstream(moody.url, cache={"mode": "standard"}),
    }
    configured = await Configured.begin(tmp_path / "sidecar.yaml", written(upstreams))
    yield configured
    configured.hang_up()
    await configured.stop()


def requests(route: str, code: int, source: str, method: str = "GET") -> str:
    return f'sidecar_requests_total{{route="{route}",method="{method}",code="{code}",source="{source}"}}'


def attempts(upstream: str, result: str) -> str:
    return f'sidecar_upstream_attempts_total{{upstream="{upstream}",result="{result}"}}'


def opened(circuit: str) -> str:
    return f'sidecar_circuit_transitions_total{{circuit="{circuit}",to="open",cause="failure_threshold"}}'


SERIES = (
    requests("down", 502, "error"),
    requests("down", 503, "circuit"),
    requests("down", 503, "circuit", "POST"),
    attempts("down", "connection_refused"),
    opened("down"),
    requests("silent", 504, "error"),
    attempts("silent", "http_response_timeout"),
    opened("silent"),
    requests("sick", 503, "upstream"),
    attempts("sick", "success"),
    opened("sick"),
    requests("moody", 200, "upstream"),
    requests("moody", 200, "stale"),
    opened("moody"),
    'sidecar_client_rejected_total{reason="no_route"}',
    'sidecar_cache_requests_total{route="moody",result="uri-miss"}',
    'sidecar_circuit_transitions_total{circuit="down",to="forced_closed",cause="override_set"}',
)


async def seen_at_zero(judge: Prometheus, *series: str) -> None:
    for each in series:
        await judge.until(f"count_over_time({each}[1m]) >= 2")
        assert await judge.ask(each) == [0.0], each


async def increased(judge: Prometheus, *series: str) -> None:
    for each in series:
        await judge.until(f"increase({each}[1m]) > 0")


async def test_the_first_outage_shows_in_every_series_that_tells_of_it(sidecar: Configured, tmp_path: Path) -> None:
    added = (requests("added", 502, "error"), attempts("added", "connection_refused"), opened("added"))
    async with prometheus(tmp_path / "prometheus", sidecar.addresses["telemetry"][0]) as judge:
        await seen_at_zero(judge, *SERIES)

        for target in ("/down/", "/down/", "/silent/", "/sick/", "/moody/", "/moody/", "/nowhere/"):
            await sidecar.get(target)
        await sidecar.exchange(b"POST /down/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "POST")
        await sidecar.call("PUT", "/v1/circuits/down/override", {"mode": "forced_closed"})

        await increased(judge, *SERIES)

        await sidecar.reload(written({"down": upstream(NOBODY), "added": upstream(NOBODY)}))
        await seen_at_zero(judge, *added)

        assert (await sidecar.get("/added/")).status == 502

        await increased(judge, *added)


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_a_trace_leads_from_a_latency_to_a_request(sidecar: Configured, tmp_path: Path) -> None:
    async with prometheus(tmp_path / "prometheus", sidecar.addresses["telemetry"][0]) as judge:
        await sidecar.get("/moody/", f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01")
        await judge.until('sidecar_request_duration_seconds_count{route="moody"} == 1')

        assert await judge.traces('sidecar_request_duration_seconds_bucket{route="moody"}') == {TRACE}
        assert await judge.traces('sidecar_request_duration_seconds_bucket{route="down"}') == set()


async def test_what_is_gone_from_the_configuration_is_gone_from_the_page(sidecar: Configured, tmp_path: Path) -> None:
    gone = 'count({__name__=~"sidecar_.*",route="down"} or {__name__=~"sidecar_.*",circuit="down"})'
    async with prometheus(tmp_path / "prometheus", sidecar.addresses["telemetry"][0]) as judge:
        await judge.until(f"{gone} > 20")

        await sidecar.reload(written({"sick": upstream(NOBODY)}))

        await judge.until(f"absent({gone})")
        assert await judge.ask('absent({__name__=~"sidecar_.*",upstream="down"})') == [1.0]
        assert await judge.ask('count({__name__=~"sidecar_.*",route="sick"}) > 20')
