"""What is known of a request as spans, by OpenTelemetry's semantic conventions for HTTP. Needs the extra `[otel]`."""

from __future__ import annotations

import os
from http import HTTPStatus
from operator import attrgetter
from typing import TYPE_CHECKING, TypeAlias

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from sidecar.core.http.heads import STANDARD_METHODS
from sidecar.core.http.trace_context import SAMPLED, TRACEPARENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.adapters.tracing.surface import Surface
    from sidecar.core.config import TracingSettings
    from sidecar.core.http.heads import Headers
    from sidecar.pipeline.message import Attempt
    from sidecar.pipeline.record import ExchangeRecord

Noted: TypeAlias = "tuple[float, float, ExchangeRecord]"
"""Seconds since 1970 and monotonic ones when a request was over, and what is known of it."""
Attributes: TypeAlias = "dict[str, str | int]"

TRACES_PATH = "/v1/traces"
DEFAULT_NAME = "circuit-sidecar"
NANOSECONDS = 1_000_000_000
LEFT = 499
_ids = RandomIdGenerator()


def span_exporter(settings: TracingSettings) -> OTLPSpanExporter:
    """What sends spans to the collector; the usual path where the endpoint has none."""
    endpoint = settings.endpoint
    return OTLPSpanExporter(f"{endpoint}{'' if endpoint.base_path else TRACES_PATH}", timeout=settings.timeout)


class SpanMaker:
    """Makes a server's span of each request, and below it a client's of each attempt."""

    def __init__(self, settings: TracingSettings, surface: Surface) -> None:
        name = settings.service_name or os.environ.get("OTEL_SERVICE_NAME") or DEFAULT_NAME
        self._resource = Resource.create({"service.name": name, "service.version": surface.version})
        self._scope = InstrumentationScope("sidecar", surface.version)
        self._surface = surface

    def of(self, noted: Noted) -> Iterator[ReadableSpan]:
        """The spans of one request; none where its `traceparent` turns out to be none."""
        wall, monotonic, record = noted
        headers = record.headers
        found = None if headers is None else TRACEPARENT.match(headers.index.get(b"traceparent", b""))
        if headers is None or found is None or not int(found["flags"], 16) & SAMPLED:
            return
        caller = _context(int(found["trace"], 16), int(found["parent"], 16), headers, is_remote=True)
        own = _context(caller.trace_id, _ids.generate_span_id(), headers)
        # One that was cancelled was noted after the one that was quicker.
        trail = sorted(record.trail or (), key=attrgetter("began"))
        # Told a moment after its end, a request must not begin after its first attempt.
        began = min(monotonic - record.duration, *(attempt.began for attempt in trail), monotonic)
        yield self._span(
            self._name(record),
            SpanKind.SERVER,
            (caller, own),
            (wall + began - monotonic, wall),
            self._of_request(record, headers),
            _server_status(record),
        )
        for number, attempt in enumerate(trail):
            yield self._span(
                _method(record.method),
                SpanKind.CLIENT,
                (own, _context(caller.trace_id, _ids.generate_span_id(), headers)),
                (wall + attempt.began - monotonic, wall + attempt.ended - monotonic),
                self._of_attempt(record, attempt, number),
                _client_status(attempt),
            )

    def _span(
        self,
        name: str,
        kind: SpanKind,
        contexts: tuple[SpanContext, SpanContext],
        times: tuple[float, float],
        attributes: Attributes,
        status: Status,
    ) -> ReadableSpan:
        parent, own = contexts
        start, end = (int(at * NANOSECONDS) for at in times)
        return ReadableSpan(
            name,
            context=own,
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            kind=kind,
            status=status,
            start_time=start,
            end_time=max(start, end),
            instrumentation_scope=self._scope,
        )

    def _name(self, record: ExchangeRecord) -> str:
        pattern = self._surface.pattern_of(record.route)
        return f"{_method(record.method)} {pattern}" if pattern else _method(record.method)

    def _of_request(self, record: ExchangeRecord, headers: Headers) -> Attributes:
        path, _, query = self._target(record.target).partition("?")
        said: Attributes = {
            **_of_method(record.method),
            "url.scheme": self._surface.scheme,
            "url.path": path,
            "http.response.body.size": record.bytes_sent,
            "sidecar.source": record.source,
            "sidecar.request_id": _text(record.request_id),
        }
        if query:
            said["url.query"] = query
        if record.route:
            said |= {
                "http.route": self._surface.pattern_of(record.route) or record.route,
                "sidecar.route": record.route,
            }
        said |= _address("server", _text(headers.index.get(b"host", b"")))
        said |= _address("client", record.client)
        if (agent := headers.index.get(b"user-agent")) is not None:
            said["user_agent.original"] = _text(agent)
        if record.status != LEFT:
            said["http.response.status_code"] = record.status
        if record.stale_because:
            said["sidecar.stale_because"] = record.stale_because
        if record.fallback:
            said["sidecar.fallback"] = record.fallback
        if record.reason or record.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            said["error.type"] = record.reason or str(record.status)
        return said

    def _of_attempt(self, record: ExchangeRecord, attempt: Attempt, number: int) -> Attributes:
        host = attempt.endpoint if attempt.endpoint.rpartition(":")[2].isdigit() else "localhost"
        said: Attributes = {
            **_of_method(record.method),
            **_address("server", attempt.endpoint),
            "url.full": f"{attempt.scheme}://{host}{self._target(attempt.target)}",
        }
        if number:
            said["http.request.resend_count"] = number
        if attempt.status:
            said["http.response.status_code"] = attempt.status
        if attempt.error or attempt.status >= HTTPStatus.BAD_REQUEST:
            said["error.type"] = attempt.error or str(attempt.status)
        return said

    def _target(self, target: bytes) -> str:
        return self._surface.redaction(_text(target))


def _context(trace: int, span: int, headers: Headers, *, is_remote: bool = False) -> SpanContext:
    state = TraceState.from_header([_text(headers.index.get(b"tracestate", b""))])
    return SpanContext(trace, span, is_remote=is_remote, trace_flags=TraceFlags(TraceFlags.SAMPLED), trace_state=state)


def _method(method: str) -> str:
    """In a span's name: methods that anybody may make up are `HTTP`."""
    return method if method in STANDARD_METHODS else "HTTP"


def _of_method(method: str) -> Attributes:
    if method in STANDARD_METHODS:
        return {"http.request.method": method}
    return {"http.request.method": "_OTHER", "http.request.method_original": method}


def _address(role: str, text: str) -> Attributes:
    """`host:port`, or a host or a socket without a port."""
    host, colon, port = text.rpartition(":")
    if not (colon and port.isdecimal()):
        host, port = text, ""
    said: Attributes = {f"{role}.address": host.strip("[]")} if host else {}
    return {**said, f"{role}.port": int(port)} if port else said


def _server_status(record: ExchangeRecord) -> Status:
    """A client that is at fault, or leaves, is no error of the server's."""
    failed = record.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return Status(StatusCode.ERROR, record.detail or None) if failed else Status(StatusCode.UNSET)


def _client_status(attempt: Attempt) -> Status:
    failed = attempt.error or attempt.status >= HTTPStatus.BAD_REQUEST
    return Status(StatusCode.ERROR) if failed else Status(StatusCode.UNSET)


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "backslashreplace")
