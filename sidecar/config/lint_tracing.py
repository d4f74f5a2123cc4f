"""A collector that spans would not reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.config.problem import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.core.config import Config

GRPC_PORT = 4317
"""Where collectors speak OTLP over gRPC by custom, which is not spoken here."""


def tracing_findings(config: Config) -> Iterator[Finding]:
    """An endpoint that no spans can be sent to, or none that takes these."""
    tracing = config.tracing
    if tracing is None:
        return
    if tracing.endpoint.unix_path:
        message = "spans cannot be sent through a Unix socket"
        yield Finding("", "", "tracing.endpoint", message, "write http://127.0.0.1:4318", Severity.ERROR)
    elif tracing.endpoint.port == GRPC_PORT:
        message = "port 4317 is where collectors speak OTLP over gRPC; spans are sent over HTTP"
        yield Finding("", "", "tracing.endpoint", message, "write port 4318")
