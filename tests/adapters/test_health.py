from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sidecar.adapters.health import HealthMonitor
from sidecar.core.circuit.explanation import OverrideMode
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.config import Endpoint, HealthCheck, UpstreamConfig
from sidecar.pipeline.local_control import LocalProbes
from tests.support.circuits import OPEN_FOR, Bench
from tests.support.origin import CLOSE, READ

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.conftest import StartOrigin


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_764_000_000.0 + self.now


class Origin:
    """A real origin whose health is what the test says."""

    def __init__(self) -> None:
        self.status = 200
        self.fields = {"Location": "/elsewhere"}
        self.asked: list[tuple[str, str]] = []
        self.stuck: asyncio.Event | None = None
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self.server = TestServer(app)

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.path_qs, request.headers["Host"]))
        if self.stuck is not None:
            await self.stuck.wait()
        return web.Response(status=self.status, headers=self.fields)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("http", "127.0.0.1", self.server.port or 0)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    started = Origin()
    await started.server.start_server()
    yield started
    if started.stuck is not None:
        started.stuck.set()
    await started.server.close()


class Scene:
    """A tripped circuit, and a monitor of `endpoints`."""

    def __init__(self, *endpoints: Endpoint, path: str = "/healthz", interval: float = 5.0, **changes: object) -> None:
        self.clock = FakeClock()
        self.bench = Bench(**changes)
        check = HealthCheck(path, interval=interval, timeout=0.2)
        circuits = LocalProbes(lambda _: [self.bench.circuit], self.clock.monotonic)
        self.monitor = HealthMonitor(UpstreamConfig("shop", endpoints), check, circuits, self.clock)

    def trip(self) -> None:
        self.bench.trip(0.0)
        self.clock.now = OPEN_FOR


async def test_a_healthy_answer_closes_a_circuit_without_traffic(origin: Origin) -> None:
    scene = Scene(origin.endpoint, path="/healthz?deep=%2F", success_threshold=2)
    scene.trip()
    await scene.monitor.probe()
    assert scene.bench.state == "half_open"
    await scene.monitor.probe()
    assert scene.bench.steps[-1] == ("half_open", "closed", "probes_succeeded")
    assert origin.asked == [("/healthz?deep=%2F", origin.endpoint.authority)] * 2


@pytest.mark.parametrize("status", [503, 404, 500])
async def test_an_unexpected_status_reopens_for_longer(origin: Origin, status: int) -> None:
    origin.status = status
    scene = Scene(origin.endpoint)
    scene.trip()
    await scene.monitor.probe()
    assert scene.bench.steps[-1] == ("half_open", "open", "probe_failed")
    assert scene.bench.events[-1].detail == f"a probe failed: GET /healthz answered {status}"
    assert scene.bench.circuit.snapshot(OPEN_FOR).next_probe_at == OPEN_FOR + 20.0


@pytest.mark.parametrize(("asked", "period"), [("50", 50.0), ("3", 20.0), ("999999999", 100.0), ("soon", 20.0)])
@pytest.mark.parametrize("status", [503, 500, 404])
async def test_a_failing_answer_s_retry_after_lengthens_the_period(
    origin: Origin, status: int, asked: str, period: float
) -> None:
    origin.status, origin.fields = status, {"Retry-After": asked}
    scene = Scene(origin.endpoint)
    scene.trip()
    await scene.monitor.probe()
    assert scene.bench.circuit.snapshot(OPEN_FOR).next_probe_at == OPEN_FOR + period


async def test_a_retry_after_that_is_no_text_is_passed_over(start_origin: StartOrigin) -> None:
    raw = await start_origin((READ, b"HTTP/1.1 503 No\r\nRetry-After: \xff\r\nContent-Length: 0\r\n\r\n", CLOSE))
    scene = Scene(Endpoint("http", "127.0.0.1", raw.port))
    scene.trip()
    await scene.monitor.probe()
    assert scene.bench.circuit.snapshot(OPEN_FOR).next_probe_at == OPEN_FOR + 20.0


async def test_a_redirect_is_an_answer_and_is_not_followed(origin: Origin) -> None:
    origin.status = 302
    scene = Scene(origin.endpoint)
    scene.trip()
    await scene.monitor.probe()
    assert scene.bench.state == "closed"
    assert len(origin.asked) == 1


async def test_nobody_listening_is_a_failed_probe(origin: Origin) -> None:
    endpoint = origin.endpoint
    await origin.server.close()
    scene = Scene(endpoint)
    scene.trip()
    await scene.monitor.probe()
    assert scene.bench.events[-1].detail == "a probe failed: GET /healthz connection_refused"


async def test_an_origin_that_hangs_is_a_failed_probe(origin: Origin) -> None:
    origin.stuck = asyncio.Event()
    scene = Scene(origin.endpoint)
    scene.trip()
    await scene.monitor.probe()
    assert scene.bench.events[-1].detail == "a probe failed: GET /healthz http_response_timeout"


@pytest.mark.parametrize("reply", [b"", b"nonsense\r\n\r\n"], ids=["closes at once", "no HTTP"])
async def test_an_origin_that_answers_nonsense_is_a_failed_probe(reply: bytes) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    scene = Scene(Endpoint("http", "127.0.0.1", server.sockets[0].getsockname()[1]))
    scene.trip()
    await scene.monitor.probe()
    server.close()
    await server.wait_closed()
    assert scene.bench.steps[-1] == ("half_open", "open", "probe_failed")


async def test_a_unix_socket_is_probed_as_well(tmp_path: Path) -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response()

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    path = str(tmp_path / "origin.sock")
    await web.UnixSite(runner, path).start()
    scene = Scene(Endpoint("http", "", 80, unix_path=path))
    scene.trip()
    await scene.monitor.probe()
    await runner.cleanup()
    assert scene.bench.state == "closed"


@pytest.mark.parametrize("when", ["closed", "open", "probing", "forced"])
async def test_nothing_is_sent_unless_a_circuit_is_due(origin: Origin, when: str) -> None:
    scene = Scene(origin.endpoint)
    if when != "closed":
        scene.trip()
    if when == "open":
        scene.clock.now = OPEN_FOR - 0.1
    if when == "probing":
        scene.bench.admit(OPEN_FOR)
    if when == "forced":
        scene.bench.circuit.override(OverrideMode.FORCED_OPEN, "", "", None, OPEN_FOR)
    await scene.monitor.probe()
    assert origin.asked == []
    assert scene.bench.circuit.counters.rejected == 0


async def test_a_live_probe_has_precedence_while_the_answer_is_awaited(origin: Origin) -> None:
    origin.stuck = asyncio.Event()
    scene = Scene(origin.endpoint)
    scene.trip()
    probing = asyncio.ensure_future(scene.monitor.probe())
    async with asyncio.timeout(5):
        while not origin.asked:  # noqa: ASYNC110 - the origin's handler runs on this loop
            await asyncio.sleep(0)
    live = scene.bench.admit(OPEN_FOR)
    origin.stuck.set()
    await probing
    assert scene.bench.state == "half_open"
    scene.bench.end(live, Outcome.SUCCESS, OPEN_FOR)
    assert scene.bench.state == "closed"
    assert scene.bench.circuit.snapshot(OPEN_FOR).window.requests == 0


async def test_it_goes_on_by_itself_and_takes_the_endpoints_in_turn(origin: Origin) -> None:
    dead = Endpoint("http", "127.0.0.1", 1)
    scene = Scene(dead, origin.endpoint, interval=0.001)
    scene.trip()
    running = asyncio.ensure_future(scene.monitor.run())
    async with asyncio.timeout(5):
        while scene.bench.state != "closed":
            await asyncio.sleep(0)
            scene.clock.now += 0.5
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert ("half_open", "open", "probe_failed") in scene.bench.steps
