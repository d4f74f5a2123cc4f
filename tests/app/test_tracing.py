"""Spans of a whole sidecar, as a collector gets them."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from sidecar import __version__
from sidecar.adapters.tracing import exporter
from tests.support.collector import Collector, collector
from tests.support.configured import written
from tests.support.origin import AGAIN, OK, READ, RESET, STALL
from tests.support.wire import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.app.conftest import Configure
    from tests.conftest import StartOrigin
    from tests.support.origin import Script

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
RECORDED = f"traceparent: 00-{TRACE}-{CALLER}-01"
NOBODY = "http://127.0.0.1:1"
TAGGED = b'HTTP/1.1 200 OK\r\nETag: "1"\r\nCache-Control: max-age=0, stale-if-error=60\r\nContent-Length: 2\r\n\r\nok'


@pytest.fixture
async def collecting(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    monkeypatch.setattr(exporter, "FLUSH_INTERVAL", 0.01)
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    async with collector() as found:
        yield found


def traced(collecting: Collector, url: str, *, tracing: dict[str, Any] | None = None, **more: Any) -> str:
    upstreams = {"shop": {"url": url, "cache": {"mode": "off"}, **more}}
    return written(upstreams, tracing={"endpoint": collecting.url, **(tracing or {})}, log={"redact_query": ["token"]})


async def test_a_request_is_a_server_s_span_and_its_attempt_a_client_s_below(
    start_origin: StartOrigin, configure: Configure, collecting: Collector
) -> None:
    origin = await start_origin((READ, OK, AGAIN))
    sidecar = await configure(traced(collecting, origin.url))
    before = time.time()

    await sidecar.get("/shop/items/1?token=s3cret&page=2", RECORDED, "User-Agent: test/1", "tracestate: a=b")

    server, client = await collecting.until(2)
    assert collecting.paths == ["/v1/traces"]
    assert (server.kind, server.name, server.trace, server.parent) == ("SERVER", "GET /shop/", TRACE, CALLER)
    assert (client.kind, client.name, client.trace, client.parent) == ("CLIENT", "GET", TRACE, server.id)
    assert len({server.id, client.id, CALLER}) == 3
    assert before - 1 < server.start <= client.start <= client.end <= server.end < time.time() + 1
    assert (server.status, client.status) == ("UNSET", "UNSET")
    request_id = server.attributes.pop("sidecar.request_id")
    assert isinstance(request_id, str)
    assert request_id
    assert server.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.response.body.size": 2,
        "http.route": "/shop/",
        "url.scheme": "http",
        "url.path": "/shop/items/1",
        "url.query": "token=(redacted)&page=2",
        "client.address": "127.0.0.1",
        "server.address": "a",
        "user_agent.original": "test/1",
        "sidecar.route": "shop",
        "sidecar.source": "upstream",
    }
    assert client.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": int(origin.url.rpartition(":")[2]),
        "url.full": f"{origin.url}/items/1?token=(redacted)&page=2",
    }
    assert (server.resource["service.name"], server.resource["service.version"]) == ("circuit-sidecar", __version__)
    assert origin.requests[0].get("traceparent") == RECORDED.removeprefix("traceparent: ").encode()
    assert origin.requests[0].get("tracestate") == b"a=b"
    assert origin.requests[0].get("x-request-id") == request_id.encode()


async def test_what_nobody_records_is_not_traced(
    start_origin: StartOrigin, configure: Configure, collecting: Collector
) -> None:
    sidecar = await configure(traced(collecting, (await start_origin()).url))

    for field in ("X-A: b", RECORDED[:-1] + "0", RECORDED.replace(TRACE, "0" * 32), "traceparent: 01", RECORDED):
        await sidecar.get("/shop/1", field)

    assert {span.trace for span in await collecting.until(2)} == {TRACE}


FAILING = {
    "refused": ((), 502, "connection_refused", 0, "connection_refused"),
    "failing": ((READ, b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", STALL), 503, "503", 503, "503"),
    "silent": ((READ, STALL), 504, "http_response_timeout", 0, "http_response_timeout"),
}


@pytest.mark.parametrize(("script", "status", "error", "attempted", "attempt_error"), FAILING.values(), ids=FAILING)
async def test_a_failure_is_an_error_of_both(
    start_origin: StartOrigin,
    configure: Configure,
    collecting: Collector,
    script: tuple[Any, ...],
    status: int,
    error: str,
    attempted: int,
    attempt_error: str,
) -> None:
    url = (await start_origin(script)).url if script else NOBODY
    sidecar = await configure(traced(collecting, url, timeouts={"first_byte": "50ms"}))

    await sidecar.get("/shop/1", RECORDED)

    server, client = await collecting.until(2)
    assert (server.status, server.attributes["http.response.status_code"]) == ("ERROR", status)
    assert server.attributes["error.type"] == error
    assert (client.status, client.attributes.get("http.response.status_code", 0)) == ("ERROR", attempted)
    assert client.attributes["error.type"] == attempt_error


async def test_what_no_upstream_was_asked_for_has_one_span(configure: Configure, collecting: Collector) -> None:
    sidecar = await configure(traced(collecting, NOBODY, breaker={"failure_threshold": 1}))
    await sidecar.get("/shop/1")

    await sidecar.get("/shop/1", RECORDED)
    await sidecar.get("/nowhere", RECORDED)

    refused, unrouted = await collecting.until(2)
    assert (refused.attributes["sidecar.source"], refused.attributes["error.type"]) == ("circuit", "circuit_open")
    assert (unrouted.name, unrouted.status) == ("GET", "UNSET")
    assert (unrouted.attributes["http.response.status_code"], unrouted.attributes["error.type"]) == (404, "no_route")
    assert "http.route" not in unrouted.attributes


async def test_a_stale_answer_says_so_and_keeps_the_attempt_that_failed(
    start_origin: StartOrigin, configure: Configure, collecting: Collector
) -> None:
    origin = await start_origin((READ, TAGGED, READ, b"HTTP/1.1 2", RESET))
    sidecar = await configure(traced(collecting, origin.url, cache={"mode": "standard"}))
    await sidecar.get("/shop/1")

    assert (await sidecar.get("/shop/1", RECORDED)).status == 200

    server, client = await collecting.until(2)
    assert (server.status, server.attributes["sidecar.stale_because"]) == ("UNSET", "upstream_error")
    assert (client.status, client.attributes["error.type"]) == ("ERROR", "connection_terminated")


async def test_each_attempt_of_a_retry_and_of_a_fallback_upstream_is_a_span(
    start_origin: StartOrigin, configure: Configure, collecting: Collector
) -> None:
    sick: Script = (READ, b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", AGAIN)
    shop, standby = await start_origin(sick), await start_origin()
    retry = {"attempts": 2, "on": [503], "backoff": {"base": "0s"}}
    upstreams = {
        "shop": {"url": shop.url, "cache": {"mode": "off"}, "retry": retry, "fallback": {"upstream": "standby"}},
        "standby": {"url": standby.url},
    }
    sidecar = await configure(written(upstreams, tracing={"endpoint": collecting.url}))

    assert (await sidecar.get("/shop/1", RECORDED)).status == 200

    server, *attempts = await collecting.until(4)
    assert (server.status, server.attributes["sidecar.source"]) == ("UNSET", "fallback")
    assert server.attributes["sidecar.fallback"] == "standby"
    assert {attempt.parent for attempt in attempts} == {server.id}
    said = ("url.full", "http.response.status_code", "http.request.resend_count")
    assert [tuple(attempt.attributes.get(name) for name in said) for attempt in attempts] == [
        (f"{shop.url}/1", 503, None),
        (f"{shop.url}/1", 503, 1),
        (f"{standby.url}/1", 200, 2),
    ]


async def test_both_attempts_of_a_hedge_are_spans_in_the_order_in_which_they_began(
    start_origin: StartOrigin, configure: Configure, collecting: Collector
) -> None:
    origin = await start_origin((READ, STALL), (READ, OK, AGAIN))
    retry = {"attempts": 1, "hedge": {"after": "20ms"}, "budget": None}
    sidecar = await configure(traced(collecting, origin.url, retry=retry))

    await sidecar.get("/shop/1", RECORDED)

    _, first, second = await collecting.until(3)
    assert (first.attributes["error.type"], first.attributes.get("http.request.resend_count")) == ("cancelled", None)
    assert (second.status, second.attributes["http.request.resend_count"]) == ("UNSET", 1)
    assert first.start < second.start


async def test_a_client_that_leaves_is_no_error_of_the_server(
    start_origin: StartOrigin, configure: Configure, collecting: Collector
) -> None:
    origin = await start_origin((READ, STALL))
    sidecar = await configure(traced(collecting, origin.url))
    client = await sidecar.connect()
    await client.send(f"PURGE /shop/1 HTTP/1.1\r\nHost: [::1]:80\r\n{RECORDED}\r\n\r\n".encode())
    await origin.until(lambda seen: seen.requests)

    client.transport.abort()

    server, attempt = await collecting.until(2)
    assert (server.name, server.status, server.attributes["error.type"]) == ("HTTP /shop/", "UNSET", "client_gone")
    assert "http.response.status_code" not in server.attributes
    assert server.attributes["http.request.method"] == "_OTHER"
    assert server.attributes["http.request.method_original"] == "PURGE"
    assert (server.attributes["server.address"], server.attributes["server.port"]) == ("::1", 80)
    assert (attempt.name, attempt.attributes["error.type"]) == ("HTTP", "cancelled")


async def test_what_was_noted_is_sent_before_the_end(
    start_origin: StartOrigin, configure: Configure, collecting: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "FLUSH_INTERVAL", 3600.0)
    sidecar = await configure(traced(collecting, (await start_origin()).url, tracing={"service_name": "edge"}))
    await sidecar.get("/shop/1", RECORDED)
    assert collecting.spans == []

    sidecar.hang_up()
    # The collector runs on this loop, which the end of the sidecar's waits for.
    await asyncio.to_thread(sidecar.running.data._tracer.close)  # type: ignore[union-attr]

    assert {span.resource["service.name"] for span in await collecting.until(2)} == {"edge"}


async def test_a_collector_that_takes_nothing_costs_spans_and_is_told_once(
    start_origin: StartOrigin, configure: Configure, collecting: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collecting.status = 400
    caplog.set_level("INFO")
    sidecar = await configure(traced(collecting, (await start_origin()).url))

    for count in range(1, 4):
        await sidecar.get("/shop/1", RECORDED)
        await eventually(lambda: sidecar.running.data._tracer.dropped == count)  # type: ignore[union-attr] # noqa: B023
    assert (await sidecar.metrics()).total("sidecar_traces_dropped_total") == 3
    collecting.status = 200
    await sidecar.get("/shop/1", RECORDED)
    await collecting.until(2)

    def told() -> list[str]:
        return [record.message for record in caplog.records if record.name == exporter.__name__]

    # The collector has the spans a moment before its sender knows that.
    await eventually(lambda: len(told()) > 1)
    assert told() == [
        f"spans are lost: {collecting.url} does not take them",
        f"spans are taken by {collecting.url} again",
    ]


async def test_beyond_the_queue_spans_are_dropped(
    start_origin: StartOrigin, configure: Configure, collecting: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "FLUSH_INTERVAL", 0.2)
    sidecar = await configure(traced(collecting, (await start_origin()).url, tracing={"max_queue": 2}))

    for _ in range(5):
        await sidecar.get("/shop/1", RECORDED)

    await collecting.until(4)
    assert (await sidecar.metrics()).total("sidecar_traces_dropped_total") == 3


MISSING = "`tracing` is configured, but OpenTelemetry is not installed: it comes with circuit-sidecar[otel]"


async def test_without_the_extra_the_start_says_what_to_install(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(written({"shop": {"url": NOBODY}}, tracing={"endpoint": NOBODY}))
    code = "import sys; sys.modules['opentelemetry'] = None; from sidecar.cli import main; sys.exit(main(sys.argv[1:]))"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, "run", "-c", str(file)), stderr=asyncio.subprocess.PIPE
    )
    _, told = await process.communicate()

    assert (process.returncode, told.decode().splitlines()[-1]) == (1, f"sidecar: {MISSING}")


async def test_without_tracing_nothing_of_opentelemetry_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(written({"shop": {"url": NOBODY}}))
    code = f"""
import sys
from pathlib import Path
from sidecar.adapters.config_file import load
from sidecar.app import RealClock, build
build(load(Path({str(file)!r}), {{}}).config, RealClock())
sys.exit(any(name.startswith(("opentelemetry", "requests", "google")) for name in sys.modules))
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0
