"""The innermost stage where spans are made: notes each attempt at a request whose caller records its trace."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sidecar.core.http.forwarding import rewrite_target
from sidecar.core.http.trace_context import RECORDED, RECORDED_DIGITS
from sidecar.pipeline.errors import ProxyError
from sidecar.pipeline.message import Attempt

if TYPE_CHECKING:
    from sidecar.core.config import Endpoint, UpstreamConfig
    from sidecar.pipeline.message import Request, Response
    from sidecar.pipeline.ports import Clock, Handler
    from sidecar.pipeline.stage import Parts, RouteParts


class TraceStage:
    """Notes attempts in the request's `trail`; what becomes of them is decided when the request is over. `endpoint` is
    one of the upstream's, for the scheme and the path that all of them have.
    """

    __slots__ = ("_base_path", "_inner", "_monotonic", "_scheme")

    def __init__(self, inner: Handler, endpoint: Endpoint, clock: Clock) -> None:
        self._inner = inner
        self._scheme = endpoint.scheme
        self._base_path = endpoint.base_path.rstrip("/").encode()
        self._monotonic = clock.monotonic

    async def handle(self, request: Request) -> Response:
        """The upstream's answer. Raises what the inner handler raises."""
        traceparent = request.head.headers.index.get(b"traceparent")
        if traceparent is None or traceparent[RECORDED] not in RECORDED_DIGITS:
            return await self._inner.handle(request)
        began = self._monotonic()
        try:
            response = await self._inner.handle(request)
        except ProxyError as error:
            self._note(request, began, error=error.reason)
            raise
        except asyncio.CancelledError:
            self._note(request, began, error="cancelled")
            raise
        self._note(request, began, status=response.head.status)
        return response

    def _note(self, request: Request, began: float, *, status: int = 0, error: str = "") -> None:
        target = self._base_path + rewrite_target(request.head.target, request.rewrite)
        if request.trail is None:
            request.trail = []
        request.trail.append(Attempt(self._scheme, request.asked, target, began, self._monotonic(), status, error))


def around(inner: Handler, parts: RouteParts) -> Handler:
    """The stage around `inner`, where spans are made."""
    return tracing(inner, parts.route.upstream, parts.shared)


def tracing(inner: Handler, upstream: UpstreamConfig, shared: Parts) -> Handler:
    """`inner`, which asks `upstream`, and around it the stage where spans are made."""
    return TraceStage(inner, upstream.endpoints[0], shared.clock) if shared.traced else inner
