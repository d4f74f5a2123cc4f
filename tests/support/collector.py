"""A collector that speaks OTLP over HTTP: keeps the spans that it is sent."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.wire import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

Values: TypeAlias = "dict[str, str | int]"


@dataclass(frozen=True)
class Span:
    """One span, its ids in hexadecimal digits and its times in seconds."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    start: float
    end: float
    status: str
    attributes: Values
    resource: Values


class Collector:
    """Answers `status` to whoever sends spans, and keeps them if that is 200."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.paths: list[str] = []
        self.status = 200
        self.url = ""
        self._came = asyncio.Event()

    async def until(self, count: int) -> list[Span]:
        """Wait for so many spans."""
        async with asyncio.timeout(PATIENCE):
            while len(self.spans) < count:
                self._came.clear()
                await self._came.wait()
        assert len(self.spans) == count
        return self.spans

    async def asked(self) -> None:
        """Wait until somebody sends something."""
        async with asyncio.timeout(PATIENCE):
            while not self.paths:
                self._came.clear()
                await self._came.wait()

    async def take(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        message = ExportTraceServiceRequest.FromString(await request.read())
        if self.status == 200:
            self.spans += _spans(message)
        self._came.set()
        return web.Response(status=self.status, content_type="application/x-protobuf")


def _spans(message: ExportTraceServiceRequest) -> list[Span]:
    return [
        Span(
            span.name,
            span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.start_time_unix_nano / 1e9,
            span.end_time_unix_nano / 1e9,
            span.status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
            _values(span.attributes),
            _values(resource.resource.attributes),
        )
        for resource in message.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _values(attributes: object) -> Values:
    said: list[KeyValue] = list(attributes)  # type: ignore[call-overload]  # a container without a type of its own
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value") for each in said}


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """Run one."""
    collecting = Collector()
    app = web.Application()
    app.router.add_post("/{path:.*}", collecting.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        collecting.url = f"http://{host}:{port}"
        yield collecting
    finally:
        await runner.cleanup()
