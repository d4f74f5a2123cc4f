from typing import TYPE_CHECKING

import pytest

from sidecar.adapters.telemetry import TelemetryState, build_telemetry

if TYPE_CHECKING:
    from aiohttp.test_utils import TestClient
    from aiohttp.web import Application, Request
    from pytest_aiohttp import AiohttpClient


class Process:
    """The process as the listener sees it."""

    def __init__(self) -> None:
        self.started = True
        self.unready: str | None = None
        self.accepts: list[str] = []

    async def metrics(self, accept: str) -> tuple[list[bytes], str]:
        self.accepts.append(accept)
        return [b"up ", b"1\n"], "text/plain; version=0.0.4; charset=utf-8"

    async def report(self) -> list[str]:
        return ["[+] listening", "[i] fine"]

    def state(self) -> TelemetryState:
        return TelemetryState(lambda: self.started, lambda: self.unready, self.report, self.metrics)


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.fixture
async def client(aiohttp_client: "AiohttpClient", process: Process) -> "TestClient[Request, Application]":
    return await aiohttp_client(build_telemetry(process.state()))


PATHS = ["/metrics", "/livez", "/readyz", "/startupz"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_healthy_process_answers_everywhere(client: "TestClient[Request, Application]", path: str) -> None:
    async with client.get(path) as response:
        assert response.status == 200
        assert await response.text()


async def test_metrics_are_rendered_for_what_the_scraper_accepts(
    client: "TestClient[Request, Application]", process: Process
) -> None:
    async with client.get("/metrics", headers={"Accept": "application/openmetrics-text"}) as response:
        assert await response.read() == b"up 1\n"
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert process.accepts == ["application/openmetrics-text"]


async def test_a_process_that_should_get_no_traffic_is_alive_but_not_ready(
    client: "TestClient[Request, Application]", process: Process
) -> None:
    process.unready = "draining"
    async with client.get("/readyz") as response:
        assert (response.status, await response.text()) == (503, "not ready: draining\n")
    async with client.get("/livez") as response:
        assert response.status == 200


@pytest.mark.parametrize("query", ["verbose", "verbose=", "verbose=true"])
async def test_all_that_was_looked_at_is_told_to_whom_asks(
    client: "TestClient[Request, Application]", process: Process, query: str
) -> None:
    async with client.get(f"/readyz?{query}") as response:
        assert (response.status, await response.text()) == (200, "[+] listening\n[i] fine\nready\n")
    process.unready = "draining"
    async with client.get(f"/readyz?{query}") as response:
        assert (response.status, await response.text()) == (503, "[+] listening\n[i] fine\nnot ready: draining\n")


async def test_startup_is_over_once_configured_and_listening(
    client: "TestClient[Request, Application]", process: Process
) -> None:
    process.started = False
    async with client.get("/startupz") as response:
        assert response.status == 503
    process.started = True
    async with client.get("/startupz") as response:
        assert response.status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", PATHS)
async def test_nothing_but_reading_is_allowed(
    client: "TestClient[Request, Application]", path: str, method: str
) -> None:
    async with client.request(method, path, data=b"x") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET,HEAD"


async def test_head_is_answered_like_get_without_the_body(client: "TestClient[Request, Application]") -> None:
    async with client.head("/metrics") as response:
        assert (response.status, await response.read()) == (200, b"")
        assert response.headers["Content-Length"] == "5"


@pytest.mark.parametrize("path", ["/", "/metrics/", "/v1/circuits", "/metricsx"])
async def test_other_paths_are_not_found(client: "TestClient[Request, Application]", path: str) -> None:
    async with client.get(path) as response:
        assert response.status == 404
        assert "/readyz" in await response.text()


async def test_answers_do_not_tell_which_libraries_run_here(client: "TestClient[Request, Application]") -> None:
    async with client.get("/livez") as response:
        assert response.headers["Server"] == "sidecar"


async def test_probe_answers_are_not_to_be_cached(client: "TestClient[Request, Application]") -> None:
    async with client.get("/readyz") as response:
        assert response.headers["Cache-Control"] == "no-store"
