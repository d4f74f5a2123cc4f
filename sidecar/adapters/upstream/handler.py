"""The innermost stage: one request to one upstream, attempted once."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from dataclasses import replace
from http import HTTPStatus
from math import inf
from typing import TYPE_CHECKING

from sidecar.adapters.upstream.endpoints import EndpointSet
from sidecar.core.http.forwarding import rewrite_target, trailers_allowed
from sidecar.core.http.framing import CHUNKED_LINE
from sidecar.core.http.heads import ResponseHead
from sidecar.core.retry import ATTEMPT_FIELD
from sidecar.pipeline.deadline_stage import to_pass_on
from sidecar.pipeline.deadlines import DeadlineWheel
from sidecar.pipeline.errors import (
    ConnectionRefused,
    ConnectTimeout,
    ProxyError,
    StaleConnection,
    TotalTimeout,
    UpstreamError,
)
from sidecar.pipeline.message import Body, Response
from sidecar.pipeline.possible_series import STALE_CONNECTION

if TYPE_CHECKING:
    from sidecar.adapters.upstream.connection import Received, UpstreamConnection
    from sidecar.adapters.upstream.endpoints import NamedEndpoint
    from sidecar.core.config import Timeouts, UpstreamConfig
    from sidecar.core.http.forwarding import RequestForwarder
    from sidecar.pipeline.message import Request
    from sidecar.pipeline.runtime import Runtime
    from sidecar.pipeline.stats import UpstreamStats

OF_THIS_HOP = frozenset({b"te", b"transfer-encoding", b"upgrade"})
"""Request fields in whose place this hop has its own."""
MAX_CONNECTS = 3
"""Addresses tried for one attempt before giving up: nothing has been sent while connecting fails."""


class Upstream:
    """A configured upstream's endpoints, shared by the handlers of all its routes."""

    __slots__ = ("clock", "config", "endpoints", "stats", "warm_size")

    def __init__(self, config: UpstreamConfig, runtime: Runtime, stats: UpstreamStats) -> None:
        self.config = config
        self.clock = runtime.clock
        self.stats = stats
        self.endpoints = EndpointSet(config, runtime, stats)

    async def warm_up(self) -> None:
        """Open connections ahead of need until each address has `pool.warm`, busy ones included.

        Raises ProxyError when an address could not be reached; the others are warm nevertheless.
        """
        await self.endpoints.choose()
        settings, failure = self.config.pool, None
        wanted = min(settings.warm, settings.max_connections)
        for pool in self.endpoints.pools():
            try:
                while pool.idle + pool.in_flight < wanted:
                    pool.add_idle(await pool.connect(self.config.timeouts.connect))
            except ProxyError as error:
                failure = error
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Let go of every connection."""
        self.endpoints.close()


class UpstreamHandler:
    """A `Handler` for one route."""

    __slots__ = ("_deadline_field", "_forwarder", "_host_line", "_preserve_host", "_timeouts", "_total", "_upstream")

    def __init__(
        self, upstream: Upstream, forwarder: RequestForwarder, timeouts: Timeouts, host: str | None = None
    ) -> None:
        self._upstream = upstream
        self._forwarder = forwarder
        self._timeouts = timeouts
        self._total = inf if timeouts.total is None else timeouts.total
        self._deadline_field = (timeouts.deadline_header or "").encode()
        self._host_line = b"" if host is None else b"Host: %b\r\n" % host.encode()
        self._preserve_host = upstream.config.preserve_host and host is None

    async def handle(self, request: Request) -> Response:
        """The upstream's answer. Raises ProxyError.

        Nothing is sent twice: whether a request is attempted again is decided outside, and `request.repeat` says how.
        """
        upstream = self._upstream
        monotonic = upstream.clock.monotonic
        attempts = upstream.stats.attempts
        started = monotonic()
        request.sent_at = inf
        request.attempts += 1
        connection: UpstreamConnection | None = None
        response: asyncio.Future[Received] | None = None
        try:
            repeat, at_hand = request.repeat, None
            if not (repeat.fresh or repeat.avoid):
                at_hand = upstream.endpoints.at_hand(started, request.pins)
            endpoint, connection = at_hand or await self._connection(request)
            request.asked = connection.address
            response = connection.send(self._head(request, endpoint), request, self._timeouts)
            head, body = await response
        except ProxyError as error:
            attempts[STALE_CONNECTION if isinstance(error, StaleConnection) else error.reason] += 1
            request.upstream_time += monotonic() - started
            if isinstance(error, UpstreamError):
                error.unsent = connection is None
            # It holds the error, whose traceback holds this frame.
            response = None
            _close(request.body)
            raise
        except asyncio.CancelledError:
            attempts["cancelled"] += 1
            request.upstream_time += monotonic() - started
            if connection is not None:
                connection.abandon(response)
            raise
        except Exception:
            # A defect of ours; but whoever has taken a connection gives it back.
            if connection is not None:
                connection.abandon(response)
            raise
        attempts["success"] += 1
        # As `Histogram.observe` does, without the call.
        durations, took = upstream.stats.attempt_durations, monotonic() - started
        durations.counts[bisect_left(durations.bounds, took)] += 1
        durations.sum += took
        request.upstream_time += took
        if connection.dedicated:
            head = _bound(head, request)
        return Response(head, body)

    async def _connection(self, request: Request) -> tuple[NamedEndpoint, UpstreamConnection]:
        """A connection within the route's `total`, to an address that no earlier attempt went to, if there is one."""
        until = request.started + self._total
        try:
            return await self._connect(request, until)
        except (ConnectTimeout, TimeoutError):
            if self._upstream.clock.monotonic() < until - DeadlineWheel.TICK:
                raise
            raise TotalTimeout.after(self._total) from None

    async def _connect(self, request: Request, until: float) -> tuple[NamedEndpoint, UpstreamConnection]:
        monotonic, limit = self._upstream.clock.monotonic, self._timeouts.connect
        repeat, endpoints = request.repeat, self._upstream.endpoints
        async with asyncio.timeout(None if until == inf else until - monotonic()):
            endpoint, pool = await endpoints.choose(repeat.avoid)
        tried: set[object] = set()
        while True:
            request.endpoint = pool
            request.asked = pool.address
            try:
                if repeat.fresh:
                    return endpoint, await pool.connect(min(limit, until - monotonic()))
                return endpoint, await pool.acquire(limit, until)
            except (ConnectionRefused, ConnectTimeout):
                tried.add(pool)
                others = endpoints.others(tried)
                if not others or len(tried) >= MAX_CONNECTS:
                    raise
                endpoint, pool = endpoints.prefer(others)

    def _head(self, request: Request, endpoint: NamedEndpoint) -> bytes:
        """The serialized request head for `endpoint`."""
        head, rewrite = request.head, request.rewrite
        host_line = self._host_line or endpoint.host_line
        if self._preserve_host:
            host_line = b"Host: %b\r\n" % head.authority
        target = head.target
        if rewrite.strip_prefix or rewrite.add_prefix:
            target = rewrite_target(target, rewrite)
        if endpoint.base_path and target != b"*":
            target = endpoint.base_path + target
        index = head.headers.index
        more = b"" if b"x-request-id" in index else b"X-Request-Id: %b\r\n" % request.request_id
        if self._deadline_field and request.deadline != inf:
            left = to_pass_on(request.deadline, self._upstream.clock.monotonic())
            more += b"%b: %d\r\n" % (self._deadline_field, left)
            if self._deadline_field in index:
                head = replace(head, headers=head.headers.without({self._deadline_field}))
        if request.repeat.number > 1:
            more += b"%b: %d\r\n" % (ATTEMPT_FIELD, request.repeat.number)
        if self._forwarder.tells_client or not OF_THIS_HOP.isdisjoint(index):
            more += self._hop_lines(request)
        return self._forwarder.octets(head, target, host_line, more)

    def _hop_lines(self, request: Request) -> bytes:
        """What else this hop adds: who the client is, framing, upgrade, trailers."""
        head = request.head
        index = head.headers.index
        lines = b""
        if self._forwarder.tells_client:
            lines = self._forwarder.client_lines(head, request.client, "http")
        if b"transfer-encoding" in index:
            body = request.body
            lines += b"Content-Length: %d\r\n" % len(body) if isinstance(body, bytes) else CHUNKED_LINE
        if request.upgrade:
            lines += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % request.upgrade
        elif b"te" in index and trailers_allowed(head.headers):
            lines += b"Connection: TE\r\nTE: trailers\r\n"
        return lines


def _bound(head: ResponseHead, request: Request) -> ResponseHead:
    """`head` as an answer for this client alone.

    A client that knows that it speaks to a proxy begins such a handshake only when told that the proxy keeps its
    connections apart (RFC 4559 §6).
    """
    headers = head.headers
    if head.status == HTTPStatus.UNAUTHORIZED and request.head.absolute_form:
        headers = headers.plus((b"Connection", b"Proxy-Support"), (b"Proxy-Support", b"Session-Based-Authentication"))
    return ResponseHead(head.status, headers, head.reason, connection_bound=True)


def _close(body: bytes | Body) -> None:
    if isinstance(body, Body):
        body.close()
