"""Spans for requests and attempts, sent by OTLP over HTTP to a collector: what the extra `[otel]` is for.

A request is traced when its `traceparent` says that its caller records the trace, and never otherwise: that is seen in
one octet, before OpenTelemetry is touched. The fields pass on untouched, so that the upstream's spans and ours are
siblings below the caller's. Spans are made of what is known when a request is over, in a thread of their own.

exporter     which requests, and the thread that sends     spans     what a span says; needs the extra
"""

from sidecar.adapters.tracing.exporter import TraceExporter, TracingUnavailable, trace_exporter
from sidecar.adapters.tracing.surface import Surface

__all__ = ["Surface", "TraceExporter", "TracingUnavailable", "trace_exporter"]
