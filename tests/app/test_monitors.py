"""Health probes and warm connections, as the configuration asks for them."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from sidecar.adapters.upstream.handler import Upstream
from sidecar.app import RealClock
from sidecar.app.warm import keep_warm
from sidecar.core.config import Endpoint, PoolSettings, UpstreamConfig
from sidecar.pipeline.deadlines import DeadlineWheel
from sidecar.pipeline.runtime import Runtime
from sidecar.pipeline.stats import UpstreamStats
from sidecar.pipeline.tasks import Tasks
from tests.support.configured import Configured, written
from tests.support.origin import AGAIN, OK, READ, READ_HEAD, RESET, STALL, RawOrigin
from tests.support.wire import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.app.conftest import Configure
    from tests.conftest import StartOrigin

BREAKER = {
    "failure_threshold": 1,
    "open_duration": "50ms",
    "success_threshold": 1,
    "backoff": {"jitter": 0, "multiplier": 1},
}
HEALTH = {"path": "/healthz", "interval": "20ms"}
SICK = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


def shop(origin: RawOrigin, **more: Any) -> dict[str, Any]:
    return {"shop": {"url": origin.url, "cache": {"mode": "off"}, "breaker": BREAKER, **more}}


def monitoring() -> set[str]:
    names = {task.get_name() for task in asyncio.all_tasks()}
    return {name for name in names if name.startswith(("health of ", "warm "))}


async def closed(sidecar: Configured) -> None:
    """Wait until the circuit has closed without any request."""
    async with asyncio.timeout(5):
        while await sidecar.state_of("shop") != "closed":  # noqa: ASYNC110 - only the API tells
            await asyncio.sleep(0.01)


# Health


async def test_a_circuit_without_traffic_closes_when_the_health_probe_succeeds(
    start_origin: StartOrigin, configure: Configure
) -> None:
    origin = await start_origin((READ_HEAD, RESET), (READ, SICK, AGAIN), (READ, OK, AGAIN))
    sidecar = await configure(written(shop(origin, health=HEALTH)))
    assert (await sidecar.get("/shop/")).status == 502

    await closed(sidecar)

    assert origin.requests[1].line == "GET /healthz"
    causes = [event["details"]["cause"] for event in (await sidecar.call("GET", "/v1/events"))[1]["events"]]
    assert causes[0] == "failure_threshold"
    assert causes[-1] == "probes_succeeded"


async def test_health_is_verified_as_the_upstream_is(
    start_origin: StartOrigin, configure: Configure, tmp_path: Path
) -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("shop.internal").configure_cert(server)
    authority.cert_pem.write_to_path(f"{tmp_path}/ca.pem")
    origin = await start_origin((READ_HEAD, RESET), (READ, OK, AGAIN), tls=server)
    tls = {"ca_file": f"{tmp_path}/ca.pem", "server_name": "shop.internal"}
    url = {"url": f"https://127.0.0.1:{origin.port}"}
    sidecar = await configure(written(shop(origin, health=HEALTH, tls=tls, **url)))
    assert (await sidecar.get("/shop/")).status == 502

    await closed(sidecar)


async def test_a_reload_begins_and_ends_health_probes(start_origin: StartOrigin, configure: Configure) -> None:
    origin = await start_origin()
    sidecar = await configure(written(shop(origin)))
    assert monitoring() == set()

    await sidecar.reload(written(shop(origin, health=HEALTH)))
    assert monitoring() == {"health of shop"}
    await sidecar.reload(written({"other": shop(origin)["shop"]}))

    await eventually(lambda: not monitoring())


async def test_a_health_probe_goes_on_over_a_reload_that_leaves_it_alone(
    start_origin: StartOrigin, configure: Configure
) -> None:
    origin = await start_origin()
    sidecar = await configure(written(shop(origin, health=HEALTH)))
    (before,) = (task for task in asyncio.all_tasks() if task.get_name() == "health of shop")

    await sidecar.reload(written({**shop(origin, health=HEALTH), "other": shop(origin)["shop"]}))
    assert not before.cancelling()
    await sidecar.reload(written(shop(origin, health={**HEALTH, "interval": "30ms"})))

    await eventually(before.cancelled)
    assert monitoring() == {"health of shop"}


# Warm connections


async def test_connections_are_open_before_the_first_request(start_origin: StartOrigin, configure: Configure) -> None:
    origins = [await start_origin(), await start_origin()]
    upstream = {"endpoints": [origin.url for origin in origins], "pool": {"warm": 3}}
    sidecar = await configure(written({"shop": upstream}))

    for origin in origins:
        await origin.until(lambda seen: len(seen.connections) == 3)

    metrics = await sidecar.metrics()
    assert metrics.total("sidecar_upstream_connections", state="idle") == 6
    assert metrics.total("sidecar_upstream_connections", state="active") == 0
    assert (await sidecar.get("/shop/")).status == 200
    assert sum(len(origin.connections) for origin in origins) == 6


async def test_a_reload_warms_what_is_new(start_origin: StartOrigin, configure: Configure) -> None:
    origin = await start_origin()
    sidecar = await configure(written({"shop": {"url": origin.url}}))

    await sidecar.reload(written({"shop": {"url": origin.url, "pool": {"warm": 2}}}))
    await origin.until(lambda seen: len(seen.connections) == 2)
    await sidecar.reload(written({"shop": {"url": origin.url}}))

    await origin.until(lambda seen: all(connection.ended for connection in seen.connections))
    await eventually(lambda: not monitoring())


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    started = Tasks()
    yield started
    await started.cancel_all()


@pytest.fixture
async def make_upstream(tasks: Tasks) -> AsyncIterator[Callable[..., Upstream]]:
    made: list[Upstream] = []
    clock = RealClock()
    wheel = DeadlineWheel(clock)

    def make(port: int, **pool: Any) -> Upstream:
        settings = PoolSettings(**pool)
        config = UpstreamConfig("shop", (Endpoint("http", "127.0.0.1", port),), pool=settings)
        runtime = Runtime(clock, wheel, tasks.spawn)
        made.append(Upstream(config, runtime, UpstreamStats("shop")))
        return made[-1]

    yield make
    for upstream in made:
        upstream.close()
    wheel.close()


async def test_what_the_upstream_closes_is_opened_again(
    start_origin: StartOrigin, make_upstream: Callable[..., Upstream], tasks: Tasks
) -> None:
    origin = await start_origin((STALL,))
    tasks.spawn(keep_warm(make_upstream(origin.port, warm=2), 0.01), name="warm")
    await origin.until(lambda seen: len(seen.connections) == 2)

    for connection in origin.connections:
        connection.close()

    await origin.until(lambda seen: len(seen.connections) >= 4)
    await origin.until(lambda seen: sum(not connection.ended for connection in seen.connections) == 2)


async def test_no_more_are_opened_than_there_may_be(
    start_origin: StartOrigin, make_upstream: Callable[..., Upstream]
) -> None:
    origin = await start_origin((STALL,))
    upstream = make_upstream(origin.port, warm=5, max_connections=2)

    await upstream.warm_up()
    await upstream.warm_up()

    assert upstream.stats.opened == 2


async def test_a_failure_is_told_once_until_it_is_over(
    start_origin: StartOrigin, make_upstream: Callable[..., Upstream], tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    origin = await start_origin((STALL,))
    await origin.stop()
    upstream = make_upstream(origin.port, warm=1)
    with caplog.at_level(logging.WARNING, "sidecar.app.warm"):
        tasks.spawn(keep_warm(upstream, 0.005), name="warm")
        await eventually(lambda: caplog.records)
        again = await start_origin((STALL,), port=origin.port)
        await again.until(lambda seen: seen.connections)

    assert [record.message for record in caplog.records] == [
        f"upstream shop: no connections ahead of requests: {caplog.records[0].args[1]}"  # type: ignore[index]
    ]
    assert str(origin.port) in caplog.records[0].message
